package broker

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestAskingPublish: a publish whose publisher asks to hear of it goes to the
// node, whoever wants it; others that only live sessions want do not.
func TestAskingPublish(t *testing.T) {
	t.Parallel()
	for key, asks := range map[string]bool{ReceiptProperty: true, NoResponderProperty: true, "color": false} {
		t.Run(key, func(t *testing.T) {
			w := start(t, nil)
			sub := w.connect("s", 4, nil)
			sub.subscribe(0, "a")
			c := w.connect("p", 5, nil)
			pk := publish("a", "x", 1, 1)
			pk.Properties.User = []packets.UserProperty{{Key: key, Val: "answer"}}
			c.send(pk)
			if pk := c.next(packets.Puback); pk.ReasonCode != 0 {
				t.Errorf("PUBACK %#x", pk.ReasonCode)
			}
			sub.next(packets.Publish)
			if got := w.node.committed() > 0; got != asks {
				t.Errorf("the node saw it: %t, want %t", got, asks)
			}
		})
	}
}

// TestDeliverOwn: what is for one client reaches its live session alone, when
// it subscribed.
func TestDeliverOwn(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	own, other := w.connect("own", 5, nil), w.connect("other", 5, nil)
	own.subscribe(1, "$mesh/receipts/#")
	other.subscribe(1, "$mesh/receipts/#")
	w.b.DeliverOwn("own", &Message{Topic: "$mesh/receipts/1", Payload: []byte("x"), QoS: 1})
	w.b.DeliverOwn("own", &Message{Topic: "elsewhere", Payload: []byte("y"), QoS: 1})
	w.b.DeliverOwn("nobody", &Message{Topic: "$mesh/receipts/2", Payload: []byte("z"), QoS: 1})
	if pk := own.next(packets.Publish); pk.TopicName != "$mesh/receipts/1" {
		t.Errorf("got %q", pk.TopicName)
	}
	own.quiet()
	other.quiet()
}
