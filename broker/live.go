package broker

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/routing/interest"
)

// liveSub is one filter of one live session.
type liveSub struct {
	c      *conn
	opt    Subscription
	share  uint32 // bytes of $share/GROUP/ before its filter, 0 for none
	partly bool   // the client may not have all that it matches
}

// filter is what it matches.
func (s *liveSub) filter() string { return s.opt.Filter[s.share:] }

// group is a shared subscription: each message goes to one member, in turn.
type group struct {
	name, filter string
	members      []*liveSub
	next         int
}

// directory maps topics to the live sessions of this broker.
type directory struct {
	mu     sync.RWMutex
	subs   interest.Trie[*liveSub]
	shared interest.Trie[*group]
	groups map[[2]string]*group
	turn   sync.Mutex // guards group.next: a match holds mu for reading only
	known  atomic.Pointer[matches]

	sharing atomic.Bool  // there are groups
	sys     atomic.Int32 // filters of $SYS
}

// What bounds the memory of the topics whose subscribers are remembered.
const (
	maxKnown      = 8192 // topics
	maxKnownTopic = 512  // bytes of one; a longer one is matched each time
)

// matches remembers who subscribed to a topic with plain filters. Every change
// of the directory starts a new one.
type matches struct {
	byTopic sync.Map // string -> []*liveSub, sorted by connection, never changed
	count   atomic.Int32
}

// add subscribes and replaces an older subscription given as old.
func (d *directory) add(s, old *liveSub) {
	name, _ := s.opt.Share()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known.Store(nil)
	if old != nil {
		d.removeLocked(old)
	}
	if ofSys(s.filter()) {
		d.sys.Add(1)
	}
	if name == "" {
		d.subs.Add(s.filter(), s)
		return
	}
	key := [2]string{name, s.filter()}
	g := d.groups[key]
	if g == nil {
		g = &group{name: name, filter: s.filter()}
		if d.groups == nil {
			d.groups = make(map[[2]string]*group)
		}
		d.groups[key] = g
		d.shared.Add(s.filter(), g)
	}
	g.members = append(g.members, s)
	d.sharing.Store(true)
}

func (d *directory) remove(s *liveSub) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known.Store(nil)
	d.removeLocked(s)
}

func (d *directory) removeLocked(s *liveSub) {
	if ofSys(s.filter()) {
		d.sys.Add(-1)
	}
	name, _ := s.opt.Share()
	if name == "" {
		d.subs.Remove(s.filter(), s)
		return
	}
	key := [2]string{name, s.filter()}
	g := d.groups[key]
	if g == nil {
		return
	}
	if i := slices.Index(g.members, s); i >= 0 {
		g.members = slices.Delete(g.members, i, i+1)
	}
	if len(g.members) == 0 {
		delete(d.groups, key)
		d.shared.Remove(g.filter, g)
		d.sharing.Store(len(d.groups) > 0)
	}
}

