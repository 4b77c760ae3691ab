package core

import (
	"maps"
	"math/bits"
	"slices"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// A comparison takes up to five steps, each a bundle:
//
//	root     ->             count and digest of all
//	         <- same        it is equal: the end
//	         <- buckets     digests of parts
//	lines    ->             what is in those that differ
//	         <- want, give  what the one lacks, and the other
//	give     ->
//
// Both ends compute over what both should keep: topics that both have
// subscribers of, and those that one published and the other has subscribers
// of. They may see each other's subscribers differently for a while; then they
// find differences that are none, and nothing comes of it. No step needs to
// remember the one before.

// syncJob is one pass over the index for a step of a comparison. It works in
// slices, so that the loop of a node with many topics goes on meanwhile.
type syncJob struct {
	node   addr.Node
	kind   jobKind
	msg    syncMessage // that it answers
	at     int         // in retained.list
	second bool        // of jobLines: the buckets are chosen
	pair   pairing

	count   uint64
	digests []uint64
	counts  []int
	chosen  []bool          // lines, give: by bucket
	told    map[string]bool // give: topics of the lines
	lines   []syncLine
	topics  []string // give
	bytes   uint64
	want    []string
	more    bool
}

type jobKind uint8

const (
	jobRoot   jobKind = iota
	jobAnswer         // to a root
	jobLines          // to buckets
	jobGive           // to lines
	jobTrust          // to same, of a node that was out of touch
)

// Limits of jobs.
const (
	maxJobs   = 256  // that wait; beyond it the partner asks again later
	jobSlice  = 4096 // topics a Take looks at
	perBucket = 16   // topics, about
)

func (c *Core) enqueue(j *syncJob) {
	s := &c.retained.sync
	if len(s.jobs) >= maxJobs {
		c.stats.CompareDropped++
		return
	}
	s.jobs = append(s.jobs, j)
}

// workSync goes on with the oldest job.
func (c *Core) workSync() {
	s := &c.retained.sync
	for budget := jobSlice; budget > 0 && len(s.jobs) > 0; {
		j := s.jobs[0]
		if j.at == 0 && !j.second && !c.prepare(j) {
			s.jobs = shift(s.jobs, 1)
			continue
		}
		for ; j.at < len(c.retained.list) && budget > 0; j.at++ {
			budget--
			if k := c.retained.list[j.at]; j.pair.has(c, k) {
				c.see(j, k)
			}
		}
		if j.at < len(c.retained.list) {
			return
		}
		if j.kind == jobLines && !j.second {
			c.choose(j)
			continue
		}
		s.jobs = shift(s.jobs, 1)
		c.finish(j)
	}
}

// prepare begins a job, unless its node is no longer known.
func (c *Core) prepare(j *syncJob) bool {
	mine, theirs := c.table.Advert(c.cfg.Self), c.table.Advert(j.node)
	if mine == nil || theirs == nil {
		return false
	}
	j.pair = pairing{self: c.cfg.Self, node: j.node, region: theirs.Region}
	for _, f := range mine.Interest {
		j.pair.mine.Add(f, struct{}{})
	}
	for _, f := range theirs.Interest {
		j.pair.theirs.Add(f, struct{}{})
	}
	switch j.kind {
	case jobRoot:
		j.digests = make([]uint64, 1)
	case jobAnswer:
		j.digests = make([]uint64, bucketsFor(max(int(min(j.msg.count, maxBuckets*perBucket)), len(c.retained.list))))
	case jobLines:
		j.digests = make([]uint64, len(j.msg.digests))
	case jobGive, jobTrust:
	}
	j.counts = make([]int, len(j.digests))
	return true
}

// bucketsFor is in how many parts so many topics are compared.
func bucketsFor(n int) int {
	return min(1<<bits.Len(uint(n/perBucket)), maxBuckets)
}

// see takes in one topic that both ends should keep.
func (c *Core) see(j *syncJob, k *holding) {
	th := textHash(k.topic)
	switch {
	case j.kind == jobTrust:
		c.trust(k)
	case j.kind == jobGive:
		if !j.chosen[bucketOf(th, len(j.chosen))] || j.told[k.topic] || k.doubted {
			return
		}
		if len(j.topics) >= maxSyncItems || len(j.topics) > 0 && j.bytes+uint64(k.size) > maxWantBytes {
			j.more = true
			return
		}
		j.topics = append(j.topics, k.topic)
		j.bytes += uint64(k.size)
	case j.second:
		if j.chosen[bucketOf(th, len(j.chosen))] && len(j.lines) < maxSyncItems {
			j.lines = append(j.lines, k.line())
		}
	default:
		b := bucketOf(th, len(j.digests))
		j.digests[b] ^= k.digest(th)
		j.counts[b]++
		j.count++
	}
}

func (k *holding) line() syncLine {
	return syncLine{topic: k.topic, stamp: k.stamp, node: k.node(), size: uint64(k.size), doubted: k.doubted}
}

// choose picks the parts that differ and are told, as many as fit.
func (c *Core) choose(j *syncJob) {
	p := c.partner(j.node)
	n := len(j.digests)
	j.chosen, j.second, j.at = make([]bool, n), true, 0
	lines := 0
	for i := range n {
		b := (p.start + i) % n
		if j.digests[b] == j.msg.digests[b] {
			continue
		}
		if lines > 0 && lines+j.counts[b] > maxSyncItems {
			j.more = true
			p.start = b
			break
		}
		j.chosen[b] = true
		lines += j.counts[b]
		if j.counts[b] <= maxSyncItems {
			j.msg.covered = append(j.msg.covered, b)
		}
	}
}

// finish sends what a job found.
func (c *Core) finish(j *syncJob) {
	p := c.partner(j.node)
	switch j.kind {
	case jobRoot:
		c.tell(j.node, &syncMessage{kind: syncRoot, count: j.count, digest: j.digests[0]})
	case jobAnswer:
		var all uint64
		for _, d := range j.digests {
			all ^= d
		}
		if all != j.msg.digest || j.count != j.msg.count {
			c.tell(j.node, &syncMessage{kind: syncBuckets, digests: j.digests})
			return
		}
		c.tell(j.node, &syncMessage{kind: syncSame})
		c.reconciled(p)
	case jobLines:
		p.more = j.more
		c.tell(j.node, &syncMessage{kind: syncLines, more: j.more, buckets: len(j.chosen), covered: j.msg.covered, lines: j.lines})
	case jobGive:
		if len(j.want) > 0 {
			c.tell(j.node, &syncMessage{kind: syncWant, topics: j.want})
		}
		if len(j.topics) > 0 {
			c.fetch(Fetch{To: j.node, Topics: j.topics, More: j.more})
		}
		if len(j.want)+len(j.topics) == 0 {
			c.tell(j.node, &syncMessage{kind: syncDone})
		}
	case jobTrust:
	}
}

// Compare takes in one step of a comparison: the data of a bundle of
// ServiceSync, of this age. read tells of the data of a publication its topic
// and QoS. It is malformed when the error is not nil.
func (c *Core) Compare(now time.Time, from addr.Node, age time.Duration, data []byte, read func([]byte) (string, uint8, error)) error {
	c.at(now)
	m, err := parseSync(data)
	if err != nil || c.table.Advert(from) == nil {
		return err
	}
	p := c.partner(from)
	switch m.kind {
	case syncRoot:
		if p.waits != 0 && c.cfg.Self.Compare(from) < 0 {
			return nil // both asked: of the two the first by name is answered
		}
		p.dirty = p.apart && (p.dirty || p.waits != 0)
		p.waits = 0
		c.activate(p)
		c.enqueue(&syncJob{node: from, kind: jobAnswer, msg: m})
	case syncBuckets:
		c.expect(p)
		c.enqueue(&syncJob{node: from, kind: jobLines, msg: m})
	case syncLines:
		c.compareLines(p, &m)
	case syncWant:
		c.serveWant(p, m.topics)
	case syncGive:
		c.takeGiven(p, &m, age, read)
	case syncSame, syncDone:
		if m.kind == syncSame {
			c.reconciled(p)
		}
		c.answered(p, false)
	}
	return nil
}

// compareLines finds what a partner has newer, then what it lacks.
func (c *Core) compareLines(p *partner, m *syncMessage) {
	j := &syncJob{node: p.node, kind: jobGive, msg: *m, chosen: make([]bool, m.buckets), told: make(map[string]bool, len(m.lines))}
	for _, b := range m.covered {
		j.chosen[b] = true
	}
	size, rest := uint64(0), false
	for i := range m.lines {
		l := &m.lines[i]
		j.told[l.topic] = true
		k := c.retained.get(l.topic)
		switch {
		case k != nil && k.stamp == l.stamp && k.node() == l.node:
			if p.apart || !l.doubted {
				c.trust(k)
			}
		case k != nil && !later(l.stamp, l.node, k.stamp, k.node()):
			if !k.doubted && len(j.topics) < maxSyncItems {
				j.topics = append(j.topics, l.topic)
				j.bytes += uint64(k.size)
			}
		case l.doubted || k == nil && !c.wants(l.topic):
		case len(j.want) >= maxSyncItems || len(j.want) > 0 && size+l.size > maxWantBytes || !c.ask(l, p):
			rest = true
		default:
			j.want = append(j.want, l.topic)
			size += l.size
		}
	}
	p.apart = p.apart && m.more
	if rest { // asked elsewhere, or too much at a time
		c.mark(p.node, answerTime)
	}
	c.enqueue(j)
}

// ask notes that a message is asked for, unless it is already.
func (c *Core) ask(l *syncLine, p *partner) bool {
	s := &c.retained.sync
	if len(s.asked) >= maxAsked {
		maps.DeleteFunc(s.asked, func(_ string, a ask) bool { return a.until <= c.now })
	}
	if a, ok := s.asked[l.topic]; ok && a.until > c.now && a.stamp >= l.stamp || !ok && len(s.asked) >= maxAsked {
		return false
	}
	s.asked[l.topic] = ask{l.stamp, c.now + c.stretch(p.node, answerTime)}
	return true
}

// wants reports whether devices of this node have a filter for a topic.
func (c *Core) wants(topic string) (found bool) {
	c.subs.Match(topic, func(*subscription) { found = true })
	return found
}

func (c *Core) serveWant(p *partner, topics []string) {
	topics = slices.DeleteFunc(topics, func(t string) bool { return c.retained.get(t) == nil })
	if len(topics) > 0 {
		c.fetch(Fetch{To: p.node, Topics: topics})
	}
	c.answered(p, len(topics) > 0)
}

// takeGiven keeps what is newer, and answers what is older.
func (c *Core) takeGiven(p *partner, m *syncMessage, age time.Duration, read func([]byte) (string, uint8, error)) {
	progress := false
	var newer []string
	for i := range m.given {
		g := &m.given[i]
		delete(c.retained.sync.asked, g.topic)
		n := news{topic: g.topic, stamp: g.stamp, node: g.node, state: g.state}
		if g.left > 0 {
			n.ends = max(c.now+g.left-age.Milliseconds(), 1)
		}
		if c.retained.get(g.topic) == nil && !c.wants(g.topic) {
			continue
		}
		var qos uint8
		if g.state == KeptValue {
			topic, q, err := read(g.data)
			if err != nil || topic != g.topic || !c.hasRoom(bundle.Telemetry, c.giveCost(g.topic, len(g.data))) {
				c.stats.RetainedRefused++
				continue
			}
			qos, n.blob = q, &store.Blob{B: bundle.AppendPayload(nil, g.data)}
		}
		switch c.takeNews(&n) {
		case taken:
			progress = true
			c.stats.Given++
			if n.state == KeptValue {
				c.giveToDevices(&n, qos)
			}
			c.passNews(&n)
		case stale:
			newer = append(newer, g.topic)
		case same, refused:
		}
	}
	if len(newer) > 0 {
		c.fetch(Fetch{To: p.node, Topics: newer})
	}
	if m.more && progress {
		p.more = true
	}
	c.answered(p, progress)
}

// pairing tells what both of two nodes should keep. It says the same at either.
type pairing struct {
	self, node   addr.Node
	region       addr.Region
	mine, theirs interest.Trie[struct{}]
}

func (p *pairing) has(c *Core, k *holding) bool {
	if k.topic[0] == '$' {
		return false
	}
	mine, theirs := has(&p.mine, k.topic), has(&p.theirs, k.topic)
	if mine || theirs {
		if route, ok := c.routes.ForTopic(k.topic); ok && len(route.To) > 0 { // it goes to these regions alone
			in := func(r addr.Region) bool {
				return slices.ContainsFunc(route.To, func(to addr.Region) bool { return to.Contains(r) })
			}
			mine, theirs = mine && in(c.cfg.Region), theirs && in(p.region)
		}
	}
	return mine && theirs || theirs && k.node() == p.self || mine && k.node() == p.node
}

func has(t *interest.Trie[struct{}], topic string) (found bool) {
	t.Match(topic, func(struct{}) { found = true })
	return found
}

func bucketOf(hash uint64, buckets int) int {
	return int(hash >> 32 & uint64(buckets-1))
}

// textHash is FNV-1a with its bits mixed. That of the topic chooses the bucket.
func textHash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// digest is what a topic adds to that of its bucket.
func (k *holding) digest(topic uint64) uint64 {
	return mix(topic ^ mix(uint64(k.stamp)) ^ mix(textHash(k.node().String())))
}
