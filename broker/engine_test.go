package broker

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farhop/farhop/broker/auth"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
)

// lone is a connection without a poller.
func lone(t *testing.T, raw net.Conn) (*conn, *pump, *fakeNode) {
	t.Helper()
	node := newFakeNode()
	b, err := New(Config{}, node)
	if err != nil {
		t.Fatal(err)
	}
	node.b = b
	c := &conn{b: b, num: 1}
	p := newPump(c, raw)
	c.driver = p
	t.Cleanup(func() { b.work.Wait(); node.stop() })
	return c, p, node
}

var ping = packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}}

func hello(change func(*packets.Packet)) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 5}
	pk.Connect.ProtocolName, pk.Connect.Clean, pk.Connect.ClientIdentifier = []byte("MQTT"), true, "c"
	if change != nil {
		change(&pk)
	}
	return pk
}

// Input behind a packet that waited for the node is handled, also when that
// wait was over before anybody looked.
func TestPumpGoesOnAfterAShortHold(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	c, p, _ := lone(t, theirs)
	c.feed(append(encode(t, 5, hello(nil)), encode(t, 5, ping)...), time.Now(), math.MaxInt)
	eventually(t, "the session is open", func() bool { return c.holds.Load() == 0 })
	done := make(chan struct{})
	go func() { p.serve(); close(done) }()
	client := &client{t: t, conn: ours, r: bufio.NewReader(ours), version: 5}
	client.next(packets.Connack)
	client.next(packets.Pingresp)
	_ = ours.Close()
	<-done
}

// chunks is a connection whose client said all it had to say: the last of it
// comes along with the end, as TLS gives it.
type chunks struct {
	net.Conn
	all [][]byte
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.all) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.all[0])
	if c.all = c.all[1:]; len(c.all) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (c *chunks) Write(p []byte) (int, error)      { return len(p), nil }
func (c *chunks) SetReadDeadline(time.Time) error  { return nil }
func (c *chunks) SetWriteDeadline(time.Time) error { return nil }
func (c *chunks) Close() error                     { return nil }
func (c *chunks) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

// What comes along with the end of a connection is handled, also behind a
// packet that waits for the node.
func TestLastBytesWithTheEnd(t *testing.T) {
	t.Parallel()
	connect := encode(t, 5, hello(func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "will", []byte("lost")
	}))
	sub := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "b"}}}
	last := append(encode(t, 5, sub), encode(t, 5, publish("a", "x", 0, 0))...)
	last = append(last, encode(t, 5, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})...)
	_, p, node := lone(t, &chunks{all: [][]byte{connect, last}})
	node.wanted = true
	p.serve()
	eventually(t, "the publish", func() bool { return node.committed() > 0 })
	if node.log[0].Topic != "a" || node.committed() != 1 {
		t.Errorf("published %d, first to %s", node.committed(), node.log[0].Topic)
	}
}

// A session whose filter is allowed in part goes on, and gets that part only,
// also of what waited for it.
func TestPartlyAllowedSessionGoesOn(t *testing.T) {
	t.Parallel()
	a, err := auth.New(auth.Config{Anonymous: true, Access: []auth.Rule{
		{Action: policy.Deny, From: []string{"client:s"}, MQTT: auth.RuleMQTT{Subscribe: []string{"a/secret/#"}}},
		{Action: policy.Allow, From: []string{"*"}, MQTT: auth.RuleMQTT{Publish: []string{"#"}, Subscribe: []string{"#"}}},
	}}, auth.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, func(c *Config) { c.Rules = a.Rules })
	s := w.connect("s", 5, persistent)
	if codes := s.subscribe(1, "a/#"); codes[0] != 1 {
		t.Fatalf("SUBACK % x", codes)
	}
	_ = s.conn.Close()
	eventually(t, "it is gone", func() bool { return w.b.Clients() == 0 })
	p := w.connect("p", 5, nil)
	for i, topic := range []string{"a/secret/x", "a/open"} {
		p.send(publish(topic, topic, 1, uint16(i+1)))
		p.next(packets.Puback)
	}
	s = w.connect("s", 5, persistent)
	pk := s.next(packets.Publish)
	if pk.TopicName != "a/open" {
		t.Errorf("gets %s", pk.TopicName)
	}
	s.send(ack(packets.Puback, pk.PacketID))
	s.quiet()
	w.node.mu.Lock()
	defer w.node.mu.Unlock()
	if all := w.node.settled; len(all) != 2 || all[0].Lost == bundle.OK || all[1].Lost != bundle.OK {
		t.Errorf("settled %+v, want one that was never sent and one that was", all)
	}
}

// A message that fits without an alias is delivered without.
func TestAliasDoesNotMakeItTooLarge(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	m := publish("topic", "payload", 0, 0)
	size := len(encode(t, 5, m))
	c := w.connect("c", 5, func(pk *packets.Packet) {
		pk.Properties.TopicAliasMaximum, pk.Properties.MaximumPacketSize = 10, uint32(max(size, 64))
	})
	m.Payload = []byte(strings.Repeat("x", 64-size+len(m.Payload)))
	c.subscribe(0, "topic")
	c.send(m)
	c.send(publish("topic", "short", 0, 0))
	for _, want := range []string{string(m.Payload), "short"} {
		if pk := c.next(packets.Publish); string(pk.Payload) != want {
			t.Fatalf("got %q, want %q", pk.Payload, want)
		}
	}
}

