package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/node/admin"
)

// stage plays the plan and remembers what it saw.
type stage struct {
	cfg    Config
	dir    string
	links  links
	plan   plan
	ledger *ledger
	survey *survey // nil before the nodes are there

	mu       sync.Mutex // guards what follows
	start    time.Time  // zero while the nodes are being made
	world    *world     // nil until then
	phase    string
	events   []event
	seen     map[string]observed
	fleet    admin.FleetStatus
	outages  int
	restarts int
	pushed   uint64 // the revision that was pushed
	cut      bool   // relay-earth, by us
}

// event is one line of the story.
type event struct {
	at   time.Duration // since the start, negative before it
	text string
}

// observed is what is known of one node.
type observed struct {
	admin.Status         // the last answer
	down         bool    // it does not run now
	expired      uint64  // of earlier processes of the node
	peak         int64   // bytes, of all of them
	kex          string  // of its link to the relay, or of the relay to earth
	layer        string  // what carries bundles on that link
	rate         float64 // kbit/s that it sent there lately, with headers
	most         float64 // the most it was
}

func newStage(cfg Config, dir string) (*stage, error) {
	l, err := cfg.links()
	return &stage{cfg: cfg, dir: dir, links: l, plan: planFor(cfg.Duration).follow(l.moon.Up.Contacts), ledger: &ledger{}, seen: map[string]observed{}, phase: "setting up"}, err
}

// say adds a line to the story.
func (s *stage) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var at time.Duration
	if !s.start.IsZero() {
		at = time.Since(s.start)
	}
	s.events = append(s.events, event{at, fmt.Sprintf(format, args...)})
}

func (s *stage) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// play makes the world, lets the plan happen, waits until everything has
// drained or the grace is over, and takes the world down.
func (s *stage) play(ctx context.Context) (err error) {
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	w := newWorld(s.cfg.Program, s.dir, s.links, lost)
	defer w.close()
	s.say("three nodes are made on the ground: relay, luna and earth")
	relayAddr, err := w.provision(ctx)
	if err != nil {
		return cause(ctx, err)
	}
	start := time.Now()
	if err := w.connect(relayAddr, s.plan, start, s.cfg.Seed); err != nil {
		return cause(ctx, err)
	}
	survey := newSurvey(w.client, s.cfg.Seed, least(&s.links.moon))
	s.set(func() { s.start, s.world, s.survey, s.phase = start, w, survey, "starting" })
	if err := w.start(ctx, lost); err != nil {
		return cause(ctx, err)
	}
	s.say("luna is on the Moon now: light is on its way, %s each way; a handshake takes four", seconds(least(&s.links.moon)))
	return cause(ctx, s.perform(ctx, w, lost))
}

