package core_test

import (
	"math/bits"
	"testing"
)

// TestRoamMany: what it takes to have many sessions wait, CONNECTs for their
// nodes and sessions for their queues, grows as their number does, but for a
// logarithm.
func TestRoamMany(t *testing.T) {
	for _, n := range []int{400, 1600} {
		e := newEnv()
		e.script("node a\nnode b\nlink a b delay=10ms window=4000\ntick 1s")
		for i := range n {
			e.do("connect a dev%d", i)
			e.do("subscribe a dev%d plant/# qos=1", i)
			e.do("disconnect a dev%d expiry=1000000", i)
		}
		e.do("tick 1s")
		e.do("publish a plant/1 m qos=1")
		e.do("tick 1s")
		b, compared, connects, arriving := e.node("b").core, 0, 0, 0
		b.WatchWaits(func() { compared++ })
		for i := range n {
			e.do("connect b dev%d", i)
		}
		for range 200 {
			c, a := b.Waits()
			connects, arriving = max(connects, c), max(arriving, a)
			e.do("tick 10ms")
		}
		e.do("tick 2m")
		if connects != n || arriving < n/4 {
			t.Errorf("of %d sessions %d CONNECTs waited, and %d for their queues: this tests nothing", n, connects, arriving)
		}
		if c, a := b.Waits(); c+a > 0 {
			t.Errorf("%d CONNECTs and %d sessions still wait", c, a)
		}
		if most := 6 * n * bits.Len(uint(n)); compared > most {
			t.Errorf("%d sessions took %d comparisons, more than %d", n, compared, most)
		}
		t.Logf("%d sessions: %d comparisons, %d waited for their queues", n, compared, arriving)
	}
}
