package core

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/store"
)

// A deletion is forgotten after the horizon. A node that was out of touch with
// another for longer cannot know whether what only it has was deleted over
// there, and neither can those who were out of touch along with it. So when
// two such nodes meet again, both doubt every message older than the horizon:
// it stays for the devices of its node and is given to nobody, until the other
// side shows that it has it too, or somebody publishes it again.
//
// Out of touch is a node without a path of links that are up, of which no
// bundle came either.

// reroutedAway notes who came into reach and who left it.
func (c *Core) reroutedAway() {
	s := &c.retained.sync
	if s.loaded != nil {
		c.loadAway()
	}
	for _, n := range c.table.Nodes() {
		if n == c.cfg.Self {
			continue
		}
		since, away := s.away[n]
		switch up := c.table.Path(n).Up(); {
		case up && away:
			delete(s.away, n)
			c.met(n, since)
		case !up && !away:
			s.away[n] = c.now
		}
	}
	s.next = 0
}

// loadAway takes what was written before this boot: all others were out of
// touch while this node was down.
func (c *Core) loadAway() {
	s := &c.retained.sync
	for _, n := range c.table.Nodes() {
		if n == c.cfg.Self {
			continue
		}
		s.away[n] = s.alive
		if t, ok := s.loaded[n]; ok {
			s.away[n] = t
		}
	}
	s.loaded = nil
	c.missedWhileDown()
}

// missedWhileDown compares with everybody once after a boot: reasons to
// compare are not on disk.
func (c *Core) missedWhileDown() {
	if len(c.retained.list) == 0 {
		return
	}
	for _, n := range c.table.Nodes() {
		if a := c.table.Advert(n); a.Keeps || len(a.Interest) > 0 {
			c.mark(n, settleTime)
		}
	}
}

// touched notes that a bundle of a node came.
func (c *Core) touched(n addr.Node) {
	s := &c.retained.sync
	if len(s.away) == 0 {
		return
	}
	if since, away := s.away[n]; away {
		s.away[n] = c.now
		c.met(n, since)
	}
}

// met is told of the end of a time out of touch.
func (c *Core) met(n addr.Node, since int64) {
	p := c.retained.sync.partners[n]
	if p != nil && p.dirty {
		p.due = c.now + c.stretch(n, settleTime) // what waits for it comes first
	}
	horizon := c.settings.Retained.Horizon.Milliseconds()
	if c.now-since <= horizon {
		return
	}
	cutoff := stampAt(c.now - horizon)
	for _, k := range c.retained.list {
		if k.state == KeptValue && k.stamp < cutoff && !k.doubted {
			k.doubted = true
			c.stats.Doubted++
			c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: doubtPrefix + k.topic, Value: []byte{1}})
		}
	}
	c.partner(n).apart = true
	c.mark(n, settleTime)
}

// trust ends a doubt.
func (c *Core) trust(k *holding) {
	if k.doubted {
		k.doubted = false
		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: doubtPrefix + k.topic})
	}
}

// reconciled notes that a partner has all that this node has: what was in
// doubt because of it no longer is.
func (c *Core) reconciled(p *partner) {
	if p.apart {
		p.apart = false
		c.enqueue(&syncJob{node: p.node, kind: jobTrust})
	}
}

// tickAway keeps on disk who is out of touch, now and then: eight times within
// the horizon.
func (c *Core) tickAway() {
	s := &c.retained.sync
	if len(c.retained.list) == 0 || c.now < s.saved+c.settings.Retained.Horizon.Milliseconds()/8 {
		return
	}
	s.saved = c.now
	value := binary.AppendUvarint(nil, uint64(c.now))
	for _, n := range slices.SortedFunc(maps.Keys(s.away), addr.Node.Compare) {
		value = binary.AppendUvarint(value, uint64(s.away[n]))
		value = append(append(value, byte(len(n.String()))), n.String()...)
	}
	c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: awayKey, Value: value})
}

func (c *Core) wakeAway(w *wake) {
	if len(c.retained.list) > 0 {
		w.min(c.retained.sync.saved + c.settings.Retained.Horizon.Milliseconds()/8)
	}
}

// restoreAway reads what tickAway wrote.
func (c *Core) restoreAway(value []byte) error {
	s := &c.retained.sync
	alive, n := binary.Uvarint(value)
	if n <= 0 {
		return errDamaged
	}
	s.alive, s.loaded = int64(alive), map[addr.Node]int64{}
	for value = value[n:]; len(value) > 0; {
		t, n := binary.Uvarint(value)
		if n <= 0 || len(value) <= n || len(value) <= n+int(value[n]) {
			return errDamaged
		}
		end := n + 1 + int(value[n])
		if node, err := addr.ParseNode(string(value[n+1 : end])); err == nil {
			s.loaded[node] = int64(t)
		}
		value = value[end:]
	}
	return nil
}
