package storeforward

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/memstore"
	"github.com/farhop/farhop/storeforward/store"
)

// The model is what a Machine would be without windows, batches and disks:
// every queue is a slice in the order of arrival.
type model struct {
	queues map[store.Queue][]entry
}

type entry struct {
	seq      uint64
	size     int64
	expires  int64
	ended    bool
	outlived bool
	flying   bool
	lsn      store.LSN
}

func (e entry) live() int64 {
	if e.ended {
		return 0
	}
	return e.size
}

func (m *model) clone() *model {
	c := &model{queues: map[store.Queue][]entry{}}
	for q, es := range m.queues {
		c.queues[q] = append([]entry(nil), es...)
	}
	return c
}

// reborn is the model after a crash: what flew waits again.
func (m *model) reborn() *model {
	c := m.clone()
	for _, es := range c.queues {
		for k := range es {
			es[k].flying, es[k].outlived, es[k].lsn = false, false, 0
		}
	}
	return c
}

func (m *model) at(q store.Queue, seq uint64) int {
	for k, e := range m.queues[q] {
		if e.seq == seq {
			return k
		}
	}
	return -1
}

func (m *model) remove(q store.Queue, seq uint64) {
	k := m.at(q, seq)
	m.queues[q] = append(m.queues[q][:k:k], m.queues[q][k+1:]...)
}

const (
	testWindow = 4
	testCache  = 120
	testClass1 = bundle.Alarm
	testClass2 = bundle.Bulk
)

// rig holds a Machine, its store, and the model it has to agree with.
type rig struct {
	m       *Machine
	st      *memstore.Store
	now     int64
	model   *model
	cuts    map[store.LSN]*model // the model at the end of each batch not yet synced
	durable *model
	loads   []answer
	flying  []*Item
	outlets []*Outlet
	routes  map[string]int // queue name to outlet, -1 none
	high    uint64
}

type answer struct {
	queue store.Queue
	items []store.Item
}

var testQueues = []store.Queue{
	{Kind: store.ToNode, Name: "a", Class: testClass1},
	{Kind: store.ToNode, Name: "a", Class: testClass2},
	{Kind: store.ToNode, Name: "b", Class: testClass2},
	{Kind: store.ToRegion, Name: "r", Class: testClass2},
	{Kind: store.ToSession, Name: "s", Class: testClass1},
	{Kind: store.ToSession, Name: "s", Class: testClass2},
	{Kind: store.ToService, Name: "o", Class: testClass2},
}

func newRig() *rig {
	r := &rig{
		st: memstore.New(memstore.Config{}), model: &model{queues: map[store.Queue][]entry{}},
		cuts: map[store.LSN]*model{}, durable: &model{queues: map[store.Queue][]entry{}},
		routes: map[string]int{"a": 0, "b": 0, "r": 1, "s": 2, "o": -1},
	}
	r.boot()
	return r
}

func (r *rig) boot() {
	r.outlets = nil
	for range 3 {
		r.outlets = append(r.outlets, NewOutlet(nil))
	}
	r.m = New(Config{Window: testWindow, Cache: testCache}, func(q store.Queue) *Outlet {
		if k := r.routes[q.Name]; k >= 0 {
			return r.outlets[k]
		}
		return nil
	})
	sum, err := r.st.Summary()
	if err != nil {
		panic(err)
	}
	r.m.Restore(sum)
}

func (r *rig) put(t *rapid.T) {
	n := rapid.IntRange(1, 3).Draw(t, "entries")
	h := &store.Header{
		Seq: r.m.NextSeq(), Origin: addr.MustNode("x"), Size: uint32(rapid.IntRange(1, 50).Draw(t, "size")),
		Expires: r.now + int64(rapid.IntRange(1, 30).Draw(t, "life")),
	}
	if h.Seq <= r.high {
		t.Fatalf("arrival number %d was given before, the highest was %d", h.Seq, r.high)
	}
	r.high = h.Seq
	h.Entries = r.entries(t, n, store.Queue{})
	r.note(h)
	r.m.Put(h, &store.Blob{B: make([]byte, h.Size)})
}

// entries draws n entries for different queues, none of them not.
func (r *rig) entries(t *rapid.T, n int, not store.Queue) (out []store.Entry) {
	for _, k := range rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6}).Draw(t, "queues")[:n] {
		if testQueues[k] != not {
			out = append(out, store.Entry{Queue: testQueues[k], DSeq: 1})
		}
	}
	return out
}

