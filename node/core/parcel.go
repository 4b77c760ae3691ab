package core

import (
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Bundles that travel in files are taken in as from a link, and custody of them
// ends as by an acknowledgement: only that days may lie between the two.

// Imported is a bundle of a file. Its Reply says OK, or Duplicate when it was
// here before, once custody of it is durable; else why it was not taken.
type Imported struct {
	Token  uint64
	Bundle *Incoming
}

// Import takes in bundles of a file that a node made.
func (c *Core) Import(now time.Time, from addr.Node, all []Imported) {
	c.at(now)
	for _, i := range all {
		reason := i.Bundle.Bad
		switch {
		case c.halted:
			reason = bundle.DiskFailed
		case reason == bundle.OK:
			reason = c.takeCustody(from, 0, i.Bundle)
		}
		if reason == bundle.Duplicate {
			c.stats.Duplicates++
		}
		c.reply(Reply{Token: i.Token, Reason: reason})
	}
}

// Handed names one bundle in custody here.
type Handed struct {
	Seq    uint64 // of its Header
	Bundle bundle.Sequence
}

// HandedOver says what somebody else took into custody by a file, of all queues
// that lead away. The Reply comes when that is durable. Those behind the windows
// end as they are read. The map is kept, and not changed.
func (c *Core) HandedOver(now time.Time, token uint64, all map[Handed]bool) Purged {
	c.at(now)
	var done Purged
	c.m.Queues(func(q *storeforward.Queue) {
		if !c.leaves(q.Name) {
			return
		}
		behind := q.Count - q.Windowed()
		p := purge{Purge{Queue: &store.Queue{Kind: q.Name.Kind, Name: q.Name.Name}, handed: all}, c.m.LastSeq()}
		done.Ended += c.purgeQueue(q, p)
		done.Left += behind
		if behind > 0 {
			going := c.purges[q.Name]
			c.purges[q.Name] = append(going[max(0, len(going)-maxPurges+1):], p)
		}
	})
	c.reply(Reply{Token: token})
	return done
}

// handOver ends custody of what somebody else has.
func (c *Core) handOver(i *storeforward.Item) {
	c.m.Release(i)
	c.stats.HandedOn++
	c.sight(SightHandedOn, i.Header, i.Entry.Queue, addr.Node{}, bundle.OK)
}
