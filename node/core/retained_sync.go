package core

import (
	"slices"
	"time"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Retained messages reach other nodes on two ways. A publication travels to
// every node with a subscriber, and is kept there. What that does not bring,
// comparing does: two nodes tell each other digests of what both should keep,
// and give what differs. A node compares when it has reason to: its devices
// want more than before, something it kept could not reach the other, or a
// message that was on its way ended. Nobody asks because time went by.

// Times of comparing, each the least: on longer ways it is a multiple of the
// way's delay.
const (
	settleTime   = 5 * time.Second  // after a way is up again: what waits for it comes first
	volatileTime = 30 * time.Second // after a QoS 0 publication, which may be lost on its way
	answerTime   = 30 * time.Second // to an answer, on a way that is up
	storedTime   = time.Hour        // until one that is down is given a bundle to keep
	CompareTTL   = 24 * time.Hour   // life of a bundle of ServiceSync
	maxGap       = time.Minute      // between comparisons that find nothing
)

// partner is another node as far as comparing goes.
type partner struct {
	node   addr.Node
	dirty  bool  // there is reason to compare
	marked int64 // ms, since when
	due    int64 // ms, when dirty
	waits  int64 // ms: an answer is due until then; 0: none
	next   int64 // ms: not before
	idle   int   // comparisons in a row that found nothing
	tries  int   // without an answer
	more   bool  // the comparison under way leaves a rest
	start  int   // bucket the next lines begin with
	apart  bool  // it was out of touch for longer than the horizon
}

func (p *partner) active() bool { return p.dirty || p.waits != 0 }

// retainedSync is what the node knows of the others' retained messages.
type retainedSync struct {
	partners map[addr.Node]*partner
	live     []*partner // those active, by node
	next     int64      // ms, when the first of them is due; 0: compute
	jobs     []*syncJob
	asked    map[string]ask      // wants that were not answered yet
	away     map[addr.Node]int64 // ms: nodes out of touch, since when
	saved    int64               // ms, when away was written
	alive    int64               // ms, as it was read back; 0: never
	loaded   map[addr.Node]int64 // as it was read back
}

// ask is a want that is under way.
type ask struct {
	stamp Stamp
	until int64 // ms
}

// maxAsked bounds the wants under way; beyond it a comparison ends early.
const maxAsked = 16 * maxSyncItems

func newRetainedSync() retainedSync {
	return retainedSync{partners: map[addr.Node]*partner{}, asked: map[string]ask{}, away: map[addr.Node]int64{}}
}

func (c *Core) partner(n addr.Node) *partner {
	p := c.retained.sync.partners[n]
	if p == nil {
		p = &partner{node: n}
		c.retained.sync.partners[n] = p
	}
	return p
}

// mark notes a reason to compare with a node, in a while.
func (c *Core) mark(n addr.Node, in time.Duration) {
	if n == c.cfg.Self || n.IsZero() || c.table.Advert(n) == nil {
		return
	}
	p := c.partner(n)
	due := max(c.now+c.stretch(n, in), p.next)
	if !p.dirty {
		p.dirty, p.marked, p.due = true, c.now, due
	}
	p.due = min(p.due, due)
	c.activate(p)
}

// stretch is a time in ms, longer where the way is.
func (c *Core) stretch(n addr.Node, d time.Duration) int64 {
	return max(d.Milliseconds(), 8*int64(c.table.Path(n).Delay()))
}

func (c *Core) activate(p *partner) {
	s := &c.retained.sync
	at, found := slices.BinarySearchFunc(s.live, p.node, func(p *partner, n addr.Node) int { return p.node.Compare(n) })
	switch {
	case p.active() && !found:
		s.live = slices.Insert(s.live, at, p)
	case !p.active() && found:
		s.live = slices.Delete(s.live, at, at+1)
	}
	s.next = 0
}

// begin tells when a comparison may begin that there is reason for.
func (c *Core) begin(p *partner) int64 {
	switch path := c.table.Path(p.node); {
	case path.Hop.IsZero():
		return never
	case !path.Up(): // it may never be, where all contacts are brief: then a bundle waits for them
		return max(p.due, p.next, p.marked+storedTime.Milliseconds())
	}
	return max(p.due, p.next)
}

func (c *Core) tickSync() {
	c.tickAway()
	s := &c.retained.sync
	for _, p := range slices.Clone(s.live) {
		if p.waits != 0 && p.waits <= c.now {
			p.waits, p.tries = 0, p.tries+1
			c.mark(p.node, 0)
		}
		if p.dirty && p.waits == 0 && c.begin(p) <= c.now {
			p.dirty, p.more = false, false
			c.expect(p)
			c.enqueue(&syncJob{node: p.node, kind: jobRoot})
		}
	}
	if len(s.live) == 0 {
		clear(s.asked)
	}
	s.next = 0
}

// expect waits for an answer of a partner.
func (c *Core) expect(p *partner) {
	d := CompareTTL.Milliseconds() // the bundle waits as long for its way
	if c.table.Path(p.node).Up() {
		d = min(c.stretch(p.node, answerTime)<<min(p.tries, 8), d)
	}
	p.waits = c.now + d
	c.activate(p)
}

// answered ends a step of a comparison. Where nothing was to be had the next
// comparison may wait longer and longer.
func (c *Core) answered(p *partner, progress bool) {
	p.waits, p.tries = 0, 0
	if p.idle++; progress {
		p.idle = 0
	}
	gap := min(c.stretch(p.node, time.Second)<<min(p.idle, 8), max(maxGap.Milliseconds(), c.stretch(p.node, 0)))
	if progress {
		gap = 0
	}
	p.next = c.now + gap
	if p.more && p.idle < 16 {
		c.mark(p.node, 0)
	}
	p.more = false
	c.activate(p)
}

func (c *Core) wakeSync(w *wake) {
	s := &c.retained.sync
	if len(s.jobs) > 0 {
		w.min(c.now)
		return
	}
	if s.next == 0 {
		s.next = never
		for _, p := range s.live {
			if p.waits != 0 {
				s.next = min(s.next, p.waits)
			} else if p.dirty {
				s.next = min(s.next, c.begin(p))
			}
		}
	}
	if s.next != never {
		w.min(s.next)
	}
	c.wakeAway(w)
}

// keepsChanged tells the mesh when this node begins to keep retained messages,
// and when it has none any more: who wants some asks those who keep.
func (c *Core) keepsChanged() {
	if keeps := len(c.retained.list) > 0; keeps != c.advert.Keeps {
		c.advert.Keeps, c.advertDirty = keeps, true
	}
}

// wanted compares what the devices of this node want with before. For what is
// new every node that keeps something is asked, the nearest first.
func (c *Core) wanted(before, now *routing.Advert) {
	if len(now.Interest) == 0 || before != nil && !grown(before.Interest, now.Interest) {
		return
	}
	c.askAll()
}

// newKeeper asks a node that tells for the first time that it keeps something:
// it may have published that without knowing who wants it.
func (c *Core) newKeeper(old, a *routing.Advert) {
	if a.Keeps && (old == nil || !old.Keeps) && c.subs.Len() > 0 {
		c.mark(a.Node, settleTime)
	}
}

func (c *Core) askAll() {
	for _, n := range c.table.Nodes() {
		if c.table.Advert(n).Keeps {
			c.mark(n, 0)
		}
	}
}

// grown reports whether a sorted list has what another lacks.
func grown(before, now []string) bool {
	return slices.ContainsFunc(now, func(f string) bool {
		_, found := slices.BinarySearch(before, f)
		return !found
	})
}

// spread sees to it that a publication of this node gets where it is wanted
// though its bundles may not. A node whose message it replaced is told even if
// it has no subscriber: it would give the old one to others.
func (c *Core) spread(n *news, qos uint8, before addr.Node) {
	if n.topic[0] == '$' {
		return
	}
	c.table.Wants(n.topic, func(w addr.Node) {
		if w == before {
			before = addr.Node{}
		}
		if qos == 0 {
			c.mark(w, volatileTime)
		}
	})
	if !before.IsZero() && before != c.cfg.Self {
		c.fetch(Fetch{To: before, Topics: []string{n.topic}})
	}
}

// passNews notes who may not have got a publication of another node: those
// who are out of reach from here may be so from there.
func (c *Core) passNews(n *news) {
	c.table.Wants(n.topic, func(w addr.Node) {
		if w != n.node && !c.table.Path(w).Up() {
			c.mark(w, settleTime)
		}
	})
}

// missed notes that a bundle ended on its way, which may have brought a
// retained message or a step of a comparison.
func (c *Core) missed(q store.Queue, h *store.Header) {
	if q.Kind != store.ToNode || h.Service != ServiceSync && h.Service != ServiceSessions && (h.Service != ServiceMQTT || !h.Retain && h.Count == 0) {
		return
	}
	if n, err := addr.ParseNode(q.Name); err == nil && h.Service == ServiceSessions {
		c.claimMissed(n)
	} else if err == nil && (h.Origin.IsZero() || h.Origin == c.cfg.Self) && len(c.retained.list) > 0 {
		c.mark(n, settleTime)
	}
}

// missing notes that a bundle of another node did not come.
func (c *Core) missing(from addr.Node) {
	if a := c.table.Advert(from); a != nil && a.Keeps {
		c.mark(from, settleTime)
	}
}

// fetch asks the driver for messages that go to another node, once they are
// durable.
func (c *Core) fetch(f Fetch) {
	c.gate.fetches = append(c.gate.fetches, gatedFetch{c.await(), f})
}

// FetchedValue is a value of the state under RetainedPrefix + Topic.
type FetchedValue struct {
	Topic string
	Value []byte
}

// Fetched answers a Fetch. What has gone meanwhile is left out.
func (c *Core) Fetched(now time.Time, f Fetch, values []FetchedValue) {
	c.at(now)
	m := syncMessage{kind: syncGive}
	size := 0
	for _, v := range values {
		g, ok := c.given(v)
		if !ok {
			continue
		}
		if len(m.given) > 0 && (size+len(g.data) > maxGiveBytes || len(m.given) >= maxSyncItems) {
			c.tell(f.To, &m)
			m.given, size = nil, 0
		}
		m.given = append(m.given, g)
		size += len(g.topic) + len(g.data) + 64
	}
	m.more = f.More
	if len(m.given) == 0 {
		m = syncMessage{kind: syncDone}
	}
	c.tell(f.To, &m)
}

// given makes of a stored value what another node gets.
func (c *Core) given(v FetchedValue) (given, bool) {
	k := c.retained.get(v.Topic)
	r, err := ParseRetained(v.Value)
	if err != nil || k == nil || k.doubted {
		return given{}, false
	}
	g := given{topic: v.Topic, stamp: r.Stamp, node: r.Node, state: r.State}
	if r.Old {
		r.Ends, g.node = 0, c.cfg.Self
	}
	if r.Ends != 0 {
		if g.left = r.Ends - c.now; g.left <= 0 {
			return given{}, false
		}
	}
	if r.State != KeptValue {
		return g, true
	}
	g.data, err = bundle.PayloadData(r.Block)
	return g, err == nil && len(g.data) <= MaxPayload-maxRetained-256
}

// tell sends one step of a comparison, with custody.
func (c *Core) tell(to addr.Node, m *syncMessage) {
	c.submit(&Submission{
		To: to, Service: ServiceSync, Class: bundle.Interactive, QoS: 1, TTL: CompareTTL,
		Blob: &store.Blob{B: bundle.AppendPayload(nil, m.encode())},
	})
	c.stats.Compared++
}
