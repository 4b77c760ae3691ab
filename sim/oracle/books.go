package oracle

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// usagePrefix begins the keys of the State in which a node keeps the accounts
// of its quotas: two uvarints, bytes and messages.
const usagePrefix = "u/"

// recountKey is there while accounts still count records that were lost: the
// next life of the node has to count them anew.
const recountKey = "r"

// Used is what is stored on account of a quota.
type Used struct {
	Bytes int64 // of payloads, once per entry
	Count int   // messages, once per entry
}

func (a Used) plus(h *store.Header, sign int) Used {
	return Used{a.Bytes + int64(sign)*int64(h.Size), a.Count + sign*units(h)}
}

// units is how many messages a header stands for.
func units(h *store.Header) int { return max(int(h.Count), 1) }

// books is what a node has to count after the last batch it cut, durable or
// not: the ledger (places) says what the disk holds, the books what memory
// holds. They are opened on the ledger with each life of a node, so that
// nothing is carried over but what is durable.
type books struct {
	items    map[spot]*item
	counts   map[store.Queue]int
	entries  int
	bytes    int64
	orders   int // items that wait for their order
	accounts map[string]Used
	written  map[string]Used        // as the State has them
	off      map[string]Used        // what is wrong with them, or still on them of lost records
	recount  bool                   // the first batch has to put them right
	blur     map[store.Queue]int64  // bytes of items whose header was lost; memory counts them until the queue is empty
	stats    core.Stats             // when the last batch was cut
	owed     int                    // items that a purge said it ended, to be found in the next batch; -1: none
	asking   *attempt               // the submission that is being handled
	why      map[spot]bundle.Reason // of what ended otherwise than by its life or a peer
}

type item struct {
	h      *store.Header
	state  store.EntryState
	purged bool // an operator ended it
	unread bool // its payload could not be read
	bare   bool // nor its header
	free   bool // it is on no account: its header was lost when they were counted
}

// header returns the header for its accounts.
func (it *item) header() *store.Header {
	if !it.free {
		return it.h
	}
	h := *it.h
	h.Charge = ""
	return &h
}

// Opened tells that a core was made of what is durable. state reads the State
// of the store.
func (n *Node) Opened(state func(prefix string, f func(key string, value []byte) error) error) error {
	b := &n.books
	*b = books{
		items: map[spot]*item{}, counts: map[store.Queue]int{}, accounts: map[string]Used{}, written: map[string]Used{}, off: map[string]Used{},
		blur: map[store.Queue]int64{}, why: map[spot]bundle.Reason{}, owed: -1,
	}
	err := state(recountKey, func(key string, _ []byte) error {
		b.recount = b.recount || key == recountKey
		return nil
	})
	for seq, all := range n.places { // sums: their order does not matter
		for i := range all {
			b.add(spot{all[i].queue, seq}, all[i].h, all[i].state, b.recount && n.damaged[seq])
		}
	}
	err = errors.Join(err, state(usagePrefix, func(key string, value []byte) error {
		b.written[strings.TrimPrefix(key, usagePrefix)] = parseUsed(value)
		return nil
	}))
	if b.recount {
		return err // the first batch is judged
	}
	keys := slices.Concat(slices.Collect(maps.Keys(b.accounts)), slices.Collect(maps.Keys(b.written)))
	n.balance(keys)
	return err
}

func parseUsed(value []byte) Used {
	bytes, k := binary.Uvarint(value)
	count, _ := binary.Uvarint(value[max(k, 0):])
	return Used{int64(bytes), int(count)}
}

// balance compares accounts with what is stored on them.
func (n *Node) balance(keys []string) {
	slices.Sort(keys)
	for _, k := range slices.Compact(keys) {
		has, want := n.books.written[k], n.books.accounts[k]
		if off := (Used{has.Bytes - want.Bytes, has.Count - want.Count}); off != n.books.off[k] {
			if n.books.off[k] = off; off == (Used{}) {
				continue
			}
			n.o.broken(Quota, n, "-", "account %s says %d messages of %d bytes, stored are %d of %d", k, has.Count, has.Bytes, want.Count, want.Bytes)
		}
	}
}

// charge adds an item to its accounts, or takes it out.
func (b *books) charge(h *store.Header, sign int) {
	if h.Charge == "" {
		return
	}
	for key := range strings.SplitSeq(h.Charge, "\n") {
		if a := b.accounts[key].plus(h, sign); a == (Used{}) {
			delete(b.accounts, key)
		} else {
			b.accounts[key] = a
		}
	}
}

func (b *books) add(at spot, h *store.Header, state store.EntryState, free bool) {
	it := &item{h: h, state: state, free: free}
	b.items[at] = it
	b.counts[at.queue]++
	b.entries++
	if at.queue.Kind == store.ToOrder {
		b.orders++
	}
	if state != store.Ended {
		b.bytes += int64(h.Size)
		b.charge(it.header(), 1)
	}
}

// end takes an item off the bytes and the accounts.
func (b *books) end(it *item) {
	if it.state != store.Ended {
		b.bytes -= int64(it.h.Size)
		b.charge(it.header(), -1)
	}
}

