package oracle

import (
	"fmt"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Law is one promise.
type Law uint8

// The laws. Each can be broken alone; the tests of package sim show it.
const (
	Reply       Law = iota // a publish is acknowledged only when it is durable
	Refusal                // what was refused is kept nowhere
	Custody                // a node acknowledges custody only of what it has on disk
	Offer                  // only what is durable here is offered to a peer or a device
	Release                // custody ends by an acknowledgement, a settlement, its end of life, or a move; never without cause
	Holder                 // every copy has at least one durable holder until it arrived or ended
	Account                // acknowledged = delivered + ended for a reason + stored
	OnceHop                // a node takes custody of one copy once, dropped repeats aside
	OnceSession            // a message enters the queue of a session once
	OnceDevice             // a device gets a message once, repeats that MQTT allows aside
	Order                  // a device gets the messages of one publisher in their order, gaps that were given up aside
	Age                    // a life only shrinks; nothing ends before it is over, nothing is offered after
	Bounded                // the store never holds more than it may, nor a class what is left to those above it
	Recovery               // a restart finds exactly what was durable
	Twice                  // to recover twice is to recover once
	Agreement              // memory counts what the disk holds
	Wire                   // transfers are numbered without a gap, and no session ends for a breach of protocol
	Progress               // once all faults are healed, everything arrives
	Quota                  // an account counts what is stored on it, and takes no more than its quota
	Reasons                // what ends by damage or for want of room is counted so, and its own route allows it
	Purge                  // an operator ends what was meant, and what the answer says
	NumLaws     = 21
)

var lawNames = [NumLaws]string{
	"reply", "refusal", "custody", "offer", "release", "holder", "account", "once-hop", "once-session", "once-device",
	"order", "age", "bounded", "recovery", "twice", "agreement", "wire", "progress", "quota", "reasons", "purge",
}

// String returns the name of the law.
func (l Law) String() string {
	if int(l) < len(lawNames) {
		return lawNames[l]
	}
	return fmt.Sprintf("law-%d", uint8(l))
}

// Violation is one broken promise.
type Violation struct {
	Law     Law
	At      time.Duration // virtual
	Node    string        // where it was seen
	Message string        // its id, or publisher and number
	Text    string        // what happened
}

// String is one line for people.
func (v Violation) String() string {
	return fmt.Sprintf("law %s broken at %s on %s, message %s: %s", v.Law, v.At, v.Node, v.Message, v.Text)
}

// Publication names a message as its publisher knows it. Number counts from 1
// per publisher.
type Publication struct {
	Publisher int
	Number    uint64
}

// Member is one message of a batch.
type Member struct {
	ID  bundle.ID
	Pub Publication
}

// Config makes an Oracle.
type Config struct {
	Now func() time.Duration // virtual time, required
	// Identify reads the publication out of a payload block, required.
	Identify func(block []byte) (Publication, bool)
	// Unfold takes the payload block of a batch apart, whose first message is
	// given; required when there are batches.
	Unfold func(first bundle.ID, block []byte) []Member
	// Broken, when set, is told each violation as it is found.
	Broken func(Violation)
	Max    int // violations kept; default 16
}

// NodeConfig describes one node.
type NodeConfig struct {
	Name     addr.Node
	Region   addr.Region
	MaxBytes int64        // quota of its store; 0: not judged
	MaxCount int          // entries in it; 0: not judged
	Clock    func() int64 // the node's own time, ms
	Bytes    func() int64 // durable payload bytes, each message once
	Stats    func() core.Stats
	// OrderWait is how long the node waits for what came before a message.
	OrderWait time.Duration
	// Limits returns the quota of an account, 0 for no limit.
	Limits func(key string) (bytes int64, count int)
	// Charges, when set, returns accounts that a message must be charged to.
	Charges func(h *store.Header, pub Publication) []string
	// Yields, when set, reports whether old messages of a topic make room for
	// new ones.
	Yields func(topic string) bool
}

// Tally counts what happened in a run.
type Tally struct {
	Expected    uint64        // deliveries due: acknowledged messages × devices that are to get them
	Delivered   uint64        // of those
	Pending     uint64        // of those, still stored at the end
	Expired     uint64        // of those, ended by their lifetime
	Lost        uint64        // of those, neither delivered, ended nor stored
	Duplicates  uint64        // delivered again without need
	Redelivered uint64        // delivered again as MQTT allows: DUP set, or published again
	OutOfOrder  uint64        // delivered after a younger one, against the law
	Late        uint64        // delivered after a younger one, its gap given up
	Latency     time.Duration // sum over first deliveries
	First       uint64        // first deliveries
	WireCopies  uint64        // bundles that arrived at a node that had them before: of the transport, not of devices
	Violations  int           // all, also those not kept

	Ended     uint64                    // deliveries due that an operator, a damaged disk or newer work ended
	Ends      [bundle.NumReasons]uint64 // entries that ended by an operator, damage or for newer work, by reason
	Refusals  [bundle.NumReasons]uint64 // submissions and transfers refused, by reason
	Repeats   uint64                    // submissions known by their Key
	Batches   uint64                    // batches stored
	OpenCrash uint64                    // messages in a batch that was not closed when their node crashed
}

func (o *Oracle) broken(l Law, n *Node, message, format string, args ...any) {
	o.Tally.Violations++
	v := Violation{Law: l, At: o.cfg.Now(), Message: message, Text: fmt.Sprintf(format, args...)}
	if n != nil {
		v.Node = n.cfg.Name.String()
	}
	if len(o.violations) < o.cfg.Max {
		o.violations = append(o.violations, v)
	}
	if o.cfg.Broken != nil {
		o.cfg.Broken(v)
	}
}

// blame reports what a message suffered and takes it out of later judgement.
func (o *Oracle) blame(l Law, n *Node, m *message, format string, args ...any) {
	if m == nil {
		o.broken(l, n, "-", format, args...)
		return
	}
	if m.blamed || m.pub != nil && m.pub.blamed {
		return
	}
	m.blamed = true
	if m.pub != nil {
		m.pub.blamed = true
	}
	o.broken(l, n, m.String(), format, args...)
}

func (m *message) String() string {
	s := m.id.String()
	if m.pub != nil {
		s += fmt.Sprintf(" (publisher %d, number %d)", m.pub.key.Publisher, m.pub.key.Number)
	}
	return s
}

// Violations returns what was found, oldest first, at most Config.Max.
func (o *Oracle) Violations() []Violation { return o.violations }

// ended is how a copy or a place of a message came to its end: on its way to
// queue, at a node.
type ended struct {
	where  *Node
	queue  store.Queue
	reason bundle.Reason
}
