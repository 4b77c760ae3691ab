package storeforward

import (
	"math/rand/v2"
	"testing"
)

// oracle is the slow, obvious twin of Window.
type oracle struct {
	top  uint64
	seen map[uint64]bool
}

func (o *oracle) add(n uint64) {
	if n <= o.top && o.top-n >= Span {
		return
	}
	o.top = max(o.top, n)
	o.seen[n] = true
}

func (o *oracle) has(n uint64) bool { return n <= o.top && o.top-n < Span && o.seen[n] }

func TestWindowAgainstOracle(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		w, o := new(Window), &oracle{seen: map[uint64]bool{}}
		base := r.Uint64N(1 << 39)
		for range 4000 {
			var n uint64
			switch r.IntN(10) {
			case 0:
				n = base + r.Uint64N(4*Span)
			case 1:
				n = o.top + r.Uint64N(200)
			default:
				n = max(o.top, 64) - r.Uint64N(64) + r.Uint64N(8)
			}
			w.Add(n)
			o.add(n)
			for _, q := range []uint64{n, n + 1, n - min(n, Span-1), n - min(n, Span), o.top - min(o.top, r.Uint64N(Span))} {
				if w.Seen(q) != o.has(q) {
					t.Fatalf("seed %d: Seen(%d) = %v, top %d", seed, q, w.Seen(q), o.top)
				}
			}
		}
		again, err := ParseWindow(w.AppendBinary(nil))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for i := range uint64(Span + 10) {
			q := w.top - min(w.top, i)
			if again.Seen(q) != w.Seen(q) {
				t.Fatalf("seed %d: after a round trip Seen(%d) = %v, want %v", seed, q, again.Seen(q), w.Seen(q))
			}
		}
	}
}

func TestWindowJoin(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 2))
		w, other, want := new(Window), new(Window), new(Window)
		for range 300 {
			n, m := r.Uint64N(2*Span), r.Uint64N(2*Span)
			w.Add(n)
			other.Add(m)
		}
		want.Add(max(w.top, other.top))
		for q := range uint64(2*Span + 1) {
			if w.Seen(q) || other.Seen(q) {
				want.Add(q)
			}
		}
		w.Join(other)
		for q := range uint64(2*Span + 1) {
			if w.Seen(q) != want.Seen(q) {
				t.Fatalf("seed %d: Seen(%d) = %v, want %v", seed, q, w.Seen(q), want.Seen(q))
			}
		}
		before := *w
		if w.Join(new(Window)); *w != before {
			t.Fatalf("seed %d: an empty window changed it", seed)
		}
	}
}

func FuzzParseWindow(f *testing.F) {
	w := new(Window)
	w.Add(7)
	w.Add(900)
	f.Add(w.AppendBinary(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := ParseWindow(b)
		if err != nil {
			return
		}
		if n := w.Len(); n > Span {
			t.Errorf("%d counters remembered", n)
		}
		w.Add(w.top + 1)
	})
}
