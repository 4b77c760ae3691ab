package core

import (
	"cmp"
	"math"
	"slices"
	"time"
	"unique"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Defaults of RetainedSettings.
const (
	DefaultHorizon          = 8 * 24 * time.Hour
	DefaultMaxRetained      = 100_000
	DefaultMaxRetainedBytes = 256 << 20
)

// RetainedSettings bound what a node keeps of retained messages.
type RetainedSettings struct {
	// Horizon is how long a deletion is remembered. Who was out of touch for
	// longer does not bring deleted messages back: see retained_away.go.
	Horizon  time.Duration
	Drift    time.Duration // how far another node's clock may lead ours
	Max      int           // topics; as many deletions besides
	MaxBytes int64         // of topics and payload blocks
}

func (s *RetainedSettings) defaults() {
	s.Horizon = cmp.Or(s.Horizon, DefaultHorizon)
	s.Drift = cmp.Or(s.Drift, DefaultDrift)
	s.Max = cmp.Or(s.Max, DefaultMaxRetained)
	s.MaxBytes = cmp.Or(s.MaxBytes, DefaultMaxRetainedBytes)
}

// KeptState says what a node knows of a topic.
type KeptState uint8

// The states. Their numbers are on disk and on the wire.
const (
	KeptValue   KeptState = 0 // the message
	KeptDeleted KeptState = 1 // that it was deleted
	KeptExpired KeptState = 2 // that it expired, and what was before it is over
)

// retained is the index of all retained messages that this node keeps: those
// published here, those its devices want, and what replaced them.
type retained struct {
	topicIndex
	due    dueHeap
	clock  Stamp // the last one drawn or followed
	bound  Stamp // on disk: not before any that was drawn
	drawn  bool  // since bound was written
	values int
	bytes  int64
	own    int // of the list, published here
	sync   retainedSync
}

func newRetained() retained {
	return retained{topicIndex: newTopicIndex(), sync: newRetainedSync()}
}

// marks returns how many deletions and expiries are remembered.
func (r *retained) marks() int { return len(r.list) - r.values }

// news is a publication of a topic as it is told to the index.
type news struct {
	topic string
	stamp Stamp
	node  addr.Node
	state KeptState
	ends  int64
	blob  *store.Blob // payload block; of a deletion nil
	quiet bool        // the broker has it already
}

func (n *news) size() int64 {
	if n.blob == nil {
		return 0
	}
	return int64(len(n.topic) + len(n.blob.B))
}

// What became of news.
type verdict uint8

const (
	taken   verdict = iota // it is what is kept now
	same                   // it was known
	stale                  // something newer is kept
	refused                // there is no room; counted
)

// takeNews keeps what is newer than what is known of its topic.
func (c *Core) takeNews(n *news) verdict {
	r := &c.retained
	old := r.get(n.topic)
	if old != nil && !later(n.stamp, n.node, old.stamp, old.node()) {
		if old.stamp == n.stamp && old.node() == n.node {
			c.trust(old)
			return same
		}
		c.stats.RetainedStale++
		return stale
	}
	horizon := c.now + c.settings.Retained.Horizon.Milliseconds()
	switch {
	case n.state != KeptValue:
		n.ends = min(cmp.Or(n.ends, horizon), horizon)
	case n.ends != 0 && n.ends <= c.now: // it replaced what was before it, for a time that is over
		n.state, n.ends, n.blob = KeptExpired, horizon, nil
	}
	if n.ends != 0 && n.ends <= c.now {
		return refused
	}
	if !r.fits(&c.settings.Retained, old, n) {
		c.stats.RetainedRefused++
		return refused
	}
	if old != nil {
		c.trust(old)
	}
	if n.node != c.cfg.Self {
		c.observe(n.stamp)
	}
	had := old != nil && old.state == KeptValue
	key := RetainedPrefix + n.topic
	n.topic = key[len(RetainedPrefix):] // one text for the index and the store's
	c.setLarge(store.Set{Key: key, Value: appendKept(nil, n), Blob: n.blob})
	r.put(c.cfg.Self, old, n)
	if !n.quiet && (n.state == KeptValue || had) {
		c.show(Keep{Topic: n.topic, Clear: n.state != KeptValue, Life: n.life(c.now), Blob: n.blob})
	}
	c.keepsChanged()
	return taken
}

func (n *news) life(now int64) int64 {
	if n.ends == 0 {
		return 0
	}
	return n.ends - now
}

// fits reports whether there is room for news. What replaces something
// smaller, or deletes, always has it, but for deletions of what is not known.
func (r *retained) fits(s *RetainedSettings, old *holding, n *news) bool {
	if n.state != KeptValue {
		return old != nil || r.marks() < s.Max
	}
	values, bytes := r.values, r.bytes+n.size()
	if old != nil {
		bytes -= int64(old.size)
	}
	if old == nil || old.state != KeptValue {
		values++
	} else if n.size() <= int64(old.size) {
		return true
	}
	return values <= s.Max && bytes <= s.MaxBytes
}

// put replaces what is known of a topic.
func (r *retained) put(self addr.Node, k *holding, n *news) *holding {
	if k == nil {
		k = &holding{topic: n.topic, heapAt: -1}
		r.add(k)
	} else {
		r.count(self, k, -1)
		k.topic = n.topic // the text that the store has now
	}
	k.stamp, k.state, k.size, k.doubted = n.stamp, n.state, uint32(min(n.size(), math.MaxUint32)), false
	k.drew = unique.Make(n.node)
	r.count(self, k, 1)
	r.due.set(k, n.ends)
	return k
}

func (r *retained) count(self addr.Node, k *holding, by int) {
	if k.state == KeptValue {
		r.values += by
	}
	if k.node() == self {
		r.own += by
	}
	r.bytes += int64(by) * int64(k.size)
}

// drop forgets a topic.
func (r *retained) drop(self addr.Node, k *holding) {
	r.count(self, k, -1)
	r.due.set(k, 0)
	r.remove(k)
}

// tickRetained ends what is over. An expired message leaves a mark, so that
// neither it comes back from a node whose clock is behind, nor what was before
// it from one that it did not reach. Marks go at the horizon.
func (c *Core) tickRetained() {
	r := &c.retained
	for len(r.due) > 0 && r.due[0].ends <= c.now {
		k := r.due[0].k
		if k.state != KeptValue || r.marks() >= c.settings.Retained.Max {
			c.forgetRetained(k)
			continue
		}
		n := &news{topic: k.topic, stamp: k.stamp, node: k.node(), state: KeptExpired, ends: c.now + c.settings.Retained.Horizon.Milliseconds()}
		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: RetainedPrefix + k.topic, Value: appendKept(nil, n)})
		c.show(Keep{Topic: k.topic, Clear: true})
		r.put(c.cfg.Self, k, n)
		c.stats.Ended[bundle.Expired]++
	}
	c.keepsChanged()
	c.tickSync()
}