// In a full store a message may always take the place of another of its size.
func TestRetainedInPlaceWhenFull(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.MaxRetained, c.MaxRetainedBytes = 1, 200 })
	p := w.connect("p", 5, nil)
	m := publish("topic", strings.Repeat("x", 100), 1, 1)
	m.FixedHeader.Retain = true
	p.send(m)
	p.next(packets.Puback)
	w.node.mu.Lock()
	w.node.holding = true
	w.node.mu.Unlock()
	for id := range uint16(3) { // under way at once
		m.PacketID = id + 1
		p.send(m)
	}
	other := m
	other.TopicName, other.PacketID = "other", 4
	p.send(other)
	p.quiet()
	w.node.release(false)
	for id := range uint16(4) {
		if pk := p.next(packets.Puback); pk.PacketID != id+1 || (pk.ReasonCode >= 0x80) != (id == 3) {
			t.Errorf("PUBACK %d says 0x%02X", pk.PacketID, pk.ReasonCode)
		}
	}
}

// Long topics are not remembered: thousands of them would be half a gigabyte.
func TestLongTopicsAreNotRemembered(t *testing.T) {
	t.Parallel()
	var d directory
	d.add(&liveSub{c: &conn{}, opt: Subscription{Filter: "#"}}, nil)
	bytes := 0
	for n := range 100 {
		topic := strings.Repeat("t", 60_000) + string(rune('a'+n%26))
		if got := d.plain(topic); len(got) != 1 {
			t.Fatalf("%d subscribers", len(got))
		}
	}
	if known := d.known.Load(); known != nil {
		known.byTopic.Range(func(k, _ any) bool { bytes += len(k.(string)); return true })
	}
	if bytes > 0 {
		t.Errorf("%d bytes of topics are kept", bytes)
	}
}

// The time limit of a connection that ended meanwhile does not keep it.
func TestLeaseOfAGoneConnection(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	_ = ours.Close()
	c, _, _ := lone(t, theirs)
	c.id.Store(&auth.Identity{Expires: time.Now().Add(time.Hour)})
	c.disconnect(noDisconnectMessage, "connection-lost")
	c.limit()
	if c.rare.lease.Stop() {
		t.Error("its timer runs for an hour")
	}
}

// The messages of a publisher stay in order for a live session while the node
// wants its topic at one moment and not at the next, and answers when and in
// what order it likes.
func TestOrderWhileInterestComesAndGoes(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	s := w.connect("s", 5, nil)
	s.subscribe(1, "t/#")
	rng := rand.New(rand.NewPCG(1, 2))
	over, flipped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(flipped)
		for {
			for _, wanted := range []bool{true, false} {
				w.node.mu.Lock()
				w.node.wanted, w.node.holding = wanted, true
				w.node.mu.Unlock()
				time.Sleep(time.Duration(rng.IntN(300)) * time.Microsecond)
			}
			w.node.release(rng.IntN(2) == 0)
			select {
			case <-over:
				return
			default:
			}
		}
	}()
	const publishers, each = 3, 900
	for i := range publishers {
		p := w.connect(fmt.Sprint("p", i), 4, nil)
		go func() { // QoS 0 and 1 in turn
			for n := range each {
				_, _ = p.conn.Write(encode(t, 4, publish(fmt.Sprint("t/", i), fmt.Sprint(n/2), byte(n%2), uint16(n%2*(n+1)))))
			}
		}()
	}
	next := map[string]int{}
	for range publishers * each {
		pk := s.next(packets.Publish)
		if pk.FixedHeader.Qos > 0 {
			s.send(ack(packets.Puback, pk.PacketID))
		}
		key := fmt.Sprint(pk.TopicName, " ", pk.FixedHeader.Qos)
		if got, want := string(pk.Payload), fmt.Sprint(next[key]); got != want {
			t.Fatalf("%s: message %s, want %s", key, got, want)
		}
		next[key]++
	}
	close(over)
	<-flipped
}

// What a client publishes does not overtake what it published on the connection
// before.
func TestOrderAcrossConnections(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	s := w.connect("s", 5, nil)
	s.subscribe(0, "t")
	w.node.wanted, w.node.holding = true, true
	p := w.connect("p", 4, nil)
	p.send(publish("t", "first", 0, 0))
	p.quiet()
	_ = p.conn.Close()
	eventually(t, "it is gone", func() bool { return w.b.Clients() == 1 })
	w.node.mu.Lock()
	w.node.wanted = false
	w.node.mu.Unlock()
	p = w.connect("p", 4, nil)
	p.send(publish("t", "second", 0, 0))
	p.quiet()
	s.quiet()
	w.node.release(false)
	for _, want := range []string{"first", "second"} {
		if pk := s.next(packets.Publish); string(pk.Payload) != want {
			t.Fatalf("got %s, want %s", pk.Payload, want)
		}
	}
}
