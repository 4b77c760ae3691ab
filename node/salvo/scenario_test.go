package salvo

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/farhop/farhop/node/salvo/packet"
)

func moonLink(loss float64) (Config, way, way) {
	cfg := Config{Rate: 50 * mbit, Loss: loss, OWLT: moon}
	l := way{rate: 50 * mbit, owlt: moon, loss: loss}
	return cfg, l, l
}

// TestUrgent offers small urgent blocks while a large one is under way.
func TestUrgent(t *testing.T) {
	cfg, forward, backward := moonLink(0.01)
	w := newWorld(t, 3, cfg, forward, backward)
	w.offer(4, random(1, 16<<20))
	for i := range 50 {
		w.run(20*time.Millisecond, w.allReleased)
		from := w.now
		id := w.offer(0, random(uint64(i), 200))
		w.after(2*moon, func() {
			if late := w.atDone[id].Sub(from) - moon; late > 10*time.Millisecond || late < 0 {
				t.Errorf("urgent block %d came %v after light", id, late)
			}
		})
	}
	if !w.run(time.Hour, w.allReleased) {
		t.Fatal("not released")
	}
	if got := w.share(); got < 0.85 {
		t.Errorf("share of the link %.3f with urgent blocks between", got)
	}
}

// TestManySmall moves many small blocks that wait together.
func TestManySmall(t *testing.T) {
	cfg, forward, backward := moonLink(0.01)
	w := newWorld(t, 4, cfg, forward, backward)
	w.disk = 5 * time.Millisecond
	for i := range 20_000 {
		b := Block{ID: uint64(i + 1), Class: 2, Length: int64(64 + w.rnd.IntN(4033))}
		data := random(uint64(i), int(b.Length))
		b.Data = bytes.NewReader(data)
		w.offered[b.ID], w.source[b.ID] = b, data
		if err := w.send.Offer(w.now, b); err != nil {
			t.Fatal(err)
		}
	}
	w.pump()
	if !w.run(time.Hour, w.allReleased) {
		t.Fatalf("%d released\n%+v\n%+v", len(w.released), w.send.Stats(), w.recv.Stats())
	}
	t.Logf("share %.4f, %d bytes of reports", w.share(), w.recv.Stats().ReportBytes)
	if got := w.share(); got < 0.85 {
		t.Errorf("share of the link %.3f, want 0.85", got)
	}
	if got := w.recv.Stats().ReportBytes; got > 8<<10 {
		t.Errorf("%d bytes of reports for 20,000 blocks", got)
	}
}

// TestTelemetry offers one small block after the other, slower than the link:
// each goes at once.
func TestTelemetry(t *testing.T) {
	for _, burst := range []float64{1, 10} {
		cfg, forward, backward := moonLink(0.01)
		cfg.Burst, forward.burst = burst, burst
		w := newWorld(t, 5, cfg, forward, backward)
		from := map[uint64]time.Time{}
		for i := range 400 {
			from[w.offer(1, random(uint64(i), 120))] = w.now
			w.run(5*time.Millisecond, func() bool { return false })
		}
		if !w.run(time.Hour, w.allReleased) {
			t.Fatal("not released")
		}
		late := 0
		for id, at := range w.atDone {
			if at.Sub(from[id]) > moon+50*time.Millisecond {
				late++
			}
		}
		if late > 4 {
			t.Errorf("burst %v: %d of 400 blocks needed a report", burst, late)
		}
	}
}

// TestForgetful loses all that a receiver knew, what it accepted too: blocks
// that were not released come again.
func TestForgetful(t *testing.T) {
	cfg, forward, backward := moonLink(0.01)
	w := newWorld(t, 6, cfg, forward, backward)
	w.offer(3, random(1, 4<<20))
	w.offer(3, random(2, 1<<20))
	w.run(moon+900*time.Millisecond, func() bool { return w.done[1] > 0 })
	ss := w.send.State()
	w.accepted, w.sink = map[uint64]bool{}, map[uint64][]byte{}
	w.connect(ss, ReceiverState{})
	if !w.run(time.Hour, w.allReleased) {
		t.Fatalf("not released: %+v", w.send.Stats())
	}
	if w.done[1] == 0 || w.done[2] == 0 {
		t.Errorf("deliveries %v", w.done)
	}
}

