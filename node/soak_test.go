package node

import (
	"flag"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/virtual"
	"github.com/farhop/farhop/storeforward/bundle"
)

var (
	soakMishaps = flag.Int("soak", 240, "mishaps of TestSoak, in all")
	soakSeed    = flag.Uint64("soakseed", 1, "seed of TestSoak; what fails says its own")
)

// soakWorld is a kind of link, and within what time all of them must be up
// again when the network is whole.
type soakWorld struct {
	name  string
	props link.Properties
	way   virtual.Way
	long  time.Duration // the longest mishap: longer than a session survives silence
	bound time.Duration // and as long again as the longest mishap before
}

// soakWorlds. The bound is what the profile's row in docs/links.md adds up to:
// the longest pause before an attempt and a quarter, an attempt that began too
// early, twice over (quic-go's patience), and some round trips. A session that
// lives on may need as long as it was cut: quic-go asks a new address of its
// peer whether it is real after pauses that double, see TestRebindWhileHalfOpen.
func soakWorlds() []soakWorld {
	const ms = time.Millisecond
	return []soakWorld{
		{"lan", link.Properties{Profile: link.ProfileLAN}, virtual.Way{Delay: ms / 5, Rate: 1e9}, 12 * time.Minute, 20 * time.Second},
		{"wan", link.Properties{OWLT: 40 * ms}, virtual.Way{Delay: 40 * ms, Jitter: 10 * ms, Loss: 0.001, Rate: 100e6}, 12 * time.Minute, 85 * time.Second},
		{"geo", link.Properties{Profile: link.ProfileGEO}, virtual.Way{Delay: 320 * ms, Loss: 0.002, Rate: 20e6}, 12 * time.Minute, 90 * time.Second},
		{"moon", link.Properties{OWLT: 1300 * ms, Rate: 50e6, Loss: 0.01}, virtual.Way{Delay: 1300 * ms, Loss: 0.01, Rate: 50e6}, 35 * time.Minute, 2 * time.Minute},
	}
}

// TestSoak plays mishaps on three nodes that are linked to each other: flaps,
// half-open cuts, rebinds and restarts, several at once. When the network is
// left whole, every link must be up again, at both ends, and every bundle that
// a node accepted must have been delivered once.
func TestSoak(t *testing.T) {
	const most = 40 // mishaps of one bubble
	worlds := soakWorlds()
	for left, i := *soakMishaps, 0; left > 0; i++ {
		w, n, seed := worlds[i%len(worlds)], min(left, most), *soakSeed+uint64(i)
		if !t.Run(fmt.Sprintf("%s-%d", w.name, seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playSoak(t, w, n, seed) })
		}) {
			t.Fatalf("to play it again: go test ./node -run 'TestSoak/%s-%d' -soak %d -soakseed %d", w.name, seed, *soakMishaps, *soakSeed)
		}
		left -= n
	}
}

// soak is one world under mishaps.
type soak struct {
	soakWorld
	t      *testing.T
	log    *slog.Logger
	seed   uint64
	rnd    *rand.Rand
	net    *virtual.Net
	auth   *pki.Authority
	nodes  []*soakNode
	ledger *soakLedger
	cuts   map[[2]int]int // in force, by direction
	slow   time.Duration  // the longest recovery
	most   time.Duration  // the longest mishap of this batch
	count  [5]int         // mishaps of each kind
}

// newSoak makes a world of nodes that do not run yet, at noon: certificates do
// not begin in the year 2000, in which a bubble does.
func newSoak(t *testing.T, world soakWorld, seed uint64, names ...string) *soak {
	t.Helper()
	time.Sleep(time.Until(time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)))
	w := &soak{soakWorld: world, t: t, log: soakLog(t), seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), ledger: &soakLedger{}, cuts: map[[2]int]int{}}
	var err error
	if w.net, err = virtual.New(virtual.Config{Seed: seed, Way: w.way}); err != nil {
		t.Fatal(err)
	}
	if w.auth, err = pki.NewAuthority(addr.MustRegion(soakService), time.Now()); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		w.nodes = append(w.nodes, w.newNode(i, name))
	}
	return w
}

// start boots all nodes; end stops those that run.
func (w *soak) start() (end func()) {
	for _, n := range w.nodes {
		n.start()
	}
	return func() {
		for _, n := range w.nodes {
			if n.up() {
				n.shut(false)
			}
		}
	}
}

func playSoak(t *testing.T, world soakWorld, mishaps int, seed uint64) {
	w := newSoak(t, world, seed, "a", "b", "c")
	// a and b dial each other; c sits behind a NAT and dials both.
	w.dials(0, 1)
	w.dials(1, 0)
	w.dials(2, 0)
	w.dials(2, 1)
	defer w.start()()
	began := time.Now()
	w.recovered("at the start")
	for left := mishaps; left > 0 && !t.Failed(); {
		n := min(1+w.rnd.IntN(8), left)
		left -= n
		w.batch(n)
	}
	t.Logf("seed %d: %d flaps, %d half-open cuts, %d rebinds, %d restarts, %d kills in %v; %d bundles, %d offered again after a kill; slowest recovery %v",
		seed, w.count[0], w.count[1], w.count[2], w.count[3], w.count[4], time.Since(began).Round(time.Second), len(w.ledger.notes), w.ledger.again, w.slow.Round(time.Millisecond))
}

func (w *soak) dials(from, to int) {
	a, b := w.nodes[from], w.nodes[to]
	a.peers = append(a.peers, link.Peer{Address: b.home().String(), Node: b.name, Link: w.props})
	b.props[a.name] = w.props
}

// act is something that happens at a time.
type act struct {
	at time.Duration
	do func()
}