// plain returns the live subscriptions of a topic that are not shared, sorted
// by connection. The slice is not the caller's to change.
func (d *directory) plain(topic string) []*liveSub {
	if known := d.known.Load(); known != nil {
		if v, ok := known.byTopic.Load(topic); ok {
			return v.([]*liveSub)
		}
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	var into []*liveSub
	d.subs.Match(topic, func(s *liveSub) { into = append(into, s) })
	if len(into) > 1 {
		slices.SortStableFunc(into, func(a, b *liveSub) int { return cmp.Compare(a.c.num, b.c.num) })
	}
	d.remember(topic, into)
	return into
}

// remember notes a match. The caller holds mu for reading, so the directory
// is still what was matched.
func (d *directory) remember(topic string, subs []*liveSub) {
	if len(topic) > maxKnownTopic {
		return
	}
	known := d.known.Load()
	if known == nil || known.count.Load() >= maxKnown {
		known = new(matches)
		d.known.Store(known)
	}
	known.count.Add(1)
	known.byTopic.Store(topic, subs)
}

// routeLive delivers a message that stays within this broker to its live
// sessions. It returns how many took it and how many subscriptions it looked at.
func (b *Broker) routeLive(m *Message) (took, tried int) {
	plain := b.live.plain(m.Topic)
	took, tried = b.give(m, plain), len(plain)
	if b.live.sharing.Load() {
		shared := b.live.turns(m)
		took, tried = took+b.giveEach(m, shared), tried+len(shared)
	}
	return took, tried
}

// giveEach delivers a message to members of groups. What a client gets as one
// is apart from what it gets otherwise (MQTT 5, 4.8.2).
func (b *Broker) giveEach(m *Message, members []*liveSub) (n int) {
	for i := range members {
		n += b.give(m, members[i:i+1])
	}
	return n
}

// give delivers a message to live sessions, sorted by connection. A client
// with several matching filters gets it once, with the highest QoS and all
// subscription identifiers (MQTT 5, 3.3.4).
func (b *Broker) give(m *Message, hits []*liveSub) int {
	n := 0
	for len(hits) > 0 {
		c := hits[0].c
		d := delivery{m: m}
		wanted := false
		for len(hits) > 0 && hits[0].c == c {
			s := hits[0]
			o := &s.opt
			hits = hits[1:]
			if o.NoLocal && m.Client == c.client || !c.mayReceive(m.Topic, s.partly) {
				continue
			}
			wanted = true
			d.qos = max(d.qos, min(o.QoS, m.QoS))
			d.retain = d.retain || o.RetainAsPublished && m.Retain
			if o.ID != 0 {
				d.subIDs = append(d.subIDs, o.ID)
			}
			if s.share > 0 {
				d.groups = append(d.groups, o.Filter)
			}
		}
		if c.persistent && d.qos > 0 {
			continue // the node queues it
		}
		if wanted {
			c.enqueueLive(d)
			n++
		}
	}
	return n
}

// enqueueLive queues a delivery for a live session. When the queue is full,
// QoS 0 is dropped; QoS 1 and 2 cannot be, so the client is: it is too slow for
// what it subscribed to.
func (c *conn) enqueueLive(d delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Load() {
		c.regroup(d)
		return
	}
	if c.queue.len() >= c.b.cfg.MaxQueue || c.queue.len() > 0 && c.queueBytes+d.m.Size() > c.b.pressure.allows(c.b.cfg.MaxQueueBytes) {
		c.b.lose(c.client, d.m, "queue-full")
		if d.qos > 0 {
			c.regroup(d)
			c.disconnectLocked(codeQuota, "slow-consumer")
		}
		return
	}
	c.push(d)
}

// fromBacklog moves one retained message into the empty queue. The caller
// holds mu. It reports false also when none was found yet.
func (c *conn) fromBacklog(now time.Time) bool {
	for len(c.backlog) > 0 {
		w := c.backlog[0]
		if m := c.b.retained.next(w); m != nil {
			d := w.delivery(m)
			c.queue.push(d)
			c.queueBytes += d.m.Size()
			return true
		}
		if !w.ended {
			if c.b.retained.more(w, now); len(w.buf) == 0 && !w.ended {
				return false
			}
			continue
		}
		c.forgetWalk(w.filter)
	}
	return false
}

// forgetWalk ends the walks of a filter. The caller holds mu.
func (c *conn) forgetWalk(filter string) {
	if c.backlog = slices.DeleteFunc(c.backlog, func(w *walk) bool { return w.filter == filter }); len(c.backlog) == 0 {
		c.backlog = nil
	}
}

// liveWindow is the flow control of a live session: which packet ids are
// unacknowledged, at most the client's Receive Maximum (MQTT 5, 3.3.4).
type liveWindow struct {
	used   map[uint16]liveState
	last   uint16
	groups map[uint16]delivery // of used: QoS 1 for shared subscriptions
	lent   map[uint16]uint64   // of used: what the node keeps until it is settled, by its number
}

type liveState uint8

const (
	awaitsPuback liveState = iota + 1
	awaitsPubrec
	awaitsPubcomp
)

// take gives out a packet id, or ok false when the window is full.
func (w *liveWindow) take(window int, qos byte) (uint16, bool) {
	if len(w.used) >= window {
		return 0, false
	}
	if w.used == nil {
		w.used = make(map[uint16]liveState)
	}
	for {
		w.last++
		if _, busy := w.used[w.last]; w.last != 0 && !busy {
			break
		}
	}
	w.used[w.last] = awaitsPuback
	if qos == 2 {
		w.used[w.last] = awaitsPubrec
	}
	return w.last, true
}

func (w *liveWindow) full(window int) bool { return len(w.used) >= window }

func (w *liveWindow) release(id uint16) {
	delete(w.used, id)
	delete(w.groups, id)
	delete(w.lent, id)
}