// TestResume pauses a transfer half way: what arrived is not sent again,
// whether or not the sender remembers it.
func TestResume(t *testing.T) {
	for _, remembers := range []bool{true, false} {
		cfg, forward, backward := moonLink(0)
		w := newWorld(t, 8, cfg, forward, backward)
		const size = 16 << 20
		w.offer(3, random(1, size))
		w.run(2*moon+2*time.Second, w.allReleased)
		ss, rs := w.send.State(), w.recv.State()
		if !remembers {
			ss = SenderState{}
		}
		before := w.send.Stats().Bytes
		w.connect(ss, rs)
		if !w.run(time.Hour, w.allReleased) {
			t.Fatal("not released")
		}
		extra := before + w.send.Stats().Bytes - size
		// In the air at the cut, and until the receiver has spoken.
		if limit := int64(50*mbit/8*(2*moon).Seconds()) + size/10; extra > limit {
			t.Errorf("remembers %v: %d bytes more than the block has, at most %d", remembers, extra, limit)
		}
	}
}

// TestBreaker puts ten times the declared loss on a link for a while.
func TestBreaker(t *testing.T) {
	cfg, forward, backward := moonLink(0.01)
	cfg.Rate, forward.rate = 5*mbit, 5*mbit
	w := newWorld(t, 9, cfg, forward, backward)
	w.forward.loss = 0.1
	for i := range 4 {
		w.offer(3, random(uint64(i), 8<<20))
	}
	w.run(12*moon, w.allReleased)
	st := w.send.Stats()
	if st.RateShare > 0.5 || st.Halvings == 0 {
		t.Errorf("after six round trips with too much loss: %+v", st)
	}
	w.run(5*time.Minute, func() bool { return w.send.Stats().RateShare <= 1.0/16 })
	if got := w.send.Stats().RateShare; got < 1.0/16 {
		t.Errorf("rate is %v of what is configured", got)
	}
	w.forward.loss = 0.01
	if !w.run(20*time.Hour, w.allReleased) {
		t.Fatalf("not released %+v", w.send.Stats())
	}
	if got := w.send.Stats().RateShare; got <= 1.0/16 {
		t.Errorf("rate did not recover: %v", got)
	}
}

// TestWithdraw gives blocks up before, during and after their way.
func TestWithdraw(t *testing.T) {
	cfg, forward, backward := moonLink(0.01)
	w := newWorld(t, 10, cfg, forward, backward)
	for i := range 6 {
		w.offer(uint8(2+i%2), random(uint64(i), 1<<20))
	}
	w.run(200*time.Millisecond, w.allReleased)
	for _, id := range []uint64{1, 2, 5} {
		if !w.send.Withdraw(id) {
			t.Errorf("block %d is not there", id)
		}
		delete(w.offered, id)
	}
	if w.send.Withdraw(1) {
		t.Error("withdrawn twice")
	}
	w.pump()
	if !w.run(time.Hour, w.allReleased) {
		t.Fatalf("released %v\n%+v\n%+v", w.released, w.send.Stats(), w.recv.Stats())
	}
	w.run(time.Minute, func() bool { return false })
	if n := w.recv.Stats().Blocks; n != 0 {
		t.Errorf("%d blocks remain at the receiver", n)
	}
}

// brokenReader fails behind a place.
type brokenReader struct {
	data []byte
	at   int64
}

func (r brokenReader) ReadAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > r.at {
		return 0, errors.New("disk is gone")
	}
	return copy(b, r.data[at:]), nil
}

