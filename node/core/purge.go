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
	Queue   *store.Queue // exactly this one; of all its classes when AnyClass
	Classes storeforward.Classes
	Message bundle.ID
	Before  time.Time // arrived here before
	Origin  addr.Node
}

// Purged is what Purge did.
type Purged struct {
	Ended int // messages ended now
	Left  int // messages behind the windows; those that match end as they are read
}

// purge is one that goes on behind the window of a queue.
type purge struct {
	Purge
	upTo uint64 // Seq
}

// Purge ends what matches, with its reason counted and told to consumers that
// keep an order. The Reply comes when that is durable.
func (c *Core) Purge(now time.Time, token uint64, p Purge) Purged {
	c.at(now)
	var done Purged
	if p.Classes == 0 {
		p.Classes = storeforward.AllClasses
	}
	c.m.Queues(func(q *storeforward.Queue) {
		if p.Queue != nil && (q.Name.Kind != p.Queue.Kind || q.Name.Name != p.Queue.Name) || !p.Classes.Has(q.Name.Class) {
			return
		}
		behind := q.Count - q.Windowed()
		done.Ended += c.purgeQueue(q, purge{p, c.m.LastSeq()})
		done.Left += behind
		if behind > 0 && p.Message.IsZero() {
			c.purges[q.Name] = purge{p, c.m.LastSeq()}
		}
	})
	c.reply(Reply{Token: token})
	return done
}

// purgeQueue ends what matches within the window.
func (c *Core) purgeQueue(q *storeforward.Queue, p purge) (ended int) {
	for i := q.Head(); i != nil; {
		next := i.Next()
		if i.Header.Seq > p.upTo {
			delete(c.purges, q.Name)
			return ended
		}
		if p.matches(i) {
			c.land(i)
			c.m.Return(i)
			c.end(i, bundle.Purged)
			ended++
		}
		i = next
	}
	return ended
}

func (p *purge) matches(i *storeforward.Item) bool {
	h := i.Header
	return i.Entry.State != store.Ended &&
		(p.Message.IsZero() || h.Message == p.Message) &&
		(p.Before.IsZero() || h.Received < p.Before.UnixMilli()) &&
		(p.Origin.IsZero() || h.Origin == p.Origin || h.Message.Node == p.Origin)
}
