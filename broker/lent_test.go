package broker

import (
	"slices"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// lend delivers to a live session what the node keeps for its group, under the
// packet id that the number would have in a persistent one.
func (w *world) lend(client string, seq uint64, qos byte) {
	w.b.mu.Lock()
	num := w.b.sessions[client].num
	w.b.mu.Unlock()
	m := &Message{Topic: "job/1", Payload: []byte{'0' + byte(seq)}, QoS: qos, Received: time.Now()}
	w.b.Deliver(Delivery{Client: client, Conn: num, Seq: seq, PacketID: uint16(seq), QoS: qos, Message: m})
}

// settlements waits for so many, of which it returns what and number.
func (n *fakeNode) settlements(t *testing.T, count int) (out [][2]int) {
	t.Helper()
	eventually(t, "settlements", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.settled) >= count
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.settled {
		out = append(out, [2]int{int(s.What), int(s.Seq)})
	}
	return out
}

// TestLent: what the node keeps for a group reaches a live member among its
// other messages, with packet ids and a window of both, and the node hears what
// became of it; of QoS 2 also that it was never written.
func TestLent(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	m := w.connect("m", 5, func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = 3 })
	m.subscribe(2, "$share/g/job/#", "own")
	w.b.DeliverLive(&Message{Topic: "own", Payload: []byte("own"), QoS: 1, Received: time.Now()}, nil, false)
	w.lend("m", 1, 1) // the id of what is its own
	w.lend("m", 2, 2)
	w.lend("m", 3, 2)
	ids := map[string]uint16{}
	take := func(want string) {
		t.Helper()
		pk := m.next(packets.Publish)
		if string(pk.Payload) != want {
			t.Fatalf("got %q, want %q", pk.Payload, want)
		}
		for of, id := range ids {
			if id == pk.PacketID {
				t.Fatalf("%s and %s have packet id %d", of, want, id)
			}
		}
		ids[want] = pk.PacketID
	}
	take("own")
	take("1")
	take("2")
	m.quiet()
	m.send(ack(packets.Puback, ids["1"]))
	delete(ids, "1")
	take("3")
	m.send(ack(packets.Pubrec, ids["2"]))
	m.next(packets.Pubrel)
	m.quiet()
	m.send(ack(packets.Pubcomp, ids["2"]))
	want := [][2]int{{int(Acked), 1}, {int(Completed), 2}}
	if got := w.node.settlements(t, 2); !slices.Equal(got, want) {
		t.Errorf("settled %v, want %v", got, want)
	}
	delete(ids, "2")
	w.lend("m", 4, 1)
	take("4")
	w.lend("m", 5, 1)
	w.lend("m", 6, 2)
	m.conn.Close()
	want = append(want, [2]int{int(Unsent), 6})
	if got := w.node.settlements(t, 3); !slices.Equal(got, want) {
		t.Errorf("settled %v, want %v", got, want)
	}
	if back := w.node.cameBack(); len(back) > 0 {
		t.Errorf("came back: %q; it never left the node", back)
	}
}

// TestDeliverBeforeConnack: the node delivers as soon as it has opened a
// session, before the broker knows that it has.
func TestDeliverBeforeConnack(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	old := w.connect("m", 5, persistent)
	old.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	old.ends()
	gate := make(chan struct{})
	w.node.mu.Lock()
	w.node.gate = gate
	w.node.mu.Unlock()
	m := w.raw()
	m.version = 5
	m.send(connectPacket("m", 5, persistent))
	num := uint64(0)
	eventually(t, "its connection", func() bool {
		w.b.mu.Lock()
		defer w.b.mu.Unlock()
		if c := w.b.sessions["m"]; c != nil {
			num = c.num
		}
		return num > 0
	})
	w.b.Deliver(Delivery{Client: "m", Conn: num, Seq: 1, PacketID: 7, QoS: 2, Release: true})
	close(gate)
	m.next(packets.Connack)
	if pk := m.next(packets.Pubrel); pk.PacketID != 7 {
		t.Errorf("PUBREL of packet id %d, want 7", pk.PacketID)
	}
	m.send(ack(packets.Pubcomp, 7))
	want := [][2]int{{int(Completed), 1}}
	if got := w.node.settlements(t, 1); !slices.Equal(got, want) {
		t.Errorf("settled %v, want %v", got, want)
	}
}
