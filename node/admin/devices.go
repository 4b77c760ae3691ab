package admin

import (
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// Limits of requests about sessions and retained messages.
const (
	MaxSessions        = 10_000  // of one Sessions
	MaxRetained        = 10_000  // of one Retained or RemoveRetained
	MaxRetainedPayload = 8 << 20 // bytes of payloads of one Retained; the last message may go beyond
)

// SessionsRequest asks for MQTT sessions, by client id.
type SessionsRequest struct {
	Client        string `json:"client,omitempty"` // glob: * any text, ? any character; "" for all
	Exact         bool   `json:"exact,omitempty"`  // Client is an id, no glob
	After         string `json:"after,omitempty"`  // only ids behind this one
	Limit         int    `json:"limit,omitempty"`  // at most MaxSessions; 0 for as many
	Subscriptions bool   `json:"subscriptions,omitempty"`
}

// Sessions is a part of the sessions of a node.
type Sessions struct {
	Now      time.Time `json:"now"` // by the node's clock
	Sessions []Session `json:"sessions"`
	More     bool      `json:"more,omitempty"` // there are others behind the last
}

// Session is an MQTT session.
type Session struct {
	Client    string `json:"client"`
	Connected bool   `json:"connected"`
	// Since when it is connected, or away. For one that was away when the node
	// started it is the start.
	Since time.Time `json:"since,omitzero"`

	// Of one that is connected.
	Remote     string   `json:"remote,omitempty"`   // address
	Listener   string   `json:"listener,omitempty"` // tcp, tls, ws, wss, unix or quic
	User       string   `json:"user,omitempty"`
	Names      []string `json:"names,omitempty"`       // of its certificate
	Version    string   `json:"version,omitempty"`     // of MQTT: 3.1, 3.1.1 or 5
	KeepAliveS int64    `json:"keepalive_s,omitempty"` // seconds

	// Persistent: it outlives its connection, by ExpiryS seconds, or for ever
	// without a value.
	Persistent bool      `json:"persistent"`
	ExpiryS    *int64    `json:"expiry_s,omitempty"`
	Expires    time.Time `json:"expires,omitzero"` // of one that is away

	Subscriptions int            `json:"subscriptions"` // number of filters
	Filters       []Subscription `json:"filters,omitempty"`
	Queued        int            `json:"queued"` // messages, those in flight among them
	Bytes         int64          `json:"bytes"`  // of these
	InFlight      int            `json:"in_flight"`
	Window        int            `json:"window,omitempty"`      // how many may be in flight
	Oldest        time.Time      `json:"oldest,omitzero"`       // arrival of the oldest
	Inbound       int            `json:"inbound_handshakes"`    // QoS 2 publishes between PUBREC and PUBREL
	Node          bool           `json:"of_the_node,omitempty"` // the node's own, for its doors

	// At is the node that has the session since Since, when it is not this one:
	// what waits here is on its way there. Nothing of it is here after Expires.
	At string `json:"at,omitempty"`
}

// Subscription is a filter of a session.
type Subscription struct {
	Filter            string `json:"filter"`
	QoS               int    `json:"qos"`
	NoLocal           bool   `json:"no_local,omitempty"`
	RetainAsPublished bool   `json:"retain_as_published,omitempty"`
	ID                int    `json:"id,omitempty"`
}

// SessionRequest names a session.
type SessionRequest struct {
	Client string `json:"client"`
	DryRun bool   `json:"dry_run,omitempty"` // of EndSession: only look what would end
}

// Kicked tells whether there was a connection to end.
type Kicked struct {
	Connected bool `json:"connected"`
}

// EndedSession is what ended with a session, or would. Its messages count as
// session-ended; those of shared subscriptions go to other members.
type EndedSession struct {
	Found     bool  `json:"found"`
	Connected bool  `json:"connected"` // it was
	Messages  int   `json:"messages"`
	Bytes     int64 `json:"bytes"`
}

// RetainedRequest asks for retained messages, by topic.
type RetainedRequest struct {
	Filter string `json:"filter"`
	After  string `json:"after,omitempty"` // only topics behind this one
	Limit  int    `json:"limit,omitempty"` // at most MaxRetained; 0 for as many
	Values bool   `json:"values,omitempty"`
	Marks  bool   `json:"marks,omitempty"`   // also what is remembered of messages that are gone
	DryRun bool   `json:"dry_run,omitempty"` // of RemoveRetained: only count
}

// Retained is a part of what a node keeps, in the order of topics.
type Retained struct {
	Now      time.Time         `json:"now"` // by the node's clock
	Messages []RetainedMessage `json:"messages"`
	More     bool              `json:"more,omitempty"` // there are others behind the last
}

// RetainedMessage is what a node keeps of a topic.
type RetainedMessage struct {
	Topic string `json:"topic"`
	State string `json:"state"` // message; or of marks deleted or expired
	// Stamp orders what is published to a topic, by the hybrid logical clock
	// of the node where it was: the later one wins, then the greater node.
	Stamp     string       `json:"stamp"`
	Published time.Time    `json:"published,omitzero"` // as the stamp says
	Node      addr.Node    `json:"node,omitzero"`
	Expires   time.Time    `json:"expires,omitzero"` // of a mark: it is forgotten; zero: never
	Size      int          `json:"size"`             // bytes of the payload
	Content   *Publication `json:"content,omitempty"`
	Unread    string       `json:"unread,omitempty"` // why there is no Content, although it was asked for
}

// RemovedRetained counts topics.
type RemovedRetained struct {
	Removed int            `json:"removed"`          // or would be
	Failed  map[string]int `json:"failed,omitempty"` // by reason
	More    bool           `json:"more,omitempty"`   // there are others: ask again
}
