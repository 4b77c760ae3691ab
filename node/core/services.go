package core

import (
	"github.com/farhop/farhop/storeforward"
)

// ServiceLive is the queue of stored messages that are for live subscribers.
const ServiceLive = "live"

// server is a service of this node: fleet, join, or the live subscribers.
type server struct {
	name   string
	outlet *storeforward.Outlet
	flying map[uint64]*storeforward.Item // by Seq
}

func (c *Core) server(name string) *server {
	s := c.services[name]
	if s == nil {
		s = &server{name: name, flying: map[uint64]*storeforward.Item{}}
		s.outlet = storeforward.NewOutlet(s)
		c.services[name] = s
	}
	return s
}

func (c *Core) serveService(s *server) (storing bool) {
	for len(s.flying) < serviceWindow {
		i, storing := c.m.Next(s.outlet, storeforward.AllClasses)
		if i == nil {
			return storing
		}
		s.flying[i.Header.Seq] = i
		c.cur.Deliver = append(c.cur.Deliver, Delivery{
			Service: s.name, Header: i.Header, Entry: i.Entry, Dup: i.Sent > 1, Blob: i.Blob, Life: i.Header.Expires - c.now,
		})
	}
	return false
}

func (c *Core) settleService(t Settlement) {
	s := c.server(t.Service)
	if i := s.flying[t.Seq]; i != nil {
		delete(s.flying, t.Seq)
		c.m.Release(i)
		c.stats.Delivered++
		c.m.Hot(s.outlet)
	}
}

// resolveHeld gives messages that are held for a region this node is in to
// subscribers that appeared since.
func (c *Core) resolveHeld() {
	c.heldDirty = false
	c.m.Queues(func(q *storeforward.Queue) {
		region, ok := heldRegion(q.Name)
		if !ok || !region.Contains(c.cfg.Region) {
			return
		}
		for i := q.Head(); i != nil; {
			next := i.Next()
			h := *i.Header
			if r := c.resolve(&h, "", region, true); !r.empty() {
				c.requeue(i, h, r)
			}
			i = next
		}
	})
}
