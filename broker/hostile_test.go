package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestHostileBytes: whatever a client sends, before or after its CONNECT,
// ends at most its own connection.
func TestHostileBytes(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	good := w.connect("good", 5, nil)
	good.subscribe(1, "a")
	huge := append([]byte{0x30}, 0xFF, 0xFF, 0xFF, 0x5F) // a PUBLISH of 200 MB
	for _, tt := range []struct {
		name    string
		connect byte // version, 0 = none
		bytes   []byte
		code    byte // of the DISCONNECT
	}{
		{"huge before CONNECT", 0, huge, 0},
		{"huge CONNECT", 0, []byte{0x10, 0xFF, 0xFF, 0xFF, 0x5F}, 0},
		{"no CONNECT", 0, []byte{0xC0, 0}, 0},
		{"http", 0, []byte("GET / HTTP/1.1\r\n\r\n"), 0},
		{"endless length", 0, bytes.Repeat([]byte{0x80}, 100), 0},
		{"wrong protocol", 0, []byte{0x10, 12, 0, 4, 'H', 'T', 'T', 'P', 4, 2, 0, 0, 0, 0}, 0},
		{"huge v5", 5, huge, 0x95},
		{"huge v4", 4, huge, 0},
		{"huge SUBSCRIBE", 5, []byte{0x82, 0xFF, 0xFF, 0x3F}, 0x95},
		{"endless length v5", 5, []byte{0x30, 0x80, 0x80, 0x80, 0x80, 0x80}, 0x81},
		{"topic beyond the packet", 5, []byte{0x30, 4, 0xFF, 0xFF, 'a', 'b'}, 0x81},
		{"wildcard topic", 5, []byte{0x30, 4, 0, 1, '#', 0}, 0x81},
		{"empty topic", 5, []byte{0x30, 3, 0, 0, 0}, 0x82},
		{"qos 3", 5, []byte{0x36, 6, 0, 1, 'a', 0, 1, 0}, 0x81},
		{"no packet id", 5, []byte{0x32, 6, 0, 1, 'a', 0, 0, 0}, 0x82},
		{"SUBSCRIBE cut short", 5, []byte{0x82, 6, 0, 1, 0, 0, 1, 'a'}, 0x81},
		{"SUBSCRIBE without filters", 5, []byte{0x82, 3, 0, 1, 0}, 0x82},
		{"bad flags", 5, []byte{0x80, 3, 0, 1, 0}, 0x81},
		{"second CONNECT", 5, []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 0, 0, 0}, 0x82},
		{"AUTH", 5, []byte{0xF0, 2, 0x18, 0}, 0x82},
		{"CONNACK", 5, []byte{0x20, 3, 0, 0, 0}, 0x82},
		{"invalid utf-8", 5, []byte{0x30, 4, 0, 1, 0xFF, 0}, 0x81},
		{"acknowledgements of nothing", 4, []byte{0x40, 2, 0, 9, 0x70, 2, 0, 9, 0xE0, 0}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c *client
			if tt.connect == 0 {
				c = w.raw()
			} else {
				c = w.connect("bad", tt.connect, nil)
			}
			if _, err := c.conn.Write(tt.bytes); err != nil {
				t.Fatal(err)
			}
			last := c.ends()
			if tt.code != 0 && (last.FixedHeader.Type != packets.Disconnect || last.ReasonCode != tt.code) {
				t.Errorf("got type %d code %#x, want DISCONNECT %#x", last.FixedHeader.Type, last.ReasonCode, tt.code)
			}
			good.send(publish("a", "x", 1, 1))
			pk, _ := good.read()
			other, _ := good.read()
			if pk.FixedHeader.Type+other.FixedHeader.Type != packets.Publish+packets.Puback {
				t.Fatalf("another client got %+v and %+v", pk, other)
			}
			if pk.FixedHeader.Type == packets.Puback {
				pk = other
			}
			good.send(ack(packets.Puback, pk.PacketID))
		})
	}
}

// TestPromisedSizeCostsNothing: a thousand clients that promise large packets
// and send little do not make the broker allocate what they promise.
func TestPromisedSizeCostsNothing(t *testing.T) {
	const n = 1000
	w := start(t, nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range n {
		c := w.connect(fmt.Sprint("c", i), 4, nil)
		if _, err := c.conn.Write([]byte{0x30, 0xFF, 0xFF, 0x3F, 0, 1, 'a'}); err != nil { // 1 MiB
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := int64(after.HeapAlloc) - int64(before.HeapAlloc); got > 200<<20 {
		t.Errorf("heap grew by %d MiB for %d promised MiB", got>>20, n)
	}
}

func TestConnectDeadline(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.ConnectTimeout = 2 * time.Second })
	c := w.raw()
	if _, err := c.conn.Write([]byte{0x10}); err != nil {
		t.Fatal(err)
	}
	c.ends()
	kept := w.connect("k", 4, nil) // keep-alive 0: the deadline is over with the CONNECT
	time.Sleep(2500 * time.Millisecond)
	kept.quiet()
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c := w.connect("k", 5, func(pk *packets.Packet) { pk.Connect.Keepalive = 1 })
	if last := c.ends(); last.ReasonCode != 0x8D {
		t.Fatalf("got %+v, want DISCONNECT 0x8D", last)
	}
	long := w.connect("long", 5, func(pk *packets.Packet) { pk.Connect.Keepalive = 43691 }) // 1.5 times overflows 16 bits
	long.quiet()
}

// TestUnreadAcknowledgements: a client that makes us answer and never reads is
// cut off, whatever it asks. A pipe has no socket buffer that hides it.
func TestUnreadAcknowledgements(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	ours, theirs := net.Pipe()
	go w.b.ServeConn(theirs)
	c := &client{t: t, conn: ours, version: 5}
	hello := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 5}
	hello.Connect.ProtocolName, hello.Connect.ClientIdentifier = []byte("MQTT"), "c"
	c.send(hello)
	ask := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 1}
	for range 20_000 {
		ask.Filters = append(ask.Filters, packets.Subscription{Filter: "a"})
	}
	b := encode(t, 5, ask)
	_ = ours.SetWriteDeadline(time.Now().Add(patience))
	for {
		if _, err := ours.Write(b); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("never cut off")
		} else if err != nil {
			return
		}
	}
}

