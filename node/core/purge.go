package core

import (
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Purge says what an operator wants to end. Fields left out match anything.
type Purge struct {
	Queue   *store.Queue   // this one, whatever class it names
	Classes bundle.Classes // 0: all
	Message bundle.ID
	Before  time.Time // arrived here before
	Origin  addr.Node

	handed map[Handed]bool // in the place of all others: somebody else has them
}

// Purged is what Purge did.
type Purged struct {
	Ended int // messages ended now
	Left  int // messages behind the windows; those that match end as they are read
}

// purge is one that goes on behind the window of a queue, until a restart.
type purge struct {
	Purge
	upTo uint64 // Seq
}

// maxPurges is how many go on in one queue; the oldest gives way.
const maxPurges = 16

// Purge ends what matches, with its reason counted and told to consumers that
// keep an order. The Reply comes when that is durable.
func (c *Core) Purge(now time.Time, token uint64, p Purge) Purged {
	c.at(now)
	var done Purged
	c.m.Queues(func(q *storeforward.Queue) {
		if !p.Covers(q.Name) {
			return
		}
		behind := q.Count - q.Windowed()
		done.Ended += c.purgeQueue(q, purge{p, c.m.LastSeq()})
		done.Left += behind
		if behind > 0 && p.Message.IsZero() {
			going := c.purges[q.Name]
			c.purges[q.Name] = append(going[max(0, len(going)-maxPurges+1):], purge{p, c.m.LastSeq()})
		}
	})
	c.reply(Reply{Token: token})
	return done
}

// purgeOn goes on with the purges of a queue that was read on.
func (c *Core) purgeOn(q *storeforward.Queue) {
	going := c.purges[q.Name]
	kept := going[:0]
	for _, p := range going {
		c.purgeQueue(q, p)
		if t := q.Tail(); q.Windowed() < q.Count && (t == nil || t.Header.Seq <= p.upTo) {
			kept = append(kept, p)
		}
	}
	if len(kept) == 0 {
		delete(c.purges, q.Name)
	} else {
		c.purges[q.Name] = kept
	}
}

// purgeQueue ends what matches within the window.
func (c *Core) purgeQueue(q *storeforward.Queue, p purge) (ended int) {
	for i := q.Head(); i != nil; {
		next := i.Next()
		if i.Header.Seq > p.upTo {
			return ended
		}
		if p.Matches(i.Header, i.Entry.State) && (p.handed == nil || p.handed[Handed{i.Header.Seq, i.Entry.Bundle}]) {
			c.land(i)
			c.m.Return(i)
			if p.handed != nil {
				c.handOver(i)
			} else {
				c.end(i, bundle.Purged)
			}
			ended++
		}
		i = next
	}
	return ended
}

// Covers reports whether the messages of a queue are looked at.
func (p *Purge) Covers(q store.Queue) bool {
	return (p.Queue == nil || q.Kind == p.Queue.Kind && q.Name == p.Queue.Name) && (p.Classes == 0 || p.Classes.Has(q.Class))
}

// Matches reports whether a message of such a queue ends.
func (p *Purge) Matches(h *store.Header, state store.EntryState) bool {
	return state != store.Ended &&
		(p.Message.IsZero() || h.Message == p.Message) &&
		(p.Before.IsZero() || h.Received < p.Before.UnixMilli()) &&
		(p.Origin.IsZero() || h.Origin == p.Origin || h.Message.Node == p.Origin)
}
