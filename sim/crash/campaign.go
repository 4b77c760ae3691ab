package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Patience of the campaign. A mesh that reaches one of these is stuck.
const (
	flowWait  = 90 * time.Second  // after trouble, until messages of after it arrive everywhere
	drainWait = 180 * time.Second // until all that was published has arrived
	drainEach = 10                // rounds between two drains
)

// campaign is one run.
type campaign struct {
	out         io.Writer
	seed        uint64
	mesh        *mesh
	ledger      *ledger
	publishers  []*publisher
	subscribers []*subscriber
	kinds       []trouble
	counts      map[string]int
	clients     sync.WaitGroup

	looked   bool          // at links
	linksUp  int           // at both ends, when last looked
	slowLink time.Duration // longest time until all links were up
}

// errFault ends a campaign early: the ledger has the faults.
var errFault = errors.New("a fault")

// flows are the publishers: where they are, and which subscribers read them.
var flows = []struct {
	name, at, topic string
	pause           time.Duration
	readers         []string
}{
	{"up-1", sender, "up/1", 12 * time.Millisecond, []string{"historian", "mirror"}},
	{"up-2", sender, "up/2", 25 * time.Millisecond, []string{"historian"}},
	{"down-1", receiver, "down/1", 25 * time.Millisecond, []string{"operator"}},
	{"mid-1", relay, "up/3", 50 * time.Millisecond, []string{"historian"}},
}

// dearTopics are those whose messages a dear link is for, where there is one.
const dearTopics = "+/1"

var readers = []struct{ name, at, filter string }{
	{"historian", receiver, "up/#"}, {"mirror", relay, "up/1"}, {"operator", sender, "down/#"},
}

// begin connects the clients and waits until every flow arrives. They run
// until ctx ends.
func (c *campaign) begin(ctx context.Context) error {
	for _, s := range readers {
		sub := &subscriber{
			session: session{id: s.name, addr: c.mesh.nodes[s.at].mqtt, ledger: c.ledger}, filter: s.filter, half: map[uint16]bool{},
		}
		c.subscribers = append(c.subscribers, sub)
		c.clients.Go(func() { sub.run(ctx, sub) })
	}
	for _, s := range c.subscribers {
		if err := c.await(ctx, startWait, func() string {
			if s.ready.Load() {
				return ""
			}
			return s.id + " is not subscribed"
		}); err != nil {
			return err
		}
	}
	if err := c.interest(ctx); err != nil {
		return err
	}
	for i, f := range flows {
		c.ledger.open(f.name, f.readers...)
		p := &publisher{
			session: session{id: f.name, addr: c.mesh.nodes[f.at].mqtt, ledger: c.ledger}, topic: f.topic, pause: f.pause,
			rng: rand.New(rand.NewPCG(c.seed, uint64(1000+i))),
		}
		c.publishers = append(c.publishers, p)
		c.clients.Go(func() { p.run(ctx) })
	}
	return c.flowing(ctx)
}