func (r *rig) note(h *store.Header) {
	for _, e := range h.Entries {
		r.model.queues[e.Queue] = append(r.model.queues[e.Queue], entry{
			seq: h.Seq, size: int64(h.Size), expires: h.Expires, lsn: r.m.Batch.LSN,
		})
	}
}

func (r *rig) cut() {
	lsn := r.m.Batch.LSN
	if b := r.m.Cut(); b != nil {
		r.cuts[lsn] = r.model.clone()
		r.st.Append(b)
	}
}

func (r *rig) sync() {
	lsn, ok := r.st.Sync()
	if !ok {
		return
	}
	r.durable = r.cuts[lsn]
	clear(r.cuts)
	r.m.Persisted(lsn)
}

// ask reads what the machine wants at once; answer tells it, later.
func (r *rig) ask(t *rapid.T) {
	for _, l := range r.m.Loads() {
		if l.N < 1 || l.N > testWindow {
			t.Fatalf("a load of %d items into a window of %d", l.N, testWindow)
		}
		items, err := r.st.Scan(l.Queue, l.After, l.N)
		if err != nil {
			t.Fatal(err)
		}
		r.loads = append(r.loads, answer{l.Queue, items})
	}
}

func (r *rig) answer() bool {
	if len(r.loads) == 0 {
		return false
	}
	a := r.loads[0]
	r.loads = r.loads[1:]
	r.m.Loaded(a.queue, a.items)
	return true
}

// expect is what Next must give: of the classes up to most, the first with
// something ready, and of its queues the item that arrived first.
func (r *rig) expect(k int, most bundle.Class) (store.Queue, uint64) {
	for c := range most + 1 {
		var best store.Queue
		var first *entry
		for q, es := range r.model.queues {
			if q.Class != c || r.routes[q.Name] != k || len(es) == 0 {
				continue
			}
			for n := range es[:r.m.Lookup(q).Windowed()] {
				if !es[n].flying {
					if first == nil || es[n].seq < first.seq || es[n].seq == first.seq && r.m.Lookup(q).heap == 0 {
						best, first = q, &es[n]
					}
					break
				}
			}
		}
		if first != nil && first.lsn <= r.m.persisted {
			return best, first.seq
		}
	}
	return store.Queue{}, 0
}

func (r *rig) next(t *rapid.T, k int, most bundle.Class) *Item {
	q, seq := r.expect(k, most)
	if p := r.m.Peek(r.outlets[k], q.Class); seq != 0 && (p == nil || p.Header.Seq != seq) {
		t.Fatalf("Peek gives %v, want message %d", p, seq)
	}
	i, _ := r.m.Next(r.outlets[k], bundle.Classes(1<<(most+1)-1))
	switch {
	case i == nil && seq != 0:
		t.Fatalf("nothing to take, want message %d of %v", seq, q)
	case i != nil && (i.Header.Seq != seq || i.Entry.Queue.Class != q.Class):
		t.Fatalf("took message %d of %v, want %d of %v", i.Header.Seq, i.Entry.Queue, seq, q)
	case i == nil:
		return nil
	}
	if i.State != InFlight {
		t.Fatalf("took message %d in state %d", seq, i.State)
	}
	r.model.queues[i.Entry.Queue][r.model.at(i.Entry.Queue, seq)].flying = true
	r.flying = append(r.flying, i)
	return i
}

// land draws one of the items in flight and forgets that it flies.
func (r *rig) land(t *rapid.T) *Item {
	if len(r.flying) == 0 {
		t.Skip("nothing flies")
	}
	k := rapid.IntRange(0, len(r.flying)-1).Draw(t, "flight")
	i := r.flying[k]
	r.flying = append(r.flying[:k:k], r.flying[k+1:]...)
	return i
}

func (r *rig) release(i *Item) {
	r.model.remove(i.Entry.Queue, i.Header.Seq)
	r.m.Release(i)
}

// waiting draws one of the windowed items that wait.
func (r *rig) waiting(t *rapid.T, ok func(*Item) bool) *Item {
	var all []*Item
	for _, name := range testQueues {
		if q := r.m.Lookup(name); q != nil {
			for i := q.Head(); i != nil; i = i.Next() {
				if i.State == Waiting && ok(i) {
					all = append(all, i)
				}
			}
		}
	}
	if len(all) == 0 {
		t.Skip("nothing waits")
	}
	return all[rapid.IntRange(0, len(all)-1).Draw(t, "item")]
}

