package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/farhop/farhop/sim/emulator"
)

// Mishaps come in batches. After each the network is whole.
const (
	batchMost  = 12               // mishaps of a batch
	batchShort = time.Second      // the shortest of most batches
	batchUsual = 15 * time.Second // the longest of these
	batchLong  = 40 * time.Second // longer than links wait before they are made anew, or go by TCP
	longOnceIn = 10               // batches
	drainAfter = 5                // batches, until all that was published has to have arrived

	// linkWait is what docs/links.md has for a link of profile wan: the silence
	// after which another session is sought, then the longest pause before
	// redialling and a quarter, and handshakes that began too early.
	linkWait = 2 * time.Minute
	settle   = 3 * time.Second // how long links that are up have to stay so: an idle one is probed every 2 s
	lookEach = 200 * ms
)

// mishaps are what befalls links and the nodes at their ends; several at once.
// Nobody writes to the table.
var mishaps = []trouble{
	{"flap", 20, nil, (*round).flap},
	{"half-open", 20, nil, (*round).halfOpen},
	{"black hole", 15, nil, (*round).blackHole},
	{"rebind", 20, nil, (*round).rebind},
	{"rebind half-open", 5, nil, (*round).rebindHalfOpen},
	{"restart", 8, nil, (*round).restart},
	{"kill -9", 12, nil, (*round).killHard},
	{"kill -9 amid a cut", 10, nil, (*round).killAmid},
	{"kill -9 at a dial", 6, (*campaign).needOwn, (*round).killAtDial},
	{"cut at a dial", 6, (*campaign).needOwn, (*round).cutAtDial},
}

// soak plays so many mishaps and ends the mesh.
func (c *campaign) soak(ctx context.Context, n int) error {
	if err := c.linked(ctx); err != nil {
		return err
	}
	for done, batch := 0, 1; done < n; batch++ {
		rng := rand.New(rand.NewPCG(c.seed, uint64(batch)<<32))
		size := min(1+rng.IntN(batchMost), n-done)
		spread := logUniform(rng, batchShort, batchUsual)
		if rng.IntN(longOnceIn) == 0 {
			spread = batchLong
		}
		if err := c.batch(ctx, done+1, size, spread); err != nil {
			return fmt.Errorf("batch %d, seed %d: %w", batch, c.seed, err)
		}
		done += size
		if batch%drainAfter == 0 || done == n {
			if err := c.drain(ctx); err != nil {
				return err
			}
		}
		if done < n {
			c.hold(false)
		}
	}
	return c.finish(ctx)
}

// logUniform draws a time: the short ones as often as the long.
func logUniform(rng *rand.Rand, least, most time.Duration) time.Duration {
	return time.Duration(float64(least) * math.Exp(rng.Float64()*math.Log(float64(most)/float64(least))))
}

// batch lets the mishaps strike from the given number on, each at a time of
// its own, and waits until all is well again.
func (c *campaign) batch(ctx context.Context, first, n int, spread time.Duration) error {
	var play sync.WaitGroup
	errs := make([]error, n)
	var rounds []*round
	for i := range n {
		r := c.drawn(first + i)
		r.spread = spread
		rounds = append(rounds, r)
		play.Go(func() {
			r.pause(ctx, spread)
			errs[i] = r.kind.strike(r, ctx)
		})
	}
	play.Wait()
	err := errors.Join(errs...)
	whole := time.Now()
	if err == nil {
		err = c.linked(ctx)
	}
	up := time.Since(whole)
	if err == nil {
		err = c.flowing(ctx)
	}
	err = errors.Join(err, c.panics())
	for _, r := range rounds {
		fmt.Fprintf(c.out, "mishap %3d  %-17s %s\n", r.number, r.kind.name, r.story.String())
	}
	published, _, refused, delivered := c.ledger.totals()
	fmt.Fprintf(c.out, "%d at once within %s: links up and settled after %s, flowing after %s  | %d published, %d refused, %d delivered\n",
		n, short(spread), short(up), short(time.Since(whole)), published, refused, delivered)
	return err
}

// length is of a mishap.
func (r *round) length() time.Duration {
	d := logUniform(r.rng, 20*ms, r.spread)
	r.say("%s", short(d))
	return d
}

// drawWay is from the victim to another node, by one of the links that the two
// have or by all at once.
func (r *round) drawWay() way {
	w := way{from: r.victim.name, to: r.other().name}
	if over := r.mesh.uplinks(w.from, w.to); len(over) > 1 {
		w.over = append(over, "")[r.rng.IntN(len(over)+1)]
	}
	return w
}

// disturb keeps a way in a state for a while, and the way back, if that is said.
func (r *round) disturb(ctx context.Context, in emulator.State, back bool, amid func(way) error) (err error) {
	w := r.drawWay()
	d := r.length()
	r.say("from %v", w)
	if back {
		r.say("and back")
		r.mesh.keep(w.back(), in, 1)
		defer r.mesh.keep(w.back(), in, -1)
	}
	r.mesh.keep(w, in, 1)
	defer r.mesh.keep(w, in, -1)
	sleep(ctx, d/2)
	if amid != nil {
		err = amid(w)
	}
	sleep(ctx, d/2)
	return err
}

