package core

import (
	"encoding/binary"
	"math"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// A stub that is quiet still gets what was sent here by nodes that do not know
// yet. When a node cannot send any more of that, it says so: this node asks
// every other for a fence, which comes behind all that was sent before, in each
// class. What comes after a fence is not for stubs that were quiet before it;
// when all fences have come, such stubs end.

// fences are what a node knows of another one's.
type fences struct {
	asked Stamp
	next  int64 // ms: not asked again before
	had   [bundle.NumClasses]Stamp
}

// fenceTrips is how many round trips of the path, as far as it is known, lie
// between two questions to one node, so that they are a small part of what a far
// link carries.
const fenceTrips = 8

// fencePause is the time from one question for a fence to the next, in ms.
func fencePause(delay uint64) int64 {
	return max(farPause, fenceTrips*2*int64(min(delay, math.MaxInt32)))
}

func (c *Core) fencesOf(n addr.Node) *fences {
	f := c.roam.fences[n]
	if f == nil {
		f = &fences{}
		c.roam.fences[n] = f
	}
	return f
}

// advertised notes that the filters of quiet stubs are out of this node's
// advert: from now on fences for them can be had.
func (c *Core) advertised() {
	if c.roam.mute {
		c.roam.fence, c.roam.fenceNext, c.roam.mute = c.drawEpoch(0), 0, false
	}
}

// workFences asks the nodes whose fences are due.
func (c *Core) workFences() {
	r := &c.roam
	if c.now < r.fenceNext || r.fence == 0 {
		return
	}
	r.fenceNext = never
	for _, n := range c.table.Nodes() {
		f := c.fencesOf(n)
		if n == c.cfg.Self || f.asked >= r.fence {
			continue
		}
		path := c.table.Path(n)
		if path.Hop.IsZero() {
			continue
		}
		if f.next <= c.now && c.sayTo(n, bundle.Interactive, &roamMessage{kind: roamFence, upTo: r.fence, seq: c.advert.Seq}) {
			f.asked, f.next = r.fence, c.now+fencePause(path.Delay())
			continue
		}
		r.fenceNext = min(r.fenceNext, max(f.next, c.now+farPause))
	}
}

// fenceFor answers the question of another node, once this one knows the advert
// it is about.
func (c *Core) fenceFor(to addr.Node, upTo Stamp, seq uint64) {
	if a := c.table.Advert(to); a == nil || a.Seq < seq {
		c.roam.lateFences[to] = lateAnswer{upTo, seq}
		return
	}
	delete(c.roam.lateFences, to)
	var unused bundle.Classes
	for class := range bundle.Class(bundle.NumClasses) {
		d := c.dests[store.Queue{Kind: store.ToNode, Name: to.String(), Class: class}]
		if d == nil || d.last == 0 || class == bundle.Interactive {
			unused = unused.With(class)
		}
	}
	for class := range bundle.Class(bundle.NumClasses) {
		switch {
		case class == bundle.Interactive:
			c.putFence(to, class, upTo, unused)
		case !unused.Has(class):
			c.putFence(to, class, upTo, bundle.Classes(0).With(class))
		}
	}
}

// putFence sends a bundle that is nothing but its mesh block.
func (c *Core) putFence(to addr.Node, class bundle.Class, upTo Stamp, of bundle.Classes) {
	d := duty{only: true, visit: &visit{fence: true, epoch: upTo, packet: uint16(of)}}
	c.putWord(to, class, nil, string(d.encode()))
}

// fenced takes in a fence.
func (c *Core) fenced(from addr.Node, v *visit) {
	f := c.fencesOf(from)
	for class := range bundle.Class(bundle.NumClasses) {
		if bundle.Classes(v.packet).Has(class) {
			f.had[class] = max(f.had[class], v.epoch)
		}
	}
	var value []byte
	for _, at := range f.had {
		value = binary.AppendUvarint(value, uint64(at))
	}
	c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: fencePrefix + from.String(), Value: value})
}

func (c *Core) restoreFences(rest string, value []byte) error {
	n, err := addr.ParseNode(rest)
	if err != nil {
		return errDamaged
	}
	f, r := c.fencesOf(n), dutyReader{b: value}
	for class := range f.had {
		f.had[class] = Stamp(r.number())
	}
	if r.bad {
		return errDamaged
	}
	return nil
}

// matchQuiet adds the quiet stubs that a message is for: its node sent it here
// before it knew better. What was sent before a fence and took another way may
// come behind it, when it is waited for no more.
func (c *Core) matchQuiet(h *store.Header, matched []*subscription) []*subscription {
	f := c.roam.fences[h.Origin]
	c.roam.quiet.Match(h.Topic, func(s *subscription) {
		if c.roam.belated || f == nil || f.had[h.Class] < s.session.trip.quiet {
			matched = append(matched, s)
		}
	})
	return matched
}
