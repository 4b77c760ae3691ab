package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func (n *fakeNode) cameBack() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.regrouped)
}

// TestDeadMemberGivesBack: what a live member of a group did not acknowledge
// goes back to the node, in order; what it acknowledged, what it got at QoS 0
// or 2, and what was its own does not.
func TestDeadMemberGivesBack(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	m := w.connect("m", 5, func(pk *packets.Packet) {
		pk.Properties.ReceiveMaximum = 3
	})
	m.subscribe(2, "$share/g/job/#")
	m.subscribe(1, "own")
	p := w.connect("p", 4, nil)
	p.send(publish("own", "own", 1, 100))
	p.next(packets.Puback)
	m.next(packets.Publish)
	p.send(publish("job/1", "twice", 2, 101))
	p.next(packets.Pubrec)
	m.next(packets.Publish)
	p.send(publish("job/1", "once", 0, 0))
	m.next(packets.Publish)
	for i := range 4 {
		p.send(publish("job/1", fmt.Sprint(i), 1, uint16(i+1)))
		p.next(packets.Puback)
	}
	first := m.next(packets.Publish)
	m.send(ack(packets.Puback, first.PacketID))
	if got := m.next(packets.Publish); string(got.Payload) != "1" {
		t.Fatalf("got %q, want 1", got.Payload)
	}
	m.conn.Close()
	want := []string{"$share/g/job/# 1", "$share/g/job/# 2", "$share/g/job/# 3"}
	for end := time.Now().Add(patience); len(w.node.cameBack()) < len(want) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if got := w.node.cameBack(); !slices.Equal(got, want) {
		t.Errorf("came back: %q, want %q", got, want)
	}
}

// TestNodeChooses: a member that the node chose gets the message, and no other
// one; what is for one that is gone goes back.
func TestNodeChooses(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	a, b, c := w.connect("a", 5, nil), w.connect("b", 4, nil), w.connect("c", 4, nil)
	a.subscribe(1, "$share/g/t")
	b.subscribe(1, "$share/g/t")
	c.subscribe(1, "t")
	m := func(text string) *Message {
		return &Message{Topic: "t", Payload: []byte(text), QoS: 1, Received: time.Now()}
	}
	w.b.DeliverLive(m("one"), []Member{{"b", "$share/g/t"}}, false)
	w.b.DeliverLive(m("two"), []Member{{"b", "$share/g/t"}}, true)
	w.b.DeliverLive(m("three"), []Member{{"gone", "$share/g/t"}, {"a", "$share/other/t"}}, false)
	for _, want := range []string{"one", "two"} {
		if got := b.next(packets.Publish); string(got.Payload) != want {
			t.Errorf("b got %q, want %q", got.Payload, want)
		}
	}
	for _, want := range []string{"one", "three"} {
		if got := c.next(packets.Publish); string(got.Payload) != want {
			t.Errorf("c got %q, want %q", got.Payload, want)
		}
	}
	a.quiet()
	b.quiet()
	if got, want := w.node.cameBack(), []string{"$share/g/t three", "$share/other/t three"}; !slices.Equal(got, want) {
		t.Errorf("came back: %q, want %q", got, want)
	}
}
