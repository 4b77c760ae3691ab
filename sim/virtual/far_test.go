package virtual_test

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farhop/farhop/node/begun"
	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/virtual"
	"github.com/farhop/farhop/storeforward/bundle"
)

const (
	mars   = 10 * time.Minute
	memory = 24 << 20 // bytes of blocks that an end of a session may hold
)

// TestOnePass moves bytes over ten minutes of light with 1 % loss: the last of
// them arrives before an answer to the first could have, though far more is
// under way than either end holds in memory. One train in ten thousand lacks
// more than its parity, so now and then a run needs a second pass, which takes
// another round trip: such a run may be no longer than that.
func TestOnePass(t *testing.T) {
	for _, c := range []struct {
		bytes, bundle int
		seeds, least  int           // runs in all, and those that have to make it in one pass
		extra         time.Duration // of a short transfer, once
	}{
		{1 << 20, 64 << 10, 1, 1, 20 * time.Millisecond},
		{64 << 20, 64 << 10, 1, 1, 0},
		{64 << 20, 3<<20 + 1<<19, 1, 1, 0}, // in parts
	} {
		if *full && c.bytes > 1<<20 {
			c.seeds, c.least = 20, 18
		}
		t.Run(fmt.Sprintf("%d KiB of %d KiB each", c.bytes>>10, c.bundle>>10), func(t *testing.T) {
			serial := time.Duration(float64(c.bytes) * 8 / rate * float64(time.Second))
			most, once := mars+serial*11/10+c.extra, 0
			for seed := range uint64(c.seeds) {
				w := virtual.Config{Seed: seed + 1, Way: virtual.Way{Delay: mars, Rate: rate, Loss: 0.01}}
				var r far
				synctest.Test(t, func(t *testing.T) {
					r = moveFar(t, w, link.Properties{OWLT: mars, Rate: rate, Loss: 0.01}, c.bytes, c.bundle)
				})
				t.Logf("seed %d: %v", w.Seed, r)
				switch {
				case r.took <= most:
					once++
				case r.out.Out.Repairs == 0:
					t.Errorf("seed %d: %v in one pass, want %v", w.Seed, r.took, most)
				case r.took > most+2*mars+mars/8:
					t.Errorf("seed %d: %v in two passes", w.Seed, r.took)
				}
				r.bounded(t)
			}
			t.Logf("%d of %d runs in one pass: the light time and at most 1.1 times the %v that the rate takes", once, c.seeds, serial)
			if once < c.least {
				t.Errorf("%d of %d runs in one pass, want %d", once, c.seeds, c.least)
			}
		})
	}
}

// TestManyPasses plays a link that loses what nobody declared, so that there is
// far too little parity: much is repaired long after it was sent, and most waits
// for what was before it. All of it arrives in order, and neither end holds more
// than its memory: one reads again what it sent, the other has it on disk.
func TestManyPasses(t *testing.T) {
	// Which gaps stay open longest is up to the seed and to the scheduler: where
	// they are late ones, nothing has to go to disk.
	spooled := false
	for seed := uint64(3); !spooled && seed < 15; seed++ {
		var r far
		synctest.Test(t, func(t *testing.T) {
			c := virtual.Config{Seed: seed, Way: virtual.Way{Delay: mars, Rate: rate, Loss: 0.02}}
			r = moveFar(t, c, link.Properties{OWLT: mars, Rate: rate}, 64<<20, 1<<20)
		})
		t.Log(r)
		r.bounded(t)
		if r.out.Reread == 0 || r.out.Out.Repairs == 0 {
			t.Errorf("nothing was read again (%d) or repaired (%d): the run says nothing", r.out.Reread, r.out.Out.Repairs)
		}
		if r.in.Spooled != 0 || r.in.Kept != 0 {
			t.Errorf("when all had arrived, %d bytes waited in memory and %d on disk", r.in.Kept, r.in.Spooled)
		}
		spooled = r.in.MaxSpooled > 0
	}
	if !spooled {
		t.Error("nothing was ever spooled: the runs say nothing")
	}
}

// TestEndOfCustody moves bundles whose store forgets them right after they were
// sent, as when they ended in another way: what then cannot be repaired is given
// up, and the session lives on.
func TestEndOfCustody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := virtual.Config{Seed: 3, Way: virtual.Way{Delay: mars, Rate: rate, Loss: 0.02}}
		w := newFarWorld(t, c, link.Properties{OWLT: mars, Rate: rate}, 48<<20)
		defer w.stop()
		gone := make([]byte, 0, 48<<20)
		w.forgets.Store(true)
		w.sendAll(len(gone)+cap(gone), 1<<20)
		for w.s.Stats().Queued > 0 {
			time.Sleep(time.Second)
		}
		time.Sleep(2*mars + mars/2)
		if st, _ := w.s.Salvo(); st.Gone == 0 {
			t.Error("nothing had to be repaired: the run says nothing")
		}
		if !w.s.Send(wire.Ping{}) {
			t.Error("the session ended")
		}
	})
}

