package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Backend is the node as this API sees it. Calls come from many goroutines at
// once; ctx ends when the client goes away. An *Error chooses the HTTP status
// and the hint; any other error is answered as 500 with its text.
type Backend interface {
	// Status is a picture of the node now.
	Status(ctx context.Context) (Status, error)
	// Nodes are all known nodes of the mesh, this one among them, by name.
	Nodes(ctx context.Context) ([]Node, error)
	// Routes are the rules in force, in the order in which they are tried.
	Routes(ctx context.Context) ([]Route, error)
	// Why finds the copies of a message in custody here. None is no error.
	Why(ctx context.Context, id bundle.ID) (Why, error)
	// Queues is what waits, for whom and why.
	Queues(ctx context.Context) (Queues, error)
	// Peek looks at the messages at the front of a queue. An empty one is no
	// error.
	Peek(ctx context.Context, r PeekRequest) (Peek, error)
	// Retry ends every rest now and asks silent peers again.
	Retry(ctx context.Context) (Retried, error)
	// Purge ends messages, or tells which it would end.
	Purge(ctx context.Context, r PurgeRequest) (Purged, error)
	// Replay submits messages again that were exported before.
	Replay(ctx context.Context, r ReplayRequest) (Replayed, error)
	// Sessions lists MQTT sessions by client id.
	Sessions(ctx context.Context, r SessionsRequest) (Sessions, error)
	// KickSession ends the connection of a client.
	KickSession(ctx context.Context, r SessionRequest) (Kicked, error)
	// EndSession ends a session and what waits for it, or tells what would end.
	EndSession(ctx context.Context, r SessionRequest) (EndedSession, error)
	// Retained lists retained messages by topic.
	Retained(ctx context.Context, r RetainedRequest) (Retained, error)
	// RemoveRetained deletes retained messages, everywhere.
	RemoveRetained(ctx context.Context, r RetainedRequest) (RemovedRetained, error)
	// Tap calls f with what happens to messages, one call at a time, until ctx
	// ends, f fails, or enough was told. The first call says that it began.
	Tap(ctx context.Context, r TapRequest, f func(TapEvent) error) error
	// Ping calls f with what happens to questions to a node, one call at a time,
	// until each is answered or given up, ctx ends or f fails.
	Ping(ctx context.Context, r PingRequest, f func(PingEvent) error) error
	// Netcheck calls f with what passes to each peer, one call at a time.
	Netcheck(ctx context.Context, r NetcheckRequest, f func(Netcheck) error) error
	// ExportBundles writes what waits for other nodes to a file. It stays in
	// custody here.
	ExportBundles(ctx context.Context, r ExportRequest, w io.Writer) error
	// ImportBundles takes a file of bundles into custody, wholly or not at all
	// when something is wrong with it.
	ImportBundles(ctx context.Context, file io.Reader) (Imported, error)
	// ReleaseBundles ends custody of what a receipt names, or of what is in a file
	// of bundles that this node made.
	ReleaseBundles(ctx context.Context, file io.Reader) (HandedOver, error)
	// Invite makes a ticket. Only a node that holds the authority can.
	Invite(ctx context.Context, r InviteRequest) (Invite, error)
	// FleetPush signs resources as the next revision and sends it.
	FleetPush(ctx context.Context, r FleetPushRequest) (FleetPushed, error)
	// FleetStatus tells where every node is in the chain of revisions.
	FleetStatus(ctx context.Context) (FleetStatus, error)
	// Config is the configuration this node started with, defaults filled in.
	Config(ctx context.Context) (config.Config, error)
	// Healthy is nil while the node works; otherwise it says what is broken.
	Healthy() error
	// Ready is nil once the node takes messages; otherwise it says what is
	// missing.
	Ready() error
}

// Error is what a request is refused with. It is also the body of every answer
// that is not 2xx.
type Error struct {
	Code int    `json:"-"`              // HTTP status, 0 for 500
	What string `json:"error"`          // what is wrong, and where
	Hint string `json:"hint,omitempty"` // the next step
}

// Error implements error; the hint is not part of it.
func (e *Error) Error() string { return e.What }

// Invalid makes the Error of a request that can never succeed as it is (400).
func Invalid(hint, format string, args ...any) *Error {
	return &Error{Code: http.StatusBadRequest, What: fmt.Sprintf(format, args...), Hint: hint}
}

// NotHere makes the Error of a request that this node, or its present state,
// cannot answer (409), such as an invitation asked of a node without authority.
func NotHere(hint, format string, args ...any) *Error {
	return &Error{Code: http.StatusConflict, What: fmt.Sprintf(format, args...), Hint: hint}
}

// Status is a node at one moment. Times are UTC.
type Status struct {
	Node     addr.Node   `json:"node"`
	Region   addr.Region `json:"region"`
	Mesh     string      `json:"mesh"` // id, 32 hex digits
	Version  string      `json:"version"`
	Now      time.Time   `json:"now"`      // by the node's clock
	UptimeS  int64       `json:"uptime_s"` // seconds since the daemon started
	ClockOK  bool        `json:"clock_ok"` // false: the clock is behind signed times, bundles are aged instead of dated
	Store    Store       `json:"store"`
	MQTT     MQTT        `json:"mqtt"`
	Peers    []Peer      `json:"peers"`
	Queues   []Queue     `json:"queues"` // those that are not empty
	Counters Counters    `json:"counters"`
}

