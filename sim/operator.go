package sim

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/sim/oracle"
	"github.com/farhop/farhop/sim/scenario"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// all is more items than any queue of a world has.
const all = 1 << 30

// purge ends messages as an operator does.
func (n *node) purge(f *scenario.Fault, rng *rand.Rand) {
	if !n.up {
		return
	}
	var p core.Purge
	var ok bool
	switch f.Queue {
	case "":
	case scenario.OneMessage:
		if p.Message, ok = n.anyMessage(rng); !ok {
			return
		}
	default:
		q, ok := n.fullest(f.Queue)
		if !ok {
			return
		}
		p.Queue = &q
	}
	if f.Class != "" {
		class, err := bundle.ParseClass(f.Class)
		n.w.fault(err)
		p.Classes = p.Classes.With(class)
	}
	if f.By > 0 {
		p.Before = n.clock().Add(-time.Duration(f.By))
	}
	if f.From != "" {
		p.Origin = n.w.byName[f.From].name
	}
	done := n.w.tamper.purged(n.core.Purge(n.clock(), n.newToken(func(core.Reply) {}), p))
	n.judge.Purged(p, done)
	n.w.report.Purges++
	n.pump()
}

// fullest returns the queue of a kind with the most messages.
func (n *node) fullest(kind string) (best store.Queue, ok bool) {
	most := 0
	for _, q := range n.core.View().Queues {
		if name := core.QueueText(q.Queue); strings.HasPrefix(name, kind+" ") && q.Count > most {
			best, most = q.Queue, q.Count
		}
	}
	return best, most > 0
}

// stored returns what a store holds, by queue and arrival.
func (n *node) stored() (items []store.Item) {
	sum, err := n.store.Summary()
	n.w.fault(err)
	for _, q := range sum.Queues {
		some, err := n.store.Scan(q.Queue, 0, all)
		n.w.fault(err)
		items = append(items, some...)
	}
	return items
}

func (n *node) anyMessage(rng *rand.Rand) (id bundle.ID, ok bool) {
	items := n.stored()
	if len(items) == 0 {
		return id, false
	}
	it := items[rng.IntN(len(items))]
	return it.Header.Message, !it.Damaged
}

// damage makes some stored messages unreadable. With a power cut, so that none
// of them is in memory, it waits until there are some.
func (w *world) damage(n *node, f *scenario.Fault) {
	items := n.stored()
	if len(items) == 0 {
		if f.For > 0 && w.now+time.Minute < w.quiet {
			w.after(time.Minute, func() { w.damage(n, f) })
		}
		return
	}
	rng := w.stream("damage "+f.Node, int(f.At))
	for range max(f.Nth, 1) {
		seq := items[rng.IntN(len(items))].Header.Seq
		n.store.Damage(seq)
		n.judge.Damaged(seq)
	}
	if f.For > 0 {
		n.crash(time.Duration(f.For), false)
	}
}

// unreadable tells the core what its driver found, in an event of its own.
func (n *node) unreadable(q store.Queue, seq uint64) {
	n.w.after(0, n.inLife(func() {
		n.judge.Unreadable(q, seq, false)
		n.core.Unreadable(n.clock(), q, seq)
		n.pump()
	}))
}

// unread tells of queues that have messages and no window: they are read in
// the event that needs them, so that none is at the end of a calm.
func (n *node) unread() {
	if !n.up || !n.w.sc.Drains {
		return
	}
	for _, q := range n.core.View().Queues {
		if q.Oldest == 0 {
			n.judge.Unread(q.Queue)
		}
	}
}

// recount adds up what the store holds on each account, to compare it with
// what memory counts.
func (n *node) recount(v core.View) {
	if n.quotas.Empty() {
		return
	}
	stored, counts := map[string]oracle.Used{}, map[string]oracle.Used{}
	for _, it := range n.stored() {
		if it.Damaged {
			return // whatever it is charged to
		}
		if it.Entry.State == store.Ended || it.Header.Charge == "" {
			continue
		}
		for key := range strings.SplitSeq(it.Header.Charge, "\n") {
			u := stored[key]
			stored[key] = oracle.Used{Bytes: u.Bytes + int64(it.Header.Size), Count: u.Count + max(int(it.Header.Count), 1)}
		}
	}
	for _, u := range v.Quotas {
		counts[u.Key] = oracle.Used{Bytes: u.Bytes, Count: u.Count}
	}
	n.judge.Recounted(counts, stored)
}

// limits returns the quota of an account.
func (n *node) limits(key string) (bytes int64, count int) {
	name, _, _ := strings.Cut(key, "/")
	for _, q := range n.spec.Quotas {
		if q.Name == name {
			return q.Bytes, q.Count
		}
	}
	return 0, 0
}

// charges returns accounts that a message must be on. What a neighbour hands
// over may be unreadable here, and leads to one of several places: there it
// leaves out the quotas of topics and regions.
func (n *node) charges(h *store.Header, k oracle.Publication) (keys []string) {
	client, topic := "", h.Topic
	if h.Prev.IsZero() && k.Number > 0 && h.Service == core.ServiceMQTT {
		p := n.w.pubs[k.Publisher]
		topic = p.spec.Topic
		client = p.client()
	}
	for _, q := range n.spec.Quotas {
		local, remote := q.Client != "" || q.Each == policy.EachClient.String(), q.Peer != "" || q.Each == policy.EachPeer.String()
		here := h.Prev.IsZero()
		switch {
		case here && remote || !here && (local || q.Topic != "" || q.Region != ""),
			q.Class != "" && q.Class != h.Class.String(),
			q.Topic != "" && !interest.Match(q.Topic, topic),
			q.Client != "" && !glob(q.Client, client),
			q.Peer != "" && !glob(q.Peer, h.Prev.String()),
			q.Region != "" && !n.leads(h, q.Region):
			continue
		}
		key := q.Name
		switch q.Each {
		case policy.EachClient.String():
			key += "/" + client
		case policy.EachPeer.String():
			key += "/" + h.Prev.String()
		}
		keys = append(keys, key)
	}
	return keys
}

// leads reports whether an entry of a message is for a region.
func (n *node) leads(h *store.Header, region string) bool {
	for _, e := range h.Entries {
		at := n.region.String()
		switch e.Queue.Kind {
		case store.ToNode:
			at = n.w.byName[e.Queue.Name].region.String()
		case store.ToRegion:
			at = e.Queue.Name
		case store.ToSession, store.ToService, store.ToOrder:
		}
		if at == region || strings.HasPrefix(at, region+"/") {
			return true
		}
	}
	return false
}

// glob matches the patterns of scenarios: a text, or what it begins with and a
// star.
func glob(pattern, s string) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(s, start)
	}
	return pattern == s
}

// outOfTurn counts transfers of a link, and deliveries of a session, that went
// before one of a more urgent class which waited: both were handed out in one
// go, so the lower class had been passed over often enough.
func outOfTurn(e *core.Effects) (n uint64) {
	links, sessions := map[uint64]bundle.Class{}, map[string]bundle.Class{}
	for _, s := range e.Sends {
		if t, ok := s.Frame.(*core.Transfer); ok {
			if last, ok := links[s.Link]; ok && t.Class < last {
				n++
			}
			links[s.Link] = t.Class
		}
	}
	for _, d := range e.Deliver {
		if d.Session == "" || d.Release {
			continue
		}
		if last, ok := sessions[d.Session]; ok && d.Header.Class < last {
			n++
		}
		sessions[d.Session] = d.Header.Class
	}
	return n
}
