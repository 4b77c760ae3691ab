package salvo

import (
	"testing"
	"time"
)

const (
	mbit = 1e6
	moon = 1280 * time.Millisecond
)

// TestGoodput holds the share of the link that one large block has. Runs
// are deterministic.
func TestGoodput(t *testing.T) {
	for _, c := range []struct {
		name        string
		cfg         Config
		back        float64 // rate of the way back
		backLoss    float64
		least       float64
		reportBytes int64
		mib         int
	}{
		{"moon", Config{Loss: 0.01}, 50 * mbit, 0.01, 0.90, 1024, 64},
		{"thin return", Config{Loss: 0.01}, 256e3, 0.01, 0.90, 1024, 64},
		{"bursts", Config{Loss: 0.01, Burst: 10}, 50 * mbit, 0.01, 0.85, 1024, 64},
		{"much loss", Config{Loss: 0.1}, 50 * mbit, 0.1, 0.7, 1024, 32},
		{"mars", Config{Loss: 0.01, OWLT: 10 * time.Minute}, 50 * mbit, 0.01, 1 / 1.1, 1024, 64},
		{"clean", Config{Loss: 0}, 50 * mbit, 0, 0.94, 1024, 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Rate, c.cfg.ReturnRate = 50*mbit, int64(c.back)
			if c.cfg.OWLT == 0 {
				c.cfg.OWLT = moon
			}
			forward := way{rate: 50 * mbit, owlt: c.cfg.OWLT, loss: c.cfg.Loss, burst: c.cfg.Burst}
			w := newWorld(t, 1, c.cfg, forward, way{rate: c.back, owlt: c.cfg.OWLT, loss: c.backLoss})
			w.offer(3, random(1, c.mib<<20))
			if !w.run(4*time.Hour, w.allReleased) {
				t.Fatalf("not released: %+v\n%+v", w.send.Stats(), w.recv.Stats())
			}
			st, rt := w.send.Stats(), w.recv.Stats()
			t.Logf("share %.4f, %d report bytes in %d, repairs %d (%d symbols), parity-repaired %d of %d trains, max used %d KiB",
				w.share(), rt.ReportBytes, rt.Reports, st.Repairs, st.Repeated, rt.Repaired, rt.Trains, rt.MaxUsed>>10)
			if got := w.share(); got < c.least {
				t.Errorf("share of the link %.4f, want %.2f", got, c.least)
			}
			if rt.ReportBytes > c.reportBytes {
				t.Errorf("%d bytes of reports, at most %d", rt.ReportBytes, c.reportBytes)
			}
		})
	}
}
