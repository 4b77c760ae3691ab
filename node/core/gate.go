package core

import (
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// gate holds effects back until the batch they rest on is persisted. Tags
// never decrease within one list, so each list is served from its head.
type gate struct {
	persisted store.LSN
	awaited   store.LSN // the newest batch that something rests on
	replies   []gatedReply
	live      []gatedLive
	releases  []gatedRelease
	keeps     []gatedKeep
	keeping   map[string]int // how many of keeps there are of a topic
	fetches   []gatedFetch
	words     []gatedWord
	ackers    []*link // links with acknowledgements that wait
}

type gatedReply struct {
	lsn   store.LSN
	reply Reply
}

type gatedLive struct {
	lsn  store.LSN
	live Live
}

type gatedKeep struct {
	lsn  store.LSN
	keep Keep
}

type gatedFetch struct {
	lsn   store.LSN
	fetch Fetch
}

type gatedRelease struct {
	lsn      store.LSN
	delivery Delivery
}

// gatedCount is how many deliveries ended with the batch of lsn.
type gatedCount struct {
	lsn store.LSN
	n   int
}

// gatedAck is the highest XID of a class whose custody rests on lsn.
type gatedAck struct {
	lsn store.LSN
	xid uint64
}

func (c *Core) reply(r Reply) {
	if c.halted {
		c.cur.Replies = append(c.cur.Replies, Reply{Token: r.Token, Reason: bundle.DiskFailed})
		return
	}
	c.gate.replies = append(c.gate.replies, gatedReply{c.await(), r})
}

func (c *Core) live(l Live) {
	c.gate.live = append(c.gate.live, gatedLive{c.await(), l})
}

// await tells that something rests on the present batch.
func (c *Core) await() store.LSN {
	c.gate.awaited = c.m.Batch.LSN
	return c.m.Batch.LSN
}

// lazy reports whether a batch may reach the disk with a later one: it only
// ends custody, and nothing waits for that. What a crash undoes of it is
// offered again, and known there.
func (c *Core) lazy(b *store.Batch) bool {
	return len(b.Puts)+len(b.Marks)+len(b.Sets) == 0 && c.gate.awaited < b.LSN
}

// release lets out every effect whose fact is durable. What is tagged with
// the batch that has just begun rests on nothing new when that is empty.
func (c *Core) release() {
	upTo := c.gate.persisted
	if c.cur.Write == nil && upTo+1 == c.m.Batch.LSN {
		upTo++
	}
	n := 0
	for ; n < len(c.gate.replies) && c.gate.replies[n].lsn <= upTo; n++ {
		c.cur.Replies = append(c.cur.Replies, c.gate.replies[n].reply)
	}
	c.gate.replies = shift(c.gate.replies, n)
	for n = 0; n < len(c.gate.live) && c.gate.live[n].lsn <= upTo; n++ {
		c.cur.Live = append(c.cur.Live, c.gate.live[n].live)
	}
	c.gate.live = shift(c.gate.live, n)
	for n = 0; n < len(c.gate.releases) && c.gate.releases[n].lsn <= upTo; n++ {
		c.cur.Deliver = append(c.cur.Deliver, c.gate.releases[n].delivery)
	}
	c.gate.releases = shift(c.gate.releases, n)
	for n = 0; n < len(c.gate.keeps) && c.gate.keeps[n].lsn <= upTo; n++ {
		k := c.gate.keeps[n].keep
		c.cur.Keeps = append(c.cur.Keeps, k)
		if c.gate.keeping[k.Topic]--; c.gate.keeping[k.Topic] == 0 {
			delete(c.gate.keeping, k.Topic)
		}
	}
	c.gate.keeps = shift(c.gate.keeps, n)
	for n = 0; n < len(c.gate.fetches) && c.gate.fetches[n].lsn <= upTo; n++ {
		c.cur.Fetches = append(c.cur.Fetches, c.gate.fetches[n].fetch)
	}
	c.gate.fetches = shift(c.gate.fetches, n)
	c.releaseWords(upTo)
	wait := c.gate.ackers[:0]
	for _, l := range c.gate.ackers {
		if c.links[l.ID] == l && c.releaseAcks(l, upTo) {
			wait = append(wait, l)
		} else {
			l.acking = false
		}
	}
	clear(c.gate.ackers[len(wait):])
	c.gate.ackers = wait
}

// releaseAcks sends one cumulative Ack per class and reports whether more wait.
func (c *Core) releaseAcks(l *link, upTo store.LSN) (more bool) {
	for class := range l.in {
		in := &l.in[class]
		n := 0
		for n < len(in.acks) && in.acks[n].lsn <= upTo {
			n++
		}
		if n > 0 {
			c.send(l, Ack{Class: classOf(class), XID: in.acks[n-1].xid})
			in.acks = shift(in.acks, n)
		}
		more = more || len(in.acks) > 0
	}
	return more
}

// shift drops the first n elements, keeping the memory when all are gone.
func shift[T any](s []T, n int) []T {
	if n == 0 {
		return s
	}
	if n == len(s) {
		clear(s)
		return s[:0]
	}
	return s[n:]
}
