package salvo

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/farhop/farhop/node/salvo/packet"
)

// TestProperty lets links be bad in every way, and both sides restart and
// forget, and wants each block delivered, and released, with its bytes. The
// world checks at each step that nothing is delivered twice or after it was
// accepted, that classes keep their order, and that nothing is released that
// is not accepted.
func TestProperty(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { property(t, seed) })
	}
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// badLink draws a configuration and a link that may be worse than it says.
func badLink(r *rand.Rand) (Config, way, way) {
	cfg := Config{
		Rate:     pick(r, int64(200e3), 1e6, 10e6, 50e6),
		OWLT:     pick(r, 0, time.Millisecond, 40*time.Millisecond, moon, 20*time.Second),
		Loss:     pick(r, 0, 0.001, 0.01, 0.1),
		Burst:    pick(r, 1.0, 1, 10),
		MTU:      pick(r, 0, 0, 400, 1500),
		Buffer:   pick(r, int64(0), MinBuffer, MinBuffer),
		AnyOrder: r.IntN(3) == 0,
	}
	cfg.ReturnRate = pick(r, cfg.Rate, 9600, 64e3)
	forward := way{
		rate: float64(cfg.Rate), owlt: cfg.OWLT, burst: cfg.Burst,
		loss:      pick(r, cfg.Loss, cfg.Loss, 0.02, 0.3),
		jitter:    pick(r, 0, 0, 3*time.Millisecond, 50*time.Millisecond),
		duplicate: pick(r, 0, 0, 0.05), corrupt: pick(r, 0, 0, 0.02),
	}
	backward := forward
	forward.owlt = pick(r, cfg.OWLT, cfg.OWLT, 4*cfg.OWLT, cfg.OWLT/4) // or it is not as said
	backward.rate = float64(cfg.ReturnRate)
	backward.loss = pick(r, 0, 0.01, 0.3)
	return cfg, forward, backward
}

func property(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	cfg, forward, backward := badLink(r)
	w := newWorld(t, seed, cfg, forward, backward)
	w.disk = pick(r, 0, time.Millisecond, time.Second)
	unit := w.send.cfg.tick()
	pace := float64(cfg.Rate) / 8 * unit.Seconds() // bytes in a round trip
	for range 3 + r.IntN(12) {
		for range r.IntN(8) {
			n := 1 + r.IntN(pick(r, 64, 3000, 150_000))
			w.offer(uint8(r.IntN(packet.NumClasses)), random(r.Uint64(), min(n, 1+int(2*pace))))
		}
		w.run(time.Duration(r.Float64()*3*float64(unit)), w.allReleased)
		switch r.IntN(4) {
		case 0:
			w.restart(r)
		case 1:
			w.cut = true
			w.run(time.Duration(r.Float64()*4*float64(unit)), w.allReleased)
			w.cut = false
		}
	}
	if !w.run(3000*time.Hour, w.allReleased) {
		t.Fatalf("%d of %d released\n%+v\n%+v\n%+v", len(w.released), len(w.offered), cfg, w.send.Stats(), w.recv.Stats())
	}
	for id := range w.offered {
		if w.done[id] == 0 {
			t.Errorf("block %d was released and never delivered", id)
		}
	}
	settle(t, w)
	if limit := w.send.cfg.Buffer; w.maxUsed > limit {
		t.Errorf("the receiver took %d bytes, at most %d", w.maxUsed, limit)
	}
}

// restart begins a new association; either side may have forgotten some of
// what it knew, but not what it accepted or released.
func (w *world) restart(r *rand.Rand) {
	ss, rs := w.send.State(), w.recv.State()
	if r.IntN(2) == 0 {
		ss.Blocks = ss.Blocks[:r.IntN(len(ss.Blocks)+1)]
	}
	forgets := func() bool { return false }
	switch r.IntN(3) {
	case 0:
		forgets = func() bool { return true }
	case 1:
		forgets = func() bool { return r.IntN(2) == 0 }
	}
	kept := rs.Blocks[:0]
	for _, b := range rs.Blocks {
		if forgets() {
			clear(w.sink[b.ID])
		} else {
			kept = append(kept, b)
		}
	}
	rs.Blocks = kept
	sender, err1 := ParseSenderState(AppendSenderState(nil, ss))
	receiver, err2 := ParseReceiverState(AppendReceiverState(nil, rs))
	if err1 != nil || err2 != nil {
		w.t.Fatal(err1, err2)
	}
	w.connect(sender, receiver)
}
