package salvo

import (
	"testing"
	"time"

	"github.com/farhop/farhop/node/salvo/packet"
)

// settle lets a link become silent, and checks that it does: no side has
// anything to say any more, or keeps anything.
func settle(t *testing.T, w *world) {
	t.Helper()
	w.forward.loss, w.backward.loss = 0, 0
	w.forward.burst, w.backward.burst = 1, 1
	w.forward.corrupt, w.backward.corrupt = 0, 0
	trip := w.send.cfg.tick()
	if !w.run(100*trip, func() bool { return w.send.Wake().IsZero() && w.recv.Wake().IsZero() && w.queue.Len() == 0 }) {
		t.Errorf("not silent after 100 round trips: sender %+v\nreceiver %+v\n%+v", w.send.Stats(), w.recv.Stats(), w.recv.trips)
	}
	if st := w.recv.Stats(); st.Open > 0 || st.Used > 0 || st.Blocks > 0 {
		t.Errorf("the receiver keeps something: %+v", st)
	}
	if st := w.send.Stats(); st.Blocks > 0 {
		t.Errorf("the sender keeps blocks: %+v", st)
	}
}

// TestSilence wants no packet of an idle link, and few until it is idle.
func TestSilence(t *testing.T) {
	cfg, forward, backward := moonLink(0.01)
	w := newWorld(t, 20, cfg, forward, backward)
	settle(t, w)
	if n := w.recv.Stats().Reports + w.send.Stats().Packets; n > 8 {
		t.Errorf("%d packets of a link without blocks", n)
	}
	w.offer(3, random(1, 300))
	if !w.run(time.Hour, w.allReleased) {
		t.Fatal("not released")
	}
	settle(t, w)
	if n := w.send.Stats().Packets; n > 12 {
		t.Errorf("%d packets for one small block", n)
	}
}

// TestRepairs loses more than is declared: what is sent again is what is
// missing and little more, although reports come many times in a round trip.
func TestRepairs(t *testing.T) {
	cfg, forward, backward := moonLink(0.001)
	forward.loss = 0.05
	w := newWorld(t, 21, cfg, forward, backward)
	w.offer(3, random(1, 16<<20))
	if !w.run(time.Hour, w.allReleased) {
		t.Fatal("not released")
	}
	st := w.send.Stats()
	if lost := int64(0.05 * 1.1 * float64(st.Symbols)); st.Repeated == 0 || st.Repeated > 2*lost {
		t.Errorf("%d symbols sent again, of about %d lost", st.Repeated, lost)
	}
	settle(t, w)
}

// TestSilenceEndsTrains cuts all that comes after the first symbols, the word
// of the end too: the receiver asks by itself, within a round trip.
func TestSilenceEndsTrains(t *testing.T) {
	cfg, forward, backward := moonLink(0.01)
	w := newWorld(t, 22, cfg, forward, backward)
	w.run(4*moon, func() bool { return false })
	w.offer(3, random(1, 100_000))
	w.run(5*time.Millisecond, func() bool { return false })
	w.forward.loss = 1
	before := w.send.Stats().Repeated
	w.run(50*time.Millisecond, func() bool { return false })
	w.forward.loss = 0
	w.run(2*moon+moon, func() bool { return w.send.Stats().Repeated > before })
	if late := w.now.Sub(begin) - 4*moon; late > 2*moon+moon/2+300*time.Millisecond {
		t.Errorf("repair began %v after the block was offered", late)
	}
}

// TestTooEarly accepts blocks that were not delivered.
func TestTooEarly(t *testing.T) {
	cfg, forward, backward := moonLink(0)
	w := newWorld(t, 23, cfg, forward, backward)
	w.disk = time.Hour
	id := w.offer(3, random(1, 8<<20))
	w.run(moon+400*time.Millisecond, w.allReleased)
	if st := w.recv.Stats(); st.Blocks != 1 || st.Delivered != 0 {
		t.Fatalf("no block half way: %+v", st)
	}
	for _, id := range []uint64{id, id + 1, 0} {
		if w.recv.Accepted(w.now, id) {
			t.Errorf("block %d is accepted before it is delivered", id)
		}
	}
	w.run(50*time.Minute, w.allReleased)
	if w.done[id] == 0 || len(w.released) > 0 {
		t.Errorf("delivered %d times, released %v, not accepted so far", w.done[id], w.released)
	}
}

// TestManyGaps reports more gaps than a packet holds.
func TestManyGaps(t *testing.T) {
	cfg := Config{Rate: 50 * mbit, MTU: 400, OWLT: time.Second}
	keys := Keys{Secret: make([]byte, 32), Association: 1}
	recv, err := NewReceiver(begin, cfg, keys, ReceiverState{})
	if err != nil {
		t.Fatal(err)
	}
	l := newLiar(t, keys, packet.Data)
	const trains = 1200
	for n := range uint64(trains) {
		if n%3 == 0 {
			continue // of each third train there is nothing, of each other one of two symbols
		}
		s := packet.Symbol{Class: 3, Train: n, K: uint8(n % 3), Data: make([]byte, 100)}
		if err := recv.Receive(begin, l.packet(append(packet.AppendSymbolHeader(nil, s), s.Data...))); err != nil {
			t.Fatal(err)
		}
	}
	if err := recv.Receive(begin, l.packet(packet.AppendEnd(nil, packet.End{Class: 3, Next: trains}))); err != nil {
		t.Fatal(err)
	}
	open, err := keys.derive(packet.Report)
	if err != nil {
		t.Fatal(err)
	}
	o, err := packet.NewOpener(open)
	if err != nil {
		t.Fatal(err)
	}
	lacking := map[uint64]int{}
	var buf [MaxMTU]byte
	to, packets := uint64(0), 0
	for now := begin; to < trains && packets < 100; now = now.Add(time.Millisecond) {
		b := recv.Next(now, buf[:])
		if b == nil {
			continue
		}
		packets++
		plain, _, err := o.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		var f packet.ReportFrame
		for len(plain) > 0 {
			rest, ok := packet.NextReport(&f, plain)
			if !ok {
				t.Fatal("malformed")
			}
			plain = rest
			if f.Type == packet.TrainsFrame {
				if f.Trains.From != to {
					t.Fatalf("frame from %d, want %d", f.Trains.From, to)
				}
				to = f.Trains.To
				for _, g := range f.Trains.Gaps {
					for i := range max(g.Run, 1) {
						lacking[g.Train+i] = int(g.Deficit)
					}
				}
			}
		}
	}
	for n := range uint64(trains) {
		deficit, missing := lacking[n]
		if want := n%3 != 1; missing != want || n%3 == 2 && deficit != 1 || n%3 == 0 && deficit != 0 {
			t.Fatalf("train %d: missing %v, deficit %d", n, missing, deficit)
		}
	}
}
