package broker

import (
	"bytes"
	"slices"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// dying gives a CONNECT a will with all that one can have.
func dying(delay uint32, change func(*packets.Packet)) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillQos = true, 1
		pk.Connect.WillTopic, pk.Connect.WillPayload = "will", []byte("gone")
		p := &pk.Connect.WillProperties
		p.ContentType, p.ResponseTopic, p.CorrelationData = "text/plain", "answer", []byte{0, 1}
		p.PayloadFormat, p.PayloadFormatFlag, p.MessageExpiryInterval = 1, true, 60
		p.User = []packets.UserProperty{{Key: "a", Val: "1"}, {Key: "a", Val: "2"}}
		p.WillDelayInterval = delay
		if change != nil {
			change(pk)
		}
	}
}

func isWill(pk packets.Packet) bool {
	p := pk.Properties
	return pk.TopicName == "will" && string(pk.Payload) == "gone" && pk.FixedHeader.Qos == 1 && !pk.FixedHeader.Retain &&
		p.ContentType == "text/plain" && p.ResponseTopic == "answer" && bytes.Equal(p.CorrelationData, []byte{0, 1}) &&
		p.PayloadFormatFlag && p.PayloadFormat == 1 && p.MessageExpiryInterval > 0 && p.MessageExpiryInterval <= 60 &&
		slices.Equal(p.User, []packets.UserProperty{{Key: "a", Val: "1"}, {Key: "a", Val: "2"}})
}

// TestWill: once, after loss; never after DISCONNECT, nor when the client is
// elsewhere; with all its properties.
func TestWill(t *testing.T) {
	t.Parallel()
	bye := func(code byte) func(*world, *client) {
		return func(_ *world, c *client) {
			c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: code})
			c.ends()
		}
	}
	cut := func(_ *world, c *client) { _ = c.conn.Close() }
	garbage := func(_ *world, c *client) { _, _ = c.conn.Write([]byte{0xF3, 0x00}) }
	silent := func(_ *world, c *client) { c.ends() }
	again := func(w *world, _ *client) { w.connect("d", 5, persistent) }
	anew := func(w *world, _ *client) {
		w.connect("d", 5, func(pk *packets.Packet) { pk.Connect.Clean = true })
	}
	elsewhere := func(w *world, c *client) {
		w.b.mu.Lock()
		num := w.b.sessions["d"].num
		w.b.mu.Unlock()
		w.b.TakenOver("d", num)
		c.ends()
	}
	for _, tt := range []struct {
		name    string
		connect func(*packets.Packet)
		end     func(*world, *client)
		want    bool
	}{
		{"cut", dying(0, nil), cut, true},
		{"garbage", dying(0, nil), garbage, true},
		{"keep-alive", dying(0, func(pk *packets.Packet) { pk.Connect.Keepalive = 1 }), silent, true},
		{"disconnect", dying(0, nil), bye(0), false},
		{"disconnect with a delay", dying(100, persistent), bye(0), false},
		{"disconnect with will", dying(0, nil), bye(4), true},
		{"takeover", dying(0, persistent), again, true},
		{"elsewhere", dying(0, persistent), elsewhere, false},
		{"delayed, session ends first", dying(100, nil), cut, true},
		{"delayed, back in time", dying(100, persistent), again, false},
		{"delayed, back anew", dying(100, persistent), anew, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := start(t, nil)
			sub := w.connect("s", 5, nil)
			sub.subscribe(1, "will", "end")
			c := w.connect("d", 5, tt.connect)
			tt.end(w, c)
			eventually(t, "the session closed", func() bool {
				w.node.mu.Lock()
				defer w.node.mu.Unlock()
				return slices.Contains(w.node.closed, "d")
			})
			if tt.want {
				if pk := sub.next(packets.Publish); !isWill(pk) {
					t.Fatalf("got %+v", pk)
				}
			}
			w.node.mu.Lock()
			w.node.wanted = true // so that this one comes behind all that the node does
			w.node.mu.Unlock()
			w.connect("p", 5, nil).send(publish("end", "", 0, 0))
			if pk := sub.next(packets.Publish); pk.TopicName != "end" {
				t.Fatalf("a will too many: %+v", pk)
			}
		})
	}
}

// What the broker tells the node of a will when no connection says its name:
// nothing but the end at a shutdown, which is a loss, and that it never was when
// the CONNACK did not leave.
func TestWillAtTheEdges(t *testing.T) {
	t.Parallel()
	forgotten := func(w *world) bool {
		w.node.mu.Lock()
		defer w.node.mu.Unlock()
		return slices.Contains(w.node.forgotten, "d")
	}
	t.Run("shutdown", func(t *testing.T) {
		w := start(t, nil)
		w.connect("d", 5, dying(100, persistent))
		w.stop()
		if w.node.wills["d"] == nil || !w.node.wills["d"].waiting || forgotten(w) {
			t.Error("the node was not told that the client is lost")
		}
	})
	t.Run("no CONNACK", func(t *testing.T) {
		w := start(t, nil)
		c := w.raw()
		c.version = 5
		c.send(connectPacket("d", 5, dying(0, func(pk *packets.Packet) { pk.Properties.MaximumPacketSize = 4 })))
		c.ends()
		eventually(t, "the will to be forgotten", func() bool { return forgotten(w) })
		if got := w.node.committed(); got != 0 {
			t.Errorf("%d wills published", got)
		}
	})
}

// A will that the node does not take is refused with its CONNECT, and so is one
// for a topic that clients may not publish to.
func TestWillRefused(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.node.noWills = true
	for _, tt := range []struct {
		topic string
		want  byte
	}{{"will", codeQuota}, {"$SYS/will", codeNotAuthorized}, {"will/#", codeBadTopic}} {
		c := w.raw()
		c.version = 5
		c.send(connectPacket("d", 5, dying(0, func(pk *packets.Packet) { pk.Connect.WillTopic = tt.topic })))
		if last := c.ends(); last.FixedHeader.Type != packets.Connack || last.ReasonCode != tt.want {
			t.Errorf("%s: got %+v, want CONNACK %#x", tt.topic, last, tt.want)
		}
	}
	w.connect("d", 5, nil)
}

func TestEmptyWill(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	sub := w.connect("s", 4, nil)
	sub.subscribe(0, "will")
	c := w.connect("d", 4, func(pk *packets.Packet) { pk.Connect.WillFlag, pk.Connect.WillTopic = true, "will" })
	_ = c.conn.Close()
	if pk := sub.next(packets.Publish); len(pk.Payload) != 0 {
		t.Fatalf("got %+v", pk)
	}
}
