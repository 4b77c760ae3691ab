package core

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// View is what a node looks like from outside, for status, metrics and why.
type View struct {
	Queues   []QueueView
	Links    []LinkView
	Quotas   []storeforward.Usage // accounts that are not empty
	Totals   storeforward.Stats
	Stats    Stats
	Watching LinkStats
	Room     int64 // bytes of new work that the store still takes, MaxInt64 when it never said
}

// QueueView is one queue that is not empty.
type QueueView struct {
	Queue    store.Queue
	Count    int
	Bytes    int64
	InFlight int       // of those inside the window
	Oldest   int64     // arrival of the oldest, ms; 0 when it is not windowed
	Hop      addr.Node // neighbour it goes to next; zero for local queues and without a path
	Up       bool      // the whole path is up
	Resting  bool      // its next hop had no room: nothing is offered to it for now
	Waits    string    // what its first message waits for, as in Place
}

// LinkView is one session with a neighbour.
type LinkView struct {
	ID       uint64
	Node     addr.Node
	Uplink   string
	Cost     uint32
	Uses     bundle.Classes // that go by it now
	Damped   time.Duration  // until the mesh is told that it is back; 0: it is
	Open     bool           // within a contact
	Silent   bool
	RTT      time.Duration
	Flights  int
	Bytes    int64
	NextEdge time.Time // next opening or closing of its schedule
}

// View returns a picture of the core. It copies; nothing in it changes later.
func (c *Core) View() View {
	v := View{Totals: c.m.Stats(), Stats: c.stats, Watching: c.watching, Room: c.RoomLeft()}
	c.m.Queues(func(q *storeforward.Queue) {
		if q.Count == 0 {
			return
		}
		qv := QueueView{Queue: q.Name, Count: q.Count, Bytes: q.Bytes, InFlight: q.InFlight()}
		qv.Waits = "its headers, which are being read"
		if i := q.Head(); i != nil {
			qv.Oldest, qv.Waits = i.Header.Received, c.waitsFor(i)
		}
		p := c.pathOf(q.Name)
		qv.Hop, qv.Up = p.Hop, p.Up()
		qv.Resting = c.refusedAt(c.linkFor(p.Hop, q.Name.Class), q)
		v.Queues = append(v.Queues, qv)
	})
	c.m.Usages(func(u storeforward.Usage) { v.Quotas = append(v.Quotas, u) })
	for _, l := range c.linkOrder {
		lv := LinkView{
			ID: l.ID, Node: l.Node, Uplink: l.Uplink, Cost: l.Cost, Open: l.open, Silent: l.silent, Bytes: l.bytes,
			RTT: time.Duration(l.rtt) * time.Millisecond, NextEdge: l.Schedule.Next(time.UnixMilli(c.now)),
		}
		if c.damped(l.Node) {
			lv.Damped = time.Duration(c.flaps[l.Node].until-c.now) * time.Millisecond
		}
		if l.usable() {
			lv.Uses = c.classesOf(l)
		}
		for i := range l.out {
			lv.Flights += len(l.out[i].flights)
		}
		v.Links = append(v.Links, lv)
	}
	return v
}

func (c *Core) pathOf(q store.Queue) routing.Path {
	switch q.Kind {
	case store.ToNode:
		if n, err := addr.ParseNode(q.Name); err == nil {
			return c.table.ClassPath(q.Class, n)
		}
	case store.ToRegion:
		if r, ok := heldRegion(q); ok && !r.Contains(c.cfg.Region) {
			_, p := c.table.RegionPath(q.Class, r)
			return p
		}
	case store.ToSession, store.ToService, store.ToOrder:
	}
	return routing.Path{}
}

// Place says where one copy of a message is at this node and what it waits
// for, in words for an operator.
type Place struct {
	Queue   string
	Class   bundle.Class
	Seq     uint64
	First   bundle.ID // the message itself, or the first of the batch it may be in
	Count   int       // messages in the batch, 0: it is none
	State   string    // storing, held, in flight or ended
	Waits   string    // what for
	Arrived time.Time
	Expires time.Time
	Sent    int // times it was offered
}

// Why finds the copies of a message that are in custody here and inside the
// windows.
func (c *Core) Why(id bundle.ID) []Place {
	var out []Place
	c.m.Queues(func(q *storeforward.Queue) {
		for i := q.Head(); i != nil; i = i.Next() {
			if i.Header.Message != id {
				continue
			}
			out = append(out, c.place(i))
		}
	})
	return out
}

