package salvo

import (
	"math/rand/v2"
	"testing"
)

// TestSpans compares with a table of bits.
func TestSpans(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	const size = 64
	for range 300 {
		var s spans
		var bits [size]bool
		for range 60 {
			lo := uint64(r.IntN(size))
			hi := lo + uint64(r.IntN(min(12, size-int(lo)+1)))
			on := r.IntN(3) > 0
			if on {
				s.add(lo, hi)
			} else {
				s.remove(lo, hi)
			}
			for i := lo; i < hi; i++ {
				bits[i] = on
			}
			checkSpans(t, s, bits[:])
		}
	}
}

func checkSpans(t *testing.T, s spans, bits []bool) {
	t.Helper()
	if !s.within(uint64(len(bits))) {
		t.Fatalf("%v is no set", s)
	}
	first := uint64(0)
	for first < uint64(len(bits)) && bits[first] {
		first++
	}
	if s.first() != first {
		t.Fatalf("%v: first %d, want %d", s, s.first(), first)
	}
	for i, on := range bits {
		if s.has(uint64(i)) != on {
			t.Fatalf("%v: %d is %v", s, i, !on)
		}
		hi := i
		for hi < len(bits) && bits[hi] {
			hi++
		}
		lo := hi
		for lo < len(bits) && !bits[lo] {
			lo++
		}
		g := s.gap(uint64(i), uint64(len(bits)))
		if g.Lo != uint64(hi) || g.Hi != uint64(lo) {
			t.Fatalf("%v: gap from %d is %v, want %d to %d", s, i, g, hi, lo)
		}
		if s.hasAll(uint64(i), uint64(hi)) != true || hi < len(bits) && s.hasAll(uint64(i), uint64(hi+1)) {
			t.Fatalf("%v: all from %d to %d", s, i, hi)
		}
	}
}
