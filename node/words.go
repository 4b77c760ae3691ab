package node

import (
	"encoding/json"
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
)

// What an early answer says in its user properties.
const (
	StatusProperty  = "farhop-status"
	ReasonProperty  = "farhop-reason"
	MessageProperty = "farhop-message"
	NoResponder     = "no-responder"
)

// asked reads what the publisher of a message wants to hear of it, and whether
// it answers a request of another node.
func (m *mqtt) asked(msg *broker.Message, s *core.Submission) {
	s.Answers = m.pins.origin(msg)
	if len(msg.UserProperties) == 0 {
		return
	}
	if topic, ok := msg.Property(broker.ReceiptProperty); ok && interest.ValidTopic(topic) == nil {
		s.Ask.Receipts = topic
	}
	if _, ok := msg.Property(broker.NoResponderProperty); ok {
		s.Ask.Answer = msg.ResponseTopic
	}
	if !s.Ask.IsZero() {
		s.Ask.Correlation = msg.CorrelationData
	}
}

// Receipt is the payload of a receipt: the final word on a message in one
// region.
type Receipt struct {
	Message   string      `json:"message,omitempty"` // "": it was refused before it had an id
	Region    addr.Region `json:"region"`
	State     string      `json:"state"`         // delivered, expired, refused, unknown, untracked
	Reason    string      `json:"reason"`        // ok, or why what was not delivered ended
	Node      addr.Node   `json:"node,omitzero"` // one that delivered it, or else that ended it
	Delivered int         `json:"delivered"`     // recipients
	Expired   int         `json:"expired"`       // recipients, or copies on their way
	Refused   int         `json:"refused"`       // likewise
	Last      bool        `json:"last"`          // no other region has a word to come
	At        time.Time   `json:"at"`            // when this node knew, by its clock
}

// word tells a publisher what became of its message. Loop goroutine only.
func (m *mqtt) word(w core.Word) {
	msg := &broker.Message{Topic: w.Topic, QoS: 1, CorrelationData: w.Correlate}
	if w.Answer {
		msg.UserProperties = []broker.KV{
			{Key: StatusProperty, Value: NoResponder}, {Key: ReasonProperty, Value: w.Reason.String()},
		}
		if !w.Message.IsZero() {
			msg.UserProperties = append(msg.UserProperties, broker.KV{Key: MessageProperty, Value: w.Message.String()})
		}
	} else {
		body, err := json.Marshal(receiptOf(&w, m.loop.clock.now()))
		if err != nil {
			m.log.Error("a receipt cannot be written", "message", w.Message, "error", err)
			return
		}
		msg.Payload, msg.ContentType, msg.PayloadFormat = body, "application/json", broker.FormatText
	}
	s := submission(msg)
	s.Own, s.Word, s.Class = w.Client, &w, bundle.Interactive
	m.loop.in.put(func(now time.Time, c *core.Core) { c.Submit(now, []core.Submission{s}) })
}

func receiptOf(w *core.Word, now time.Time) Receipt {
	r := Receipt{
		Message: w.Message.String(), Region: w.Region, State: w.State.String(), Reason: w.Reason.String(), Node: w.Node,
		Delivered: w.Delivered, Expired: w.Expired, Refused: w.Refused, Last: w.Last, At: now.UTC(),
	}
	if w.State == core.Unknown && w.Reason == bundle.OK {
		r.Reason = "no-report"
	}
	return r
}

// regionTopic is where clients read what is reachable of a region:
// $mesh/region/earth/eu/state.
func regionTopic(r addr.Region) string { return "$mesh/region/" + r.String() + "/state" }

// regionLife is how long a change waits for a session that is away.
const regionLife = time.Hour

// regionView is the payload there.
type regionView struct {
	Region addr.Region `json:"region"`
	State  string      `json:"state"`         // reachable, scheduled, unreachable
	Since  time.Time   `json:"since"`         // by the clock of this node
	Next   time.Time   `json:"next,omitzero"` // of scheduled: when the contact opens
	Nodes  regionNodes `json:"nodes"`
}

type regionNodes struct {
	Up    int `json:"up"`
	Known int `json:"known"`
}

// region shows the clients of this node what is reachable. Loop goroutine only.
func (m *mqtt) region(r core.RegionState) {
	topic := regionTopic(r.Region)
	if r.Gone {
		m.broker.SetRetained(&broker.Message{Topic: topic})
		return
	}
	v := regionView{Region: r.Region, State: r.Reach.String(), Since: time.UnixMilli(r.Since).UTC(), Nodes: regionNodes{r.Up, r.Known}}
	if r.Next != 0 {
		v.Next = time.UnixMilli(r.Next).UTC()
	}
	body, err := json.Marshal(v)
	if err != nil {
		m.log.Error("the state of a region cannot be written", "reason", r.Region, "error", err)
		return
	}
	msg := &broker.Message{
		Topic: topic, Payload: body, QoS: 1, ContentType: "application/json", PayloadFormat: broker.FormatText, Received: time.Now(),
	}
	m.broker.SetRetained(msg)
	s := submission(msg)
	s.To, s.TTL, s.Class = m.self, regionLife, bundle.Interactive
	m.loop.in.put(func(now time.Time, c *core.Core) { c.Submit(now, []core.Submission{s}) })
}
