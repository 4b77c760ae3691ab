package broker

import (
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farhop/farhop/storeforward/bundle"
)

// TestRefusedPublish is the table of 2 versions x QoS 1 and 2 x the errors: an
// unaccepted message is never acknowledged as a success, and the next publish
// of the same client is not hindered by it.
func TestRefusedPublish(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		for _, qos := range []byte{1, 2} {
			for _, tt := range []struct {
				reason bundle.Reason
				code   byte // PUBACK or PUBREC of MQTT 5, or DISCONNECT
				closes bool
			}{
				{bundle.StoreFull, 0x97, false},
				{bundle.QuotaExceeded, 0x97, false},
				{bundle.NotAllowed, 0x87, false},
				{bundle.TooLarge, 0x97, false},
				{bundle.DiskFailed, 0x80, true},
				{bundle.ShuttingDown, 0x8B, true},
			} {
				t.Run(fmt.Sprintf("v%d qos%d %s", version, qos, tt.reason), func(t *testing.T) {
					w := start(t, func(c *Config) { c.ReceiveMax = 3 })
					w.node.wanted, w.node.reason = true, tt.reason
					c := w.connect("p", version, nil)
					if version == 4 || tt.closes {
						c.send(publish("a", "x", qos, 7))
						last := c.ends()
						if version == 4 && last.FixedHeader.Type != 0 {
							t.Fatalf("got %+v before the end, want no acknowledgement", last)
						}
						if version == 5 && (last.FixedHeader.Type != packets.Disconnect || last.ReasonCode != tt.code) {
							t.Fatalf("got %+v, want DISCONNECT %#x", last, tt.code)
						}
						return
					}
					for id := range uint16(10) { // more often than Receive Maximum: no quota leaks
						c.send(publish("a", "x", qos, id+1))
						pk := c.next(packets.Puback + qos - 1)
						if pk.PacketID != id+1 || pk.ReasonCode != tt.code {
							t.Fatalf("got %+v, want id %d code %#x", pk, id+1, tt.code)
						}
					}
				})
			}
		}
	}
}

// TestAcknowledgedPublish: the acknowledgement says what became of it.
func TestAcknowledgedPublish(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		version        byte
		qos            byte
		wanted, listen bool
		code           byte
	}{
		{"v4 nobody", 4, 1, false, false, 0},
		{"v5 nobody", 5, 1, false, false, 0x10},
		{"v5 nobody qos2, does not ask", 5, 2, false, false, 0},
		{"v5 local", 5, 1, false, true, 0},
		{"v5 remote", 5, 2, true, false, 0},
		{"v5 both", 5, 1, true, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := start(t, nil)
			w.node.wanted = tt.wanted
			sub := w.connect("s", 4, nil)
			if tt.listen {
				sub.subscribe(1, "a/#")
			}
			c := w.connect("p", tt.version, nil)
			for id := uint16(1); id < 4; id++ {
				c.send(publish("a", "x", tt.qos, id))
				if pk := c.next(packets.Puback + tt.qos - 1); pk.ReasonCode != tt.code || pk.PacketID != id {
					t.Fatalf("got %+v, want code %#x", pk, tt.code)
				}
				if tt.qos == 2 {
					c.send(ack(packets.Pubrel, id))
					if pk := c.next(packets.Pubcomp); pk.ReasonCode != 0 {
						t.Fatalf("PUBCOMP %#x", pk.ReasonCode)
					}
				}
				if tt.listen {
					if pk := sub.next(packets.Publish); string(pk.Payload) != "x" {
						t.Fatalf("got %+v", pk)
					}
				}
			}
			if got := w.node.committed(); (got > 0) != tt.wanted {
				t.Errorf("the node saw %d publishes, wanted %v", got, tt.wanted)
			}
		})
	}
}

// TestPipelinedAcks: a client may have many publishes open; nothing is
// acknowledged before the node says so, and then in the order they came even
// if the node finishes them the other way round.
func TestPipelinedAcks(t *testing.T) {
	t.Parallel()
	const n = 1000
	w := start(t, nil)
	w.node.wanted, w.node.holding = true, true
	sub := w.connect("s", 4, nil)
	sub.subscribe(0, "a")
	c := w.connect("p", 5, nil)
	for i := range n {
		c.send(publish("a", fmt.Sprint(i), 1, uint16(i+1)))
	}
	c.quiet() // all read, none acknowledged
	w.node.release(true)
	for i := range n {
		if pk := c.next(packets.Puback); int(pk.PacketID) != i+1 {
			t.Fatalf("PUBACK %d, want %d", pk.PacketID, i+1)
		}
		if pk := sub.next(packets.Publish); string(pk.Payload) != fmt.Sprint(i) {
			t.Fatalf("delivery %q, want %d", pk.Payload, i)
		}
	}
}

