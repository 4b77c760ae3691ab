package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func retain(topic, payload string, id uint16) packets.Packet {
	pk := publish(topic, payload, 1, id)
	pk.FixedHeader.Retain = true
	return pk
}

func TestRetained(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, m := range []*Message{
		{Topic: "ret/old", Payload: []byte("loaded"), QoS: 1},
		{Topic: "ret", Payload: []byte("parent")},
		{Topic: "ret/late", Payload: []byte("x"), Expiry: 1, Received: time.Now().Add(-time.Hour)},
	} {
		w.b.SetRetained(m)
	}
	p := w.connect("p", 4, nil)
	for i, m := range []packets.Packet{retain("ret/a", "1", 1), retain("ret/a", "2", 2), retain("ret/b", "x", 3), retain("ret/b", "", 4)} {
		p.send(m)
		if pk := p.next(packets.Puback); int(pk.PacketID) != i+1 {
			t.Fatalf("PUBACK %d", pk.PacketID)
		}
	}
	if got := w.node.committed(); got != 4 {
		t.Errorf("the node saw %d retained publishes, want 4", got)
	}
	want := map[string]string{"ret": "parent", "ret/old": "loaded", "ret/a": "2"}
	for _, tt := range []struct {
		name    string
		version byte
		change  func(*packets.Packet)
	}{
		{"live v4", 4, nil}, {"live v5", 5, nil}, {"persistent v4", 4, persistent}, {"persistent v5", 5, persistent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := w.connect(tt.name, tt.version, tt.change)
			c.subscribe(1, "ret/#")
			got := map[string]string{}
			for range len(want) {
				pk := c.next(packets.Publish)
				if !pk.FixedHeader.Retain {
					t.Errorf("%s without retain flag", pk.TopicName)
				}
				got[pk.TopicName] = string(pk.Payload)
				if pk.FixedHeader.Qos == 1 {
					c.send(ack(packets.Puback, pk.PacketID))
				}
			}
			for topic, payload := range want {
				if got[topic] != payload {
					t.Errorf("%s: got %q, want %q", topic, got[topic], payload)
				}
			}
			c.quiet()
		})
	}
}

func TestRetainHandling(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.b.SetRetained(&Message{Topic: "r", Payload: []byte("x")})
	for handling, want := range [][2]bool{{true, true}, {true, false}, {false, false}} {
		c := w.connect(fmt.Sprint("c", handling), 5, nil)
		for _, sent := range want {
			c.send(packets.Packet{
				FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
				Filters: packets.Subscriptions{{Filter: "r", RetainHandling: byte(handling)}},
			})
			c.next(packets.Suback)
			if sent {
				c.next(packets.Publish)
			}
			c.quiet()
		}
		if c.subscribe(0, "$share/g/r"); true {
			c.quiet() // none for shared subscriptions
		}
	}
}

func TestRetainedLimit(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.MaxRetained = 2 })
	p := w.connect("p", 5, nil)
	for i, tt := range []struct {
		topic, payload string
		code           byte
	}{
		{"a", "x", 0x10},
		{"b", "x", 0x10},
		{"c", "x", 0x97},
		{"a", "y", 0x10},
		{"a", "", 0x10},
		{"c", "x", 0x10},
		{"d", "x", 0x97},
		{"d", "", 0x10},
	} {
		p.send(retain(tt.topic, tt.payload, uint16(i+1)))
		if pk := p.next(packets.Puback); pk.ReasonCode != tt.code {
			t.Errorf("%d: %s=%q: PUBACK %#x, want %#x", i, tt.topic, tt.payload, pk.ReasonCode, tt.code)
		}
	}
}

// TestRetainedBurst: far more retained messages than the queue holds reach a
// client that reads late; none is dropped, and one that was replaced before
// its turn does not come after the newer state.
func TestRetainedBurst(t *testing.T) {
	t.Parallel()
	const n = 5000
	w := start(t, func(c *Config) { c.MaxQueue, c.Window = 10, 3 })
	for i := range n {
		w.b.SetRetained(&Message{
			Topic: fmt.Sprint("r/", i), Payload: make([]byte, 500), QoS: 1,
			Received: time.Unix(int64(i), 0),
		})
	}
	c := w.connect("c", 4, nil)
	c.subscribe(1, "r/#")
	p := w.connect("p", 4, nil)
	p.send(retain("r/4000", "new", 1))
	p.next(packets.Puback)
	seen := map[string]string{}
	for range n {
		pk := c.next(packets.Publish)
		seen[pk.TopicName] = string(pk.Payload)
		c.send(ack(packets.Puback, pk.PacketID))
	}
	c.quiet()
	if len(seen) != n || seen["r/4000"] != "new" {
		t.Errorf("%d topics, r/4000 = %q", len(seen), seen["r/4000"])
	}
}