// batch plays so many mishaps that may overlap, with bundles between them, and
// waits until all is well again.
func (w *soak) batch(n int) {
	var acts []act
	spread := w.length()
	w.most = 0
	for range n {
		acts = append(acts, w.mishap(time.Duration(w.rnd.Float64()*float64(spread)))...)
	}
	for range 2 + w.rnd.IntN(10) {
		at := time.Duration(w.rnd.Float64() * float64(spread))
		acts = append(acts, act{at, w.sendSome})
	}
	slices.SortStableFunc(acts, func(a, b act) int { return int(a.at - b.at) })
	began := time.Now()
	for _, a := range acts {
		time.Sleep(a.at - time.Since(began))
		a.do()
	}
	w.recovered(fmt.Sprintf("after %d mishaps in %v", n, spread))
	w.settled()
}

// length is of a mishap, from ten milliseconds on, the short ones as often as
// the long.
func (w *soak) length() time.Duration {
	const least = 10 * time.Millisecond
	return time.Duration(float64(least) * math.Exp(w.rnd.Float64()*math.Log(float64(w.long/least))))
}

// mishap draws one that begins at a time.
func (w *soak) mishap(at time.Duration) []act {
	a := w.rnd.IntN(3)
	b := (a + 1 + w.rnd.IntN(2)) % 3
	length := w.length()
	end := at + length
	w.most = max(w.most, length)
	kind := w.rnd.IntN(len(w.count))
	w.count[kind]++
	n := w.nodes[a]
	switch kind {
	case 0:
		return []act{
			{at, func() { w.cut(a, b, 1); w.cut(b, a, 1) }},
			{end, func() { w.cut(a, b, -1); w.cut(b, a, -1) }},
		}
	case 1:
		return []act{{at, func() { w.cut(a, b, 1) }}, {end, func() { w.cut(a, b, -1) }}}
	case 2:
		return []act{{at, func() {
			w.log.Debug("rebind", "node", n.name)
			w.net.Rebind(n.home())
		}}}
	}
	return []act{{at, func() {
		if n.up() {
			w.log.Debug("stop", "node", n.name, "kill", kind == 4)
			n.shut(kind == 4)
		}
	}}, {end, func() {
		if !n.up() {
			w.log.Debug("start", "node", n.name)
			n.start()
		}
	}}}
}

func (w *soak) cut(from, to, by int) {
	k := [2]int{from, to}
	w.cuts[k] += by
	w.log.Debug("cut", "from", w.nodes[from].name, "to", w.nodes[to].name, "cut", w.cuts[k] > 0)
	w.net.Cut(w.nodes[from].home(), w.nodes[to].home(), w.cuts[k] > 0)
}

// sendSome submits a bundle between two nodes.
func (w *soak) sendSome() {
	a := w.rnd.IntN(3)
	b, class, size := (a+1+w.rnd.IntN(2))%3, bundle.Class(w.rnd.IntN(bundle.NumClasses)), w.rnd.IntN(20_000)
	if w.nodes[a].up() {
		w.nodes[a].send(w.nodes[b].name, class, size)
	}
}

// recovered waits until every link is up at both ends and stays so for as long
// as it takes to find out that it is not.
func (w *soak) recovered(when string) {
	w.t.Helper()
	began, step := time.Now(), max(w.way.Delay, 5*time.Millisecond)
	settle := 20*2*w.way.Delay + 5*time.Second
	w.log.Debug("whole", "after", when)
	since, held := time.Time{}, ""
	for {
		state, ok := w.state()
		now := time.Now()
		switch {
		case !ok:
			since = time.Time{}
		case since.IsZero() || state != held:
			since, held = now, state
		case now.Sub(since) >= settle:
			w.slow = max(w.slow, since.Sub(began))
			w.log.Debug("recovered", "took", since.Sub(began))
			return
		}
		if now.Sub(began) > w.bound+w.most+settle {
			w.t.Fatalf("%s: seed %d: %s: not up %v after the network was whole:\n%s", w.name, w.seed, when, now.Sub(began), state)
		}
		time.Sleep(step)
	}
}

// state describes all links; ok says that they are up at both ends.
func (w *soak) state() (text string, ok bool) {
	ok = true
	for _, n := range w.nodes {
		view, err := n.loop.view(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, far := range w.nodes {
			if far == n {
				continue
			}
			s := n.manager.Session(far.name)
			at := slices.IndexFunc(view.Links, func(l core.LinkView) bool { return l.Node == far.name })
			if s == nil || at < 0 || view.Links[at].Silent || s.Hello().Boot != far.boot {
				ok = false
			}
			text += fmt.Sprintf("%s to %s: session %t, core %t", n.name, far.name, s != nil, at >= 0)
			if s != nil {
				text += fmt.Sprintf(", number %d, boot %d of %d", s.ID(), s.Hello().Boot, far.boot)
			}
			if at >= 0 {
				text += fmt.Sprintf(", silent %t", view.Links[at].Silent)
			}
			text += "\n"
		}
	}
	return text, ok
}

// settled waits until all that was accepted has come, once.
func (w *soak) settled() {
	w.t.Helper()
	for began := time.Now(); ; time.Sleep(max(w.way.Delay, 5*time.Millisecond)) {
		n, first := w.ledger.missing()
		if n == 0 {
			break
		}
		if time.Since(began) > w.bound+w.most {
			w.t.Fatalf("%s: seed %d: %d bundles have not come %v after all links were up, the first is %d of %s for %s",
				w.name, w.seed, n, w.bound, first, w.ledger.notes[first-1].from, w.ledger.notes[first-1].to)
		}
	}
	for _, text := range w.ledger.faults() {
		w.t.Errorf("%s: seed %d: %s", w.name, w.seed, text)
	}
}
