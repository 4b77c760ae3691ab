package core

import (
	"cmp"
	"slices"
	"time"

	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// ServiceLive is the queue of stored messages that are for live subscribers.
const ServiceLive = "live"

// server is a service of this node: fleet, join, the live subscribers, or a
// door to another stack. All are open from the start, but for those closed.
type server struct {
	name   string
	conn   uint64 // of OpenService, 0 before
	closed bool
	window int // deliveries in flight
	outlet *storeforward.Outlet
	flying map[uint64]*storeforward.Item // by Seq
}

func (c *Core) server(name string) *server {
	s := c.services[name]
	if s == nil {
		s = &server{name: name, window: serviceWindow, flying: map[uint64]*storeforward.Item{}}
		s.outlet = storeforward.NewOutlet(s)
		c.services[name] = s
	}
	return s
}

func (c *Core) serveService(s *server) (storing bool) {
	for len(s.flying) < s.window && !s.closed {
		i, storing := c.m.Next(s.outlet, bundle.AllClasses)
		if i == nil {
			return storing
		}
		s.flying[i.Header.Seq] = i
		d := Delivery{
			Service: s.name, Conn: s.conn, Header: i.Header, Entry: i.Entry, Dup: i.Sent > 1, Blob: i.Blob, Life: i.Header.Expires - c.now,
		}
		if s.name == ServiceLive && len(i.Entry.Frozen) > 0 {
			du, _ := parseDuty(i.Entry.Frozen)
			d.Members, d.Only = du.members, du.only
		}
		c.cur.Deliver = append(c.cur.Deliver, d)
	}
	return false
}

func (c *Core) settleService(t Settlement) {
	s := c.server(t.Service)
	i := s.flying[t.Seq]
	if i == nil || s.conn != t.Conn {
		return
	}
	delete(s.flying, t.Seq)
	if t.Outcome == Dropped {
		c.end(i, t.Reason)
	} else {
		c.noteEnd(i, bundle.OK)
		c.m.Release(i)
		c.stats.Delivered++
	}
	c.m.Hot(s.outlet)
}

// OpenService lets a service have deliveries, at most window in flight (0:
// the default) and marked with conn, which is never used twice. What was in
// flight to an earlier opening is offered again.
func (c *Core) OpenService(now time.Time, name string, conn uint64, window int) {
	c.CloseService(now, name)
	s := c.server(name)
	s.conn, s.closed, s.window = conn, false, cmp.Or(window, serviceWindow)
	c.m.Hot(s.outlet)
}

// CloseService takes back what is in flight to a service and offers it
// nothing until OpenService: what it is for waits in its queue, as for a
// device that is away.
func (c *Core) CloseService(now time.Time, name string) {
	c.at(now)
	s := c.server(name)
	s.closed = true
	seqs := make([]uint64, 0, len(s.flying))
	for seq := range s.flying {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	for _, seq := range seqs {
		c.giveBack(s.flying[seq])
	}
	clear(s.flying)
}

// Readdress hands a delivery in flight to a service on to another service of
// this node, in one batch with its end. Without room that waits for Room.
func (c *Core) Readdress(now time.Time, d Delivery, to string) {
	c.at(now)
	s := c.server(d.Service)
	i := s.flying[d.Header.Seq]
	if i == nil || s.conn != d.Conn {
		return
	}
	if !c.hasRoom(bundle.Control, headerCost(i.Header)+int64(i.Header.Size)+entryCost(to)) {
		c.room.moves = append(c.room.moves, move{d, to})
		return
	}
	delete(s.flying, d.Header.Seq)
	h := *i.Header
	h.Service = to
	h.Entries = []store.Entry{{Queue: store.Queue{Kind: store.ToService, Name: to, Class: h.Class}}}
	c.m.Requeue(i, h)
	c.m.Hot(s.outlet)
}

// resolveHeld gives messages that are held for a region this node is in to
// subscribers that appeared since.
func (c *Core) resolveHeld() {
	c.heldDirty = false
	c.m.QueuesOf(store.ToRegion, func(q *storeforward.Queue) {
		region, ok := heldRegion(q.Name)
		if !ok || !region.Contains(c.cfg.Region) {
			return
		}
		for i := q.Head(); i != nil; {
			next := i.Next()
			if !c.hasRoom(bundle.Control, c.arrivalCost(i.Header, int64(i.Header.Size), true)) {
				c.room.regions = true // Room looks again
				return
			}
			h := *i.Header
			d, _ := parseDuty(i.Entry.Frozen)
			r := c.resolveAs(&h, "", region, true, asking(d.share, c.outbound))
			if !r.empty() {
				r.share, r.again = d.share, true
				c.requeue(i, h, r)
			}
			i = next
		}
	})
}
