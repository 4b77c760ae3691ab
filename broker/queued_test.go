package broker

import (
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// until reads what comes before a packet of a type, and that.
func (c *client) until(typ byte) {
	c.t.Helper()
	for {
		pk, err := c.read()
		if err != nil {
			c.t.Fatal(err)
		}
		if pk.FixedHeader.Type == typ {
			return
		}
	}
}

// TestQueuedWalkEnds: the node queues what is retained for a session that
// outlives its connection only as long as that session wants it, and once.
func TestQueuedWalkEnds(t *testing.T) {
	t.Parallel()
	const some, pieces = 10, 76 // of n
	const n = inOrder + (pieces-1)*walkItems
	for name, stop := range map[string]func(w *world, c *client) (most int){
		"unsubscribe": func(_ *world, c *client) int {
			c.send(packets.Packet{
				FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 2, Filters: packets.Subscriptions{{Filter: "r/#"}},
			})
			c.until(packets.Unsuback)
			return some
		},
		"subscribe anew": func(w *world, c *client) int {
			walk := func() *walk {
				w.b.queued.mu.Lock()
				defer w.b.queued.mu.Unlock()
				return w.b.queued.all["c"]["r/#"]
			}
			before := walk()
			c.send(packets.Packet{
				FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 2, Filters: packets.Subscriptions{{Filter: "r/#", Qos: 1}},
			})
			c.until(packets.Suback)
			eventually(w.t, "another walk", func() bool { return walk() != before })
			return some + pieces
		},
		"a new session": func(w *world, _ *client) int {
			w.connect("c", 5, func(pk *packets.Packet) {
				persistent(pk)
				pk.Connect.Clean = true
			})
			return some
		},
		"away": func(_ *world, c *client) int {
			c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
			return pieces
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			w.node.slow = make(chan struct{})
			for i := range n {
				w.b.SetRetained(&Message{Topic: fmt.Sprintf("r/%04d", i), Payload: []byte("x"), QoS: 1})
			}
			c := w.connect("c", 5, persistent)
			c.subscribe(1, "r/#")
			for range some {
				w.node.slow <- struct{}{}
			}
			most := stop(w, c)
			close(w.node.slow)
			w.b.work.Wait()
			w.node.mu.Lock()
			defer w.node.mu.Unlock()
			if got := w.node.submitted; got < most || got > most+2 { // one is with the node as it ends
				t.Errorf("%d pieces were queued, want %d", got, most)
			}
		})
	}
}
