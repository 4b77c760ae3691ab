package broker

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestPersistentSession: what comes while the client is away is delivered when
// it is back, in order, unacknowledged deliveries first and marked DUP.
func TestPersistentSession(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			w := start(t, nil)
			c := w.connect("s", version, persistent)
			if c.connack.SessionPresent {
				t.Fatal("a new session is present")
			}
			if got := c.subscribe(2, "a/#"); got[0] != 2 {
				t.Fatalf("SUBACK %x", got)
			}
			p := w.connect("p", version, nil)
			p.sendMany(1, 1)
			p.sendMany(2, 2)
			one, two := c.next(packets.Publish), c.next(packets.Publish)
			c.next(packets.Publish)
			c.send(ack(packets.Pubrec, two.PacketID))
			if rel := c.next(packets.Pubrel); rel.PacketID != two.PacketID {
				t.Fatalf("PUBREL %d", rel.PacketID)
			}
			_ = c.conn.Close()
			eventually(t, "the session sleeps", func() bool {
				w.node.mu.Lock()
				defer w.node.mu.Unlock()
				return slices.Contains(w.node.closed, "s")
			})
			p.sendMany(1, 50)

			c = w.connect("s", version, persistent)
			if !c.connack.SessionPresent {
				t.Fatal("session not present")
			}
			rel, _ := c.read()
			again, _ := c.read()
			if rel.FixedHeader.Type == packets.Publish {
				rel, again = again, rel
			}
			if rel.FixedHeader.Type != packets.Pubrel || rel.PacketID != two.PacketID || again.PacketID != one.PacketID || !again.FixedHeader.Dup {
				t.Fatalf("resent PUBREL %d, PUBLISH %+v", rel.PacketID, again)
			}
			c.send(ack(packets.Puback, again.PacketID))
			c.send(ack(packets.Pubcomp, rel.PacketID))
			three := c.next(packets.Publish)
			c.finish2(three.PacketID)
			for i := range 50 {
				pk := c.next(packets.Publish)
				if string(pk.Payload) != fmt.Sprint("1-", i) {
					t.Fatalf("got %q, want %d", pk.Payload, i)
				}
				c.send(ack(packets.Puback, pk.PacketID))
			}
			c.quiet()
			eventually(t, "all settled", func() bool {
				w.node.mu.Lock()
				defer w.node.mu.Unlock()
				return len(w.node.sessions["s"].sent) == 0
			})
		})
	}
}

// sendMany publishes and waits for each handshake.
func (c *client) sendMany(qos byte, n int) {
	c.t.Helper()
	for i := range n {
		c.send(publish("a/b", fmt.Sprint(qos, "-", i), qos, uint16(i+1)))
		c.next(packets.Puback + qos - 1)
		if qos == 2 {
			c.send(ack(packets.Pubrel, uint16(i+1)))
			c.next(packets.Pubcomp)
		}
	}
}

// finish2 ends a QoS 2 delivery while others arrive.
func (c *client) finish2(id uint16) {
	c.t.Helper()
	c.send(ack(packets.Pubrec, id))
	var early []packets.Packet
	for {
		pk, err := c.read()
		if err != nil {
			c.t.Fatal(err)
		}
		if pk.FixedHeader.Type == packets.Pubrel && pk.PacketID == id {
			break
		}
		early = append(early, pk)
	}
	c.send(ack(packets.Pubcomp, id))
	c.pushBack(early)
}

// TestCleanEndsSession: a clean start ends the older session, an expiry of 0
// at DISCONNECT ends it too.
func TestCleanEndsSession(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.connect("s", 5, persistent).subscribe(1, "a")
	if w.connect("s", 5, nil).connack.SessionPresent {
		t.Error("session present after a clean start")
	}
	c := w.connect("s", 5, persistent)
	if c.connack.SessionPresent {
		t.Error("a session survived a clean start")
	}
	bye := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}}
	bye.Properties.SessionExpiryIntervalFlag = true
	c.send(bye)
	c.ends()
	if w.connect("s", 5, persistent).connack.SessionPresent {
		t.Error("a session survived DISCONNECT with expiry 0")
	}
}

