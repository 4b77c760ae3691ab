package broker

import (
	"bytes"
	"testing"
	"time"
	"unsafe"

	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sys/unix"
)

// These tests turn a poller by hand: what happens between two of its turns is
// theirs to say.

// scripted is a socket that says what the test wants.
type scripted struct {
	in     []byte
	ended  bool // the client is gone
	out    []byte
	writes int
	shuts  int
	closed bool
}

func (s *scripted) read(p []byte) (int, error) {
	if n := copy(p, s.in); n > 0 {
		s.in = s.in[n:]
		return n, nil
	}
	if s.ended {
		return 0, nil
	}
	return 0, unix.EAGAIN
}

func (s *scripted) write(p []byte) (int, error) {
	s.out = append(s.out, p...)
	s.writes++
	return len(p), nil
}

func (s *scripted) watch(*poller, uint32) error { return nil }
func (s *scripted) unwatch(*poller)             {}
func (s *scripted) shut() error                 { s.shuts++; return nil }
func (s *scripted) close()                      { s.closed = true }
func (s *scripted) remote() string              { return "scripted" }
func (s *scripted) transport() string           { return "scripted" }
func (s *scripted) again(uint32) uint32         { return 0 }

// handTurned is a poller that does not run, with one connection.
type handTurned struct {
	t    *testing.T
	l    *poller
	p    *polled
	s    *scripted
	node *fakeNode
}

func turnByHand(t *testing.T) *handTurned {
	t.Helper()
	h := &handTurned{t: t, s: &scripted{}, node: newFakeNode()}
	b, err := New(Config{}, h.node)
	if err != nil {
		t.Fatal(err)
	}
	h.node.b = b
	if h.l, err = newPoller(b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.l.close(); b.work.Wait(); h.node.stop() })
	b.serveSocket(h.l, func(p *polled) socket { h.p = p; return h.s })
	return h
}

// turn has the poller do what waits for it, until ok.
func (h *handTurned) turn(what string, ok func() bool) {
	h.t.Helper()
	eventually(h.t, what, func() bool { h.l.doWork(); return ok() })
}

// says has the client send packets.
func (h *handTurned) says(events uint32, pks ...packets.Packet) {
	h.t.Helper()
	for _, pk := range pks {
		h.s.in = append(h.s.in, encode(h.t, 5, pk)...)
	}
	h.p.onEvents(events)
}

// connected is a client whose CONNACK is out.
func connected(t *testing.T, change func(*packets.Packet)) *handTurned {
	t.Helper()
	h := turnByHand(t)
	h.l.doWork()
	h.says(unix.EPOLLIN, hello(change))
	h.turn("CONNACK", func() bool { return len(h.s.out) > 0 })
	h.s.out, h.s.writes = nil, 0
	return h
}

// A connection that is to end before its loop saw it ends: a shutdown waits
// for it.
func TestEndBeforeTheFirstTurn(t *testing.T) {
	t.Parallel()
	h := turnByHand(t)
	h.p.c.disconnect(codeShuttingDown, cause(codeShuttingDown))
	h.turn("the end", func() bool { return h.s.closed })
}

// A client that sends while it is cut off reads why: closing with its bytes
// unread would reset the connection.
func TestBusyClientReadsWhy(t *testing.T) {
	t.Parallel()
	h := connected(t, nil)
	h.p.c.disconnect(codeTakenOver, cause(codeTakenOver))
	h.says(unix.EPOLLIN, publish("a", "x", 0, 0))
	h.l.doWork()
	if want := []byte{0xE0, 1, codeTakenOver}; !bytes.Equal(h.s.out, want) || h.s.shuts != 1 || h.s.closed {
		t.Fatalf("wrote % x, shut %d times, closed %t; want % x and to wait for the client", h.s.out, h.s.shuts, h.s.closed, want)
	}
	h.s.ended = true
	h.p.onEvents(unix.EPOLLIN) // reads what is left
	h.p.onEvents(unix.EPOLLIN)
	if !h.s.closed {
		t.Error("it stays open after the client left")
	}
}

// A client that reads as fast as the loop writes leaves others their turn.
func TestOneReaderDoesNotKeepTheLoop(t *testing.T) {
	t.Parallel()
	h := connected(t, nil)
	m := &Message{Topic: "a", Payload: make([]byte, 64<<10)}
	const count = 100
	for range count {
		h.p.c.enqueueLive(delivery{m: m})
	}
	h.l.doWork()
	if h.s.writes > turnMost {
		t.Errorf("%d writes in one turn", h.s.writes)
	}
	h.turn("all of it", func() bool { return len(h.s.out) > count*len(m.Payload) })
}

