package core

import (
	"math/rand/v2"
	"testing"
)

// TestSpansAgainstMap compares spans with the set they stand for.
func TestSpansAgainstMap(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 9))
		var s spans
		set := map[uint64]bool{}
		next := uint64(1)
		for range 200 {
			if rng.IntN(3) == 0 {
				lo := next + rng.Uint64N(3)
				next = lo + rng.Uint64N(5)
				s.add(lo, next)
				for n := lo; n < next; n++ {
					set[n] = true
				}
			} else {
				n := rng.Uint64N(next + 2)
				s.remove(n)
				delete(set, n)
			}
			for n := range next + 3 {
				if s.has(n) != set[n] {
					t.Fatalf("seed %d: has(%d) is %v: %v", seed, n, s.has(n), s)
				}
			}
		}
	}
}
