package broker

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/farhop/farhop/broker/listen"
)

// still is a driver that moves nothing.
type still struct{ woken chan struct{} }

func (s still) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}
func (still) kick()             {}
func (still) stop()             {}
func (still) remote() string    { return "test" }
func (still) peer() listen.Peer { return listen.Peer{} }

// bare is a client that is logged in, without a socket.
func bare(w *world, id string) (*conn, still) {
	d := still{make(chan struct{}, 1)}
	return &conn{b: w.b, driver: d, client: id, version: 4, greeted: true, open: true}, d
}

func limits(w *world, name string) float64 {
	return float64(valueOf(w.b.metrics.limits.WithLabelValues(name)))
}

// TestFeedStops: input is handled up to the work that is due, and the rest when
// it is the client's turn again, none of it lost.
func TestFeedStops(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c, _ := bare(w, "busy")
	published := func() int { return int(valueOf(w.b.metrics.byQoSIn[0])) }
	one := encode(t, 4, publish("nobody", "x", 0, 0))
	if more := c.feed([]byte(strings.Repeat(string(one), 1000)), time.Now(), 300); !more || published() != 300 {
		t.Fatalf("%d published, more %t; want 300 and more", published(), more)
	}
	if more := c.feed(one, time.Now(), 600); !more || published() != 900 {
		t.Fatalf("%d published, more %t; want 900 and more", published(), more)
	}
	if more := c.feed(nil, time.Now(), 600); more || published() != 1001 || c.in != nil {
		t.Fatalf("%d published, more %t, %d bytes left; want 1001 and none", published(), more, len(c.in))
	}
	sub := w.connect("sub", 4, nil) // one that gets much makes it dearer
	sub.subscribe(0, "dear", "+", "#", "dear/#")
	dear := encode(t, 4, publish("dear", "x", 0, 0))
	if more := c.feed([]byte(strings.Repeat(string(dear), 1000)), time.Now(), 500); !more || published() != 1101 {
		t.Errorf("%d published, more %t; want 100 of those that look at four subscriptions", published()-1001, more)
	}
	large := encode(t, 4, publish("nobody", strings.Repeat("x", 100*workBytes), 0, 0))
	before := published()
	if more := c.feed(nil, time.Now(), 1<<30); more || published() != before+900 {
		t.Fatalf("%d published, more %t", published()-before, more)
	}
	if c.feed([]byte(strings.Repeat(string(large), 3)), time.Now(), 150); published() != before+902 {
		t.Errorf("%d large ones published, want 2", published()-before-900)
	}
}

// TestFloodsTakeTurns: clients that send without end do not keep one from its
// answers, whatever its loop has to do.
func TestFloodsTakeTurns(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	var floods []*client
	for i := range 6 {
		c := w.connect(fmt.Sprint("flood-", i), 4, nil)
		c.subscribe(0, "flood/#")
		floods = append(floods, c)
	}
	for _, c := range floods {
		go func() { _, _ = io.Copy(io.Discard, c.conn) }()
		b := []byte(strings.Repeat(string(encode(t, 4, publish("flood/all", "x", 0, 0))), 1000))
		go func() {
			for {
				if _, err := c.conn.Write(b); err != nil { // the end of the test
					return
				}
			}
		}()
	}
	good := w.connect("good", 5, nil)
	good.subscribe(1, "good")
	for i := range 20 {
		good.send(publish("good", "x", 1, uint16(i+1)))
		for range 2 {
			if pk, err := good.read(); err != nil {
				t.Fatal(err)
			} else if pk.FixedHeader.Type == packets.Publish {
				good.send(ack(packets.Puback, pk.PacketID))
			}
		}
	}
}

// TestPublishRate: a client that publishes faster than it may is read later,
// and nothing of it is lost.
func TestPublishRate(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.MaxPublishRate = 100 })
	sub := w.connect("sub", 4, nil)
	sub.subscribe(0, "fast")
	pub := w.connect("pub", 4, nil)
	begun := time.Now()
	for i := range 120 {
		pub.send(publish("fast", fmt.Sprint(i), 0, 0))
	}
	for i := range 120 {
		if pk := sub.next(packets.Publish); string(pk.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d: %s", i, pk.Payload)
		}
	}
	// 100 at once, then one each 10 ms: earlier would be too fast.
	if took := time.Since(begun); took < 190*time.Millisecond {
		t.Errorf("120 publishes in %v, want 100 a second", took)
	}
	if limits(w, limitPublishRate) == 0 {
		t.Error("nothing was counted")
	}
}

