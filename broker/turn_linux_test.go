package broker

import "testing"

// TestTurns: few busy connections get all they ask for, many get a part.
func TestTurns(t *testing.T) {
	for _, c := range []struct{ busy, kept, bytes, work int }{
		{0, 0, readBuffer, aloneWork},
		{fewBusy, 0, readBuffer, aloneWork},
		{fewBusy + 1, 0, turnBytes, turnWork / (fewBusy + 1)},
		{8, 100, turnBytes, turnWork / 8},
		{8, turnBytes, readBuffer, turnWork / 8}, // the rest of a large packet
		{10_000, 0, turnBytes, leastWork},
	} {
		var s turns
		s.busy = c.busy
		s.next()
		if got := s.bytes(c.kept); got != c.bytes {
			t.Errorf("%d busy, %d kept: %d bytes, want %d", c.busy, c.kept, got, c.bytes)
		}
		if got := s.work(); got != c.work {
			t.Errorf("%d busy: work %d, want %d", c.busy, got, c.work)
		}
		if s.next(); s.last != 0 {
			t.Errorf("%d busy are remembered for longer than a turn", s.last)
		}
	}
}
