package core

import (
	"encoding/binary"
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
// so, older messages of the same queues make room for it.
func (c *Core) admit(h *store.Header, client string, r *recipients, full policy.OnFull) bundle.Reason {
	n := len(r.entries) + len(r.batched)
	charges := c.charges(h, client, r)
	reason := c.fits(h, charges, n)
	if reason != bundle.OK && full == policy.DropOldest {
		for left := maxDisplaced; reason != bundle.OK && left > 0 && c.displace(r); left-- {
			reason = c.fits(h, charges, n)
		}
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
		c.regions = append(c.regions, c.regionOf(q))
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

func (c *Core) fits(h *store.Header, charges []policy.Charge, n int) bundle.Reason {
	if reason := c.m.Room(h.Class, int(h.Size), n); reason != bundle.OK {
		return reason
	}
	if len(charges) == 0 {
		return bundle.OK
	}
	bytes, count := c.pending(h.Charge)
	for _, ch := range charges {
		u := c.m.Used(ch.Key)
		if max := ch.Quota.Bytes; max > 0 && u.Bytes+bytes+int64(h.Size)*int64(n) > max {
			return bundle.QuotaExceeded
		}
		if max := ch.Quota.Count; max > 0 && u.Count+count+n > max {
			return bundle.QuotaExceeded
		}
	}
	return bundle.OK
}

// displace ends the oldest message that waits in one of the queues, and
// reports whether there was one.
func (c *Core) displace(r *recipients) bool {
	var oldest *storeforward.Item
	look := func(name store.Queue) {
		q := c.m.Lookup(name)
		if q == nil {
			return
		}
		for i := q.Head(); i != nil; i = i.Next() {
			if i.State == storeforward.Waiting && i.Entry.State == store.Pending {
				if oldest == nil || i.Header.Seq < oldest.Header.Seq {
					oldest = i
				}
				return
			}
		}
	}
	for _, e := range r.entries {
		look(e.Queue)
	}
	for _, q := range r.batched {
		look(q)
	}
	if oldest == nil {
		return false
	}
	c.end(oldest, bundle.Displaced)
	return true
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
