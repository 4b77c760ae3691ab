package broker

import (
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// These tests exist because a bug that was planted on purpose went unnoticed
// (make mutants).

// answerFirst lets the node answer the oldest publish it holds, and no other.
func (n *fakeNode) answerFirst() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.work <- n.held[0]
	n.held = n.held[1:]
}

// A publish is acknowledged when the node answered it: not when it answered
// one before.
func TestAckWaitsForItsOwnAnswer(t *testing.T) {
	t.Parallel()
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprintf("qos%d", qos), func(t *testing.T) {
			w := start(t, nil)
			w.node.wanted, w.node.holding = true, true
			c := w.connect("p", 5, nil)
			for id := range uint16(3) {
				c.send(publish("a", "x", qos, id+1))
			}
			c.quiet()
			for id := range uint16(3) {
				w.node.answerFirst()
				if pk := c.next(packets.Puback + qos - 1); pk.PacketID != id+1 {
					t.Fatalf("acknowledges %d, want %d", pk.PacketID, id+1)
				}
				c.quiet()
			}
		})
	}
}

// A QoS 2 PUBLISH that comes again before its PUBREL is the same message (MQTT
// 5, 4.3.3), in a session that ends with its connection too.
func TestQoS2RepeatOnOneConnection(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			w := start(t, nil)
			w.node.wanted = true
			c := w.connect("p", version, nil)
			for range 3 {
				c.send(publish("a", "x", 2, 7))
				if pk := c.next(packets.Pubrec); pk.PacketID != 7 || pk.ReasonCode != 0 {
					t.Fatalf("got %+v, want PUBREC 7", pk)
				}
			}
			if got := w.node.committed(); got != 1 {
				t.Errorf("published %d times", got)
			}
		})
	}
}

// A PUBCOMP says that the packet id is free, so it waits until a node that is
// killed now would not take the next message under it for a repeat.
func TestPubcompWaitsForTheNode(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c := w.connect("p", 5, persistent)
	c.send(publish("a", "x", 2, 7))
	c.next(packets.Pubrec)
	w.node.mu.Lock()
	w.node.holding = true
	w.node.mu.Unlock()
	for range 2 { // asked again it has no other answer
		c.send(ack(packets.Pubrel, 7))
		c.quiet()
	}
	w.node.release(false)
	if pk := c.next(packets.Pubcomp); pk.PacketID != 7 {
		t.Errorf("PUBCOMP %d, want 7", pk.PacketID)
	}
	c.quiet()
}