func (r *round) flap(ctx context.Context) error {
	return r.disturb(ctx, emulator.StateCut, true, nil)
}

func (r *round) halfOpen(ctx context.Context) error {
	return r.disturb(ctx, emulator.StateCut, false, nil)
}

func (r *round) blackHole(ctx context.Context) error {
	return r.disturb(ctx, emulator.StateBlackhole, true, nil)
}

func (r *round) rebindHalfOpen(ctx context.Context) error {
	return r.disturb(ctx, emulator.StateCut, false, r.mesh.rebind)
}

func (r *round) rebind(context.Context) error {
	w := r.drawWay()
	r.say("from %v", w)
	return r.mesh.rebind(w)
}

// killAmid kills a node that is cut off, or hears or is heard no more; when it
// comes back it still is.
func (r *round) killAmid(ctx context.Context) error {
	back := r.rng.IntN(2) == 0
	return r.disturb(ctx, emulator.StateCut, back, func(way) error { return r.killHard(ctx) })
}

// restart ends the node in order and starts it again.
func (r *round) restart(ctx context.Context) error {
	return r.away(ctx, func() error {
		if err := r.victim.ready(ctx); err != nil { // before that it need not end well
			return err
		}
		if err := r.victim.halt(ctx); err != nil {
			r.ledger.fault("%v", err)
			return errFault
		}
		return nil
	})
}

// killHard kills the node, also while it starts, and starts it again.
func (r *round) killHard(ctx context.Context) error {
	return r.away(ctx, func() error {
		r.victim.kill()
		return nil
	})
}

// away ends the victim and starts it after a while, one mishap after the other.
func (r *round) away(ctx context.Context, end func() error) error {
	d := r.length()
	r.say("%s", r.victim.name)
	r.victim.turn.Lock()
	defer r.victim.turn.Unlock()
	if err := end(); err != nil {
		return err
	}
	sleep(ctx, d)
	return r.victim.launch(false)
}

// linked waits until every link is up at both ends and stays so.
func (c *campaign) linked(ctx context.Context) error {
	whole := time.Now()
	var since time.Time
	held := ""
	return c.awaitOr(ctx, "not up", linkWait, func() string {
		sleep(ctx, lookEach)
		state, late := c.links(ctx)
		now := time.Now()
		switch {
		case late != "":
			since = time.Time{}
			return late
		case since.IsZero() || state != held:
			since, held = now, state
		case now.Sub(since) >= settle:
			c.slowLink = max(c.slowLink, since.Sub(whole))
			return ""
		}
		return "links came up, and did not stay so"
	})
}

// linkEnd is what a node says of the link to another, as farhop links --json.
type linkEnd struct {
	Node    string    `json:"node"`
	Link    string    `json:"link"`
	Classes []string  `json:"classes"`
	State   string    `json:"state"`
	Layer   string    `json:"layer"`
	Since   time.Time `json:"since"`
	Error   string    `json:"last_error"`
}

// standing finds the session with a node over a link, which carries something
// if it is one of several. One that began before both nodes did is with a
// process that is no more.
func standing(ends []linkEnd, far, over string, both time.Time) (linkEnd, bool) {
	i := slices.IndexFunc(ends, func(e linkEnd) bool {
		return e.Node == far && e.Link == over && e.State == "up" && e.Since.After(both) && (over == "" || len(e.Classes) > 0)
	})
	if i < 0 {
		return linkEnd{}, false
	}
	return ends[i], true
}

// links asks all nodes and says which sessions stand, and which end of a link
// is late.
func (c *campaign) links(ctx context.Context) (state, late string) {
	up := map[way]int{}
	var states, lates []string
	for _, at := range names() {
		p := c.mesh.nodes[at]
		out, err := p.do(ctx, "links", "--json")
		var ends []linkEnd
		if err == nil {
			err = json.Unmarshal([]byte(out), &ends)
		}
		if err != nil {
			lates = append(lates, err.Error())
			continue
		}
		for _, far := range names() {
			both := slices.MaxFunc([]time.Time{p.since(), c.mesh.nodes[far].since()}, time.Time.Compare)
			for _, over := range c.mesh.uplinks(at, far) {
				w := way{at, far, over}
				if e, ok := standing(ends, far, over, both); ok {
					up[way{min(at, far), max(at, far), over}]++
					states = append(states, fmt.Sprint(w, e.Since, e.Layer))
				} else {
					lates = append(lates, fmt.Sprintf("of the link from %v it says: %+v", w, ends))
				}
			}
		}
	}
	if late := c.mesh.hoards(); late != "" {
		lates = append(lates, late)
	}
	c.looked, c.linksUp = true, 0
	for n := range maps.Values(up) {
		c.linksUp += n / 2
	}
	return strings.Join(states, "; "), strings.Join(lates, "; ")
}
