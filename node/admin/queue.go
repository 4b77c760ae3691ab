package admin

import (
	"time"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
)

// Queues is what waits, for whom and why.
type Queues struct {
	Now    time.Time  `json:"now"`    // by the node's clock
	Queues []Queue    `json:"queues"` // those that are not empty
	Quotas []QuotaUse `json:"quotas"` // those that anything counts against
}

// QuotaUse is what is stored on account of one quota.
type QuotaUse struct {
	Quota    string `json:"quota"`    // its name and, of a quota per client or the like, for whom
	Bytes    int64  `json:"bytes"`    // of payloads, once for each queue
	Messages int    `json:"messages"` // a message in two queues counts twice

	MaxBytes    int64 `json:"max_bytes,omitempty"`    // 0: not limited
	MaxMessages int   `json:"max_messages,omitempty"` // likewise
}

// Limits of one request about messages.
const (
	MaxPeek        = 1000    // messages of one Peek
	MaxPeekPayload = 8 << 20 // bytes of payloads of one Peek; the last message may go beyond
	MaxReplay      = 256     // messages of one Replay
)

// PeekRequest asks for the messages at the front of a queue.
type PeekRequest struct {
	Queue   string `json:"queue"`             // as in Queue, such as "node earth-1"
	Class   string `json:"class,omitempty"`   // "" for all, in the order of arrival
	After   uint64 `json:"after,omitempty"`   // only messages behind this Seq
	Limit   int    `json:"limit,omitempty"`   // most messages, at most MaxPeek; 0 for 20
	Payload bool   `json:"payload,omitempty"` // with what the messages say
}

// Peek is a part of a queue, in the order of arrival.
type Peek struct {
	Queue    string    `json:"queue"`
	Now      time.Time `json:"now"`
	Messages []Waiting `json:"messages"`
	More     bool      `json:"more,omitempty"` // there are others behind the last
}

// Waiting is one bundle in a queue: a message, or a batch of them.
type Waiting struct {
	Seq      uint64        `json:"seq"` // number of its arrival at this node
	Class    string        `json:"class"`
	Message  string        `json:"message,omitempty"` // id, of a batch that of its first message
	Count    int           `json:"count,omitempty"`   // messages in it when it is a batch
	Service  string        `json:"service,omitempty"` // mqtt for publications
	Topic    string        `json:"topic,omitempty"`   // where the node may know it, and it is no batch
	Origin   addr.Node     `json:"origin,omitzero"`   // node that made the bundle
	Previous addr.Node     `json:"previous,omitzero"` // node it came from; zero when it entered here
	Hops     int           `json:"hops"`
	QoS      int           `json:"qos"`
	Retain   bool          `json:"retain,omitempty"`
	Size     int64         `json:"size"` // bytes of the payload block
	Received time.Time     `json:"received,omitzero"`
	Expires  time.Time     `json:"expires,omitzero"`
	State    string        `json:"state"` // waiting, in flight, received, ended or damaged
	Sent     int           `json:"sent"`  // times it was offered
	Content  []Publication `json:"content,omitempty"`
	Unread   string        `json:"unread,omitempty"` // why there is no Content, although it was asked for
}

// Publication is what a message says: an MQTT publication, or the body of a
// bundle for another service, which has no Topic.
type Publication struct {
	Message     string     `json:"message"` // id
	Topic       string     `json:"topic,omitempty"`
	QoS         int        `json:"qos"`
	Retain      bool       `json:"retain,omitempty"`
	Expiry      bool       `json:"expiry,omitempty"` // the publisher limited its life
	Client      string     `json:"client,omitempty"` // that published it
	Text        bool       `json:"text,omitempty"`   // the publisher said that the payload is UTF-8
	ContentType string     `json:"content_type,omitempty"`
	Response    string     `json:"response_topic,omitempty"`
	Correlation []byte     `json:"correlation,omitempty"`
	Properties  []Property `json:"properties,omitempty"`
	Payload     []byte     `json:"payload"` // base64 in JSON
}

// Property is a user property of MQTT 5. Names may repeat.
type Property struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Retried is what a retry found to hurry.
type Retried struct {
	Resting int `json:"resting"` // queues that rested, because a peer had no room
	Probed  int `json:"probed"`  // silent links that were asked again
}

// PurgeRequest says what to end. What is left out matches anything.
type PurgeRequest struct {
	Queue   string          `json:"queue,omitempty"` // as in Queue; "" only with All
	All     bool            `json:"all,omitempty"`   // all queues
	Class   string          `json:"class,omitempty"`
	Older   config.Duration `json:"older,omitzero"` // arrived longer ago
	Origin  addr.Node       `json:"origin,omitzero"`
	Message string          `json:"message,omitempty"` // id
	DryRun  bool            `json:"dry_run,omitempty"` // only look what would end
}

// Purged is what was ended, or would be.
type Purged struct {
	Ended    int   `json:"ended"`    // bundles
	Messages int   `json:"messages"` // in these, where it was looked at: in a dry run
	Bytes    int64 `json:"bytes"`    // of these, likewise
	Left     int   `json:"left"`     // far back in long queues: those that match end as their turn comes
	AtLeast  bool  `json:"at_least,omitempty"`
}

// ReplayRequest submits messages again.
type ReplayRequest struct {
	Session  string          `json:"session,omitempty"` // only to this MQTT session of the node
	Node     addr.Node       `json:"node,omitzero"`     // only to the subscribers of this node
	Again    bool            `json:"again,omitempty"`   // also those that were replayed before
	Messages []ReplayMessage `json:"messages"`          // at most MaxReplay
}

// ReplayMessage is one message as it was.
type ReplayMessage struct {
	Publication
	Class   string    `json:"class"`
	Expires time.Time `json:"expires"`
}

// Replayed counts messages by verdict: ok, duplicate (it was replayed before),
// expired, no-subscriber and so on.
type Replayed struct {
	Verdicts map[string]int `json:"verdicts"`
}

// Stored is one message as farhop store export writes it, one a line, and as
// farhop queue replay reads it. Messages of a batch are lines of their own.
type Stored struct {
	Queue    string    `json:"queue"` // as in Queue
	Class    string    `json:"class"`
	Seq      uint64    `json:"seq"`
	Batch    string    `json:"batch,omitempty"` // id of the batch it was in
	Service  string    `json:"service,omitempty"`
	Origin   addr.Node `json:"origin,omitzero"`
	Previous addr.Node `json:"previous,omitzero"`
	Hops     int       `json:"hops"`
	Received time.Time `json:"received"`
	Expires  time.Time `json:"expires"`
	State    string    `json:"state"` // waiting, received or ended
	Publication
	Bundle string `json:"bundle,omitempty"` // the whole encoded bundle in hex, where there is one; of a batch with its first message
	Unread string `json:"unread,omitempty"` // why it has no content
}
