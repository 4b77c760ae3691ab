package core

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// maxDisplaced bounds how many old messages one new one may displace.
const maxDisplaced = 256

// admit decides whether a message may be stored for its recipients: there is
// room in the store and in every quota it counts against. Where its route says
// so, older messages that came by such a route make room for it.
func (c *Core) admit(h *store.Header, client string, r *recipients) bundle.Reason {
	n := len(r.entries) + len(r.batched)
	charges := c.charges(h, client, r)
	reason, _ := c.fits(h, charges, n, &storeforward.Freed{})
	if reason != bundle.OK && h.Yields && c.displace(h, charges, n, r) {
		reason = bundle.OK
	}
	if reason != bundle.OK {
		c.undraw(r.entries)
	}
	return reason
}

// charges finds the quotas a message counts against, and notes them in it.
func (c *Core) charges(h *store.Header, client string, r *recipients) []policy.Charge {
	if c.settings.Quotas.Empty() {
		return nil
	}
	c.regions = c.regions[:0]
	for _, e := range r.entries {
		c.regions = append(c.regions, c.regionOf(e.Queue))
	}
	for _, q := range r.batched {
		c.regions = append(c.regions, c.regionOf(q.Queue))
	}
	c.charging = c.settings.Quotas.Charges(&policy.Subject{
		Client: client, Topic: h.Topic, Class: h.Class, Peer: h.Prev, Regions: c.regions,
	}, c.charging[:0])
	if len(c.charging) == 1 {
		h.Charge = c.charging[0].Key
		return c.charging
	}
	keys := make([]string, len(c.charging))
	for i, ch := range c.charging {
		keys[i] = ch.Key
	}
	h.Charge = strings.Join(keys, "\n")
	return c.charging
}

// regionOf is where a queue leads.
func (c *Core) regionOf(q store.Queue) addr.Region {
	switch q.Kind {
	case store.ToNode:
		if a := c.table.Advert(c.dest(q).node); a != nil {
			return a.Region
		}
		return addr.Region{}
	case store.ToRegion:
		return c.dest(q).region
	case store.ToSession, store.ToService, store.ToOrder:
	}
	return c.cfg.Region
}

// fits reports whether a message with n entries has room once freed is gone,
// and when not, why, and which account is full; "" is the store.
func (c *Core) fits(h *store.Header, charges []policy.Charge, n int, freed *storeforward.Freed) (bundle.Reason, string) {
	if reason := c.m.RoomAfter(freed, h.Class, int(h.Size), n); reason != bundle.OK {
		return reason, ""
	}
	units := n * max(int(h.Count), 1)
	for _, ch := range charges {
		u, open, gone := c.m.Used(ch.Key), c.joined[ch.Key], freed.Accounts[ch.Key]
		if max := ch.Quota.Bytes; max > 0 && u.Bytes+open.Bytes-gone.Bytes+int64(h.Size)*int64(n) > max {
			return bundle.QuotaExceeded, ch.Key
		}
		if max := ch.Quota.Count; max > 0 && u.Count+open.Count-gone.Count+units > max {
			return bundle.QuotaExceeded, ch.Key
		}
	}
	return bundle.OK, ""
}

// displace makes room for a message by ending the oldest that wait in its
// queues, came by a route that says so, and count where room is missing. It
// ends none unless that is enough.
func (c *Core) displace(h *store.Header, charges []policy.Charge, n int, r *recipients) bool {
	var from []*storeforward.Item
	for _, e := range r.entries {
		from = append(from, c.oldest(e.Queue))
	}
	for _, q := range r.batched {
		from = append(from, c.oldest(q.Queue))
	}
	var victims []*storeforward.Item
	freed := &storeforward.Freed{}
	for range maxDisplaced {
		reason, account := c.fits(h, charges, n, freed)
		if reason == bundle.OK {
			for _, i := range victims {
				c.end(i, bundle.Displaced)
			}
			return true
		}
		i := takeOldest(from, account)
		if i == nil {
			return false
		}
		victims = append(victims, i)
		freed.Add(i, !c.buries(i))
	}
	return false
}

// oldest returns the first item that waits in a queue.
func (c *Core) oldest(name store.Queue) *storeforward.Item {
	if q := c.m.Lookup(name); q != nil {
		return q.Head()
	}
	return nil
}

// takeOldest takes the oldest item that may be displaced and counts on an
// account, any when that is "", off the heads of some queues.
func takeOldest(from []*storeforward.Item, account string) *storeforward.Item {
	best := -1
	for k, i := range from {
		for i != nil && !(i.State == storeforward.Waiting && i.Entry.State == store.Pending && i.Header.Yields && chargedTo(i, account)) {
			i = i.Next()
		}
		if from[k] = i; i != nil && (best < 0 || i.Header.Seq < from[best].Header.Seq) {
			best = k
		}
	}
	if best < 0 {
		return nil
	}
	i := from[best]
	from[best] = i.Next()
	return i
}

func chargedTo(i *storeforward.Item, account string) bool {
	if account == "" {
		return true
	}
	for key := range strings.SplitSeq(i.Header.Charge, "\n") {
		if key == account {
			return true
		}
	}
	return false
}

// restoreUsage takes back one account of a quota.
func (c *Core) restoreUsage(key string, value []byte) error {
	bytes, n := binary.Uvarint(value)
	count, m := binary.Uvarint(value[max(n, 0):])
	if n <= 0 || m <= 0 {
		return errDamaged
	}
	c.m.RestoreUsage(storeforward.Usage{Key: key, Bytes: int64(bytes), Count: int(count)})
	return nil
}

// recount makes the accounts anew from what is stored: nobody knows any more
// what a record that was lost counted against.
func (c *Core) recount(p Persistent, sum store.Summary) error {
	const step = 256
	used := map[string]storeforward.Usage{}
	for _, q := range sum.Queues {
		for after, more := uint64(0), true; more; {
			items, err := p.Scan(q.Queue, after, step)
			if err != nil {
				return fmt.Errorf("count what is stored on each quota: %w", err)
			}
			for i := range items {
				h := items[i].Header
				after = h.Seq
				if items[i].Damaged || items[i].Entry.State == store.Ended || h.Charge == "" {
					continue
				}
				for key := range strings.SplitSeq(h.Charge, "\n") {
					u := used[key]
					used[key] = storeforward.Usage{Key: key, Bytes: u.Bytes + int64(h.Size), Count: u.Count + max(int(h.Count), 1)}
				}
			}
			more = len(items) == step
		}
	}
	c.m.Recount(used)
	c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: recountKey})
	return nil
}

// encodeUsage writes the accounts that changed.
func (c *Core) encodeUsage() {
	c.m.TakeCharged(func(u storeforward.Usage) {
		set := store.Set{Key: usagePrefix + u.Key}
		if u.Count > 0 {
			set.Value = binary.AppendUvarint(binary.AppendUvarint(nil, uint64(max(u.Bytes, 0))), uint64(u.Count))
		}
		c.m.Batch.Sets = append(c.m.Batch.Sets, set)
	})
}