// forgetRetained drops a topic from memory and disk.
func (c *Core) forgetRetained(k *holding) {
	c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: RetainedPrefix + k.topic})
	if k.state == KeptValue {
		c.show(Keep{Topic: k.topic, Clear: true})
	}
	c.trust(k)
	c.retained.drop(c.cfg.Self, k)
}

func (c *Core) wakeRetained(w *wake) {
	if len(c.retained.due) > 0 {
		w.min(c.retained.due[0].ends)
	}
	c.wakeSync(w)
}

// show tells the driver what the broker holds from now on, once it is durable.
func (c *Core) show(k Keep) {
	c.gate.keeps = append(c.gate.keeps, gatedKeep{c.await(), k})
	if c.gate.keeping == nil {
		c.gate.keeping = map[string]int{}
	}
	c.gate.keeping[k.Topic]++
}

// hide takes back what the driver is not told yet of a topic: the broker is
// about to learn of something newer by a Reply, which would come before it.
func (c *Core) hide(topic string) {
	if c.gate.keeping[topic] > 0 {
		c.gate.keeps = slices.DeleteFunc(c.gate.keeps, func(g gatedKeep) bool { return g.keep.Topic == topic })
		delete(c.gate.keeping, topic)
	}
}

// retain keeps a publication of this node as the newest of its topic.
func (c *Core) retain(h *store.Header, s *Submission) {
	n := c.newsOf(h, s)
	if n.stamp == 0 {
		n.stamp = c.Stamp(time.UnixMilli(c.now), s.Topic)
	}
	var before addr.Node
	if old := c.retained.get(s.Topic); old != nil {
		before = old.node()
	}
	if c.takeNews(&n) == taken {
		if n.quiet {
			c.hide(n.topic)
		}
		c.spread(&n, s.QoS, before)
	}
}

