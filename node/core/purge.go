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
	Queue   *store.Queue         // this one, whatever class it names
	Classes storeforward.Classes // 0: all
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
	c.m.Queues(func(q *storeforward.Queue) {
		if !p.Covers(q.Name) {
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
		if p.Matches(i.Header, i.Entry.State) {
			c.land(i)
			c.m.Return(i)
			c.end(i, bundle.Purged)
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
