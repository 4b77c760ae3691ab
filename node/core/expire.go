package core

import (
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
		// In flight: judged when it returns. Ended: it is its own obituary.
		// Received: the device has it, and still has to hear PUBREL.
		if i.State == storeforward.InFlight || i.Entry.State != store.Pending {
			c.m.Outlive(i)
			continue
		}
		c.expireItem(i)
	}
}

func (c *Core) expireItem(i *storeforward.Item) { c.end(i, bundle.Expired) }

// end ends an item for a reason. A bundle that keeps a place in an order
// stays as its own obituary, so that the consumer does not wait for it.
func (c *Core) end(i *storeforward.Item, reason bundle.Reason) {
	c.stats.Ended[reason] += uint64(max(i.Header.Count, 1))
	switch q := i.Entry.Queue; {
	case q.Kind == store.ToNode && i.Entry.DSeq > 0 && i.Queue().Ended() < maxObituaries && reason != bundle.HopLimit:
		c.m.Outlive(i)
		c.m.Bury(i)
	case q.Kind == store.ToOrder: // drain passes over it
		c.m.Outlive(i)
		c.m.Bury(i)
	case q.Kind == store.ToSession:
		c.forgetDelivery(i)
		c.m.Release(i)
	default:
		c.m.Release(i)
	}
}
