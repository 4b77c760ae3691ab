package load

import (
	"strings"
	"testing"
	"time"
)

// TestPaced: what is due is sent and comes, in both groups, and what a broker
// loses or repeats is counted.
func TestPaced(t *testing.T) {
	for _, c := range []struct {
		name           string
		spoil          func(n int, b []byte) [][]byte
		missing, wrong uint64
	}{
		{"faithful", nil, 0, 0},
		{"loses one", func(n int, b []byte) [][]byte {
			if n == 7 {
				return nil
			}
			return [][]byte{b}
		}, 1, 0},
		{"repeats one", func(n int, b []byte) [][]byte {
			if n == 7 {
				return [][]byte{b, b}
			}
			return [][]byte{b}
		}, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRelay(t, c.spoil)
			p, err := OpenPaced(t.Context(), r.ln.Addr().String(), 64, []PacedGroup{{Name: "g", Pairs: 1, Rate: 500}})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			out, err := p.Run(t.Context(), 0, 300*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			g := out[0]
			if g.Due < 100 || g.Arrived < 50 || g.Missing != c.missing || g.Wrong != c.wrong || g.P99 < g.P50 || g.P50 <= 0 {
				t.Errorf("%+v", g)
			}
		})
	}
	if _, err := OpenPaced(t.Context(), "127.0.0.1:1", 8, nil); err == nil || !strings.Contains(err.Error(), "size: 8, want 24") {
		t.Errorf("error %v", err)
	}
	if _, err := OpenPaced(t.Context(), "127.0.0.1:1", 64, []PacedGroup{{Name: "none"}}); err == nil || !strings.Contains(err.Error(), "none: 0 pairs") {
		t.Errorf("error %v", err)
	}
}
