package core

import (
	"math"
	"testing"
)

// TestFencePause: questions follow the round trip of the path, and never come
// without a pause.
func TestFencePause(t *testing.T) {
	for _, c := range []struct {
		delay uint64
		want  int64
	}{{0, farPause}, {50, farPause}, {320, 5120}, {1280, 20_480}, {600_000, 9_600_000}, {1 << 62, 16 * math.MaxInt32}} {
		if got := fencePause(c.delay); got != c.want {
			t.Errorf("after a question over %d ms of light: %d ms, want %d", c.delay, got, c.want)
		}
	}
}