// newsOf is what a submission tells of its topic.
func (c *Core) newsOf(h *store.Header, s *Submission) news {
	n := news{topic: s.Topic, stamp: s.Stamp, node: c.cfg.Self, blob: s.Blob, quiet: s.shown()}
	switch {
	case s.Clear:
		n.state, n.blob = KeptDeleted, nil
	case s.TTL > 0: // the publisher's own; a route's is for its bundles
		n.ends = h.Expires
	}
	return n
}

// mayRetain reports whether a submission, if it is to be retained, finds room
// among the retained messages.
func (c *Core) mayRetain(s *Submission) bool {
	if !s.Retain || s.Clear || s.Session != "" {
		return true
	}
	n := news{topic: s.Topic, blob: s.Blob}
	return c.retained.fits(&c.settings.Retained, c.retained.get(s.Topic), &n)
}

// keepIncoming keeps what a bundle for this node brings, whatever its place in
// the order: the newest wins. Who sent what is older here is told.
func (c *Core) keepIncoming(h *store.Header, in *Incoming) {
	if in.Ended || in.Service != ServiceMQTT || isVisit(in.Groups) {
		return
	}
	if len(in.Parts) == 0 {
		c.keepOne(h, in.Message, in.Topic, in.Said, in.Retain, in.Blob)
		return
	}
	for i := range in.Parts {
		p := &in.Parts[i]
		c.keepOne(h, p.Message, p.Topic, p.Said, p.Retain, p.Blob)
	}
}

func (c *Core) keepOne(h *store.Header, id bundle.ID, topic string, said Said, retain bool, blob *store.Blob) {
	if !retain || topic == "" || len(topic) > maxRetained || said.Stamp > MaxStamp {
		return
	}
	n := news{topic: topic, stamp: said.Stamp, node: id.Node, blob: blob}
	if n.node.IsZero() {
		n.node = h.Origin
	}
	switch {
	case said.Empty:
		n.state, n.blob = KeptDeleted, nil
	case said.Expiry:
		n.ends = h.Expires
	}
	switch c.takeNews(&n) {
	case taken:
		c.passNews(&n)
	case stale:
		c.missing(n.node)
	case same, refused:
	}
}

// giveToDevices hands a retained message that another node gave to whom it
// concerns here: those who wait for it, and those who have an older one.
func (c *Core) giveToDevices(n *news, qos uint8) {
	h := &store.Header{
		Class: bundle.Telemetry, QoS: qos, Retain: true, Topic: n.topic, Service: ServiceRetained,
		Received: c.now, Expires: cmp.Or(n.ends, c.now+c.settings.TTL.Milliseconds()), Size: uint32(len(n.blob.B)),
	}
	var r recipients
	c.subs.Match(n.topic, func(s *subscription) {
		q := store.Queue{Kind: store.ToSession, Name: s.session.id, Class: h.Class}
		_, _, shared := interest.ParseShare(s.Filter)
		switch {
		case shared: // MQTT 5, 4.8.2: none for shared subscriptions
		case min(s.QoS, qos) == 0 || !s.session.durable():
			r.live = true
		case !slices.ContainsFunc(r.entries, func(e store.Entry) bool { return e.Queue == q }):
			r.entries = append(r.entries, store.Entry{Queue: q, QoS: min(s.QoS, qos)})
		}
	})
	if r.empty() {
		return
	}
	for i := range r.entries {
		r.entries[i].DSeq = c.nextDSeq(c.dest(store.Queue{Kind: store.ToSession, Name: r.entries[i].Queue.Name}))
	}
	h.Message = c.nextMessage(h.Class)
	c.deliver(h, r, n.blob)
}

// giveCost is what taking a retained message from another node costs at most.
func (c *Core) giveCost(topic string, size int) int64 {
	if c.left() > manyRoom {
		return 0
	}
	n := 2*int64(len(topic)+size) + 4*numberBytes
	c.subs.Match(topic, func(s *subscription) { n += entryCost(s.session.id) })
	return n
}
