package storeforward

import (
	"cmp"
	"slices"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Config bounds a Machine. The zero value of a field means its default.
type Config struct {
	Window   int   // items per queue kept in memory; default 4096
	MaxBytes int64 // payload bytes in the store; default 1 GiB
	MaxCount int   // messages in the store; default 1,000,000; see reserve
	Cache    int64 // payload bytes kept in memory for sending; default 32 MiB
}

func (c Config) withDefaults() Config {
	c.Window = cmp.Or(c.Window, 4096)
	c.MaxBytes = cmp.Or(c.MaxBytes, 1<<30)
	c.MaxCount = cmp.Or(c.MaxCount, 1_000_000)
	c.Cache = cmp.Or(c.Cache, 32<<20)
	return c
}

// OrderWindow is how many items of a ToOrder queue are windowed at least.
const OrderWindow = 4096

// Load asks for the items of a queue that arrived after a given one.
type Load struct {
	Queue store.Queue
	After uint64
	N     int
}

// Stats is what a Machine holds.
type Stats struct {
	Messages int   // entries: a message in two queues counts twice
	Bytes    int64 // their payload bytes
	Cached   int64 // payload bytes in memory
}

// Machine owns the queues of one node. It is not safe for concurrent use.
type Machine struct {
	// Batch collects the writes since the last Cut. The owner may add Sets.
	Batch *store.Batch
	// Route names the outlet of a queue, nil for none yet. It is asked when a
	// queue appears and again on Reroute.
	Route func(store.Queue) *Outlet

	cfg       Config
	queues    map[store.Queue]*Queue
	order     ages
	stats     Stats
	seq       uint64 // last arrival number given
	persisted store.LSN
	expiry    heap[*Item]
	wants     []*Queue // queues to load from
	starved   []*Queue // queues whose last load found nothing, because it was not durable yet
	hot       []*Outlet
	usage     map[string]*Usage
	charged   []*Usage // whose counts are not in a batch yet
}

// New returns an empty Machine whose first batch has LSN 1.
func New(cfg Config, route func(store.Queue) *Outlet) *Machine {
	return &Machine{
		Batch: &store.Batch{LSN: 1}, Route: route, cfg: cfg.withDefaults(), queues: map[store.Queue]*Queue{},
		expiry: newExpiry(), usage: map[string]*Usage{},
	}
}

// Restore tells the machine what the store holds. Call it once, first.
func (m *Machine) Restore(s store.Summary) {
	m.seq = max(s.NextSeq, 1) - 1
	slices.SortFunc(s.Queues, func(a, b store.QueueSummary) int { return cmp.Compare(a.First, b.First) })
	for _, qs := range s.Queues {
		q := m.queue(qs.Queue)
		q.Count, q.Bytes = qs.Count, qs.Bytes
		m.stats.Messages += qs.Count
		m.stats.Bytes += qs.Bytes
		m.want(q)
	}
}

// NextSeq draws the arrival number of a new message.
func (m *Machine) NextSeq() uint64 {
	m.seq++
	return m.seq
}

// LastSeq returns the last arrival number drawn.
func (m *Machine) LastSeq() uint64 { return m.seq }

// Put takes custody of a message: one item per entry.
func (m *Machine) Put(h *store.Header, b *store.Blob) {
	m.Batch.Puts = append(m.Batch.Puts, store.Put{Header: h, Blob: b})
	for _, e := range h.Entries {
		m.add(h, e, b)
	}
}

// Requeue moves an item into other queues, in one batch. It arrives there as
// if new, under the next arrival number.
func (m *Machine) Requeue(i *Item, h store.Header) {
	b, from := i.Blob, uint64(0)
	if b == nil {
		from = i.Header.Seq
	}
	m.Release(i)
	h.Seq = m.NextSeq()
	m.Batch.Puts = append(m.Batch.Puts, store.Put{Header: &h, Blob: b, From: from})
	for _, e := range h.Entries {
		m.add(&h, e, b)
	}
}

// Release ends custody of an item.
func (m *Machine) Release(i *Item) {
	if i.State == Released {
		return
	}
	m.Batch.Drops = append(m.Batch.Drops, store.Drop{Queue: i.Entry.Queue, Seq: i.Header.Seq, Size: i.Header.Size})
	m.forget(i)
}

// Bury turns an expired item into its obituary, which travels in its place.
func (m *Machine) Bury(i *Item) {
	i.queue.Bytes -= i.size() // the store counts no payload for it either
	m.stats.Bytes -= i.size()
	m.charge(i.Header, -1)
	m.expiry.remove(i)
	m.mark(i, store.Ended)
	m.expiry.push(i)
	m.uncache(i)
}

// MarkReceived records that a device answered a QoS 2 delivery with PUBREC.
func (m *Machine) MarkReceived(i *Item) { m.mark(i, store.Received) }

func (m *Machine) mark(i *Item, s store.EntryState) {
	if s == store.Ended && i.Entry.State != store.Ended {
		i.queue.ended++
	}
	i.Entry.State = s
	i.lsn = m.Batch.LSN // offered again only when the mark is durable
	m.Batch.Marks = append(m.Batch.Marks, store.Mark{Queue: i.Entry.Queue, Seq: i.Header.Seq, State: s, Size: i.Header.Size})
}

// Return makes an in-flight item wait again.
func (m *Machine) Return(i *Item) {
	if i.State != InFlight {
		return
	}
	i.queue.giveBack(i)
	m.ready(i.queue)
}

// Cut ends the current batch and begins the next. It returns nil when there
// is nothing to write.
func (m *Machine) Cut() *store.Batch {
	if m.Batch.Empty() {
		return nil
	}
	b := m.Batch
	// The next batch is likely to be as large.
	m.Batch = &store.Batch{
		LSN: b.LSN + 1, Puts: make([]store.Put, 0, len(b.Puts)), Drops: make([]store.Drop, 0, len(b.Drops)),
		Sets: make([]store.Set, 0, len(b.Sets)),
	}
	return b
}

// Persisted makes all items of batches up to lsn ready to go.
func (m *Machine) Persisted(lsn store.LSN) {
	m.persisted = max(m.persisted, lsn)
	for _, q := range m.starved {
		m.want(q)
	}
	m.starved = m.starved[:0]
}

// Durable reports whether an item may leave: its batch is persisted.
func (m *Machine) Durable(i *Item) bool { return i.lsn <= m.persisted }

// ageing is how often a class that waits is passed over before it is served
// once out of turn: so the lowest class keeps a share of a saturated link.
const ageing = 32

// Next takes the next item of some classes for an outlet: of the most urgent
// class that waits, or of one that was passed over too often. Without one that
// is ready it returns nil, and storing tells whether one is on its way to disk.
func (m *Machine) Next(o *Outlet, of bundle.Classes) (i *Item, storing bool) {
	var best *Queue
	for c := range bundle.Class(bundle.NumClasses) {
		q := o.oldest(c)
		if q == nil || !of.Has(c) {
			continue
		}
		if !m.Durable(q.next()) {
			storing = true
			continue
		}
		if best == nil {
			best = q
			continue
		}
		if o.passed[c]++; o.passed[c] > ageing && best.Name.Class != bundle.Control {
			best = q
		}
	}
	if best == nil {
		return nil, storing
	}
	o.passed[best.Name.Class] = 0
	i = best.take()
	o.fix(best)
	m.want(best)
	return i, false
}

// Peek returns what Next would take of one class without taking it.
func (m *Machine) Peek(o *Outlet, c bundle.Class) *Item {
	if q := o.oldest(c); q != nil && m.Durable(q.next()) {
		return q.next()
	}
	return nil
}

// Loads returns what should be read into windows that ran low.
func (m *Machine) Loads() []Load {
	var out []Load
	for _, q := range m.wants {
		if q.loading && !q.complete() {
			q.asked = m.persisted
			out = append(out, Load{Queue: q.Name, After: q.last, N: m.room(q) - q.windowed})
		} else {
			q.loading = false // else nobody would ask again
		}
	}
	m.wants = m.wants[:0]
	return out
}

// Loaded puts items read from the store into the window of their queue. It
// ends those the store can no longer read, and returns how many.
func (m *Machine) Loaded(name store.Queue, items []store.Item) (damaged int) {
	q := m.queue(name)
	q.loading = false
	for _, it := range items {
		if it.Header.Seq <= q.last {
			continue
		}
		i := &Item{Header: it.Header, Entry: it.Entry, expiry: -1}
		m.window(q, i)
		if it.Damaged {
			damaged++
			m.Release(i)
		}
	}
	m.ready(q)
	if len(items) > 0 || m.persisted > q.asked {
		m.want(q)
	} else {
		m.starved = append(m.starved, q)
	}
	return damaged
}

// Lookup returns a queue, nil when nothing was ever put there.
func (m *Machine) Lookup(name store.Queue) *Queue { return m.queues[name] }

// Queues calls f for every queue, oldest first.
func (m *Machine) Queues(f func(*Queue)) {
	m.order.each(f)
}

// QueuesOf calls f for each queue of a kind.
func (m *Machine) QueuesOf(k store.Kind, f func(*Queue)) {
	for q := m.order.of(k).first; q != nil; {
		next := q.younger
		f(q)
		q = next
	}
}

// Reroute asks Route again for every queue.
func (m *Machine) Reroute() {
	m.order.each(m.reroute)
}

// RerouteOne asks Route again for one queue, if it is there.
func (m *Machine) RerouteOne(name store.Queue) {
	if q := m.queues[name]; q != nil {
		m.reroute(q)
	}
}

func (m *Machine) reroute(q *Queue) {
	o := m.Route(q.Name)
	if o == q.outlet {
		return
	}
	if q.heap >= 0 {
		q.outlet.ready[q.Name.Class].remove(q)
	}
	q.outlet = o
	m.ready(q)
}

// Retire forgets a queue whose destination is gone, if it is empty.
func (m *Machine) Retire(name store.Queue) {
	q := m.queues[name]
	if q == nil || q.Count > 0 {
		return
	}
	delete(m.queues, name)
	m.order.remove(q)
}

// Stats returns what the machine holds.
func (m *Machine) Stats() Stats { return m.stats }

// add counts a new item of a queue, and windows it when there is room.
func (m *Machine) add(h *store.Header, e store.Entry, b *store.Blob) {
	q := m.queue(e.Queue)
	full := !q.complete() || q.windowed >= m.room(q)
	i := &Item{Header: h, Entry: e, lsn: m.Batch.LSN, expiry: -1}
	q.Count++
	q.Bytes += i.size()
	m.stats.Messages++
	m.stats.Bytes += i.size()
	if e.State != store.Ended {
		m.charge(h, 1)
	}
	if full {
		m.want(q)
		return
	}
	if b != nil && m.stats.Cached+int64(h.Size) <= m.cfg.Cache {
		i.Blob = b
		m.stats.Cached += int64(h.Size)
	}
	m.window(q, i)
	m.ready(q)
}

// room is how many items of a queue are windowed. What is held back for the
// sake of order is looked up by number, so all of it is.
func (m *Machine) room(q *Queue) int {
	if q.Name.Kind == store.ToOrder {
		return max(m.cfg.Window, OrderWindow)
	}
	return m.cfg.Window
}

func (m *Machine) window(q *Queue, i *Item) {
	q.push(i)
	m.expiry.push(i)
}

// forget takes an item out of everything in memory.
func (m *Machine) forget(i *Item) {
	q := i.queue
	m.uncache(i)
	m.expiry.remove(i)
	q.unlink(i)
	i.State = Released
	m.stats.Messages--
	m.stats.Bytes -= i.size()
	if i.Entry.State != store.Ended {
		m.charge(i.Header, -1)
	}
	if q.Count == 0 { // of a damaged item the size was not known
		m.stats.Bytes -= q.Bytes
		q.Bytes = 0
	}
	m.ready(q)
	m.want(q)
}

func (m *Machine) uncache(i *Item) {
	if i.Blob != nil {
		m.stats.Cached -= int64(i.Header.Size)
		i.Blob = nil
	}
}

func (m *Machine) ready(q *Queue) {
	if q.outlet != nil {
		q.outlet.fix(q)
		m.Hot(q.outlet)
	}
}

// Hot asks for an outlet to be looked at: it may have something to take.
func (m *Machine) Hot(o *Outlet) {
	if !o.hot {
		o.hot = true
		m.hot = append(m.hot, o)
	}
}

// TakeHot returns the outlets that became Hot since the last call, in order.
// The slice is valid until into is used again.
func (m *Machine) TakeHot(into []*Outlet) []*Outlet {
	into = append(into[:0], m.hot...)
	clear(m.hot)
	m.hot = m.hot[:0]
	for _, o := range into {
		o.hot = false
	}
	return into
}

// want notes that a queue's window ran low while the store has more.
func (m *Machine) want(q *Queue) {
	if q.complete() || q.loading || q.windowed > m.room(q)/2 {
		return
	}
	q.loading = true
	m.wants = append(m.wants, q)
}

func (m *Machine) queue(name store.Queue) *Queue {
	q := m.queues[name]
	if q == nil {
		q = &Queue{Name: name, heap: -1}
		m.queues[name] = q
		m.order.add(q)
		q.outlet = m.Route(name)
	}
	return q
}
