package oracle

import (
	"maps"
	"slices"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Finish compares promises and deliveries at the end of a world. healed: all
// faults ended long enough ago, so that nothing may still be on its way.
func (o *Oracle) Finish(healed bool) {
	waiting := map[*message][]store.Queue{}
	where := map[*message][]*Node{}
	for _, n := range o.nodes {
		for _, seq := range slices.Sorted(maps.Keys(n.places)) {
			for _, p := range n.places[seq] {
				if p.state == store.Ended {
					continue
				}
				for _, m := range p.carried() {
					waiting[m] = append(waiting[m], p.queue)
					where[m] = append(where[m], n)
				}
			}
		}
	}
	for _, all := range o.pubs {
		for _, p := range all {
			if p != nil && p.acked {
				o.close(p, waiting, where, healed)
			}
		}
	}
}

// close judges one acknowledged publication for each device it is due at.
func (o *Oracle) close(p *publication, waiting map[*message][]store.Queue, where map[*message][]*Node, healed bool) {
	for _, d := range p.due {
		if slices.Contains(p.got, d) {
			o.Tally.Delivered++
			continue
		}
		reason := bundle.OK
		var held *message
		for _, m := range p.ids {
			if slices.ContainsFunc(m.ends, func(e ended) bool { return leads(e.queue, e.where, d) }) {
				reason = m.reasonAt(d)
			}
			for i, q := range waiting[m] {
				if leads(q, where[m][i], d) {
					held = m
				}
			}
		}
		o.missing(p, d, held, reason, healed)
	}
}

// missing accounts for a delivery that did not happen.
func (o *Oracle) missing(p *publication, d *Device, held *message, reason bundle.Reason, healed bool) {
	switch {
	case held != nil:
		o.Tally.Pending++
		if healed {
			o.blame(Progress, d.node, held, "still stored at the end; client %s waits for it", d.client)
		}
		return
	case reason == bundle.Expired || reason == bundle.SessionEnded || reason == bundle.NotAllowed:
		o.Tally.Expired++
		return
	case reason == bundle.Purged || reason == bundle.Damaged || reason == bundle.Displaced:
		o.Tally.Ended++ // each was judged when it ended
		return
	}
	o.Tally.Lost++
	m := &message{pub: p, blamed: p.blamed}
	if len(p.ids) > 0 {
		m = p.ids[0]
	}
	o.blame(Account, d.node, m, "acknowledged, and neither delivered to %s, stored, nor ended for a reason (%s)", d.client, reason)
}

// Unread tells at the end of a run that a queue holds messages of which none is
// in memory, and none on its way there. They are judged here, and not again.
func (n *Node) Unread(q store.Queue) {
	why := ""
	if n.bare[q] {
		why = ", since a record of it was damaged"
	}
	n.o.broken(Progress, n, "-", "%s is not read from the store any more%s: %d messages wait in it", core.QueueText(q), why, n.counts[q])
	for _, seq := range slices.Sorted(maps.Keys(n.places)) {
		if p := n.find(q, seq); p != nil {
			for _, m := range p.carried() {
				if m.blamed = true; m.pub != nil {
					m.pub.blamed = true
				}
			}
		}
	}
}

// leads reports whether a queue of a node is a way to a device.
func leads(q store.Queue, at *Node, d *Device) bool {
	switch q.Kind {
	case store.ToNode:
		return q.Name == d.node.cfg.Name.String()
	case store.ToRegion:
		r, err := addr.ParseRegion(q.Name)
		return err == nil && r.Contains(d.node.cfg.Region)
	case store.ToSession:
		return at == d.node && q.Name == d.client
	case store.ToOrder:
		return at == d.node
	case store.ToService:
	}
	return false
}

// Agrees compares what a node counts in memory with what its disk holds. Call
// it when no batch is staged.
func (n *Node) Agrees(v core.View) {
	if len(n.staged) > 0 {
		return
	}
	total := 0
	for _, q := range v.Queues {
		total += q.Count
		if n.counts[q.Queue] != q.Count {
			n.o.broken(Agreement, n, "-", "memory counts %d in %s, the disk holds %d", q.Count, core.QueueText(q.Queue), n.counts[q.Queue])
		}
	}
	if lost := n.books.blurred(); v.Totals.Bytes != n.bytes+lost {
		n.o.broken(Agreement, n, "-", "memory counts %d bytes, the disk holds %d and lost %d", v.Totals.Bytes, n.bytes, lost)
	}
	held := 0
	for _, count := range n.counts {
		held += count
	}
	if held != total {
		n.o.broken(Agreement, n, "-", "memory counts %d in all queues, the disk holds %d", total, held)
	}
}

// Recounted compares the accounts of a node with what its store holds, added
// up anew. Call it when no batch is staged and every record can be read.
func (n *Node) Recounted(counts, stored map[string]Used) {
	for _, key := range slices.Sorted(maps.Keys(stored)) {
		if off := n.books.off[key]; counts[key] != (Used{stored[key].Bytes + off.Bytes, stored[key].Count + off.Count}) {
			n.o.broken(Quota, n, "-", "memory counts %+v on account %s, the store holds %+v", counts[key], key, stored[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		if _, ok := stored[key]; !ok && counts[key] != n.books.off[key] {
			n.o.broken(Quota, n, "-", "memory counts %+v on account %s, the store holds nothing", counts[key], key)
		}
	}
}

// Unequal tells that a second recovery did not find what the first left.
func (n *Node) Unequal(first, second string) {
	n.o.broken(Twice, n, "-", "the first recovery left %s, the second %s", first, second)
}
