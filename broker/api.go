package broker

import (
	"context"
	"errors"
	"time"

	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
)

// NeverExpires is the session expiry of a session that outlives every
// disconnect (MQTT 5, 3.1.2.11.2; MQTT 3.1.1 with clean session 0).
const NeverExpires = 0xFFFFFFFF

// ErrQuota is wrapped by a Node that refuses a session or a subscription
// because a limit is reached; the client reads 0x97 (MQTT 5).
var ErrQuota = errors.New("quota exceeded")

// KV is a user property (MQTT 5, 3.3.2.3.7).
type KV struct{ Key, Value string }

// Format is the payload format indicator of a publication (MQTT 5, 3.3.2.3.2).
type Format uint8

// The formats.
const (
	FormatAbsent Format = iota // the publisher did not say
	FormatBytes                // said: unspecified bytes (indicator 0)
	FormatText                 // said: UTF-8 (indicator 1)
)

// Message is one PUBLISH. It is shared by every queue it is in and must not be
// changed after it was handed over.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool

	PayloadFormat   Format
	HasContentType  bool // it may be empty
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte // nil = none; it may be empty
	UserProperties  []KV
	Expiry          uint32 // seconds after Received, 0 = none

	Client   string    // the publisher's client id
	PacketID uint16    // inbound QoS 2 identity; 0 = none (QoS 0 and 1, wills)
	ID       bundle.ID // its identity in the mesh, zero where it has none or none yet
	Received time.Time // when this node got it, less the age it already had
}

// MessageOverhead is what a message counts beside its texts, in bytes.
const MessageOverhead = 64

// Size is what the message counts against queue limits, in bytes.
func (m *Message) Size() int {
	n := len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.CorrelationData) + MessageOverhead
	for _, p := range m.UserProperties {
		n += len(p.Key) + len(p.Value) + 32
	}
	return n
}

// remaining returns the seconds of its lifetime that are left, and false when
// it has none left. A message without expiry has 0 seconds and true.
func (m *Message) remaining(now time.Time) (uint32, bool) {
	if m.Expiry == 0 {
		return 0, true
	}
	left := int64(m.Expiry) - int64(now.Sub(m.Received)/time.Second)
	if left <= 0 {
		return 0, false
	}
	return uint32(min(left, int64(m.Expiry))), true
}

// Subscription is one filter of a session with its options (MQTT 5, 3.8.3.1).
type Subscription struct {
	Filter            string // as the client wrote it, "$share/GROUP/" included
	QoS               byte   // granted
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
	ID                int // subscription identifier, 0 = none
}

// Share splits a shared subscription; group is "" for others.
func (s Subscription) Share() (group, filter string) {
	if g, rest, ok := interest.ParseShare(s.Filter); ok {
		return g, rest
	}
	return "", s.Filter
}

// SessionOpen asks the node for a session.
type SessionOpen struct {
	Client     string
	Conn       uint64 // grows with every connection of this broker, never reused
	Clean      bool   // end any older session first
	Expiry     uint32 // seconds after the disconnect; 0 = ends with it; NeverExpires
	ReceiveMax uint16 // QoS 1 and 2 deliveries that may be unacknowledged
	Will       *Will  // nil: none
	Assigned   bool   // the broker made up the client id just now: nobody else has its session
}

// SessionState is what a session brings along.
type SessionState struct {
	Present       bool // an older session goes on
	Subscriptions []Subscription
	Inbound       []uint16 // QoS 2 packet ids that await their PUBREL
}

// What tells what a client did with a delivery, or with its own publish.
type What uint8

// The settlements.
const (
	Acked     What = iota // PUBACK: the QoS 1 delivery Seq is over
	Received              // PUBREC: the QoS 2 delivery Seq arrived; the node answers with a Deliver that has Release set
	Completed             // PUBCOMP, or a PUBREC that refuses: the QoS 2 delivery Seq is over
	Released              // PUBREL: the client's own QoS 2 publish PacketID is over, its id is free again
	Unsent                // the connection ends before anything of the QoS 2 delivery Seq was written; CloseSession follows
)

// Settlement reports one step of a QoS handshake of a persistent session.
type Settlement struct {
	Client   string
	Conn     uint64
	Seq      uint64 // Acked, Received, Completed
	PacketID uint16
	What     What
	Lost     bundle.Reason // Acked, Completed: not OK when the client never got it and never will
	// Done is set for Released only. The node calls it once, from any
	// goroutine, when the release is durable; the PUBCOMP leaves then. A
	// PUBCOMP before that could let the client reuse an id which a restarted
	// node still takes for a duplicate: an acknowledged message would be lost.
	Done func()
}

// Delivery is one step the node wants a client to see. Of a persistent session
// the node owns queue, order, window and packet ids. A live one gets so what the
// node keeps for its shared subscriptions, until it is settled, under packet ids
// of the broker.
type Delivery struct {
	Client   string
	Conn     uint64 // a delivery for an older connection is dropped
	Seq      uint64
	PacketID uint16 // 0 for QoS 0
	QoS      byte
	Dup      bool
	Release  bool // send PUBREL, not PUBLISH; Message may be nil
	Retain   bool // the retain flag the client sees
	SubIDs   []int
	Message  *Message
}