// TestTornInput: however the bytes of packets arrive, they are the same packets.
func TestTornInput(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	sub := w.connect("sub", 5, nil)
	sub.subscribe(1, "torn/#")
	pub := w.connect("pub", 5, nil)
	var stream []byte
	want := 0
	for i := range 200 {
		pk := publish(fmt.Sprint("torn/", i), strings.Repeat("x", i*i%9001), 1, uint16(i+1))
		stream = append(stream, encode(t, 5, pk)...)
		want++
	}
	go func() {
		for n := 1; len(stream) > 0; n = n*7%1013 + 1 {
			n = min(n, len(stream))
			if _, err := pub.conn.Write(stream[:n]); err != nil {
				return
			}
			stream = stream[n:]
		}
	}()
	for i := range want {
		pk := sub.next(packets.Publish)
		if pk.TopicName != fmt.Sprint("torn/", i) || len(pk.Payload) != i*i%9001 {
			t.Fatalf("message %d: topic %s, %d bytes", i, pk.TopicName, len(pk.Payload))
		}
		sub.send(ack(packets.Puback, pk.PacketID))
	}
}

// FuzzConnection feeds a broker what a client may send after a good CONNECT.
func FuzzConnection(f *testing.F) {
	f.Add(byte(5), []byte{0x82, 6, 0, 1, 0, 0, 1, 'a'})
	f.Add(byte(4), []byte{0x30, 4, 0, 1, 'a', 'b', 0xC0, 0})
	f.Add(byte(5), []byte{0x34, 7, 0, 1, 'a', 0, 1, 0, 'b', 0x62, 2, 0, 1})
	f.Add(byte(5), []byte{0x32, 0x14, 0, 1, 'a', 0, 1, 0x0D, 2, 0, 0, 0, 1, 0x26, 0, 1, 'k', 0, 1, 'v', 'x', 'y'})
	f.Fuzz(func(t *testing.T, version byte, data []byte) {
		node := newFakeNode()
		b, err := New(Config{Listen: "127.0.0.1:0", MaxPacket: 4096}, node)
		if err != nil {
			t.Fatal(err)
		}
		node.b = b
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		ended := make(chan struct{})
		go func() { b.ServeConn(theirs); close(ended) }()
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4 + version&1}
		pk.Connect.ProtocolName, pk.Connect.ClientIdentifier = []byte("MQTT"), "f"
		_ = ours.SetWriteDeadline(time.Now().Add(patience))
		_, _ = ours.Write(append(encode(t, pk.ProtocolVersion, pk), data...))
		_ = ours.Close()
		<-ended
		node.stop()
	})
}

// FuzzPublish: what the encoder writes, an independent decoder reads back.
func FuzzPublish(f *testing.F) {
	f.Add("a/b", []byte("x"), "text", "re", []byte{1}, "k", "v", uint32(9), byte(1), true)
	f.Add("t", []byte{}, "", "", []byte{}, "", "", uint32(0), byte(0), false)
	f.Fuzz(func(t *testing.T, topic string, payload []byte, content, response string, corr []byte, k, v string, expiry uint32, qos byte, retain bool) {
		for _, s := range []string{topic, content, response, k, v} {
			if len(s) > 1000 || !valid(s) {
				t.Skip("not what the node ever hands to the encoder")
			}
		}
		if len(corr) > 1000 {
			t.Skip("longer says nothing more")
		}
		now := time.Now()
		m := &Message{
			Topic: topic, Payload: payload, HasContentType: true, ContentType: content, ResponseTopic: response, CorrelationData: corr,
			UserProperties: []KV{{k, v}}, Expiry: expiry, Received: now, PayloadFormat: Format(qos % 3),
		}
		d := delivery{m: m, id: 77, qos: qos % 3, retain: retain, subIDs: []int{1, 268435455}}
		for _, version := range []byte{4, 5} {
			b := appendPublish(nil, version, &d, now, 0, false)
			n, used, err := packets.DecodeLength(bytes.NewReader(b[1:]))
			if err != nil || 1+used+n != len(b) {
				t.Fatalf("v%d: length %d + %d of %d: %v", version, used, n, len(b), err)
			}
			got, err := decode(version, b[0], b[1+used:])
			if err != nil {
				t.Fatalf("v%d: %v", version, err)
			}
			p := got.Properties
			if got.TopicName != topic || !bytes.Equal(got.Payload, payload) || got.FixedHeader.Retain != retain ||
				version == 5 && (p.ContentType != content || p.ResponseTopic != response || !bytes.Equal(p.CorrelationData, corr) ||
					p.User[0].Key != k || p.User[0].Val != v || p.MessageExpiryInterval != expiry || len(p.SubscriptionIdentifier) != 2) {
				t.Fatalf("v%d: got %+v, want %+v", version, got, m)
			}
		}
	})
}

func valid(s string) bool { return strings.ToValidUTF8(s, "") == s && !strings.Contains(s, "\x00") }
