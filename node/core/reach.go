package core

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
)

// Reach says whether a region can be reached from here.
type Reach uint8

// What is reachable: over links that are up; when the next contact of a link
// of this node opens; or nobody knows when.
const (
	Reachable Reach = iota
	Scheduled
	Unreachable
)

var reachNames = []string{"reachable", "scheduled", "unreachable"}

// String is the state as clients read it.
func (r Reach) String() string { return reachNames[r] }

// RegionState is what can be reached of a region and all below it. It stays at
// this node: another one sees another mesh.
type RegionState struct {
	Region addr.Region
	Reach  Reach
	Since  int64 // ms: it is so
	Next   int64 // ms: a contact opens; of Scheduled
	Up     int   // nodes that can be reached, this one among them
	Known  int   // nodes
	Gone   bool  // there is no such region any more
}

func (s *RegionState) same(o *RegionState) bool {
	return s.Reach == o.Reach && s.Next == o.Next && s.Up == o.Up && s.Known == o.Known
}

// How often is told what is reachable, in ms. All regions are looked at in one
// go. A region whose state comes and goes is told of at a pace that doubles; it
// is as before once it was quiet for twice as long.
const (
	lookPace     = 1000
	quickRegions = 1000
	slowRegions  = 60_000
	maxRegions   = 4096 // that are told of; the shortest paths are
)

type reach struct {
	dirty bool
	after int64 // ms: regions are looked at again
	due   int64 // ms: something is to be told, or a contact should have opened; 0: nothing
	told  map[addr.Region]*toldRegion
	order []addr.Region // of told, sorted
	plans map[addr.Node]Schedule
}

type toldRegion struct {
	RegionState
	wait, next int64 // ms
}

// plan returns when the link to a neighbour carries, as far as that is known.
func (c *Core) plan(n addr.Node) (s Schedule, ok bool) {
	if s, ok = c.settings.Contacts[n]; !ok {
		s, ok = c.reach.plans[n]
	}
	return s, ok && !s.Always()
}

// notePlan remembers the plan of a link beyond its session.
func (c *Core) notePlan(n addr.Node, s Schedule) {
	if s.Always() {
		delete(c.reach.plans, n)
		return
	}
	if c.reach.plans == nil {
		c.reach.plans = map[addr.Node]Schedule{}
	}
	if len(c.reach.plans) < routing.MaxNeighbors {
		c.reach.plans[n] = s
	}
}

// opens returns when the way to a node opens: when all of it is up but for its
// first link, which is closed by its plan. 0 is never.
func (c *Core) opens(n addr.Node, p routing.Path) int64 {
	hop := p.Hop
	if hop.IsZero() {
		hop = n // it was a neighbour, before a restart
	} else if p.Cost/routing.DownCost != 1 {
		return 0
	}
	s, ok := c.plan(hop)
	if now := time.UnixMilli(c.now); ok && !s.Open(now) {
		if next := s.Next(now); !next.IsZero() {
			return next.UnixMilli()
		}
	}
	return 0
}

// tellRegions looks at the regions when that is due, and tells what changed.
func (c *Core) tellRegions() {
	w := &c.reach
	if c.now < w.after || !w.dirty && (w.due == 0 || c.now < w.due) {
		return
	}
	w.dirty, w.after, w.due = false, c.now+lookPace, 0
	now := c.regionStates()
	for _, r := range w.order {
		if _, ok := now[r]; !ok {
			c.cur.Regions = append(c.cur.Regions, RegionState{Region: r, Gone: true})
			delete(w.told, r)
		}
	}
	w.order = w.order[:0]
	for r := range now {
		w.order = append(w.order, r)
	}
	slices.SortFunc(w.order, addr.Region.Compare)
	if w.told == nil {
		w.told = map[addr.Region]*toldRegion{}
	}
	for _, r := range w.order {
		c.tellRegion(r, now[r])
	}
}

func (c *Core) tellRegion(r addr.Region, now *RegionState) {
	t := c.reach.told[r]
	if t == nil {
		t = &toldRegion{RegionState: RegionState{Reach: Reachable + 255}}
		c.reach.told[r] = t
	}
	c.reach.await(now.Next)
	if t.same(now) {
		return
	}
	if c.now < t.next {
		c.reach.await(t.next)
		return
	}
	if now.Since = t.Since; t.Reach != now.Reach {
		now.Since = c.now
	}
	t.RegionState = *now
	if t.wait = min(2*max(t.wait, quickRegions/2), slowRegions); c.now >= t.next+t.wait {
		t.wait = quickRegions
	}
	t.next = c.now + t.wait
	c.cur.Regions = append(c.cur.Regions, *now)
}

func (r *reach) await(ms int64) {
	if ms != 0 && (r.due == 0 || ms < r.due) {
		r.due = ms
	}
}

// regionStates sums up what is known of the nodes, by region and all above it.
func (c *Core) regionStates() map[addr.Region]*RegionState {
	out := map[addr.Region]*RegionState{}
	for _, n := range c.table.Nodes() {
		region := c.table.Advert(n).Region
		p := c.table.Path(n)
		up, next := n == c.cfg.Self || p.Up(), int64(0)
		if !up {
			next = c.opens(n, p)
		}
		for name := region.String(); name != ""; name = above(name) {
			r, err := addr.ParseRegion(name)
			if err != nil {
				break
			}
			s := out[r]
			if s == nil {
				s = &RegionState{Region: r, Reach: Unreachable}
				out[r] = s
			}
			s.add(up, next)
		}
	}
	if len(out) > maxRegions {
		c.stats.RegionsHidden += uint64(len(out) - maxRegions)
		hideRegions(out)
	}
	return out
}

func (s *RegionState) add(up bool, next int64) {
	s.Known++
	switch {
	case up:
		s.Up++
		s.Reach, s.Next = Reachable, 0
	case next > 0 && s.Reach != Reachable && (s.Next == 0 || next < s.Next):
		s.Reach, s.Next = Scheduled, next
	}
}

// above is the path of the region above, "" when there is none.
func above(region string) string {
	return region[:max(strings.LastIndexByte(region, '/'), 0)]
}

// hideRegions leaves the shortest paths.
func hideRegions(all map[addr.Region]*RegionState) {
	var names []addr.Region
	for r := range all {
		names = append(names, r)
	}
	slices.SortFunc(names, func(a, b addr.Region) int {
		return cmp.Or(cmp.Compare(strings.Count(a.String(), "/"), strings.Count(b.String(), "/")), a.Compare(b))
	})
	for _, r := range names[maxRegions:] {
		delete(all, r)
	}
}

func (c *Core) wakeRegions(w *wake) {
	switch r := &c.reach; {
	case r.dirty:
		w.min(max(r.after, c.now+1))
	case r.due != 0:
		w.min(max(r.due, r.after, c.now+1))
	}
}