// far is what a run over a far link found.
type far struct {
	run
	out, in link.SalvoStats
}

func (r far) String() string {
	serial := float64(r.bytes) * 8 / rate
	return fmt.Sprintf("%d MiB: %v and %.3f of %.2f s; %d repairs; memory %d and %d KiB, disk %d KiB, %d payloads read again",
		r.bytes>>20, r.light, (r.took-r.light).Seconds()/serial, serial, r.out.Out.Repairs, r.out.MaxHeld>>10, r.in.MaxKept>>10, r.in.MaxSpooled>>10, r.out.Reread)
}

// bounded checks the memory of both ends.
func (r far) bounded(t *testing.T) {
	t.Helper()
	if r.out.MaxHeld > memory || r.in.MaxKept > memory {
		t.Errorf("%d bytes were held at one end and %d at the other, at most %d", r.out.MaxHeld, r.in.MaxKept, memory)
	}
}

// farWorld is two link managers, the near one with bundles that it can make
// again, as a store has them.
type farWorld struct {
	t       *testing.T
	s       *link.Session
	near    *taker
	far     *taker
	stop    func()
	forgets atomic.Bool // payloads cannot be read again
}

func newFarWorld(t *testing.T, c virtual.Config, props link.Properties, n int) *farWorld {
	return newFarWorldOn(t, t.TempDir(), c, props, n)
}

// newFarWorldOn is newFarWorld with a directory for what waits at the far end.
func newFarWorldOn(t *testing.T, disk string, c virtual.Config, props link.Properties, n int) *farWorld {
	m := newMesh(t, c)
	w := &farWorld{t: t, near: newTaker(0), far: newTaker(n)}
	parts, err := begun.Open(begun.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	cb := m.config(2, "b", 1, w.far)
	cb.Links, cb.SpoolDir, cb.Parts = map[addr.Node]link.Properties{addr.MustNode("a"): props}, disk, parts
	_, stopFar := m.run(cb)
	ca := m.config(1, "a", 1, w.near)
	ca.Peers = []link.Peer{{Address: home(2).String(), Link: props}}
	_, stopNear := m.run(ca)
	w.stop = func() { stopNear(); stopFar() }
	w.s = <-w.near.ups
	if w.s.Layer() != link.LayerSalvo {
		t.Errorf("layer %s", w.s.Layer())
	}
	return w
}

// farBundle is one that can be made again from its number.
func farBundle(xid uint64, n int) (frozen, payload []byte) {
	p := bundle.Primary{
		Dest: addr.NodeEID(addr.MustNode("b"), "mqtt"), Source: addr.NodeEID(addr.MustNode("a"), "mqtt"), ReportTo: addr.None,
		Created: bundle.Timestamp{Seq: xid}, Lifetime: 3600_000,
	}
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7, byte(xid), byte(xid >> 8)}).Read(data) // never fails
	return bundle.AppendFrozen(nil, &p, bundle.MeshInfo{}), bundle.AppendPayload(nil, data)
}

// sendAll sends bundles with so many bytes of messages in all, and returns the
// hash of them.
func (w *farWorld) sendAll(n, size int) (sum [32]byte) {
	hash, hop := sha256.New(), bundle.Hop{HopLimit: 9, HopCount: 1, Age: time.Second}
	for xid := uint64(1); n > 0; xid++ {
		if !w.s.Await(w.t.Context(), bundle.Bulk) {
			w.t.Fatal("the session ended")
		}
		size = min(size, n)
		frozen, payload := farBundle(xid, size)
		hash.Write(bundle.AppendBundle(nil, frozen, payload, hop))
		again := func() ([]byte, error) {
			if w.forgets.Load() {
				return nil, link.ErrGone
			}
			_, payload := farBundle(xid, size)
			return payload, nil
		}
		if !w.s.SendTransfer(bundle.Bulk, xid, frozen, payload, hop, again) {
			w.t.Fatal("the session ended")
		}
		n -= size
	}
	return [32]byte(hash.Sum(nil))
}

// moveFar moves n bytes of messages in bundles of a size.
func moveFar(t *testing.T, c virtual.Config, props link.Properties, n, size int) (r far) {
	count := (n + size - 1) / size
	total := n
	for i := range count { // heads of different lengths
		frozen, payload := farBundle(uint64(i+1), min(size, n-i*size))
		total += len(bundle.AppendBundle(nil, frozen, payload, bundle.Hop{HopLimit: 9, HopCount: 1, Age: time.Second})) - min(size, n-i*size)
	}
	w := newFarWorld(t, c, props, total)
	defer w.stop()
	began := time.Now()
	sum := w.sendAll(n, size)
	at := <-w.far.done
	if [32]byte(w.far.sum.Sum(nil)) != sum {
		t.Error("what arrived differs from what was sent")
	}
	r.run = run{n, at.Sub(began), c.Way.Delay}
	time.Sleep(time.Second)
	r.in, _ = (<-w.far.ups).Salvo()
	r.out, _ = w.s.Salvo()
	return r
}
