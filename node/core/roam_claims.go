package core

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// partnerNode is another node that holds sessions, and hears of claims.
type partnerNode struct {
	node     addr.Node
	cursor   Stamp // sessions with an epoch up to this were claimed there; durable
	answered Stamp // and up to this it has seen
	quieted  Stamp // and the stubs that claims up to this spoke of are quiet
	pending  []claimLine
	waiters  []*waiter // CONNECTs that wait for it, by epoch
	rescan   bool      // pending is not all: there are sessions after the cursor
	lossy    bool      // some word of stubs was not sent: they may stay loud
	next     int64     // ms: not before
}

// claim tells every node that holds sessions.
func (c *Core) claim(l claimLine) {
	if l.at = l.epoch; l.settled || l.epoch > c.retained.clock { // one of the future is out of order
		l.at = c.drawEpoch(0)
	}
	for _, p := range c.roam.order {
		c.claimAt(p, l)
	}
}

func (c *Core) claimAt(p *partnerNode, l claimLine) {
	if c.roam.next = 0; p.rescan && !l.settled {
		return // it is found with the others; one of a live session is not
	}
	if len(p.pending) >= maxPending {
		p.pending, p.rescan, p.lossy = nil, true, true
		c.stats.ClaimsGathered++
		return
	}
	p.pending = append(p.pending, l)
}

// newPartner begins to claim sessions of a node that did not tell before that
// it holds any. One that was known has none that are much older than that.
func (c *Core) newPartner(n addr.Node, known bool) {
	if c.roam.partners[n] != nil {
		return
	}
	p := &partnerNode{node: n}
	if known {
		p.cursor = stampAt(c.now - unknownAge)
	}
	c.addPartner(p)
}

func (c *Core) addPartner(p *partnerNode) {
	r := &c.roam
	at, _ := slices.BinarySearchFunc(r.order, p.node, func(p *partnerNode, n addr.Node) int { return p.node.Compare(n) })
	r.order = slices.Insert(r.order, at, p)
	r.partners[p.node] = p
	p.rescan, r.next = true, 0
}

// holdsSessions tells the mesh, from the first one on, that this node has
// sessions that outlive their connection.
func (c *Core) holdsSessions() {
	if !c.advert.Sessions {
		c.advert.Sessions, c.advertDirty = true, true
	}
}

// workClaims sends the claims that are due.
func (c *Core) workClaims() {
	if c.now < c.roam.next {
		return
	}
	c.roam.next = never
	for _, p := range c.roam.order {
		if len(p.pending) == 0 && !p.rescan {
			continue
		}
		path := c.table.Path(p.node)
		if path.Hop.IsZero() {
			continue // reroute looks again
		}
		if p.next <= c.now {
			c.sendClaims(p, path.Up(), int64(path.Delay()))
		}
		if len(p.pending) > 0 || p.rescan {
			c.roam.next = min(c.roam.next, p.next)
		}
	}
}

// pause is how long the claims to a node are gathered.
func claimPause(up bool, delay int64) int64 {
	switch {
	case !up:
		return storedPause
	case delay <= nearDelay:
		return max(nearPause, delay)
	}
	return max(farPause, 2*delay)
}

func (c *Core) sendClaims(p *partnerNode, up bool, delay int64) {
	p.next = c.now + claimPause(up, delay)
	if p.rescan {
		p.rescan, p.pending = false, append(c.owned(p.cursor), p.pending...)
	}
	n := min(len(p.pending), maxClaims)
	if n == 0 {
		return
	}
	m := roamMessage{kind: roamClaims, claims: p.pending[:n], seq: c.advert.Seq}
	for _, l := range m.claims {
		m.upTo = max(m.upTo, l.at)
	}
	if !c.sayTo(p.node, bundle.Interactive, &m) {
		p.next = c.now + farPause
		return
	}
	c.stats.Claims += uint64(n)
	if p.pending = p.pending[n:]; len(p.pending) == 0 {
		p.pending = nil
	}
	if m.upTo > p.cursor {
		p.cursor = m.upTo
		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{
			Key: claimPrefix + p.node.String(), Value: binary.AppendUvarint(nil, uint64(p.cursor)),
		})
	}
}

