package oracle

import (
	"maps"
	"slices"
	"strings"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// kept is the share of a store, in percent, that each class leaves to those
// above it.
var kept = [bundle.NumClasses]int64{
	bundle.Control: 0, bundle.Alarm: 2, bundle.Interactive: 5, bundle.Telemetry: 10, bundle.Bulk: 20,
}

// claim is a put that was let in, with what was there when it came but for
// what its own batch ended: that may have gone before.
type claim struct {
	h       *store.Header
	entries int // it is charged for
	size    int64
	had     struct {
		entries int
		bytes   int64
	}
	accounts map[string]Used
}

// claims are the admissions of a batch.
type claims struct {
	all      []claim
	puts     map[bundle.ID]bool
	accounts map[string]bool // charged
}

// admissions books the puts of a batch.
func (n *Node) admissions(batch *store.Batch, moved map[bundle.ID]bool) claims {
	b := &n.books
	out := claims{puts: map[bundle.ID]bool{}, accounts: map[string]bool{}}
	for i := range batch.Puts {
		p := &batch.Puts[i]
		h := p.Header
		out.puts[h.Message] = true
		if p.From == 0 && !moved[h.Message] {
			if entries := n.admitted(p); entries > 0 {
				out.all = append(out.all, n.claim(h, entries))
			}
			n.charged(p)
		}
		if h.Count > 1 {
			n.o.Tally.Batches++
		}
		for e := range h.Entries {
			b.add(spot{h.Entries[e].Queue, h.Seq}, h, h.Entries[e].State, false)
		}
		if h.Charge != "" {
			for key := range strings.SplitSeq(h.Charge, "\n") {
				out.accounts[key] = true
			}
		}
		if n.damaged[p.From] {
			n.damaged[h.Seq] = true
		}
	}
	return out
}

func (n *Node) claim(h *store.Header, entries int) claim {
	b := &n.books
	c := claim{h: h, entries: entries, size: int64(h.Size)}
	c.had.entries, c.had.bytes = b.entries, b.bytes
	if h.Charge != "" {
		c.accounts = map[string]Used{}
		for key := range strings.SplitSeq(h.Charge, "\n") {
			c.accounts[key] = b.accounts[key]
		}
	}
	return c
}

// admitted returns for how many entries a put had to find room, 0 when it need
// not be judged. What is published here has to find room for all its entries.
// A bundle that arrives has to find it once, whoever wants it here; but what
// others wait for is taken in any case, an obituary is no payload, and what
// was in a batch was let in with all of it.
func (n *Node) admitted(p *store.Put) int {
	h := p.Header
	switch {
	case len(h.Entries) == 0 || h.Entries[0].State == store.Ended:
		return 0
	case h.Prev.IsZero():
		return len(h.Entries)
	case h.Entries[0].Frozen != nil:
		if v, err := bundle.ParseFrozen(h.Entries[0].Frozen); err != nil || v.Primary.ID().Node == n.cfg.Name {
			return 0 // made here, of what came for a region
		}
		return 1
	case n.books.orders > 0:
		return 0
	}
	if m := n.o.messages[h.Message]; m != nil {
		for _, c := range m.copies {
			if len(c.batch) > 1 {
				return 0
			}
		}
	}
	return 1
}

// fits judges whether there can have been room for a put.
func (n *Node) fits(c claim, out *freed) {
	class := kept[c.h.Class]
	if most := n.cfg.MaxCount - int(int64(n.cfg.MaxCount)*class/100); n.cfg.MaxCount > 0 && c.had.entries-out.entries+c.entries > most {
		n.o.broken(Bounded, n, c.h.Message.String(), "let in as %s with %d entries stored, where that class has room for %d",
			c.h.Class, c.had.entries-out.entries, most)
	}
	if most := n.cfg.MaxBytes - n.cfg.MaxBytes/100*class; n.cfg.MaxBytes > 0 && c.had.bytes-out.bytes+int64(c.entries)*c.size > most {
		n.o.broken(Bounded, n, c.h.Message.String(), "%d bytes let in as %s with %d stored, where that class has room for %d",
			c.size, c.h.Class, c.had.bytes-out.bytes, most)
	}
	for _, key := range slices.Sorted(maps.Keys(c.accounts)) {
		a := c.accounts[key]
		bytes, count := int64(0), 0
		if n.cfg.Limits != nil {
			bytes, count = n.cfg.Limits(key)
		}
		if has := a.Bytes - out.accounts[key].Bytes + int64(c.entries)*c.size; bytes > 0 && has > bytes {
			n.o.broken(Quota, n, c.h.Message.String(), "let in with %d bytes on account %s, whose quota is %d", has, key, bytes)
		}
		if has := a.Count - out.accounts[key].Count + c.entries*units(c.h); count > 0 && has > count {
			n.o.broken(Quota, n, c.h.Message.String(), "let in with %d messages on account %s, whose quota is %d", has, key, count)
		}
	}
}

// charged judges whether a put counts against every quota it is for.
func (n *Node) charged(p *store.Put) {
	h := p.Header
	if n.cfg.Charges == nil || len(h.Entries) == 0 {
		return
	}
	var pub Publication
	if m := n.members(p); len(m) > 0 {
		pub = m[0].Pub
	}
	for _, key := range n.cfg.Charges(h, pub) {
		if !strings.Contains("\n"+h.Charge+"\n", "\n"+key+"\n") {
			n.o.broken(Quota, n, h.Message.String(), "not on account %s, only on %q", key, h.Charge)
		}
	}
}

// reason says why an item ended that neither a device, a peer, its life nor a
// move took away; OK when one of them did.
func (n *Node) reason(at spot, it *item, moved bool) bundle.Reason {
	b := &n.books
	switch {
	case it.purged && !it.bare:
		return bundle.Purged
	case it.unread:
		if !n.damaged[at.seq] {
			n.o.blame(Reasons, n, n.o.message(it.h.Message), "ended as damaged, and its record is whole")
		}
		return bundle.Damaged
	case b.asking == nil || !n.yields(b.asking.pub.topic) || moved || it.state != store.Pending || n.cfg.Clock() >= it.h.Expires ||
		n.released[at] || n.settled[at] || n.denied[at] != bundle.OK:
		return bundle.OK
	}
	// Nothing but a submission for whose sake old messages go can be the cause.
	b.asking.displaced++
	if m := n.o.message(it.h.Message); m != nil {
		for _, one := range m.aboard() {
			if one.pub == nil || !n.yields(one.pub.topic) {
				n.o.blame(Reasons, n, one, "displaced from %s for the sake of a newer one, and its own route does not say so", core.QueueText(at.queue))
			}
		}
	}
	return bundle.Displaced
}

// aboard returns the messages of the batch that m begins, m alone when it
// begins none.
func (m *message) aboard() []*message {
	for _, c := range m.copies {
		if len(c.batch) > 1 && c.batch[0] == m {
			return c.batch
		}
	}
	return []*message{m}
}

func (n *Node) yields(topic string) bool { return n.cfg.Yields != nil && n.cfg.Yields(topic) }

// Handled tells that a submission was handled, up to what waits for the disk.
func (n *Node) Handled() { n.books.asking = nil }

// Damaged tells that the disk changed the record of a message.
func (n *Node) Damaged(seq uint64) { n.damaged[seq] = true }

// Unreadable tells that the node was given a record it cannot read; bare: not
// even its header.
func (n *Node) Unreadable(q store.Queue, seq uint64, bare bool) {
	if it := n.books.items[spot{q, seq}]; it != nil {
		it.unread, it.bare = true, it.bare || bare
		n.bare[q] = n.bare[q] || bare
	}
}

// Purged tells what an operator ended and what the node said to it, before
// anything follows.
func (n *Node) Purged(p core.Purge, done core.Purged) {
	b := &n.books
	matched := 0
	for at, it := range b.items {
		if !matches(&p, at.queue, it) {
			continue
		}
		matched++
		it.purged = true
	}
	if b.owed = -1; done.Ended > 0 {
		b.owed = done.Ended
	}
	if done.Ended > matched || done.Ended < matched-done.Left {
		n.o.broken(Purge, n, "-", "a purge ended %d of %d that match, and %d were behind the windows", done.Ended, matched, done.Left)
	}
}

func matches(p *core.Purge, q store.Queue, it *item) bool {
	return it.state != store.Ended && !it.purged &&
		(p.Queue == nil || p.Queue.Kind == q.Kind && p.Queue.Name == q.Name) &&
		(p.Classes == 0 || p.Classes.Has(q.Class)) &&
		(p.Message.IsZero() || p.Message == it.h.Message) &&
		(p.Before.IsZero() || it.h.Received < p.Before.UnixMilli()) &&
		(p.Origin.IsZero() || p.Origin == it.h.Origin || p.Origin == it.h.Message.Node)
}

// unpurged judges whether an item may be offered.
func (n *Node) unpurged(at spot) {
	if it := n.books.items[at]; it != nil && it.purged && it.state != store.Ended {
		n.o.blame(Purge, n, n.o.message(it.h.Message), "offered from %s after an operator ended it", core.QueueText(at.queue))
	}
}
