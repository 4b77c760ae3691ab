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
	}
	o.Tally.Lost++
	m := &message{pub: p, blamed: p.blamed}
	if len(p.ids) > 0 {
		m = p.ids[0]
	}
	o.blame(Account, d.node, m, "acknowledged, and neither delivered to %s, stored, nor ended for a reason (%s)", d.client, reason)
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
	if v.Totals.Bytes != n.bytes {
		n.o.broken(Agreement, n, "-", "memory counts %d bytes, the disk holds %d", v.Totals.Bytes, n.bytes)
	}
	held := 0
	for _, count := range n.counts {
		held += count
	}
	if held != total {
		n.o.broken(Agreement, n, "-", "memory counts %d in all queues, the disk holds %d", total, held)
	}
}

// Unequal tells that a second recovery did not find what the first left.
func (n *Node) Unequal(first, second string) {
	n.o.broken(Twice, n, "-", "the first recovery left %s, the second %s", first, second)
}
