package core

import (
	"testing"

	"github.com/farhop/farhop/routing"
)

// TestPenalty: it halves in its time, in between too, and is gone at last.
func TestPenalty(t *testing.T) {
	f := flap{penalty: 8000, at: 1000, half: 10_000}
	for _, c := range []struct{ at, want int64 }{
		{1000, 8000}, {6000, 6000}, {11_000, 4000}, {16_000, 3000}, {21_000, 2000}, {31_000, 1000}, {141_000, 0}, {1 << 50, 0},
	} {
		if got := f.now(c.at); got != c.want {
			t.Errorf("penalty at %d is %d, want %d", c.at, got, c.want)
		}
	}
}

// TestBetter: only what is better waits; a cost that rises and a link that falls
// are told at once.
func TestBetter(t *testing.T) {
	was := routing.Neighbor{Cost: 10, Up: true}
	for _, c := range []struct {
		now, was routing.Neighbor
		want     bool
	}{
		{routing.Neighbor{Cost: 9, Up: true}, was, true},
		{routing.Neighbor{Cost: 11, Up: true}, was, false},
		{was, was, false},
		{routing.Neighbor{Cost: 9}, was, false},
		{was, routing.Neighbor{Cost: 9}, true},
		{routing.Neighbor{Cost: 9, Up: true, Barred: 8}, was, false},
		{routing.Neighbor{Cost: 11, Up: true, Barred: 8}, routing.Neighbor{Cost: 10, Up: true, Barred: 24}, true},
		{routing.Neighbor{Cost: 9, Up: true, Barred: 4}, routing.Neighbor{Cost: 10, Up: true, Barred: 8}, false},
	} {
		if got := better(c.now, c.was); got != c.want {
			t.Errorf("%+v better than %+v: %t", c.now, c.was, got)
		}
	}
}
