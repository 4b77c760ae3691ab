package core

import (
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// maxObituaries bounds how many ended bundles one queue keeps for the sake of
// order; beyond it the consumer waits out the gap instead.
const maxObituaries = 1024

// expire ends what outlived its time.
func (c *Core) expire() {
	for {
		i := c.m.Due(c.now)
		if i == nil {
			return
		}
		switch {
		case i.State == storeforward.InFlight, i.Entry.State == store.Received, c.begun(i, 0):
			// Judged when it returns; or the device has it, or may, and still
			// has to hear the rest.
			c.m.Outlive(i)
		case i.Entry.State == store.Ended && i.Entry.Queue.Kind == store.ToOrder:
			c.m.Outlive(i) // drain passes over it
		case i.Entry.State == store.Ended:
			c.m.Release(i)
		default:
			c.expireItem(i)
		}
	}
}

// begun reports whether a device may have seen a QoS 2 delivery: it was offered
// more than offers times, or in an earlier boot. Such a one does not expire: the
// device keeps its packet id until it heard all of it (MQTT 5, [MQTT-4.3.3-7]).
func (c *Core) begun(i *storeforward.Item, offers int) bool {
	if i.Entry.Queue.Kind != store.ToSession || i.Entry.QoS < 2 || i.Entry.State != store.Pending {
		return false
	}
	s := c.sessions[i.Entry.Queue.Name]
	return s != nil && (i.Sent > offers || i.Header.Seq <= min(s.sentOld, c.bootSeq) || carried(i.Entry) != 0)
}

func (c *Core) expireItem(i *storeforward.Item) { c.end(i, bundle.Expired) }

// end ends an item for a reason. A bundle that keeps a place in an order
// stays as its own obituary, so that the consumer does not wait for it.
func (c *Core) end(i *storeforward.Item, reason bundle.Reason) {
	c.stats.Ended[reason] += uint64(max(i.Header.Count, 1))
	c.sight(SightEnded, i.Header, i.Entry.Queue, addr.Node{}, reason)
	c.missed(i.Entry.Queue, i.Header)
	c.noteEnd(i, reason)
	switch {
	case c.buries(i):
		c.m.Bury(i)
	case i.Entry.Queue.Kind == store.ToSession:
		c.forgetDelivery(i)
		c.m.Release(i)
	default:
		c.m.Release(i)
	}
}

// over ends a delivery: the device has it, or never will.
func (c *Core) over(i *storeforward.Item, t Settlement) {
	if t.Outcome == Dropped {
		c.end(i, t.Reason)
		return
	}
	c.noteEnd(i, bundle.OK)
	c.m.Release(i)
	c.stats.Delivered++
	c.sight(SightAcknowledged, i.Header, i.Entry.Queue, addr.Node{}, bundle.OK)
}

// buries reports whether an item stays as its own obituary when it ends. In a
// ToOrder queue drain passes over it.
func (c *Core) buries(i *storeforward.Item) bool {
	q := i.Entry.Queue.Kind
	return q == store.ToNode && i.Entry.DSeq > 0 && i.Queue().Ended() < maxObituaries || q == store.ToOrder
}