func TestBucket(t *testing.T) {
	now := time.Unix(100, 0)
	b := newBucket(10, now)
	for i := range 9 {
		if wait := b.take(now); wait != 0 {
			t.Fatalf("take %d: wait %v", i, wait)
		}
	}
	if wait := b.take(now); wait != 100*time.Millisecond {
		t.Errorf("empty: wait %v, want 100ms", wait)
	}
	if wait := b.take(now.Add(time.Hour)); wait != 0 || b.left > 10 {
		t.Errorf("after an hour: wait %v, %v left", wait, b.left)
	}
	if wait := b.take(now); wait != 0 { // a clock that went back takes nothing away
		t.Errorf("back: wait %v", wait)
	}
}

// TestConnectRate: connections beyond the rate wait, and come in.
func TestConnectRate(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.MaxConnectRate = 20 })
	for i := range 30 {
		w.connect(fmt.Sprint("c", i), 4, nil).quiet()
	}
	if n := limits(w, limitConnectRate); n == 0 {
		t.Error("nothing waited")
	}
}

// TestFilterCost: long and deep filters are bounded by what they cost, others
// of the same client are granted, and what is given back counts no more.
func TestFilterCost(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.MaxSubscriptionBytes = 64 << 10 })
	c := w.connect("c", 5, nil)
	deep := func(i int) string { return fmt.Sprint(i) + strings.Repeat("/x", 120) }
	granted := 0
	for i := range 10 {
		if c.subscribe(0, deep(i))[0] == 0 {
			granted++
		}
	}
	if want := (64 << 10) / filterCost(deep(0)); granted != want {
		t.Errorf("%d deep filters granted, want %d", granted, want)
	}
	if code := c.subscribe(0, "short")[0]; code != 0 {
		t.Errorf("a short filter: %#x", code)
	}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 3, Filters: packets.Subscriptions{{Filter: deep(0)}}}
	c.send(pk)
	c.next(packets.Unsuback)
	if code := c.subscribe(0, deep(77))[0]; code != 0 {
		t.Errorf("after one was given back: %#x", code)
	}
	if limits(w, limitFilters) != float64(10-granted) {
		t.Errorf("counted %v", limits(w, limitFilters))
	}
}

// TestFilterRepeated: what a SUBSCRIBE names again replaces what it named
// before, is answered each time, and costs the node no more than once.
func TestFilterRepeated(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c := w.connect("c", 5, nil)
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 9}
	for i := range 5000 {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: fmt.Sprint("f/", i%3), Qos: byte(i % 2)})
	}
	c.send(pk)
	codes := c.next(packets.Suback).ReasonCodes
	if len(codes) != 5000 || codes[0] != 0 || codes[4999] != 1 {
		t.Fatalf("%d codes, %v ... %v", len(codes), codes[0], codes[4999])
	}
	w.node.mu.Lock()
	told := len(w.node.filters["c"])
	w.node.mu.Unlock()
	if told != 3 {
		t.Errorf("the node was told of %d filters, want 3", told)
	}
	pub := w.connect("pub", 5, nil)
	pub.send(publish("f/1", "x", 1, 1)) // the last f/1 is number 4999: QoS 1
	if got := c.next(packets.Publish); got.FixedHeader.Qos != 1 {
		t.Errorf("QoS %d, want that of the last", got.FixedHeader.Qos)
	}
}

// TestMemoryShort: while the process holds too much, those who hold more than
// their share are cut, and the others notice nothing.
func TestMemoryShort(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	good := w.connect("good", 5, nil)
	good.subscribe(1, "good")
	big := w.connect("big", 5, nil)
	part := encode(t, 5, publish("big", strings.Repeat("x", 1<<20), 0, 0))
	if _, err := big.conn.Write(part[:1<<19]); err != nil { // half of it, and no more
		t.Fatal(err)
	}
	held := func() (n int) {
		w.b.mu.Lock()
		defer w.b.mu.Unlock()
		for c := range w.b.all {
			n += int(c.heldIn.Load())
		}
		return n
	}
	eventually(t, "half of it is there", func() bool { return held() >= 1<<19 })
	w.b.relieve() // there is memory enough
	good.quiet()
	if !w.b.pressure.set(2<<30, 1000) {
		t.Fatal("2 GiB are not more than the default")
	}
	w.b.relieve()
	if last := big.ends(); last.ReasonCode != 0x97 {
		t.Errorf("the large one got %+v, want DISCONNECT 0x97", last)
	}
	good.send(publish("good", "x", 1, 1))
	for range 2 {
		if _, err := good.read(); err != nil {
			t.Fatal(err)
		}
	}
	if limits(w, limitMemory) != 1 {
		t.Errorf("counted %v, want 1", limits(w, limitMemory))
	}
	if w.b.pressure.set(1<<20, 1000) || w.b.pressure.allows(1<<30) != 1<<30 {
		t.Error("memory is short for ever")
	}
}

