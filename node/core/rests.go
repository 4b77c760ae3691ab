package core

import (
	"slices"
	"time"

	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// rest is a queue that offers nothing until a time.
type rest struct {
	queue *storeforward.Queue
	until int64 // ms
}

// restQueue lets one queue rest, and no other: its destination has no room at
// the next hop.
func (c *Core) restQueue(q *storeforward.Queue, until int64) {
	if at := slices.IndexFunc(c.rests, func(r rest) bool { return r.queue == q }); at >= 0 {
		c.rests[at].until = max(c.rests[at].until, until)
		return
	}
	c.rests = append(c.rests, rest{q, until})
	c.m.Rest(q)
}

// tickRests wakes queues whose rest is over.
func (c *Core) tickRests() {
	c.rests = slices.DeleteFunc(c.rests, func(r rest) bool {
		if r.until > c.now {
			return false
		}
		c.m.Resume(r.queue)
		return true
	})
}

func (c *Core) wakeRests(w *wake) {
	for _, r := range c.rests {
		w.min(r.until)
	}
}

// endPauses lets classes go again that a peer had no room for.
func (c *Core) endPauses(l *link) {
	for class, until := range l.paused {
		if until != 0 && until <= c.now {
			l.paused[class] = 0
			c.m.Hot(c.outlet(l.Node))
		}
	}
}

// Retry ends every rest and pause now, and asks every peer that owes an
// answer: an operator knows that something changed.
func (c *Core) Retry(now time.Time) {
	c.at(now)
	for i := range c.rests {
		c.rests[i].until = c.now
	}
	c.tickRests()
	for _, l := range c.linkOrder {
		for class := range l.paused {
			l.paused[class] = min(l.paused[class], c.now)
		}
		c.endPauses(l)
		if l.open && l.silent {
			c.probe(l)
		}
	}
}

// Unreadable tells that the store has other bytes than were written for a
// message that was to be sent or delivered. Its custody ends here, as damaged.
func (c *Core) Unreadable(now time.Time, name store.Queue, seq uint64) {
	c.at(now)
	q := c.m.Lookup(name)
	if q == nil {
		return
	}
	i := q.Head()
	for i != nil && i.Header.Seq != seq {
		i = i.Next()
	}
	if i == nil || i.Entry.State == store.Ended {
		return
	}
	c.land(i)
	c.m.Return(i)
	c.end(i, bundle.Damaged)
}

// land takes an item out of whatever it is in flight on. On a link its
// transfer number stays used: the sender closes the session, or tells the peer
// that nothing comes under it.
func (c *Core) land(i *storeforward.Item) {
	for _, l := range c.linkOrder {
		for class := range l.out {
			if n := slices.Index(l.out[class].flights, i); n >= 0 {
				l.out[class].flights[n] = nil
				l.bytes -= int64(i.Header.Size)
				return
			}
		}
	}
	for _, s := range c.services {
		if s.flying[i.Header.Seq] == i {
			delete(s.flying, i.Header.Seq)
		}
	}
}
