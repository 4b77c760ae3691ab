package core

import (
	"cmp"
	"hash/fnv"
	"slices"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// A shared subscription (MQTT 5, 4.8.2) is one group over the whole mesh: its
// name and its filter. Each message of a group goes to one member. The node
// where it enters the mesh, or the region it is for, decides once:
//
//  1. a member here that is connected, in turn;
//  2. the nearest node with a connected member, of this region before others;
//  3. a session here of a member that is away: the message waits in its queue;
//  4. the nearest node with such a session;
//  5. nobody in reach: it waits here, in a queue of the group.
//
// Only a node in reach is chosen: the path to it is up, or its first link is.
// So a message never waits for a node that is gone, as long as it did not set
// out for it. From then on it belongs to the chosen node until its life ends,
// as that node may have it: a partition never makes two deliveries of one.
// What waits in 3 to 5 moves when a member comes into reach (regroup.go).

// group is a shared subscription with members here.
type group struct {
	key     string // "$share/GROUP/FILTER"
	filter  string
	members []*subscription // in the order they came
	turn    int
}

// farHops is after how many hops a message of a group is not passed on.
const farHops = 200

// joinGroup takes a subscription into its group.
func (c *Core) joinGroup(s *subscription, filter string) {
	g := c.groups[s.Filter]
	if g == nil {
		g = &group{key: s.Filter, filter: filter}
		c.groups[g.key] = g
		c.groupBytes += len(g.key)
		c.shares.Add(filter, g)
	}
	g.members = append(g.members, s)
	c.groupMoved(g.key)
}

func (c *Core) leaveGroup(s *subscription) {
	g := c.groups[s.Filter]
	if g == nil {
		return
	}
	g.members = slices.DeleteFunc(g.members, func(o *subscription) bool { return o == s })
	if len(g.members) == 0 {
		delete(c.groups, g.key)
		c.groupBytes -= len(g.key)
		c.shares.Remove(g.filter, g)
	}
	c.groupMoved(g.key)
}

// mayJoin reports whether a node may have one more group: all are told to the
// mesh by name.
func (c *Core) mayJoin(filter string) bool {
	if _, _, shared := interest.ParseShare(filter); !shared || c.groups[filter] != nil {
		return true
	}
	return len(filter) <= routing.MaxGroupName && len(c.groups) < routing.MaxGroups && c.groupBytes+len(filter) <= maxFilters
}

// next returns whose turn it is: of those connected, or else of those whose
// session can keep the message. It is nil when there is none.
func (g *group) next(qos uint8, online bool) *subscription {
	for k := range g.members {
		s := g.members[(g.turn+k)%len(g.members)]
		if (s.session.conn != 0) == online && (online || s.session.durable() && min(s.QoS, qos) > 0) {
			return s
		}
	}
	return nil
}

// took ends the turn of a member.
func (g *group) took(s *subscription) { g.turn = slices.Index(g.members, s) + 1 }

// online reports whether a member is connected.
func (g *group) online() bool { return g.next(0, true) != nil }

// asked is who may get a message of a group.
type asked struct {
	in     addr.Region // nodes of this region only, when set
	remote bool        // other nodes, too
	passed []pass
	fresh  bool // it was published here: it may be refused
}

// seat is where a message of a group goes: to a member here, to another node,
// or, with neither, nowhere for now.
type seat struct {
	member *subscription
	node   addr.Node
}

func (c *Core) seat(h *store.Header, key string, a asked) (s seat) {
	g := c.groups[key]
	for _, online := range []bool{true, false} {
		if g != nil {
			s.member = g.next(h.QoS, online)
		}
		if s.member == nil && a.remote {
			s.node = c.nearest(h, key, online, a)
		}
		if s.member != nil || !s.node.IsZero() || h.QoS == 0 {
			break // QoS 0 does not wait for anyone
		}
	}
	return s
}

// seatWithRoom is seat, for another member here than one that hoards, if there
// is one.
func (c *Core) seatWithRoom(h *store.Header, key string, a asked) seat {
	s := c.seat(h, key, a)
	for n := 1; c.tooMuchFor(h, s.member, a) && n < len(c.groups[key].members); n++ {
		c.groups[key].took(s.member)
		s = c.seat(h, key, a)
	}
	return s
}

// tooMuchFor reports whether a message would wait for a member that hoards.
func (c *Core) tooMuchFor(h *store.Header, s *subscription, a asked) bool {
	return s != nil && a.fresh && min(s.QoS, h.QoS) > 0 && c.hoards(s.session, h.Class)
}

// nearest returns the node in reach that is nearest, with members of a group
// that are connected or not; zero without any.
func (c *Core) nearest(h *store.Header, key string, online bool, a asked) (best addr.Node) {
	t := c.table.Group(key)
	if t == nil || h.Hops >= farHops || len(a.passed) >= maxPassed {
		return best
	}
	var least distance
	for _, n := range t.Holders {
		if n.Online != online || !c.serves(n.Node, a) {
			continue
		}
		d, ok := c.distance(n.Node)
		if !ok {
			continue
		}
		order := d.compare(least)
		if order == 0 { // spread the load
			order = cmp.Compare(c.weight(h, n.Node), c.weight(h, best))
		}
		if best.IsZero() || order < 0 {
			best, least = n.Node, d
		}
	}
	return best
}

// serves reports whether a node is asked, and did not pass the message on.
func (c *Core) serves(n addr.Node, a asked) bool {
	ad := c.table.Advert(n)
	if ad == nil || !a.in.IsZero() && !a.in.Contains(ad.Region) {
		return false
	}
	return !slices.ContainsFunc(a.passed, func(p pass) bool { return p.node == n && p.seq >= ad.Seq })
}

// distance orders nodes: paths that are up before those that end at a dead
// link, this region before others, then by delay.
type distance struct {
	down, away bool
	cost       uint64
}

func (d distance) compare(o distance) int {
	return cmp.Or(compareBool(d.down, o.down), compareBool(d.away, o.away), cmp.Compare(d.cost, o.cost))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// distance is how far a node is; ok is false when nothing can set out for it.
func (c *Core) distance(n addr.Node) (d distance, ok bool) {
	p := c.table.Path(n)
	if !p.Up() && c.linkTo(p.Hop) == nil {
		return d, false
	}
	return distance{!p.Up(), c.table.Advert(n).Region != c.cfg.Region, p.Cost}, true
}

// weight is the rendezvous hash of a message and a node.
func (c *Core) weight(h *store.Header, n addr.Node) uint64 {
	number := uint64(h.Message.Seq)
	if number == 0 { // QoS 0
		number = c.bundles[h.Class]
	}
	f := fnv.New64a()
	var b [8]byte
	for k := range b {
		b[k] = byte(number >> (8 * k))
	}
	_, _ = f.Write([]byte(n.String()))
	_, _ = f.Write(b[:])
	w := f.Sum64() // the last bytes alone would only move it a little
	w ^= w >> 32
	w *= 0xd6e8feb86659fd93
	return w ^ w>>32
}

// groupsOf returns the groups that want a topic, in order: those with members
// here and, when others are asked, those of the nodes that are.
func (c *Core) groupsOf(topic string, a asked) (keys []string) {
	if c.shares.Len() == 0 && (!a.remote || !c.table.HasGroups()) {
		return nil
	}
	c.shares.Match(topic, func(g *group) { keys = append(keys, g.key) })
	if a.remote {
		c.table.Groups(topic, func(t *routing.Group) {
			if c.groups[t.Filter] == nil && slices.ContainsFunc(t.Holders, func(h routing.Holder) bool { return c.serves(h.Node, a) }) {
				keys = append(keys, t.Filter)
			}
		})
	}
	slices.Sort(keys)
	return keys
}

// chosen is a node that gets a message for some groups.
type chosen struct {
	node    addr.Node
	filters []string
	size    int // bytes of filters
}

// share gives a message of groups to a member of each. Members here, and the
// queues of groups that have nobody in reach, are added to r; the nodes that
// were chosen are returned, by name.
func (c *Core) share(h *store.Header, keys []string, a asked, hold bool, r *recipients) (out []chosen) {
	for _, key := range keys {
		s, at := c.seatWithRoom(h, key, a), 0
		if !s.node.IsZero() {
			if out, at = insert(out, s.node); out[at].size+len(key) > maxFilters {
				s.node = addr.Node{} // told of more than it may have
			}
		}
		switch {
		case c.tooMuchFor(h, s.member, a):
			r.passOver(s.member.session)
		case s.member != nil:
			c.groups[key].took(s.member)
			c.toMember(h, s.member, r)
		case !s.node.IsZero():
			out[at].filters = append(out[at].filters, key)
			out[at].size += len(key)
		case h.QoS > 0 && hold:
			d := duty{only: true, filters: []string{key}, passed: a.passed}
			r.entries = append(r.entries, store.Entry{Queue: heldFor(key, h.Class), Frozen: d.encode()})
			c.holding[key] = true
		case h.QoS == 0:
			c.stats.Ended[bundle.NoSubscriber]++
		}
	}
	return out
}

// resolveShared finds who gets a message that groups want, too.
func (c *Core) resolveShared(h *store.Header, client string, keys []string, a asked, outbound leaving, r *recipients) {
	c.matchLocal(h, client, r)
	a.fresh = client != ""
	nodes := c.share(h, keys, a, true, r)
	if a.remote {
		c.wanting(h.Topic, a.in, func(n addr.Node) { nodes, _ = insert(nodes, n) })
	}
	c.sendTo(h, nodes, duty{}, outbound, r)
}

// insert adds a node to those that get a message, and returns its place.
func insert(nodes []chosen, n addr.Node) ([]chosen, int) {
	at, found := slices.BinarySearchFunc(nodes, n, func(o chosen, n addr.Node) int { return o.node.Compare(n) })
	if !found {
		nodes = slices.Insert(nodes, at, chosen{node: n})
	}
	return nodes, at
}

// toMember adds a member of this node.
func (c *Core) toMember(h *store.Header, s *subscription, r *recipients) {
	qos := min(s.QoS, h.QoS)
	if qos == 0 || !s.session.durable() && !c.lends(s) {
		r.members = append(r.members, Member{s.session.id, s.Filter})
		return
	}
	name := store.Queue{Kind: store.ToSession, Name: s.session.id, Class: h.Class}
	for i := range r.entries {
		e := &r.entries[i]
		if e.Queue != name {
			continue
		}
		d, _ := parseDuty(e.Frozen) // none: a filter of its own matches
		d.filters = append(d.filters, s.Filter)
		e.QoS, e.Frozen = max(e.QoS, qos), d.encode()
		return
	}
	d := duty{only: true, filters: []string{s.Filter}}
	r.entries = append(r.entries, store.Entry{
		Queue: name, QoS: qos, Frozen: d.encode(),
		DSeq: c.nextDSeq(c.dest(store.Queue{Kind: store.ToSession, Name: s.session.id})),
	})
}

// sendTo adds the nodes that get a message, each with the groups it was chosen
// for.
func (c *Core) sendTo(h *store.Header, nodes []chosen, d duty, outbound leaving, r *recipients) {
	for _, n := range nodes {
		groups := ""
		if d.filters = n.filters; len(n.filters) > 0 {
			groups = string(d.encode())
		}
		r.add(outbound(h, store.Queue{Kind: store.ToNode, Name: n.node.String(), Class: h.Class}, groups), groups)
	}
}