// TestResumeWithoutExpiry: clean start 0 with expiry 0 resumes a session, and
// ends it with the connection.
func TestResumeWithoutExpiry(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c := w.connect("s", 5, persistent)
	c.subscribe(1, "a")
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	c.ends()
	p := w.connect("p", 4, nil)
	p.send(publish("a", "kept", 1, 1))
	p.next(packets.Puback)
	c = w.connect("s", 5, func(pk *packets.Packet) { pk.Connect.Clean = false })
	if pk := c.next(packets.Publish); string(pk.Payload) != "kept" {
		t.Fatalf("got %+v", pk)
	}
	_ = c.conn.Close()
	eventually(t, "the session is over", func() bool {
		w.node.mu.Lock()
		defer w.node.mu.Unlock()
		return w.node.sessions["s"] == nil
	})
}

// TestTakeover: the older connection of a client id is told and ends before
// the newer one begins.
func TestTakeover(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	first := w.connect("s", 5, persistent)
	first.subscribe(1, "a")
	second := w.connect("s", 5, persistent)
	if last := first.ends(); last.FixedHeader.Type != packets.Disconnect || last.ReasonCode != 0x8E {
		t.Fatalf("got %+v, want DISCONNECT 0x8E", last)
	}
	if !second.connack.SessionPresent {
		t.Fatal("session not present")
	}
	p := w.connect("p", 4, nil)
	p.send(publish("a", "x", 1, 1))
	second.next(packets.Publish)
	w.b.mu.Lock()
	num := w.b.sessions["s"].num
	w.b.mu.Unlock()
	w.b.TakenOver("s", num-1) // an older connection: nothing happens
	second.quiet()
	w.b.TakenOver("s", num)
	if last := second.ends(); last.ReasonCode != 0x8E {
		t.Fatalf("got %+v, want DISCONNECT 0x8E", last)
	}
}

// TestTakeoverStorm: twenty connections fight for one id; one survives, and
// every CloseSession came before the next OpenSession.
func TestTakeoverStorm(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	var wg sync.WaitGroup
	for range 20 {
		c := w.raw()
		wg.Go(func() {
			pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4}
			pk.Connect.ProtocolName, pk.Connect.ClientIdentifier = []byte("MQTT"), "same"
			c.send(pk)
			_, _ = c.read()
		})
	}
	wg.Wait()
	eventually(t, "one connection is left", func() bool {
		w.b.mu.Lock()
		defer w.b.mu.Unlock()
		return len(w.b.all) == 1 && len(w.b.sessions) == 1
	})
	w.node.mu.Lock()
	defer w.node.mu.Unlock()
	if len(w.node.closed) != 19 {
		t.Errorf("%d sessions closed, want 19", len(w.node.closed))
	}
}

func TestAssignedClientID(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	a, b := w.connect("", 5, nil), w.connect("", 5, nil)
	if x, y := a.connack.Properties.AssignedClientID, b.connack.Properties.AssignedClientID; x == "" || x == y {
		t.Errorf("assigned %q and %q", x, y)
	}
}

// TestWindowExceeded: a node that delivers beyond the window is a fault that
// costs one connection, not memory.
func TestWindowExceeded(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.Window = 3 })
	c := w.connect("s", 5, persistent)
	w.b.mu.Lock()
	num := w.b.sessions["s"].num
	w.b.mu.Unlock()
	m := &Message{Topic: "a", QoS: 1}
	for id := uint16(1); id <= 3; id++ {
		w.b.Deliver(Delivery{Client: "s", Conn: num, Seq: uint64(id), PacketID: id, QoS: 1, Message: m})
		w.b.Deliver(Delivery{Client: "s", Conn: num - 1, Seq: 9, PacketID: 9, QoS: 1, Message: m}) // an older connection
		if pk := c.next(packets.Publish); pk.PacketID != id {
			t.Fatalf("got %+v", pk)
		}
	}
	c.quiet()
	w.b.Deliver(Delivery{Client: "s", Conn: num, Seq: 4, PacketID: 4, QoS: 1, Message: m})
	if last := c.ends(); last.ReasonCode != 0x83 {
		t.Errorf("got %+v, want DISCONNECT 0x83", last)
	}
}