// Store is what a node keeps until it is delivered.
type Store struct {
	Engine      string `json:"engine"` // such as "journal"
	Messages    int    `json:"messages"`
	Bytes       int64  `json:"bytes"`      // payloads and headers of Messages
	PeakBytes   int64  `json:"peak_bytes"` // most since the daemon started
	FileBytes   int64  `json:"file_bytes"` // taken on disk, free pages included
	MaxBytes    int64  `json:"max_bytes"`
	MaxMessages int    `json:"max_messages"`
	RoomBytes   *int64 `json:"room_bytes,omitempty"` // of new messages that the disk still takes; nil: it does not say
}

// MQTT is the broker side.
type MQTT struct {
	Listen    string   `json:"listen"`              // bound address for plain MQTT, "" for none
	Listeners []string `json:"listeners,omitempty"` // URLs of the others
	Clients   int      `json:"clients"`             // connected now
	Bridges   []Bridge `json:"bridges,omitempty"`
}

// Bridge carries messages to and from another broker.
type Bridge struct {
	Name      string        `json:"name"`
	Remote    string        `json:"remote"`             // URL
	State     string        `json:"state"`              // stopped, connecting, waiting or connected
	Since     time.Time     `json:"since"`              // of State
	Version   string        `json:"version,omitempty"`  // of MQTT, spoken with the remote
	RTTms     float64       `json:"rtt_ms"`             // round trip, ms; 0 not measured
	Out       BridgeTraffic `json:"out"`                // to the remote
	In        BridgeTraffic `json:"in"`                 // from it
	Warnings  []string      `json:"warnings,omitempty"` // what the remote keeps less of than asked
	LastError string        `json:"last_error,omitempty"`
}

// BridgeTraffic is one direction since the daemon started.
type BridgeTraffic struct {
	Forwarded uint64            `json:"forwarded"`         // messages
	UnderWay  int               `json:"under_way"`         // not acknowledged yet
	Dropped   map[string]uint64 `json:"dropped,omitempty"` // messages that do not go on, by cause
}

// PeerState is the state of the link to a neighbour.
type PeerState string

// The states of a peer.
const (
	PeerUp     PeerState = "up"             // a session stands
	PeerDown   PeerState = "down"           // no session; LastError says why
	PeerSilent PeerState = "silent"         // a session stands but nothing was heard for too long
	PeerClosed PeerState = "closed-contact" // outside the contacts of its schedule
)

// Peer is a neighbour: one that is configured to be dialled, or has dialled us;
// or a node of another DTN stack, which a door leads to.
type Peer struct {
	Node          addr.Node   `json:"node,omitzero"`  // zero until it was reached once
	Name          string      `json:"name,omitempty"` // of a peer of a door; it is no node of the mesh
	Kind          string      `json:"kind,omitempty"` // of that door: tcpcl, stcp or mtcp; "" for a link
	Region        addr.Region `json:"region,omitzero"`
	Address       string      `json:"address"`
	Link          string      `json:"link,omitempty"`    // its name, where several lead to the node
	Cost          uint32      `json:"cost,omitempty"`    // of the link, among these
	Classes       []string    `json:"classes,omitempty"` // that go by it now
	State         PeerState   `json:"state"`
	Kex           string      `json:"kex,omitempty"`       // key exchange in use, such as X25519MLKEM768
	Layer         string      `json:"layer,omitempty"`     // what carries the bundles that go there: quic or salvo
	Profile       string      `json:"profile,omitempty"`   // kind of the link, from which its timers follow, such as moon
	Loss          float64     `json:"loss,omitempty"`      // share of salvo's packets that got lost lately
	RTTms         float64     `json:"rtt_ms"`              // round trip, ms; 0 not measured
	DampedMS      int64       `json:"damped_ms,omitempty"` // until the mesh is told that the link, which came and went, is back
	InFlight      int         `json:"in_flight"`           // bundles offered, custody not yet taken
	InFlightBytes int64       `json:"in_flight_bytes"`
	SentBytes     uint64      `json:"sent_bytes"` // of this session, on the wire
	ReceivedBytes uint64      `json:"received_bytes"`
	PacketsLost   uint64      `json:"packets_lost"` // of those sent in this session
	LastError     string      `json:"last_error,omitempty"`
	Since         time.Time   `json:"since,omitzero"`        // when State began
	NextContact   time.Time   `json:"next_contact,omitzero"` // start of the next contact; zero on links that are always on
}

// Queue is what waits for one destination in one class.
type Queue struct {
	Queue    string    `json:"queue"` // such as "node earth-1" or "session plc-7"
	Class    string    `json:"class"`
	Bundles  int       `json:"bundles"`
	Bytes    int64     `json:"bytes"`
	InFlight int       `json:"in_flight"`
	Oldest   time.Time `json:"oldest,omitzero"`   // arrival of the oldest
	NextHop  addr.Node `json:"next_hop,omitzero"` // zero for local queues and without a path
	Up       bool      `json:"up"`                // every link of the path is up
	Resting  bool      `json:"resting,omitempty"` // its next hop had no room and is not asked for now
	Waits    string    `json:"waits"`             // what its first message waits for
}

