package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/node/dtn"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Limits of what passes without being stored. They are small beside what a
// Door may hold, so that sessions that wait for each other's answers cannot
// use all of it up.
const (
	maxCut      = 512      // bundles under way
	maxCutBytes = 4 << 20  // of them together
	maxCutSize  = 64 << 10 // of one
	maxRecent   = 1 << 15  // keys of each of two generations
	cutPatience = 5 * time.Second
)

// cutter passes bundles from one door to another without storing them, where
// a peer is configured so and is there. The peer that a bundle came from gets
// its acknowledgement when the next one has given its own: until then it keeps
// the bundle. What cannot pass so, or is not answered in time, is stored.
//
// Bundles that pass are known again for a while, in memory alone.
type cutter struct {
	d      *doors
	passed atomic.Uint64
	fell   atomic.Uint64 // were stored after all

	mu     sync.Mutex // guards what follows
	bytes  int
	flying map[[16]byte]*crossing
	recent [2]map[[16]byte]struct{}
}

// crossing is a bundle under way.
type crossing struct {
	action dtn.Action
	since  time.Time
	done   []func(bundle.Reason)
}

func newCutter(d *doors) *cutter {
	c := &cutter{d: d, flying: map[[16]byte]*crossing{}}
	c.recent[0], c.recent[1] = map[[16]byte]struct{}{}, map[[16]byte]struct{}{}
	return c
}

// pass takes a bundle that goes from one door to another, and reports whether
// it did.
func (c *cutter) pass(a dtn.Action, done func(bundle.Reason)) bool {
	q := c.d.queues[a.Peer]
	if q == nil || !q.cut || q.conn.Load() == 0 || len(a.Raw) > maxCutSize {
		return false
	}
	switch c.claim(a, done) {
	case cutFull:
		return false
	case cutKnown:
		done(bundle.Duplicate)
		return true
	case cutJoined:
		return true
	case cutMine:
	}
	mru, up := c.d.door.MRU(a.Peer)
	if !up {
		c.fall(a.Key)
		return true
	}
	dep, why, _ := c.d.gateway.ExitNow(a, mru)
	if why != bundle.OK || len(dep.Parts) != 1 {
		c.fall(a.Key) // the store's way says what is wrong
		return true
	}
	err := c.d.door.TryBegin(a.Peer, dep.Parts[0], func(err error) {
		if err != nil {
			c.fall(a.Key)
			return
		}
		c.arrived(a.Key)
	})
	if err != nil {
		c.fall(a.Key)
	}
	return true
}

// What claim finds.
type claimed uint8

const (
	cutMine   claimed = iota // it is to be sent
	cutFull                  // too much is under way
	cutKnown                 // it passed before
	cutJoined                // it is under way: done is called with it
)

func (c *cutter) claim(a dtn.Action, done func(bundle.Reason)) claimed {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.flying[a.Key]; x != nil {
		if len(x.done) >= maxCut {
			return cutFull
		}
		x.done = append(x.done, done)
		return cutJoined
	}
	for _, g := range c.recent {
		if _, ok := g[a.Key]; ok {
			return cutKnown
		}
	}
	if len(c.flying) >= maxCut || c.bytes+len(a.Raw) > maxCutBytes {
		return cutFull
	}
	c.bytes += len(a.Raw)
	c.flying[a.Key] = &crossing{action: a, since: now, done: []func(bundle.Reason){done}}
	return cutMine
}

// land takes a crossing out, nil when it is out already.
func (c *cutter) land(key [16]byte, passed bool) *crossing {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.flying[key]
	if x == nil {
		return nil
	}
	delete(c.flying, key)
	c.bytes -= len(x.action.Raw)
	if passed {
		if len(c.recent[0]) >= maxRecent {
			c.recent[1] = c.recent[0]
			c.recent[0] = make(map[[16]byte]struct{}, maxRecent)
		}
		c.recent[0][key] = struct{}{}
	}
	return x
}

// arrived ends a crossing that the peer acknowledged.
func (c *cutter) arrived(key [16]byte) {
	if x := c.land(key, true); x != nil {
		c.passed.Add(1)
		for _, done := range x.done {
			done(bundle.OK)
		}
	}
}

// fall stores a bundle that did not pass.
func (c *cutter) fall(key [16]byte) {
	if x := c.land(key, false); x != nil {
		c.fell.Add(1)
		c.d.act(x.action, func(why bundle.Reason) {
			for _, done := range x.done {
				done(why)
			}
		})
	}
}

// run stores what its peer does not answer for too long, until ctx ends.
func (c *cutter) run(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		var late [][16]byte
		c.mu.Lock()
		for key, x := range c.flying {
			if time.Since(x.since) > cutPatience {
				late = append(late, key)
			}
		}
		c.mu.Unlock()
		for _, key := range late {
			c.fall(key)
		}
	}
}