func TestPressure(t *testing.T) {
	p := pressure{limit: 1 << 30}
	for _, c := range []struct {
		held    uint64
		clients int
		want    int // of 8 MiB
	}{
		{1 << 20, 10, 8 << 20},
		{1 << 30, 10, 8 << 20},
		{1<<30 + 1, 10, 8 << 20},
		{2 << 30, 1000, 1 << 28 / 1000},
		{2 << 30, 1_000_000, leastShare},
		{2 << 30, 0, 8 << 20},
		{0, 1000, 8 << 20},
	} {
		p.set(c.held, c.clients)
		if got := p.allows(8 << 20); got != c.want {
			t.Errorf("%d held by %d: %d allowed, want %d", c.held, c.clients, got, c.want)
		}
	}
	runtime.GC()
	if p.limit = 1; !p.look(1) {
		t.Error("this process holds less than a byte")
	}
}

// TestLimitsCounted: every limit has a counter that can be scraped.
func TestLimitsCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	b, err := New(Config{Registerer: reg}, newFakeNode())
	if err != nil {
		t.Fatal(err)
	}
	b.metrics.limit(limitMemory)
	families, err := reg.Gather()
	if err != nil || !slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "farhop_mqtt_limits_total" }) {
		t.Errorf("not there: %v, %v", families, err)
	}
}

// TestLobby: connections that say nothing do not keep others out for longer
// than a quarter of their time, and those with a session stay.
func TestLobby(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.MaxClients, c.ConnectTimeout = 4, 400*time.Millisecond })
	member := w.connect("member", 4, nil)
	for range 4 + 1 + 16 - 1 { // all but one of a quarter more, and 16
		w.raw()
	}
	eventually(t, "somebody comes in", func() bool {
		conn, err := w.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
		pk.Connect.ProtocolName, pk.Connect.ClientIdentifier, pk.Connect.Clean = []byte("MQTT"), "late", true
		_, _ = conn.Write(encode(t, 4, pk))
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		n, _ := io.ReadFull(conn, make([]byte, 4))
		return n == 4
	})
	member.quiet()
	if limits(w, limitClients) == 0 {
		t.Error("nothing was counted")
	}
}

// TestLobbyMakesRoom: where all places are taken, the oldest without a session
// goes for a new one; where all are new, the new one goes.
func TestLobbyMakesRoom(t *testing.T) {
	w := start(t, func(c *Config) { c.MaxClients = 4 })
	var all []*conn
	for range 4 + 1 + 16 {
		c := &conn{b: w.b, driver: still{make(chan struct{}, 1)}}
		if !w.b.enter(c) {
			t.Fatalf("refused after %d", len(all))
		}
		all = append(all, c)
	}
	if w.b.enter(&conn{b: w.b}) {
		t.Error("one too many came in")
	}
	w.b.mu.Lock()
	g := all[0].guest.Value.(guest)
	all[0].guest.Value = guest{g.c, g.from.Add(-w.b.cfg.ConnectTimeout)}
	w.b.mu.Unlock()
	late := &conn{b: w.b}
	if !w.b.enter(late) || !all[0].closing.Load() || all[1].closing.Load() {
		t.Error("the oldest did not make room")
	}
	for _, c := range append(all, late) {
		w.b.leave(c)
	}
}

// TestLobbyOrder: the oldest goes first, and only after its time.
func TestLobbyOrder(t *testing.T) {
	var l lobby
	at := time.Unix(100, 0)
	a, b, c := new(conn), new(conn), new(conn)
	for i, x := range []*conn{a, b, c} {
		l.enter(x, at.Add(time.Duration(i)*time.Second))
	}
	if l.oldest(at, time.Second) != nil {
		t.Error("one that just came has to go")
	}
	l.leave(a) // it has a session
	if got := l.oldest(at.Add(3*time.Second), time.Second); got != b {
		t.Error("not the oldest without a session")
	}
	l.leave(b) // is gone already
	if got := l.oldest(at.Add(3*time.Second), time.Second); got != c || l.order.Len() != 0 {
		t.Error("not the last one")
	}
	if l.oldest(at.Add(time.Hour), 0) != nil {
		t.Error("somebody is in an empty lobby")
	}
}

// TestShortageIsToldOnce: each collection of garbage that leaves too much is
// told of once.
func TestShortageIsToldOnce(t *testing.T) {
	t.Parallel()
	p := pressure{limit: 1}
	runtime.GC()
	if !p.look(10) {
		t.Fatal("more than a byte is held, and not told of")
	}
	for range 1000 {
		if before := p.cycle; p.look(10) && p.cycle == before {
			t.Fatal("told of again without a collection")
		}
	}
}
