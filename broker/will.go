package broker

import "github.com/farhop/farhop/broker/packet"

// Will is what is to be published when the client is lost (MQTT 5, 3.1.2.5).
// The node keeps it: it must outlive the process.
type Will struct {
	Message *Message // Received is when it is published, not before
	Delay   uint32   // seconds after the loss, at the latest when the session ends
}

func willOf(w *packet.Will) *Will {
	m := &Message{
		Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain, HasContentType: w.HasContentType,
		ContentType: w.ContentType, ResponseTopic: w.ResponseTopic, CorrelationData: w.CorrelationData, Expiry: w.Expiry,
	}
	if w.HasFormat {
		m.PayloadFormat = FormatBytes + Format(w.PayloadFormat)
	}
	for _, u := range w.User {
		m.UserProperties = append(m.UserProperties, KV(u))
	}
	return &Will{Message: m, Delay: w.Delay}
}

// takeLeave cancels the will of a connection that ended where the client is not
// lost: it said DISCONNECT 0x00, or is at another node. Nor is there one when
// it was never let in, or may no longer say it. A takeover by a connection here
// is a loss (MQTT 5, 3.1.4).
func (c *conn) takeLeave(opened bool) {
	if c.willTopic == "" {
		return
	}
	if !opened || c.polite || c.elsewhere.Load() || !c.mayPublish(c.willTopic) {
		c.b.node.ForgetWill(c.client, c.num)
	}
}