// IDProperty is the user property with which an MQTT 5 client asks for the
// message's identity: a PUBLISH that carries it is acknowledged with it.
const IDProperty = "farhop-id"

// ReceiptProperty is the user property with which a publisher asks to hear
// what became of a message: its value is the topic of the receipts, which the
// publisher alone gets.
const ReceiptProperty = "farhop-receipt"

// NoResponderProperty is the user property with which a requester asks to be
// answered early, at the response topic, when its request reaches nobody. Any
// value will do.
const NoResponderProperty = "farhop-no-responder"

// Property returns the first value of a user property, and whether it is there.
func (m *Message) Property(key string) (value string, ok bool) {
	for _, p := range m.UserProperties {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// asks reports whether the publisher wants to hear of the message, which is
// the node's to say.
func (m *Message) asks() bool {
	_, receipt := m.Property(ReceiptProperty)
	_, early := m.Property(NoResponderProperty)
	return receipt || early
}

// Verdict is the node's answer to a Publish.
type Verdict struct {
	Reason    bundle.Reason
	Elsewhere bool      // a route sends it to other regions: live sessions here do not get it
	Message   bundle.ID // its identity in the mesh, zero for none

	// Shared: the node chose who gets it for the shared subscriptions, and of
	// the live sessions here Members do. Else the broker chooses.
	Shared  bool
	Members []Member

	Trace any // of the node's, for its Watcher
}

// Member is a client that gets a message for a shared subscription.
type Member struct{ Client, Filter string } // Filter as subscribed, "$share/GROUP/" included

// Node is what the broker needs from the node.
//
// A session is persistent when it was opened with Expiry > 0, or resumed
// (Clean false, SessionState.Present true) with Expiry 0; then the node queues
// for it and calls Broker.Deliver. Every other session is live: the broker
// itself matches and queues, and the node only knows its filters; but what the
// node keeps for a shared subscription of one until it is settled comes by
// Broker.Deliver, too.
type Node interface {
	// OpenSession returns when the session is durable, if it is persistent, and
	// the will is, if there is one. It is called for live sessions too. ctx ends
	// when the client goes.
	OpenSession(ctx context.Context, o SessionOpen) (SessionState, error)
	// CloseSession says that the connection ended. It must not block. It is
	// always called before OpenSession of the client's next connection. The
	// node publishes the will now, or after its delay, and delivers it to live
	// sessions here by DeliverLive; see ForgetWill.
	CloseSession(client string, conn uint64, expiry uint32)
	// ForgetWill cancels the will of a connection, before its CloseSession: the
	// client is not lost. It must not block.
	ForgetWill(client string, conn uint64)
	// Subscribe adds filters, or replaces those with the same Filter, and
	// returns when they are durable (persistent) and advertised.
	Subscribe(ctx context.Context, client string, subs []Subscription) error
	// Unsubscribe removes filters; unknown ones are no error.
	Unsubscribe(ctx context.Context, client string, filters []string) error
	// Publish takes a message. done is called exactly once, on any goroutine,
	// after the fact is durable; it may be called before Publish returns. The
	// broker delivers to its live sessions itself when the verdict is OK or
	// NoSubscriber and not Elsewhere: the node must not DeliverLive this message
	// here. For OK, NoSubscriber, Duplicate and Expired the client gets its
	// acknowledgement; see answer for the others.
	Publish(m *Message, done func(Verdict))
	// BeginWalk notes that a persistent session is to get retained messages for
	// a new subscription, and returns when that is durable: the SUBACK promises
	// them. After a restart the node calls Broker.Resume for each walk that was
	// noted and has not ended.
	BeginWalk(ctx context.Context, w Walk) (id uint64, err error)
	// SubmitTo queues retained messages for the session of a walk, and in the
	// same write notes how far that is now. The messages are the session's own
	// copies with the granted QoS and Retain set. They take the node's queue and
	// packet ids, which a delivery by the broker would clash with. It is called
	// on a goroutine of its own, many times in a row, and may wait until there
	// is room.
	SubmitTo(w Walk, all []*Message)
	// Settle reports a step of a handshake. It must not block.
	Settle(s Settlement)
	// Regroup takes a QoS 1 or 2 message back that a live session got for shared
	// subscriptions and did not acknowledge before its end, or that came too late
	// for it: for another member of each. It must not block.
	Regroup(m *Message, filters []string)
	// Wanted reports whether anyone beyond this broker's live sessions wants
	// the topic: another node, a persistent session, a route, or one that waits
	// for a response there. It is called
	// concurrently for every PUBLISH and must be cheap. False keeps the message
	// within the broker, unless it is retained, QoS 2 of a persistent session,
	// whose packet id must be durable, or its publisher asks to hear of it. Members of shared subscriptions
	// count like other subscribers.
	Wanted(topic string) bool
	// Kept tells of a QoS 1 or 2 publish that stayed within the broker: OK, or
	// NoSubscriber when it reached nobody. It must be cheap.
	Kept(r bundle.Reason)
}
