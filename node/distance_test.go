package node

import (
	"flag"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/sim/virtual"
	"github.com/farhop/farhop/storeforward/bundle"
)

var farSeeds = flag.Uint64("farseeds", 1, "seeds of TestFarTransfer")

// TestFarTransfer moves 64 MiB of messages between whole nodes over ten minutes
// of light, 50 Mbit/s and 1 % loss: all of it is on the far disk before an
// answer to the first message could have come, since the core lets as much be
// under way as the link holds, and the link layer holds a part of that in
// memory. The store's custody ends a round trip later.
func TestFarTransfer(t *testing.T) {
	const (
		light, rate = 10 * time.Minute, 50_000_000
		size, count = 1 << 20, 64
	)
	props := link.Properties{OWLT: light, Rate: rate, Loss: 0.01}
	world := soakWorld{"mars", props, virtual.Way{Delay: light, Loss: 0.01, Rate: rate}, time.Hour, 6 * time.Hour}
	serial := time.Duration(size * count * 8 * float64(time.Second) / rate)
	for seed := range *farSeeds {
		synctest.Test(t, func(t *testing.T) {
			w := newSoak(t, world, seed+1, "a", "b")
			w.dials(0, 1)
			defer w.start()()
			w.recovered("at the start")
			began := time.Now()
			for range count {
				w.nodes[0].send(w.nodes[1].name, bundle.Bulk, size-8)
			}
			time.Sleep(time.Second) // they are accepted
			w.settled()
			took := w.ledger.last().Sub(began)
			time.Sleep(3 * light) // acknowledgements come home
			out, _ := w.nodes[0].manager.Session(w.nodes[1].name).Salvo()
			in, _ := w.nodes[1].manager.Session(w.nodes[0].name).Salvo()
			t.Logf("seed %d: %d MiB in %v and %.3f of %v; %d repairs; memory %d and %d KiB", seed+1, size*count>>20, light,
				float64(took-light)/float64(serial), serial, out.Out.Repairs, out.MaxHeld>>10, in.MaxKept>>10)
			if most := light + serial*11/10 + 8*soakSync; took > most && out.Out.Repairs == 0 {
				t.Errorf("seed %d: %v, want %v", seed+1, took, most)
			}
			if out.MaxHeld > 24<<20 || in.MaxKept > 24<<20 {
				t.Errorf("%d and %d bytes were held", out.MaxHeld, in.MaxKept)
			}
			view, err := w.nodes[0].loop.view(t.Context())
			if err != nil || view.Totals.Messages != 0 {
				t.Errorf("%d messages are in custody still, %v", view.Totals.Messages, err)
			}
		})
	}
}

// last is when the last bundle came.
func (g *soakLedger) last() (at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.notes {
		if g.notes[i].at.After(at) {
			at = g.notes[i].at
		}
	}
	return at
}