// Counters counts since the daemon started. Keys of the maps are reasons, "ok"
// among them; those that never happened are left out.
type Counters struct {
	Submitted   map[string]uint64 `json:"submitted"` // messages published here by clients and other stacks, wills among them, by verdict
	Own         map[string]uint64 `json:"own"`       // messages of the node itself, by verdict
	Ended       map[string]uint64 `json:"ended"`     // messages that ended other than by delivery
	Refused     map[string]uint64 `json:"refused"`   // bundles of peers whose custody was not taken
	Arrived     uint64            `json:"arrived"`   // messages handed to recipients here
	Relayed     uint64            `json:"relayed"`   // bundles taken in for other nodes
	Transfers   uint64            `json:"transfers"` // bundles offered to peers
	HandedOn    uint64            `json:"handed_on"` // bundles whose custody a peer took
	Delivered   uint64            `json:"delivered"` // deliveries acknowledged by devices and services
	Volatile    uint64            `json:"volatile"`  // QoS 0 bundles sent on
	Duplicates  uint64            `json:"duplicates"`
	OutOfOrder  uint64            `json:"out_of_order"`
	HeldBack    uint64            `json:"held_back"`
	GapsGivenUp uint64            `json:"gaps_given_up"`
}

// Node is a node of the mesh as it is known here.
type Node struct {
	Node         addr.Node   `json:"node"`
	Region       addr.Region `json:"region"`
	Self         bool        `json:"self,omitempty"`
	Hops         int         `json:"hops"`     // 0 for this node and without a path
	DelayMS      int64       `json:"delay_ms"` // light time of the path, ms
	NextHop      addr.Node   `json:"next_hop,omitzero"`
	Up           bool        `json:"up"`             // every link of the path is up
	Ways         []ClassWay  `json:"ways,omitempty"` // of classes that take another path, or none that is up
	Interest     []string    `json:"interest"`       // topic filters of its subscribers, the first MaxInterest
	InterestMore int         `json:"interest_more"`  // how many more there are
	Services     []Service   `json:"services"`
	FleetApplied uint64      `json:"fleet_applied"` // sequence of the revision in force, 0 for none
	FleetRefused uint64      `json:"fleet_refused"` // of the last one refused
	FleetReason  string      `json:"fleet_reason,omitempty"`
}

// ClassWay is the path of one class to a node, where links do not carry all.
type ClassWay struct {
	Class   string    `json:"class"`
	NextHop addr.Node `json:"next_hop,omitzero"`
	Hops    int       `json:"hops"`
	DelayMS int64     `json:"delay_ms"` // light time, ms
	Up      bool      `json:"up"`       // every link of it is up and carries the class
}

// MaxInterest bounds the filters listed of one Node.
const MaxInterest = 100

// Service is an endpoint of a TCP service.
type Service struct {
	Name string `json:"name"`
	Up   bool   `json:"up"` // its server accepted the last connection
}

// Route is one rule in force.
type Route struct {
	config.Route
	Origin string `json:"origin"` // "file" or "fleet"
	Hops   []Hop  `json:"hops"`   // one for each region of To
}

// Hop is where messages for a region go now.
type Hop struct {
	Region  addr.Region `json:"region"`
	Node    addr.Node   `json:"node,omitzero"`     // nearest node of the region
	NextHop addr.Node   `json:"next_hop,omitzero"` // zero without a path, and within the region
	Up      bool        `json:"up"`
}

// Why says where a message is.
type Why struct {
	Message string    `json:"message"`
	Node    addr.Node `json:"node"` // the node that was asked
	Places  []Place   `json:"places"`
}

// Place is one copy in custody here.
type Place struct {
	Queue   string    `json:"queue"`
	Class   string    `json:"class"`
	Seq     uint64    `json:"seq"`             // number of its arrival at this node
	Batch   string    `json:"batch,omitempty"` // id of the batch it is in, which is that of its first message
	Count   int       `json:"count,omitempty"` // messages in that batch
	State   string    `json:"state"`           // storing, held, in flight or ended
	Waits   string    `json:"waits"`           // what for
	Arrived time.Time `json:"arrived"`
	Expires time.Time `json:"expires"`
	Sent    int       `json:"sent"` // times it was offered
}

// InviteRequest asks for a ticket.
type InviteRequest struct {
	Region    addr.Region       `json:"region"`
	Advertise []config.HostPort `json:"advertise,omitempty"` // where the new node reaches this one; none: mesh.advertise
	Life      config.Duration   `json:"life,omitzero"`       // 0 for a day
}

// Invite is a ticket. It is a secret: whoever holds it first joins.
type Invite struct {
	Ticket  string      `json:"ticket"`
	Region  addr.Region `json:"region"`
	Expires time.Time   `json:"expires"`
}
