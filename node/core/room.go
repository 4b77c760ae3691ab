package core

import (
	"math"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// room accounts for what the store can still take. All bytes are those of
// store.Batch.Cost. What is admitted counts from that moment on, long before
// the store hears of it, so that the store is never handed more puts than it
// said it could take.
type room struct {
	limit   int64 // of handed, as the store said
	handed  int64 // in all batches so far
	open    int64 // puts of the present batch
	counted int   // how many of them
	joined  int64 // messages in open batches, which will be puts
	large   int64 // state of the present batch that may be large

	moves   []move        // deliveries that could not be readdressed
	regions bool          // something held for a region could not be moved on
	groups  bool          // something could not go to another member of its group
	ended   []store.Queue // of sessions that ended, with such messages
}

// move is a Readdress that waits for room.
type move struct {
	delivery Delivery
	to       string
}

// kept is what each class leaves of the room to those above it, in bytes: on a
// full disk new work of the lowest class is refused first. The mesh's own
// control, and the order of what is here already, have the last of it.
var kept = [bundle.NumClasses]int64{
	bundle.Control: 0, bundle.Alarm: 64 << 10, bundle.Interactive: 128 << 10, bundle.Telemetry: 256 << 10, bundle.Bulk: 512 << 10,
}

// What is not known of a put before it is made, at most.
const (
	numberBytes = 128     // the last number of a destination, a key of the state
	frozenBytes = 512     // blocks of a bundle, beside names
	smallState  = 4 << 10 // a key of the node's own that is written in any case
	manyRoom    = 1 << 28 // with more left, nobody counts the recipients of one message
)

// Room tells how far batches may go, as store.Room does. Beyond it what is new
// is refused as StoreFull, and what would move from queue to queue waits; what
// frees room goes on. Without a call there is no limit.
func (c *Core) Room(now time.Time, limit int64) {
	c.at(now)
	c.room.limit = limit
	if c.halted || c.left() <= 0 {
		return
	}
	c.heldDirty = c.heldDirty || c.room.regions
	c.room.regions = false
	c.roomForGroups()
	c.roomForWills()
	c.roomForRoaming()
	for _, g := range c.held {
		if !g.loading {
			c.drain(g)
		}
	}
	moves := c.room.moves
	c.room.moves = nil
	for _, m := range moves {
		c.Readdress(now, m.delivery, m.to)
	}
}

// RoomLeft returns how many bytes of new work find room, MaxInt64 when the
// store never said.
func (c *Core) RoomLeft() int64 { return max(0, c.left()) }

// left is the room that nothing has been promised of; less than nothing when
// ends and state took more.
func (c *Core) left() int64 {
	r := &c.room
	if r.limit == math.MaxInt64 {
		return math.MaxInt64
	}
	c.countPuts()
	return r.limit - r.handed - r.open - r.joined - r.large
}

func (c *Core) countPuts() {
	r := &c.room
	for ; r.counted < len(c.m.Batch.Puts); r.counted++ {
		r.open += c.m.Batch.Puts[r.counted].Cost()
	}
}

// cut ends the present batch.
func (c *Core) cut() *store.Batch {
	c.countPuts()
	b := c.m.Cut()
	if b != nil {
		c.room.handed += c.room.open + b.CostBesidePuts()
		c.room.open, c.room.counted, c.room.large = 0, 0, 0
	}
	return b
}

// setLarge adds a key to the present batch that may be large, and counts it.
func (c *Core) setLarge(s store.Set) {
	c.m.Batch.Sets = append(c.m.Batch.Sets, s)
	c.room.large += s.Cost()
}

// hasRoom reports whether new work of a class finds room.
func (c *Core) hasRoom(class bundle.Class, cost int64) bool {
	return c.left()-cost >= kept[class]
}

// mayStore reports whether a submission finds room for its recipients, each
// batch that it joins with a copy, and as a retained message.
func (c *Core) mayStore(h *store.Header, s *Submission, r *recipients) bool {
	if c.left() > manyRoom {
		return true
	}
	cost := int64(0)
	if len(r.entries) > 0 {
		one := *h
		one.Entries = r.entries
		cost = (&store.Put{Header: &one, Blob: s.Blob}).Cost()
		for i := range r.entries {
			cost += numberBytes + int64(len(r.entries[i].Queue.Name))
		}
	}
	for _, q := range r.batched {
		cost += joinCost(h, int64(h.Size), q.Name) + int64(len(q.groups))
	}
	if s.Retain {
		cost += retainCost(s)
	}
	return c.hasRoom(h.Class, cost)
}

func retainCost(s *Submission) int64 {
	return (&store.Set{Key: s.Topic, Blob: s.Blob}).Cost() + 16
}

// joinCost is what a bundle of so many payload bytes for a queue costs at most
// that is not made yet.
func joinCost(h *store.Header, size int64, queue string) int64 {
	return headerCost(h) + size + entryCost(queue) + frozenBytes
}

func headerCost(h *store.Header) int64 {
	one := *h
	one.Entries, one.Size = nil, 0
	return (&store.Put{Header: &one}).Cost()
}

// entryCost is what a place in a queue costs, with the number it draws there.
// The names of both ends may be in the blocks once more.
func entryCost(name string) int64 { return store.EntryBytes + numberBytes + 3*int64(len(name)) }

// arrivalCost is what a message of this size costs at most when it is due here
// and its recipients are found: the service it is for, or every session with a
// filter that matches, and every node of a region.
func (c *Core) arrivalCost(h *store.Header, size int64, remote bool) int64 {
	if c.left() > manyRoom {
		return 0
	}
	n := headerCost(h) + size + 2*entryCost(h.Service) // one for the live
	if h.Service != ServiceMQTT {
		return n
	}
	c.subs.Match(h.Topic, func(s *subscription) { n += entryCost(s.session.id) })
	c.roam.quiet.Match(h.Topic, func(s *subscription) { n += entryCost(s.session.id) })
	if remote {
		c.table.Wants(h.Topic, func(a addr.Node) { n += joinCost(h, size, a.String()) })
	}
	return n + c.groupCost(h, c.groupsOf(h.Topic, asked{remote: true}))
}

// incomingCost is what a bundle of a peer costs at most, however it is put.
func (c *Core) incomingCost(h *store.Header, in *Incoming) (n int64) {
	if c.left() > manyRoom {
		return 0
	}
	here, region := in.Node == c.cfg.Self, !in.Region.IsZero()
	size := int64(in.Size)
	if in.Blob != nil {
		size = max(size, int64(len(in.Blob.B)))
	}
	if !here && !region {
		return headerCost(h) + size + entryCost(in.Node.String()) + int64(len(in.Frozen))
	}
	// A queue of its own, when nobody wants it, or it came too early.
	queue := entryCost(in.Region.String()) + entryCost(originName(originKey{node: h.Origin, inc: math.MaxUint32}))
	if len(in.Parts) == 0 {
		return c.arrivalCost(h, size, region) + queue + keepCost(in.Retain, in.Topic, size)
	}
	for i := range in.Parts {
		one := *h
		one.Topic, one.Message = in.Parts[i].Topic, in.Parts[i].Message
		size := int64(len(in.Parts[i].Blob.B))
		n += c.arrivalCost(&one, size, region) + queue + keepCost(in.Parts[i].Retain, one.Topic, size)
	}
	return n
}

// keepCost is what keeping a message of a peer as a retained one costs.
func keepCost(retain bool, topic string, size int64) int64 {
	if !retain {
		return 0
	}
	return size + int64(len(topic)) + numberBytes
}

// hasRoomFor reports whether a bundle for this node finds room: what others
// wait for as long as there is any, what comes early only while as much again
// is left to what it waits for.
func (c *Core) hasRoomFor(g *leg, h *store.Header, in *Incoming) bool {
	cost := c.incomingCost(h, in)
	switch {
	case in.DSeq > g.next:
		return c.hasRoom(h.Class, cost+kept[h.Class])
	case len(g.waiting) > 0:
		return c.hasRoom(bundle.Control, cost)
	}
	return c.hasRoom(h.Class, cost)
}

// mayMove reports whether stored messages may go on to other queues here: their
// payloads are written again.
func (c *Core) mayMove(items []*storeforward.Item) bool {
	cost := int64(0)
	for _, i := range items {
		if i.Entry.State != store.Ended {
			cost += c.arrivalCost(i.Header, int64(i.Header.Size), false)
		}
	}
	return c.hasRoom(bundle.Control, cost)
}