// owned returns the claims of the sessions here with an epoch after one.
func (c *Core) owned(after Stamp) (all []claimLine) {
	for _, s := range c.sessions {
		if !s.moved() && s.durable() && s.epoch > after {
			all = append(all, claimLine{client: s.id, epoch: s.epoch, clean: s.began == s.epoch, at: min(s.epoch, c.retained.clock)})
		}
	}
	slices.SortFunc(all, func(a, b claimLine) int {
		return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.client, b.client))
	})
	return all
}

func (c *Core) wakeClaims(w *wake) {
	if c.roam.next != never {
		w.min(max(c.roam.next, c.now))
	}
}

// answeredBy notes that a node has seen the claims up to an epoch, and sent
// what it has of their sessions. Unless it is behind, the stubs they spoke of
// are quiet.
func (c *Core) answeredBy(from addr.Node, upTo Stamp, behind bool) {
	if p := c.roam.partners[from]; p != nil {
		p.answered = max(p.answered, upTo)
		if !behind && !p.lossy {
			p.quieted = max(p.quieted, upTo)
			c.quietedAt()
		}
		for len(p.waiters) > 0 && p.waiters[0].epoch <= upTo {
			w := p.waiters[0]
			p.waiters = p.waiters[1:]
			if w.left--; w.left == 0 && c.roam.waiters[w.session] == w {
				c.answerWaiter(w)
			}
		}
	}
}

// claimMissed goes on from the start with a node that a bundle of claims, or
// of another step, did not reach.
func (c *Core) claimMissed(n addr.Node) {
	if p := c.roam.partners[n]; p != nil {
		p.cursor, p.pending, p.rescan = 0, nil, true
		c.roam.next = 0
	}
}

func (c *Core) restoreCursor(rest string, value []byte) error {
	n, err := addr.ParseNode(rest)
	v, err2 := uvarint(value)
	if cmp.Or(err, err2) != nil {
		return errDamaged
	}
	c.roam.cursors[n] = Stamp(v)
	return nil
}

// restoredRoaming takes up what was under way before a restart.
func (c *Core) restoredRoaming() {
	for _, n := range c.table.Nodes() {
		if a := c.table.Advert(n); a.Sessions && n != c.cfg.Self {
			c.addPartner(&partnerNode{node: n, cursor: c.roam.cursors[n]})
		}
	}
	c.roam.cursors, c.roam.mute = nil, c.roam.quiet.Len() > 0
	byUntil := func(a, b *session) int {
		return cmp.Or(cmp.Compare(a.trip.until, b.trip.until), cmp.Compare(a.id, b.id))
	}
	var stubs, arriving []*session
	for _, s := range c.sessions {
		switch {
		case s.trip == nil:
		case s.moved():
			stubs = append(stubs, s)
		default:
			if len(s.trip.pending) > 0 || s.trip.await != 0 {
				arriving = append(arriving, s)
			}
		}
		if s.overlap() != nil {
			c.roam.overlaps = append(c.roam.overlaps, s)
			if len(s.trip.pending) == 0 && !s.trip.blank && !s.trip.from.IsZero() { // those who were to hear it may not have
				c.roam.settling = append(c.roam.settling, claimLine{client: s.id, epoch: s.epoch, settled: true})
			}
		}
		if s.durable() {
			c.holdsSessions()
		}
	}
	slices.SortFunc(stubs, byUntil)
	for _, s := range stubs {
		c.roam.stubs.add(s)
	}
	byID := func(a, b *session) int { return cmp.Compare(a.id, b.id) }
	slices.SortFunc(arriving, byID)
	for _, s := range arriving {
		c.roam.arriving.put(s, c.now+c.settings.OrderWait.Milliseconds())
	}
	slices.SortFunc(c.roam.overlaps, byID)
	slices.SortFunc(c.roam.settling, func(a, b claimLine) int { return cmp.Compare(a.client, b.client) })
}