func TestReceiveMaximumExceeded(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.ReceiveMax = 2 })
	w.node.wanted, w.node.holding = true, true
	c := w.connect("p", 5, nil)
	if got := c.connack.Properties.ReceiveMaximum; got != 2 {
		t.Fatalf("CONNACK Receive Maximum %d, want 2", got)
	}
	for id := uint16(1); id <= 3; id++ {
		c.send(publish("a", "x", 1, id))
	}
	if last := c.ends(); last.FixedHeader.Type != packets.Disconnect || last.ReasonCode != 0x93 {
		t.Fatalf("got %+v, want DISCONNECT 0x93", last)
	}
	w.node.release(false)
}

// TestBackpressure: an MQTT 3.1.1 client has no Receive Maximum; beyond the
// limit it is read no further, and goes on when the node answers.
func TestBackpressure(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.MaxPending = 8 })
	w.node.wanted, w.node.holding = true, true
	c := w.connect("p", 4, nil)
	for id := uint16(1); id <= 100; id++ {
		c.send(publish("a", "x", 1, id))
	}
	eventually(t, "eight publishes at the node", func() bool {
		w.node.mu.Lock()
		defer w.node.mu.Unlock()
		return len(w.node.held) == 8
	})
	w.node.release(false)
	for id := uint16(1); id <= 100; id++ {
		if pk := c.next(packets.Puback); pk.PacketID != id {
			t.Fatalf("PUBACK %d, want %d", pk.PacketID, id)
		}
	}
}

// TestQoS2AfterReconnect: a PUBLISH sent again on a new connection of a
// persistent session is answered and not published again; after PUBCOMP its
// id is free.
func TestQoS2AfterReconnect(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			w := start(t, nil)
			w.node.wanted = true
			c := w.connect("p", version, persistent)
			c.send(publish("a", "x", 2, 5))
			c.next(packets.Pubrec)
			_ = c.conn.Close()

			c = w.connect("p", version, persistent)
			if !c.connack.SessionPresent {
				t.Fatal("session not present")
			}
			again := publish("a", "x", 2, 5)
			again.FixedHeader.Dup = true
			c.send(again)
			if pk := c.next(packets.Pubrec); pk.ReasonCode != 0 {
				t.Fatalf("PUBREC %#x, want success", pk.ReasonCode)
			}
			c.send(ack(packets.Pubrel, 5))
			c.next(packets.Pubcomp)
			if got := w.node.committed(); got != 1 {
				t.Fatalf("published %d times", got)
			}
			c.send(publish("a", "y", 2, 5))
			c.next(packets.Pubrec)
			if got := w.node.committed(); got != 2 {
				t.Fatalf("the freed id publishes %d times in all, want 2", got)
			}
		})
	}
}

// TestQoS2LostPubrec: the node knows the id although the client got no PUBREC.
func TestQoS2LostPubrec(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.node.wanted, w.node.holding = true, true
	c := w.connect("p", 5, persistent)
	c.send(publish("a", "x", 2, 5))
	c.quiet()
	_ = c.conn.Close()
	c = w.connect("p", 5, persistent)
	c.send(publish("a", "x", 2, 5)) // before the first one is committed: the node finds the duplicate
	c.quiet()
	w.node.release(false)
	if pk := c.next(packets.Pubrec); pk.ReasonCode != 0 {
		t.Fatalf("PUBREC %#x, want success", pk.ReasonCode)
	}
	if got := w.node.committed(); got != 1 {
		t.Fatalf("published %d times", got)
	}
}

func TestTopicAlias(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	sub := w.connect("s", 4, nil)
	sub.subscribe(0, "#")
	c := w.connect("p", 5, nil)
	if got := c.connack.Properties.TopicAliasMaximum; got != maxAliases {
		t.Fatalf("CONNACK Topic Alias Maximum %d", got)
	}
	for _, topic := range []string{"a/b", "", "c", ""} {
		pk := publish(topic, "x", 0, 0)
		pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 3, true
		c.send(pk)
	}
	for _, want := range []string{"a/b", "a/b", "c", "c"} {
		if pk := sub.next(packets.Publish); pk.TopicName != want {
			t.Fatalf("topic %q, want %q", pk.TopicName, want)
		}
	}
	pk := publish("", "x", 0, 0)
	pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 4, true
	c.send(pk)
	if last := c.ends(); last.ReasonCode != 0x82 {
		t.Fatalf("unknown alias: got %+v", last)
	}
}