// cause prefers why a context ended over what followed from that.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// perform runs clients, trouble and observation next to each other.
func (s *stage) perform(ctx context.Context, w *world, lost context.CancelCauseFunc) error {
	clients, bye := context.WithCancel(ctx)
	defer bye()
	t := &traffic{ledger: s.ledger, seed: s.cfg.Seed, until: s.start.Add(s.plan.publish), addr: map[string]string{}}
	for _, n := range []string{luna, earth} {
		st, err := w.nodes[n].status(ctx)
		if err != nil {
			return fmt.Errorf("ask %s: %w", n, err)
		}
		t.addr[n] = st.MQTT.Listen
	}
	if err := t.subscribe(clients, lost); err != nil {
		return err
	}
	watch, blind := context.WithCancel(ctx)
	defer blind()
	var watcher sync.WaitGroup
	watcher.Go(func() { s.observe(watch, w) })
	defer watcher.Wait()
	defer blind()
	s.set(func() { s.phase = "publishing" })
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := t.publish(clients, lost)
		if err == nil {
			s.set(func() { s.phase = "draining" })
			s.say("publishing has stopped; what is stored drains")
		}
		return err
	})
	g.Go(func() error { return s.survey.run(gctx, s.plan.length/40, s.surveyed, s.say) })
	g.Go(func() error { return s.contacts(gctx) })
	g.Go(func() error { return s.revise(gctx, w) })
	g.Go(func() error { return s.outage(gctx, w) })
	g.Go(func() error { return s.restart(gctx, w) })
	g.Go(func() error { return s.failover(gctx, w) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := s.drain(ctx); err != nil {
		return err
	}
	s.look(ctx, w)
	return nil
}

// at waits for a moment of the plan.
func (s *stage) at(ctx context.Context, d time.Duration) error {
	return sleepUntil(ctx, s.start.Add(d))
}

// now is the time since the start.
func (s *stage) now() time.Duration { return time.Since(s.start) }

// surveyed says when the TCP client has done enough: both servers answered and
// publishing is over, or there is no time left.
func (s *stage) surveyed(seen surveyed) bool {
	return s.now() > s.plan.length+s.plan.grace || seen.complete() && s.now() > s.plan.publish
}

// contacts tells of the planned pause. The emulator and the nodes know it
// from their schedules.
func (s *stage) contacts(ctx context.Context) error {
	if err := s.at(ctx, s.plan.gap); err != nil {
		return err
	}
	s.set(func() { s.outages++ })
	s.say("the contact with luna ends, as planned; the next is in %s", seconds(s.plan.back-s.plan.gap))
	if err := s.at(ctx, s.plan.back); err != nil {
		return err
	}
	s.say("the next contact with luna begins")
	return nil
}

// revise pushes a fleet revision while luna is cut off.
func (s *stage) revise(ctx context.Context, w *world) error {
	if err := s.at(ctx, s.plan.push); err != nil {
		return err
	}
	c, err := w.nodes[relay].client()
	if err != nil {
		return err
	}
	out, err := c.FleetPush(ctx, admin.FleetPushRequest{File: "revision.yaml", Data: w.revision()})
	if err != nil {
		return fmt.Errorf("push a revision: %w", err)
	}
	s.set(func() { s.pushed = out.Revision })
	s.say("fleet revision %d is pushed on the relay; luna, cut off, gets it later", out.Revision)
	return nil
}

// outage cuts relay-earth, which is in nobody's plan.
func (s *stage) outage(ctx context.Context, w *world) error {
	if err := s.at(ctx, s.plan.cut); err != nil {
		return err
	}
	w.ground.Cut(true)
	s.set(func() { s.outages++; s.cut = true })
	s.say("the link between relay and earth is cut, which nobody planned")
	err := s.at(ctx, s.plan.heal)
	w.ground.Cut(false)
	s.set(func() { s.cut = false })
	if err == nil {
		s.say("the link between relay and earth is whole again")
	}
	return err
}

// restart kills the relay with what it holds in memory, and starts it again.
func (s *stage) restart(ctx context.Context, w *world) error {
	if err := s.at(ctx, s.plan.kill); err != nil {
		return err
	}
	p := w.nodes[relay]
	p.kill()
	s.set(func() {
		o := s.seen[relay]
		o.expired, o.down, o.Status = o.expired+o.Counters.Ended["expired"], true, admin.Status{}
		s.seen[relay] = o
	})
	s.say("the relay is killed with SIGKILL")
	if err := s.at(ctx, s.plan.rise); err != nil {
		return err
	}
	if err := p.start(); err != nil {
		return err
	}
	if err := p.ready(ctx); err != nil {
		return err
	}
	s.set(func() { s.restarts++ })
	s.say("the relay runs again, with what its disk kept; the news travels at the speed of light")
	return nil
}

// failover takes earth's TCP server away once it has served.
func (s *stage) failover(ctx context.Context, w *world) error {
	if err := s.at(ctx, s.plan.fail); err != nil {
		return err
	}
	for s.survey.seen().done[earth] == 0 && s.now() < s.plan.length+s.plan.grace {
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	w.servers[earth].retire()
	s.say("TCP: the server on earth goes away; there is another in leo")
	return nil
}

// drain waits to the end of the run, and after it until nothing is missing or
// the grace is over. A repeated message would come within a round trip.
func (s *stage) drain(ctx context.Context) error {
	if err := s.at(ctx, s.plan.length); err != nil {
		return err
	}
	for s.now() < s.plan.length+s.plan.grace && !s.settled() {
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	s.set(func() { s.phase = "done" })
	return nil
}

// settled reports whether everything has arrived everywhere.
func (s *stage) settled() bool {
	if s.ledger.tally("").lost > 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	applied, pending, refused := s.progress()
	return pending == 0 && applied+refused > 0
}

// progress counts the nodes by what they made of the revision that was pushed.
func (s *stage) progress() (applied, pending, refused int) {
	for _, n := range s.fleet.Nodes {
		switch {
		case s.pushed != 0 && n.Applied >= s.pushed:
			applied++
		case s.pushed != 0 && n.Refused >= s.pushed:
			refused++
		}
	}
	return applied, len(names()) - applied - refused, refused
}

// observe looks at all nodes again and again until ctx ends.
func (s *stage) observe(ctx context.Context, w *world) {
	for ctx.Err() == nil {
		s.look(ctx, w)
		_ = sleep(ctx, 400*time.Millisecond) // the loop looks at ctx
	}
}

// look asks every node how it is. A node that does not answer keeps what was
// seen of it: its end is reported elsewhere.
func (s *stage) look(ctx context.Context, w *world) {
	var all sync.WaitGroup
	for name, p := range w.nodes {
		all.Go(func() {
			st, err := p.status(ctx)
			if err == nil {
				s.set(func() { s.seen[name] = s.seen[name].with(st) })
			} else if down := (*admin.NotRunning)(nil); errors.As(err, &down) {
				s.set(func() { o := s.seen[name]; o.down = true; s.seen[name] = o })
			}
		})
	}
	all.Go(func() {
		c, err := w.nodes[relay].client()
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, askWait)
		defer cancel()
		if f, err := c.FleetStatus(ctx); err == nil {
			s.set(func() { s.fleet = f })
		}
	})
	all.Wait()
}

// with adds an answer of the node.
func (o observed) with(st admin.Status) observed {
	before := o.Status
	o.Status, o.down = st, false
	o.peak = max(o.peak, st.Store.PeakBytes)
	for _, p := range st.Peers {
		if p.Kex != "" && (p.Node.String() == relay || p.Node.String() == earth) {
			o.kex, o.layer = p.Kex, p.Layer
			o.rate = kbits(before, st.Now, p)
			o.most = max(o.most, o.rate)
		}
	}
	return o
}

// kbits is how fast a session sent since an earlier answer of the node.
func kbits(before admin.Status, now time.Time, p admin.Peer) float64 {
	for _, b := range before.Peers {
		took := now.Sub(before.Now).Seconds()
		if b.Node == p.Node && b.Since.Equal(p.Since) && p.SentBytes > b.SentBytes && took > 0 {
			return float64(p.SentBytes-b.SentBytes) * 8 / 1000 / took
		}
	}
	return 0
}