func (r *rig) bury(i *Item) {
	e := &r.model.queues[i.Entry.Queue][r.model.at(i.Entry.Queue, i.Header.Seq)]
	if !e.ended {
		e.expires += max(e.expires-i.Header.Received, 60_000)
	}
	e.ended, e.outlived, e.lsn = true, false, r.m.Batch.LSN
	r.m.Bury(i)
}

func (r *rig) requeue(t *rapid.T) {
	i := r.waiting(t, func(i *Item) bool { return i.Entry.State == store.Pending })
	h := *i.Header
	h.Entries = r.entries(t, 2, i.Entry.Queue)
	r.model.remove(i.Entry.Queue, i.Header.Seq)
	r.m.Requeue(i, h)
	h.Seq = r.m.LastSeq()
	r.high = max(r.high, h.Seq)
	r.note(&h)
}

// due ends what is due as the core does: in flight it is left alone.
func (r *rig) due(t *rapid.T) {
	r.now += int64(rapid.IntRange(0, 10).Draw(t, "ms"))
	for {
		want := r.earliest()
		i := r.m.Due(r.now)
		if i == nil {
			if want <= r.now {
				t.Fatalf("nothing is due at %d, but a life ended at %d", r.now, want)
			}
			return
		}
		if i.ends() != want {
			t.Fatalf("due is the life that ends at %d, want %d", i.ends(), want)
		}
		e := &r.model.queues[i.Entry.Queue][r.model.at(i.Entry.Queue, i.Header.Seq)]
		switch {
		case i.State == InFlight:
			e.outlived = true
			r.m.Outlive(i)
		case i.Entry.Queue.Kind == store.ToNode && i.Entry.State != store.Ended:
			r.bury(i)
		default:
			r.release(i)
		}
	}
}

const never = int64(1) << 62

// earliest is the first end of life among the windowed items under watch.
func (r *rig) earliest() int64 {
	first := never
	for q, es := range r.model.queues {
		if mq := r.m.Lookup(q); mq != nil {
			for _, e := range es[:mq.Windowed()] {
				if !e.outlived {
					first = min(first, e.expires)
				}
			}
		}
	}
	return first
}

func (r *rig) reroute(t *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b", "r", "s", "o"}).Draw(t, "name")
	r.routes[name] = rapid.IntRange(-1, 2).Draw(t, "outlet")
	r.m.Reroute()
}

func (r *rig) crash() {
	r.st = r.st.Crash()
	r.model = r.durable.reborn()
	r.durable = r.model.clone()
	clear(r.cuts)
	r.loads, r.flying = nil, nil
	r.high = 0
	for _, es := range r.model.queues {
		for _, e := range es {
			r.high = max(r.high, e.seq)
		}
	}
	r.boot()
}

// actions are what happens to a machine, in any order.
func (r *rig) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"put":      r.put,
		"put more": r.put,
		"cut":      func(*rapid.T) { r.cut() },
		"sync":     func(*rapid.T) { r.sync() },
		"load":     r.ask,
		"loaded":   func(*rapid.T) { r.answer() },
		"next": func(t *rapid.T) {
			r.next(t, rapid.IntRange(0, 2).Draw(t, "outlet"), rapid.SampledFrom([]bundle.Class{testClass1, testClass2}).Draw(t, "most"))
		},
		"return": func(t *rapid.T) {
			i := r.land(t)
			r.model.queues[i.Entry.Queue][r.model.at(i.Entry.Queue, i.Header.Seq)].flying = false
			r.m.Return(i)
		},
		"release": func(t *rapid.T) {
			i := r.land(t)
			r.release(i)
			r.m.Release(i) // a second time changes nothing
		},
		"end": func(t *rapid.T) { r.release(r.waiting(t, func(*Item) bool { return true })) },
		"bury": func(t *rapid.T) {
			r.bury(r.waiting(t, func(i *Item) bool { return i.Entry.Queue.Kind == store.ToNode }))
		},
		"requeue": r.requeue,
		"retire":  func(t *rapid.T) { r.m.Retire(rapid.SampledFrom(testQueues).Draw(t, "queue")) },
		"time":    r.due,
		"reroute": r.reroute,
		"crash":   func(*rapid.T) { r.crash() },
		"":        r.check,
	}
}

func TestMachineAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRig()
		t.Repeat(r.actions())
		r.drain(t)
	})
}