func (c *Core) place(i *storeforward.Item) Place {
	return Place{
		Queue: QueueText(i.Entry.Queue), Class: i.Entry.Queue.Class, Seq: i.Header.Seq,
		First: i.Header.Message, Count: int(i.Header.Count), State: c.stateOf(i), Waits: c.waitsFor(i), Sent: i.Sent,
		Arrived: time.UnixMilli(i.Header.Received), Expires: time.UnixMilli(i.Header.Expires),
	}
}

func (c *Core) stateOf(i *storeforward.Item) string {
	switch {
	case i.Entry.State == store.Ended:
		return "ended"
	case i.State == storeforward.InFlight:
		return "in flight"
	case !c.m.Durable(i):
		return "storing"
	}
	return "held"
}

// Limits of WhyBatch. Batches of one queue hardly ever overlap, so the nearest
// ones are enough.
const (
	maxNear    = 8  // in one queue
	maxBatches = 64 // in all
)

// WhyBatch finds the batches in custody here and inside the windows that a
// message may be in, though they begin with another one: only their payloads
// tell. The nearest come first, of each queue.
func (c *Core) WhyBatch(id bundle.ID) []Place {
	var out []Place
	c.m.Queues(func(q *storeforward.Queue) {
		var near []*storeforward.Item // at most maxNear, the nearest first
		for i := q.Head(); i != nil; i = i.Next() {
			first := i.Header.Message
			if i.Header.Count == 0 || first.Node != id.Node || first.Seq >= id.Seq ||
				first.Seq.Incarnation() != id.Seq.Incarnation() || first.Seq.Class() != id.Seq.Class() {
				continue
			}
			at, _ := slices.BinarySearchFunc(near, first.Seq, func(n *storeforward.Item, s bundle.Sequence) int {
				return cmp.Compare(s, n.Header.Message.Seq)
			})
			if at < maxNear {
				near = slices.Insert(near[:min(len(near), maxNear-1)], at, i)
			}
		}
		for _, i := range near[:min(len(near), maxBatches-len(out))] {
			out = append(out, c.place(i))
		}
	})
	return out
}

// Standing is what a window knows of a message beyond its header.
type Standing struct {
	State string // as in Place
	Entry store.EntryState
	Sent  int
}

// Standings looks for messages of a queue, by Seq. The window is the front of
// the queue up to the number that is returned too: what is not in the answer
// and not behind it is gone, though the store may still have it.
func (c *Core) Standings(name store.Queue, seqs []uint64) (found map[uint64]Standing, through uint64) {
	q := c.m.Lookup(name)
	if q == nil {
		return nil, math.MaxUint64
	}
	found = make(map[uint64]Standing, len(seqs))
	wanted := slices.Sorted(slices.Values(seqs))
	for i := q.Head(); i != nil; i = i.Next() {
		through = i.Header.Seq
		if _, ok := slices.BinarySearch(wanted, through); ok {
			found[through] = Standing{State: c.stateOf(i), Entry: i.Entry.State, Sent: i.Sent}
		}
	}
	if q.Windowed() == q.Count { // nothing is beyond the window
		through = math.MaxUint64
	}
	return found, through
}

func (c *Core) waitsFor(i *storeforward.Item) string {
	switch q := i.Entry.Queue; q.Kind {
	case store.ToSession:
		if s := c.sessions[q.Name]; s != nil && s.moved() {
			return fmt.Sprintf("client %q is at node %s now", q.Name, s.trip.to)
		} else if s == nil || s.conn == 0 {
			return fmt.Sprintf("client %q to connect", q.Name)
		}
		return fmt.Sprintf("client %q to acknowledge", q.Name)
	case store.ToOrder:
		return "a message sent before it, to keep the order"
	case store.ToService:
		if isHeldFor(q) {
			return "a member of the shared subscription " + q.Name + " in reach"
		}
		if s := c.services[q.Name]; s != nil && s.closed {
			return "the local service " + q.Name + ", which is closed"
		}
		return "the local service " + q.Name
	case store.ToRegion:
		if r, ok := heldRegion(q); ok && r.Contains(c.cfg.Region) {
			return "a subscriber in region " + q.Name
		}
	case store.ToNode:
	}
	return c.waitsForHop(i)
}

