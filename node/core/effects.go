package core

import (
	"time"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Submission is work that enters the mesh here: an MQTT publication (Topic
// set) or a bundle for a service of one node (To set).
type Submission struct {
	Token   uint64 // returned in the Reply
	Topic   string
	To      addr.Node
	Service string // destination service; mqtt for publications
	Class   bundle.Class
	QoS     uint8
	Retain  bool
	Stamp   Stamp         // of a retained one, from Core.Stamp just before; the Blob says it too
	TTL     time.Duration // 0: the route's, else the configured default
	Client  string        // publishing MQTT client, whose broker hands the message to the live; "" for the mesh's own
	Packet  uint16        // QoS 2 packet id of that client; makes resends one message
	Key     Key           // of work from outside the mesh: a second submission with it is a Duplicate
	Keep    time.Duration // how long the Key is remembered; not shorter than the work lives
	Region  addr.Region   // of a publication: for this region alone, whatever the routes say
	Clear   bool          // Retain with an empty payload: forget the retained message
	Session string        // only for this session of this node, such as a retained message
	Own     string        // a publication for this client of this node alone, if it subscribed to the topic
	Ask     Ask           // what the Client wants to hear of it
	Word    *Word         // it carries this word, for Own
	Groups  []string      // only for one member of each of these shared subscriptions: the one that had it did not take it
	Answers addr.Node     // a response: the node that its request came from gets it as if it had a subscriber
	Blob    *store.Blob   // the encoded payload block

	will     bool // of a Client, whose broker does not wait for the Reply
	followed bool // there is room for what is asked
}

// own reports whether the node says it itself: a word, the state of a region,
// what nodes tell each other, or a published message on its way to one session.
func (s *Submission) own() bool {
	return s.Client == "" && s.Key.IsZero() && (s.Own != "" || !s.To.IsZero() || s.Session != "" || len(s.Groups) > 0)
}

// shown reports whether the publishing client's broker hands the message to
// the live, and keeps it if it is retained.
func (s *Submission) shown() bool { return s.Client != "" && !s.will }

// Reply ends a Submission or another request with a token: the fact is
// durable, or refused.
type Reply struct {
	Token   uint64
	Reason  bundle.Reason
	Message bundle.ID // identity given, zero when refused

	// Elsewhere: a route sends it to other regions only, so that the live
	// subscribers of this node do not get it.
	Elsewhere bool

	// Session, of an OpenSession, says what was found of an older session after
	// all, in place of what OpenSession returned.
	Session *SessionState

	// Members of shared subscriptions here that get it from their broker, as
	// the live subscribers do; of a Submission with a Client.
	Members []Member

	// To are the queues it went to, and Class is its class: told while somebody
	// watches, of a Submission.
	To    []store.Queue
	Class bundle.Class
}

// Effects is what the driver has to do. It is valid until the next Take.
type Effects struct {
	Write     *store.Batch // append it; report Persisted or Failed
	Loads     []storeforward.Load
	Sends     []Send
	Deliver   []Delivery
	Live      []Live
	Replies   []Reply
	Close     []CloseLink
	Keeps     []Keep        // in order, and after the Replies
	Fetches   []Fetch       // answer with Fetched
	Regions   []RegionState // that differ from before, for clients of this node
	Words     []Word        // answer with a Submission
	Echoes    []Echoed      // answers to questions of this node
	Sights    []Sight       // while somebody watches
	Silences  []Silence     // for operators
	Renew     []Renew
	TakenOver []TakenOver // end these connections
	Early     []EarlyOffer
	Changed   bool     // what a Snapshot shows of routing changed
	Came      []string // filters that sessions have from now on that messages wait for: for Sought, before the Replies
	Gone      []string // and that they have no more
}

// Send is one frame for a link. Frames of one link keep their order.
type Send struct {
	Link  uint64
	Frame Frame
}

// Frame is one of *routing.Advert, Ack, Refuse, Ping and Pong, and *Transfer
// or *Volatile when sent, *Incoming when received.
type Frame any

// Transfer is a bundle on a link, custody asked for. XIDs count from 1 per
// link session, direction and class.
type Transfer struct {
	XID    uint64
	Class  bundle.Class
	Header *store.Header
	Entry  store.Entry // Entry.State Ended: an obituary without payload
	Blob   *store.Blob // nil: read it from the store
	Life   int64       // ms of life left at now
}

// Ack says that custody of every Transfer of the class up to XID is durable
// here, but for those refused.
type Ack struct {
	Class bundle.Class
	XID   uint64
}

// Refuse says that custody of one Transfer is not taken, and why.
type Refuse struct {
	Class  bundle.Class
	XID    uint64
	Reason bundle.Reason
}

// Ping asks for a Pong with the same stamp.
type Ping struct{ Stamp uint64 }

// Pong answers a Ping.
type Pong struct{ Stamp uint64 }

// Volatile carries a QoS 0 publication: no custody, never stored.
type Volatile struct {
	Header *store.Header
	Entry  store.Entry
	Blob   *store.Blob
	Life   int64
}

// Incoming is a bundle as a link's reader parsed it.
type Incoming struct {
	XID      uint64
	Class    bundle.Class
	Bad      bundle.Reason // not OK: the bytes were refused by the reader
	Ended    bool          // an obituary
	Volatile bool          // QoS 0: no custody
	Count    uint16        // messages in it when it is a batch, else 0
	Parts    []Part        // of a batch whose destination may be here, in order
	Origin   addr.Node
	Bundle   bundle.Sequence
	DSeq     uint64
	Message  bundle.ID
	Node     addr.Node   // destination node, or
	Region   addr.Region // destination region
	Service  string
	QoS      uint8
	Retain   bool
	Topic    string  // set when the destination may be here
	Said     Said    // as Topic
	Reports  Reports // of ServiceReports, for this node
	Life     int64   // ms of life left on arrival
	Hops     uint8
	Groups   string // shared subscriptions it is for, as in its mesh block
	Frozen   []byte
	Blob     *store.Blob
	Size     int
}

// Said is what a publication says of itself beyond its topic.
type Said struct {
	Stamp  Stamp // of a retained one; 0: of a node that gives none
	Expiry bool  // its publisher set an expiry, which is its Life
	Empty  bool  // no payload: it deletes the retained message
}

// Part is one message of a batch.
type Part struct {
	Message bundle.ID
	QoS     uint8
	Retain  bool
	Topic   string
	Said    Said
	Blob    *store.Blob // its own encoded payload block
}

// Delivery offers a message to a device session or a service of this node.
// The driver answers with Settle.
type Delivery struct {
	Session  string // or
	Service  string
	Conn     uint64 // connection of the session it is for, or opening of the service
	Header   *store.Header
	Entry    store.Entry
	PacketID uint16
	Dup      bool        // was offered before
	Release  bool        // PUBREC was had: send PUBREL, not PUBLISH
	SubIDs   []int       // MQTT 5 subscription identifiers
	Retain   bool        // the retain flag of the PUBLISH
	Blob     *store.Blob // nil: read it from the store
	Life     int64       // ms of life left
	Members  []Member    // of ServiceLive: members of shared subscriptions that get it
	Only     bool        // and nobody else does
}

// Live is a message for the subscribers of this node that do not outlive
// their connection, and for QoS 0 deliveries.
type Live struct {
	Message  bundle.ID // zero for QoS 0
	From     addr.Node // where it entered the mesh
	Own      string    // this client alone gets it
	Topic    string
	Life     int64 // ms of life left
	Retained bool  // it is what was kept for them, not a publication
	Blob     *store.Blob
	Members  []Member // of shared subscriptions, that get it
	Only     bool     // and nobody else does
}

// Keep says what the broker holds from now on as the retained message of a
// topic. What a device of this node published itself is only told by its
// Reply.
type Keep struct {
	Topic string
	Clear bool  // nothing
	Life  int64 // ms of life left, 0: without end
	Blob  *store.Blob
}

// Fetch asks for the values of topics in the state, under RetainedPrefix, as
// they are: another node gets them.
type Fetch struct {
	To     addr.Node
	Topics []string
	More   bool // it lacks more than these
}

// Silence is a peer that fell silent, or is heard again.
type Silence struct {
	Link uint64
	Node addr.Node
	For  int64 // ms: since it was last heard; when it is Over, since it was told
	Over bool

	RTT, Slowest int64 // ms: of its answers; unless Over
}

// CloseLink ends a link session.
type CloseLink struct {
	Link   uint64
	Reason string
}

// What a Settlement says.
type Outcome uint8

// The outcomes of a delivery.
const (
	Done     Outcome = iota // PUBACK, PUBCOMP, or a service is done with it
	Received                // PUBREC: the device has it, PUBREL is due
	Inbound                 // PUBREL of an inbound QoS 2 publish: forget its packet id
	Dropped                 // it can never be delivered: it ends for the Reason
	Unsent                  // the connection ends, and nothing of it was written
)

// Settlement answers a Delivery, or ends an inbound QoS 2 exchange.
type Settlement struct {
	Session string
	Service string
	Conn    uint64
	Seq     uint64
	Packet  uint16 // Inbound only
	Token   uint64 // Inbound only: a Reply tells when it is durable; 0: none
	Outcome Outcome
	Reason  bundle.Reason // Dropped only
}

// Link describes a new link session.
type Link struct {
	ID       uint64
	Node     addr.Node
	Uplink   string         // tells several links with the node apart
	Cost     uint32         // the cheapest that carries a class is used for it
	Classes  bundle.Classes // that it carries, and is preferred for; 0: all. Control goes by any link
	Delay    time.Duration  // one way, measured or configured
	Schedule Schedule       // zero: always on
	Window   int64          // bytes in flight; 0: DefaultWindow
	Probing  Probing
}

// Batching joins small messages to one destination into one bundle.
type Batching struct {
	Max  int                              // payload bytes of one bundle; 0: none is made
	Wait [bundle.NumClasses]time.Duration // how long a message waits for company; 0: as long as its neighbours need no more than one write
}

// Settings is what configuration and fleet revisions decide.
type Settings struct {
	TTL       time.Duration // life of a message that names none
	OrderWait time.Duration // longest wait for what came before
	Batch     Batching
	Quotas    *policy.Quotas
	Retained  RetainedSettings
	Wills     WillSettings
	SkipFull  bool // a session that hoards misses what is published; without, its publisher is refused
	Services  []routing.ServiceState
	Fleet     routing.FleetState
	Contacts  map[addr.Node]Schedule // of links, known before they are up
}