// turnMost is how many writes one client may have in a turn.
const turnMost = 20

// The time a client waits for us is not its silence.
func TestHeldClientIsNotSilent(t *testing.T) {
	t.Parallel()
	t.Run("connect", func(t *testing.T) {
		t.Parallel()
		h := turnByHand(t)
		h.node.gate = make(chan struct{})
		h.l.doWork()
		h.says(unix.EPOLLIN, hello(func(pk *packets.Packet) { pk.Connect.Keepalive = 1 }))
		h.l.now = h.l.now.Add(time.Minute)
		h.p.onTime()
		close(h.node.gate)
		h.turn("CONNACK, and the end of the hold", func() bool { return len(h.s.out) > 0 && h.p.c.holds.Load() == 0 })
		h.l.doWork() // what was held
		h.stays()
	})
	t.Run("subscribe", func(t *testing.T) {
		t.Parallel()
		h := connected(t, func(pk *packets.Packet) { pk.Connect.Keepalive = 1 })
		h.node.gate = make(chan struct{})
		sub := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "a"}}}
		h.says(unix.EPOLLIN, sub)
		h.says(unix.EPOLLIN, ping) // not read
		h.l.now = h.l.now.Add(time.Minute)
		close(h.node.gate)
		h.turn("SUBACK, and the end of the hold", func() bool { return len(h.s.out) > 0 && h.p.c.holds.Load() == 0 })
		h.l.doWork() // what was held
		h.stays()
	})
}

// A client that sends all it has to say and leaves is heard to its end, also
// when what held its input is over just before its end is noticed.
func TestLastWordsBehindAShortHold(t *testing.T) {
	t.Parallel()
	for _, events := range []uint32{unix.EPOLLIN | unix.EPOLLRDHUP, unix.EPOLLIN | unix.EPOLLHUP} {
		h := connected(t, nil)
		h.node.gate = make(chan struct{})
		sub := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "a"}}}
		h.says(unix.EPOLLIN, sub, publish("b", "last words", 0, 0))
		close(h.node.gate)
		eventually(t, "the hold is over", func() bool { return h.p.c.holds.Load() == 0 })
		h.s.ended = true
		h.p.onEvents(events)
		h.turn("what was said before the end", func() bool {
			h.p.onEvents(events) // level-triggered
			return h.s.closed || h.p.c.closing.Load()
		})
		if got := valueOf(h.p.c.b.metrics.byQoSIn[0]); got != 1 {
			t.Errorf("events %#x: %d publishes were heard, want 1", events, got)
		}
	}
}

// A client whose input waits for its turn, or is not read, is not silent.
func TestFloodingClientIsNotSilent(t *testing.T) {
	t.Parallel()
	t.Run("turn", func(t *testing.T) {
		t.Parallel()
		h := connected(t, func(pk *packets.Packet) { pk.Connect.Keepalive = 1 })
		h.l.turns.last = 1000 // many flood, so each gets little
		for range 2 * leastWork {
			h.s.in = append(h.s.in, encode(t, 5, ping)...)
		}
		h.says(unix.EPOLLIN)
		h.says(unix.EPOLLIN, ping) // not read
		h.l.now = h.l.now.Add(time.Minute)
		h.p.onTime()
		if h.p.c.closing.Load() {
			t.Fatal("cut off for its silence")
		}
		h.turn("its turns", func() bool { return !h.p.more })
		h.stays()
	})
	t.Run("released between two turns", func(t *testing.T) {
		t.Parallel()
		h := connected(t, func(pk *packets.Packet) { pk.Connect.Keepalive = 1 })
		h.p.c.holds.Add(1)
		h.says(unix.EPOLLIN, ping) // not read
		h.l.now = h.l.now.Add(time.Minute)
		h.p.c.release()
		h.p.onTime() // before the loop looks
		if h.p.c.closing.Load() {
			t.Fatal("cut off for its silence")
		}
		h.l.doWork()
		h.stays()
	})
}

func (h *handTurned) stays() {
	h.t.Helper()
	h.p.onTime()
	if h.p.c.closing.Load() {
		h.t.Error("cut off for its silence")
	}
	h.l.now = h.l.now.Add(time.Minute)
	h.p.onTime()
	if !h.p.c.closing.Load() {
		h.t.Error("not cut off for a minute's silence")
	}
}

