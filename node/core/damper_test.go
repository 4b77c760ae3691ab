package core

import "testing"

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