// interest waits until every node knows what is read anywhere: before that,
// "no subscriber" is a true answer.
func (c *campaign) interest(ctx context.Context) error {
	for _, p := range c.mesh.nodes {
		for _, r := range readers {
			err := c.await(ctx, startWait, func() string {
				out, err := p.do(ctx, "nodes", "--json")
				var nodes []struct {
					Node     string   `json:"node"`
					Interest []string `json:"interest"`
				}
				if err == nil {
					err = json.Unmarshal([]byte(out), &nodes)
				}
				for _, n := range nodes {
					if n.Node == r.at && slices.Contains(n.Interest, r.filter) {
						return ""
					}
				}
				return fmt.Sprintf("%s does not know who reads %s (%v)", p.name, r.filter, err)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// await waits until late says nothing any more. Faults end it at once.
func (c *campaign) await(ctx context.Context, patience time.Duration, late func() string) error {
	return c.awaitOr(ctx, "stuck", patience, late)
}

// awaitOr is await with the kind of fault that it is when patience runs out.
func (c *campaign) awaitOr(ctx context.Context, kind string, patience time.Duration, late func() string) error {
	for end := time.Now().Add(patience); ; sleep(ctx, 10*time.Millisecond) {
		what := late()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case len(c.ledger.list()) > 0:
			return errFault
		case what == "":
			return nil
		case time.Now().After(end):
			c.ledger.fault("%s: after %s: %s", kind, patience, what)
			return errFault
		}
	}
}

// flowing waits until messages published from now on arrive everywhere, and
// starts nodes that ended with a right to.
func (c *campaign) flowing(ctx context.Context) error {
	marks := c.ledger.marks()
	err := c.await(ctx, flowWait, func() string {
		if err := c.revive(ctx); err != nil {
			return err.Error()
		}
		return c.ledger.passed(marks)
	})
	for _, p := range c.mesh.nodes {
		p.allow(false)
	}
	return errors.Join(err, c.revive(ctx))
}

// revive starts what ended. Only a node that says that something is wrong may
// have.
func (c *campaign) revive(ctx context.Context) error {
	for _, p := range c.mesh.nodes {
		if !p.wait(ctx, 0) {
			continue
		}
		if p.code() <= 0 {
			c.ledger.fault("%s ended with exit code %d; its log ends with:\n%s", p.name, p.code(), p.tail())
			return errFault
		}
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// play runs all rounds.
func (c *campaign) play(ctx context.Context, rounds int) error {
	for n := 1; n <= rounds; n++ {
		if err := c.round(ctx, n); err != nil {
			return err
		}
		if n%drainEach == 0 || n == rounds {
			if err := c.drain(ctx); err != nil {
				return err
			}
			if n == rounds {
				return c.finish(ctx)
			}
			c.hold(false)
		}
	}
	return nil
}

// drawn is the n-th piece of trouble that the seed holds.
func (c *campaign) drawn(n int) *round {
	r := &round{campaign: c, number: n, rng: rand.New(rand.NewPCG(c.seed, uint64(n)))}
	r.victim = c.mesh.nodes[names()[r.rng.IntN(3)]]
	r.kind = c.draw(r.rng)
	c.counts[r.kind.name]++
	return r
}

func (c *campaign) round(ctx context.Context, n int) error {
	r := c.drawn(n)
	err := r.kind.strike(r, ctx)
	struck := time.Now()
	if err == nil {
		err = c.flowing(ctx)
	}
	if err == nil {
		r.say("flowing after %s", short(time.Since(struck)))
	}
	err = errors.Join(err, c.panics())
	published, _, refused, delivered := c.ledger.totals()
	fmt.Fprintf(c.out, "round %3d  %-17s %-8s  %s  | %d published, %d refused, %d delivered\n",
		n, r.kind.name, r.victim.name, r.story.String(), published, refused, delivered)
	if err != nil {
		return fmt.Errorf("round %d, %s of %s: %w", n, r.kind.name, r.victim.name, err)
	}
	return nil
}

// panics is a fault for each node whose log shows a crash of the program.
func (c *campaign) panics() (err error) {
	for _, p := range c.mesh.nodes {
		if p.panicked() {
			c.ledger.fault("%s panicked; its log ends with:\n%s", p.name, p.tail())
			err = errFault
		}
	}
	return err
}

// draw chooses a kind of trouble by weight.
func (c *campaign) draw(rng *rand.Rand) trouble {
	sum := 0
	for _, k := range c.kinds {
		sum += k.weight
	}
	at := rng.IntN(sum)
	for _, k := range c.kinds {
		if at -= k.weight; at < 0 {
			return k
		}
	}
	return c.kinds[0]
}

// hold keeps all publishers from publishing anything new, and reports whether
// all that was published has been answered.
func (c *campaign) hold(on bool) (all bool) {
	all = true
	for _, p := range c.publishers {
		all = p.still(on) && all
	}
	return all
}

// drain holds the publishers until all that was published has been answered
// and has come.
func (c *campaign) drain(ctx context.Context) error {
	return c.await(ctx, drainWait, func() string {
		if !c.hold(true) {
			return "publishers wait for answers"
		}
		if m := c.ledger.missing(); len(m) > 0 {
			return fmt.Sprintf("%d messages have not come, the first is %s", len(m), m[0])
		}
		return ""
	})
}

// finish wants empty queues, nodes that end in order, and nothing in their
// stores that they would find at the next start.
func (c *campaign) finish(ctx context.Context) error {
	empty := func(what string, count func(*picture) int) error {
		for _, p := range c.mesh.nodes {
			err := c.await(ctx, drainWait, func() string {
				pic, err := look(ctx, p)
				switch {
				case err != nil:
					return err.Error()
				case count(pic) > 0:
					return fmt.Sprintf("%s keeps %d %s although all is delivered", p.name, count(pic), what)
				}
				return ""
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := empty("queues", func(p *picture) int { return len(p.Queues) }); err != nil {
		return err
	}
	if err := c.halt(ctx); err != nil {
		return err
	}
	for _, p := range c.mesh.nodes {
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	if err := empty("stored messages", func(p *picture) int { return p.Store.Messages }); err != nil {
		return err
	}
	return c.halt(ctx)
}

// halt ends all nodes in order.
func (c *campaign) halt(ctx context.Context) error {
	for _, p := range c.mesh.nodes {
		if err := p.halt(ctx); err != nil {
			c.ledger.fault("%v", err)
			return errFault
		}
	}
	return nil
}

// picture is what the campaign reads of farhop status --json.
type picture struct {
	Store struct {
		Messages int `json:"messages"`
	} `json:"store"`
	Queues []any `json:"queues"`
}

func look(ctx context.Context, p *process) (*picture, error) {
	out, err := p.do(ctx, "status", "--json")
	if err != nil {
		return nil, err
	}
	pic := &picture{}
	if err := json.Unmarshal([]byte(out), pic); err != nil {
		return nil, fmt.Errorf("status of %s: %w", p.name, err)
	}
	return pic, nil
}