func (b *books) remove(at spot, it *item) {
	b.end(it)
	delete(b.items, at)
	b.entries--
	if at.queue.Kind == store.ToOrder {
		b.orders--
	}
	if it.bare && it.state != store.Ended {
		b.blur[at.queue] += int64(it.h.Size)
	}
	if b.counts[at.queue]--; b.counts[at.queue] == 0 {
		delete(b.counts, at.queue)
		delete(b.blur, at.queue)
	}
}

// blurred is how many bytes memory counts of items whose size was lost.
func (b *books) blurred() (sum int64) {
	for _, v := range b.blur {
		sum += v
	}
	return sum
}

// enter books a batch as it is cut.
func (n *Node) enter(batch *store.Batch) {
	b := &n.books
	if b.items == nil {
		return // not opened: a test of the ledger alone
	}
	touched := []string{}
	moved := map[bundle.ID]bool{}
	for i := range batch.Drops {
		if it := b.items[spot{batch.Drops[i].Queue, batch.Drops[i].Seq}]; it != nil {
			moved[it.h.Message] = true
		}
	}
	claims := n.admissions(batch, moved)
	freed, ended := n.departures(batch, claims.puts)
	for _, c := range claims.all {
		n.fits(c, freed)
	}
	for i := range batch.Sets {
		key, ok := strings.CutPrefix(batch.Sets[i].Key, usagePrefix)
		if !ok {
			continue
		}
		if touched = append(touched, key); batch.Sets[i].Value == nil {
			delete(b.written, key)
		} else {
			b.written[key] = parseUsed(batch.Sets[i].Value)
		}
	}
	for key := range freed.accounts {
		touched = append(touched, key)
	}
	for key := range claims.accounts {
		touched = append(touched, key)
	}
	if len(freed.lost.accounts) > 0 && !slices.ContainsFunc(batch.Sets, func(st store.Set) bool { return st.Key == recountKey && st.Value != nil }) {
		n.o.broken(Quota, n, "-", "records on accounts were lost, and these are not to be counted anew")
	}
	for key, u := range freed.lost.accounts {
		off := b.off[key]
		b.off[key] = Used{off.Bytes + u.Bytes, off.Count + u.Count}
	}
	if b.recount {
		b.recount = false
		touched = slices.AppendSeq(slices.AppendSeq(touched, maps.Keys(b.accounts)), maps.Keys(b.written))
	}
	n.balance(touched)
	n.counted(&ended)
}

// departed is what left with a batch, by reason, in messages.
type departed [bundle.NumReasons]uint64

// freed is what the ends of a batch gave back.
type freed struct {
	entries  int
	bytes    int64
	accounts map[string]Used
	lost     *freed // of those, what was damaged
}

func (f *freed) add(h *store.Header, state store.EntryState, whole bool) {
	if whole {
		f.entries++
	}
	if state == store.Ended {
		return
	}
	f.bytes += int64(h.Size)
	if h.Charge != "" {
		for key := range strings.SplitSeq(h.Charge, "\n") {
			f.accounts[key] = f.accounts[key].plus(h, 1)
		}
	}
}

func newFreed() *freed { return &freed{accounts: map[string]Used{}} }

// departures books the ends of a batch, and why they came.
func (n *Node) departures(batch *store.Batch, puts map[bundle.ID]bool) (*freed, departed) {
	b := &n.books
	out, ended, purged := newFreed(), departed{}, 0
	out.lost = newFreed()
	leave := func(at spot, it *item, whole bool) {
		if it.state != store.Ended {
			why := n.reason(at, it, puts[it.h.Message])
			if why != bundle.OK {
				b.why[at] = why
				n.o.Tally.Ends[why]++
				ended[why] += uint64(units(it.h))
				if why == bundle.Damaged && it.bare {
					ended[why] -= uint64(units(it.h)) - 1 // nobody knows how many it was
				}
			}
			if why == bundle.Purged {
				purged++
			}
		}
		if it.state == store.Ended && it.bare && whole {
			ended[bundle.Damaged]++ // that it was an obituary is lost too
		}
		out.add(it.header(), it.state, whole)
		if it.bare && it.state != store.Ended {
			out.lost.add(it.header(), it.state, whole)
		}
	}
	for i := range batch.Marks {
		at := spot{batch.Marks[i].Queue, batch.Marks[i].Seq}
		it := b.items[at]
		switch {
		case it == nil:
		case batch.Marks[i].State == store.Ended:
			leave(at, it, false)
			b.end(it)
			it.state = store.Ended
		default:
			it.state = batch.Marks[i].State
		}
	}
	for i := range batch.Drops {
		at := spot{batch.Drops[i].Queue, batch.Drops[i].Seq}
		if it := b.items[at]; it != nil {
			leave(at, it, true)
			b.remove(at, it)
		}
	}
	if b.owed >= 0 && b.owed != purged {
		n.o.broken(Purge, n, "-", "a purge said it ended %d, and %d ended", b.owed, purged)
	}
	b.owed = -1
	return out, ended
}

// counted compares what ended with what the node counts.
func (n *Node) counted(ended *departed) {
	if n.cfg.Stats == nil {
		return
	}
	now := n.cfg.Stats()
	for _, r := range []bundle.Reason{bundle.Purged, bundle.Damaged, bundle.Displaced} {
		if d := now.Ended[r] - n.books.stats.Ended[r]; d != ended[r] {
			n.o.broken(Reasons, n, "-", "%d messages are counted as %s, %d ended so", d, r, ended[r])
		}
	}
	n.books.stats = now
}