// TestUnreadable has one block that cannot be read to its end among others.
func TestUnreadable(t *testing.T) {
	cfg, forward, backward := moonLink(0.01)
	w := newWorld(t, 11, cfg, forward, backward)
	w.offer(2, random(1, 300))
	data := random(2, 1<<20)
	bad := Block{ID: 2, Class: 2, Length: 1 << 20, Data: brokenReader{data, 1 << 19}}
	if err := w.send.Offer(w.now, bad); err != nil {
		t.Fatal(err)
	}
	short := Block{ID: 3, Class: 2, Length: 10, Data: io.NewSectionReader(bytes.NewReader(data), 0, 5)}
	if err := w.send.Offer(w.now, short); err != nil {
		t.Fatal(err)
	}
	var failed []Failure
	for id := uint64(4); id < 20; id++ {
		b := Block{ID: id, Class: 2, Length: 9000, Data: bytes.NewReader(data)}
		w.source[id], w.offered[id] = data[:9000], b
		if err := w.send.Offer(w.now, b); err != nil {
			t.Fatal(err)
		}
	}
	var buf [MaxMTU]byte // the world does not look at failures
	for len(failed) < 2 {
		if b := w.send.Next(w.now, buf[:]); b != nil {
			w.carry(&w.forward, 1, b)
		}
		failed = append(failed, w.send.Take().Failed...)
		w.now = w.now.Add(time.Millisecond)
	}
	if failed[0].ID+failed[1].ID != 5 || failed[0].Err == nil {
		t.Errorf("failed: %v", failed)
	}
	w.pump()
	if !w.run(time.Hour, w.allReleased) {
		t.Fatalf("released %d of %d", len(w.released), len(w.offered))
	}
}

// TestHostilePackets injects what no peer sent, between what one did.
func TestHostilePackets(t *testing.T) {
	cfg, forward, backward := moonLink(0.01)
	w := newWorld(t, 12, cfg, forward, backward)
	w.offer(3, random(1, 1<<20))
	var buf [MaxMTU]byte
	w.now = w.now.Add(time.Millisecond)
	good := bytes.Clone(w.send.Next(w.now, buf[:]))
	if err := w.recv.Receive(w.now, bytes.Clone(good)); err != nil {
		t.Fatal(err)
	}
	w.collect()
	other := w.keys()
	other.Incarnation++
	foreign, err := NewSender(w.now, cfg, other, SenderState{})
	if err != nil {
		t.Fatal(err)
	}
	if err := foreign.Offer(w.now, Block{ID: 1, Length: 100, Data: bytes.NewReader(make([]byte, 100))}); err != nil {
		t.Fatal(err)
	}
	var stranger []byte
	for range 4 {
		w.now = w.now.Add(time.Second)
		if b := foreign.Next(w.now, buf[:]); b != nil {
			stranger = bytes.Clone(b)
		}
	}
	for name, c := range map[string]struct {
		b    func() []byte
		want packet.Drop
	}{
		"replay":      {func() []byte { return good }, packet.Replayed},
		"cut":         {func() []byte { return good[:20] }, packet.Truncated},
		"empty":       {func() []byte { return nil }, packet.Truncated},
		"quic":        {func() []byte { return append([]byte{0xc3}, good[1:]...) }, packet.Foreign},
		"association": {func() []byte { b := bytes.Clone(good); b[1]++; return b }, packet.Foreign},
		"number":      {func() []byte { b := bytes.Clone(good); b[7]++; return b }, packet.Forged},
		"far number":  {func() []byte { b := bytes.Clone(good); b[5] += 3; return b }, packet.Forged},
		"bits":        {func() []byte { b := bytes.Clone(good); b[7]++; b[30] ^= 4; return b }, packet.Forged},
		"other keys":  {func() []byte { return stranger }, packet.Forged},
	} {
		b := c.b()
		before := w.recv.Stats().Drops[c.want]
		if err := w.recv.Receive(w.now, bytes.Clone(b)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if w.recv.Stats().Drops[c.want] != before+1 {
			t.Errorf("%s is not counted", name)
		}
	}
	forged := bytes.Clone(good)
	forged[7]++
	work := make([]byte, len(forged))
	if n := testing.AllocsPerRun(100, func() {
		copy(work, forged)
		_ = w.recv.Receive(w.now, work)
	}); n > 0 {
		t.Errorf("%v allocations for a forged packet", n)
	}
}