// What a client said before it went is heard, also what came while its input
// was held: here a DISCONNECT, so there is no will.
func TestGoneWhileHeld(t *testing.T) {
	t.Parallel()
	h := connected(t, func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "will", []byte("lost")
	})
	h.node.wanted, h.node.gate = true, make(chan struct{})
	sub := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "b"}}}
	h.says(unix.EPOLLIN, sub)
	h.s.ended = true
	gone := uint32(unix.EPOLLIN | unix.EPOLLHUP)
	h.says(gone, publish("a", "last words", 0, 0), packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	h.p.onEvents(gone)
	close(h.node.gate)
	h.turn("the end", func() bool { return h.s.closed })
	eventually(t, "the publish", func() bool { return h.node.committed() > 0 })
	if h.node.log[0].Topic != "a" || h.node.committed() != 1 {
		t.Errorf("published %d, first to %s", h.node.committed(), h.node.log[0].Topic)
	}
}

// Timers do not stand still when the clock of the machine is set back.
func TestTimersWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	l := connected(t, nil).l
	e := &wheelEntry{p: &polled{}}
	l.wheel.set(e, l.moment().add(time.Second))
	later := l.now.Add(3 * time.Second)
	(*struct{ wall uint64 })(unsafe.Pointer(&later)).wall -= 3600 << 30 // an hour, and only on the wall
	if later.Sub(l.now) != 3*time.Second || !later.Round(0).Before(l.now.Round(0)) {
		t.Fatalf("this is not a clock that was set back: %v, %v", l.now, later)
	}
	fired := 0
	l.now = later
	l.wheel.tick(l.moment(), func(*polled) { fired++ })
	if fired != 1 {
		t.Errorf("fired %d times, want once", fired)
	}
}

// The wheel calls each that is due once, however far ahead, and none before.
func TestWheel(t *testing.T) {
	t.Parallel()
	start := moment(time.Now().UnixNano())
	w := &wheel{last: slotOf(start)}
	byEntry := map[*polled]time.Duration{}
	entries := map[*polled]*wheelEntry{}
	for _, after := range []time.Duration{
		0, time.Millisecond, tickEvery - 1, tickEvery, 3 * time.Second / 2, wheelSlots * tickEvery,
		(wheelSlots + 1) * tickEvery, 65535 * 3 * time.Second / 2, -time.Hour,
	} {
		for range 100 {
			e := &wheelEntry{p: &polled{}}
			byEntry[e.p], entries[e.p] = after, e
			w.set(e, start.add(after))
		}
	}
	fired := map[*polled]int{}
	for now := start; now < start.add(28*time.Hour); now = now.add(tickEvery) {
		w.tick(now, func(p *polled) {
			switch due := start.add(byEntry[p]); {
			case due > now:
				w.set(entries[p], due) // as onTime does
			default:
				fired[p]++
				w.set(entries[p], 0)
				if late := time.Duration(now - due); byEntry[p] >= 0 && late > 2*tickEvery {
					t.Fatalf("%v fires %v late", byEntry[p], late)
				}
			}
		})
	}
	for p, after := range byEntry {
		if fired[p] != 1 {
			t.Errorf("%v fired %d times", after, fired[p])
		}
		w.remove(entries[p])
	}
	if w.count != 0 {
		t.Errorf("%d left", w.count)
	}
}

// silent is the driver of a subscriber that is not read.
type silent struct{ driver }

func (silent) kick() {}

// A publisher whose messages go to many leaves others their turn.
func TestOnePublisherDoesNotKeepTheLoop(t *testing.T) {
	t.Parallel()
	h := connected(t, nil)
	b := h.p.c.b
	b.cfg.MaxQueue = 1 << 20
	var subs []*conn
	for i := range 250 {
		c := &conn{b: b, num: uint64(i), driver: silent{}, open: true}
		b.live.add(&liveSub{c: c, opt: Subscription{Filter: "#"}}, nil)
		subs = append(subs, c)
	}
	last := subs[len(subs)-1]
	const count = 400
	small := encode(t, 5, publish("a", "", 0, 0))
	h.s.in = append(bytes.Repeat(small, count), encode(t, 5, ping)...)
	h.p.onEvents(unix.EPOLLIN)
	if n := last.queue.len(); n == 0 || n == count {
		t.Errorf("%d messages to each of %d in one turn", n, len(subs))
	}
	h.s.in = small
	h.p.onEvents(unix.EPOLLIN) // is left where it is
	h.turn("PINGRESP", func() bool { return len(h.s.out) > 0 })
	if n := last.queue.len(); n != count {
		t.Errorf("%d messages, want %d", n, count)
	}
	h.p.onEvents(unix.EPOLLIN)
	if n := last.queue.len(); n != count+1 {
		t.Errorf("%d messages, want %d", n, count+1)
	}
}