func (c *Core) waitsForHop(i *storeforward.Item) string {
	hop := c.pathOf(i.Entry.Queue).Hop
	class := i.Header.Class
	l := c.linkFor(hop, class)
	if all := c.byNode[hop]; l == nil && len(all) > 0 {
		if l = all[0]; !l.carries(class) && l.usable() {
			return fmt.Sprintf("a link to %s that carries %s; those that do are down, silent or closed", hop, class)
		}
	}
	switch {
	case hop.IsZero():
		return "a path to " + QueueText(i.Entry.Queue) + "; no node on the way is known yet"
	case l == nil:
		return fmt.Sprintf("the link to %s, which is down", hop)
	case !l.open:
		return fmt.Sprintf("the next contact with %s, at %s", hop, l.Schedule.Next(time.UnixMilli(c.now)).UTC().Format(time.RFC3339))
	case l.silent:
		return fmt.Sprintf("the link to %s, which fell silent", hop)
	case i.State == storeforward.InFlight:
		return fmt.Sprintf("%s to take custody; its answer needs %v", hop, time.Duration(l.rtt)*time.Millisecond)
	case c.refusedAt(l, i.Queue()):
		return fmt.Sprintf("room at %s, which refused for now", hop)
	}
	return fmt.Sprintf("its turn on the link to %s", hop)
}

// refusedAt reports whether a queue offers nothing for now because the next
// hop had no room, for the class or for this destination.
func (c *Core) refusedAt(l *link, q *storeforward.Queue) bool {
	return q.Resting() || l != nil && l.paused[q.Name.Class] > c.now
}

// QueueText names a queue for people.
func QueueText(q store.Queue) string {
	kind := map[store.Kind]string{
		store.ToNode: "node ", store.ToRegion: "region ", store.ToSession: "session ", store.ToService: "service ", store.ToOrder: "order ",
	}[q.Kind]
	return kind + q.Name
}

// Snapshot is what other goroutines may know of routing: it never changes.
type Snapshot struct {
	Self    addr.Node
	Region  addr.Region
	Adverts []*routing.Advert // by node
	Routes  *policy.Table
	paths   [bundle.NumClasses]map[addr.Node]routing.Path // of classes with ways of their own, and control
	beyond  *interest.Trie[struct{}]
}

// Snapshot returns a copy of what is known of the mesh.
func (c *Core) Snapshot() *Snapshot {
	s := &Snapshot{
		Self: c.cfg.Self, Region: c.cfg.Region, Routes: c.routes,
		beyond: &interest.Trie[struct{}]{},
	}
	for class := range bundle.Class(bundle.NumClasses) {
		if c.table.Apart(class) {
			s.paths[class] = map[addr.Node]routing.Path{}
		}
	}
	for _, n := range c.table.Nodes() {
		a := c.table.Advert(n)
		s.Adverts = append(s.Adverts, a)
		for class, paths := range s.paths {
			if paths != nil {
				paths[n] = c.table.ClassPath(classOf(class), n)
			}
		}
		if n != c.cfg.Self {
			for _, f := range a.Interest {
				s.beyond.Add(f, struct{}{})
			}
			for _, g := range a.Groups {
				if _, f, ok := interest.ParseShare(g.Filter); ok {
					s.beyond.Add(f, struct{}{})
				}
			}
		}
	}
	return s
}

// Knows reports whether a node is of this mesh.
func (s *Snapshot) Knows(n addr.Node) bool {
	_, ok := s.paths[bundle.Control][n]
	return ok
}

// Path returns the way to a node over links of any class.
func (s *Snapshot) Path(n addr.Node) routing.Path { return s.paths[bundle.Control][n] }

// ClassPath returns the way that a class takes to a node.
func (s *Snapshot) ClassPath(class bundle.Class, n addr.Node) routing.Path {
	if s.paths[class] == nil {
		class = bundle.Control
	}
	return s.paths[class][n]
}

// RegionNode returns the node of a region that is nearest to a class over links
// that are up, or, with up false, the first one that is known; zero without any.
func (s *Snapshot) RegionNode(class bundle.Class, r addr.Region) (best addr.Node, up bool) {
	var cost uint64
	for _, a := range s.Adverts {
		if !r.Contains(a.Region) {
			continue
		}
		if a.Node == s.Self {
			return a.Node, true
		}
		switch p := s.ClassPath(class, a.Node); {
		case p.Up() && (!up || p.Cost < cost):
			best, cost, up = a.Node, p.Cost, true
		case best.IsZero():
			best = a.Node
		}
	}
	return best, up
}

// Wanted reports whether another node wants a topic, or a route takes it. What
// waits for sessions of this node is in Sought. It may be called by many
// goroutines.
func (s *Snapshot) Wanted(topic string) bool {
	wanted := false
	s.beyond.Match(topic, func(struct{}) { wanted = true })
	if !wanted {
		r, ok := s.Routes.ForTopic(topic)
		wanted = ok && len(r.To) > 0
	}
	return wanted
}
