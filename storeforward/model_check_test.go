package storeforward

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// check compares all that can be seen of the machine with the model.
func (r *rig) check(t *rapid.T) {
	var want Stats
	for name, es := range r.model.queues {
		q := r.m.Lookup(name)
		if q == nil {
			if len(es) > 0 {
				t.Fatalf("queue %v does not exist, it has %d messages", name, len(es))
			}
			continue
		}
		bytes, flying := int64(0), 0
		for _, e := range es {
			bytes += e.live()
			if e.flying {
				flying++
			}
		}
		if q.Count != len(es) || q.Bytes != bytes || q.InFlight() != flying {
			t.Fatalf("queue %v: %d messages, %d bytes, %d in flight; want %d, %d, %d",
				name, q.Count, q.Bytes, q.InFlight(), len(es), bytes, flying)
		}
		want.Messages += len(es)
		want.Bytes += bytes
		want.Cached += r.checkWindow(t, q, es)
	}
	if got := r.m.Stats(); got != want || got.Cached > testCache {
		t.Fatalf("stats are %+v, want %+v, at most %d cached", got, want, testCache)
	}
	r.checkExpiry(t)
	r.checkOutlets(t)
	r.checkStore(t)
}

// checkWindow: the window is the oldest part of its queue, linked both ways,
// with the cursor on the first that waits.
func (r *rig) checkWindow(t *rapid.T, q *Queue, es []entry) (cached int64) {
	if q.Windowed() > testWindow {
		t.Fatalf("queue %v has %d items in a window of %d", q.Name, q.Windowed(), testWindow)
	}
	n := 0
	var prev, first *Item
	for i := q.Head(); i != nil; prev, i = i, i.Next() {
		if n >= len(es) || i.Header.Seq != es[n].seq || i.prev != prev || i.Queue() != q {
			t.Fatalf("queue %v: window and model differ at %d", q.Name, n)
		}
		if (i.State == InFlight) != es[n].flying || (i.Entry.State == store.Ended) != es[n].ended || i.State == Released {
			t.Fatalf("queue %v: message %d is in state %d/%d, want %+v", q.Name, i.Header.Seq, i.State, i.Entry.State, es[n])
		}
		if (i.expiry < 0) != es[n].outlived {
			t.Fatalf("queue %v: message %d under watch %v, want %v", q.Name, i.Header.Seq, i.expiry >= 0, !es[n].outlived)
		}
		if i.State == Waiting && first == nil {
			first = i
		}
		if i.Blob != nil {
			cached += int64(i.Header.Size)
		}
		n++
	}
	if n != q.Windowed() || q.Tail() != prev || q.cursor != first {
		t.Fatalf("queue %v: %d linked of %d windowed, tail or cursor is wrong", q.Name, n, q.Windowed())
	}
	return cached
}

func (r *rig) checkExpiry(t *rapid.T) {
	for k, i := range r.m.expiry.s {
		if i.expiry != k || k > 0 && r.m.expiry.s[(k-1)/2].ends() > i.ends() {
			t.Fatalf("the expiry heap is no heap at %d", k)
		}
	}
	ms, ok := r.m.NextExpiry()
	if want := r.earliest(); ok != (want != never) || ok && ms != want {
		t.Fatalf("next expiry %d, %v; want %d", ms, ok, want)
	}
}

// checkOutlets: an outlet knows exactly its queues with something that waits.
func (r *rig) checkOutlets(t *rapid.T) {
	for k, o := range r.outlets {
		for c := range bundle.Class(bundle.NumClasses) {
			var want []store.Queue
			for _, name := range testQueues {
				if q := r.m.Lookup(name); q != nil && name.Class == c && r.routes[name.Name] == k && q.cursor != nil {
					want = append(want, name)
				}
			}
			var got []store.Queue
			for n, q := range o.ready[c].s {
				if q.heap != n || n > 0 && o.ready[c].less(q, o.ready[c].s[(n-1)/2]) {
					t.Fatalf("outlet %d: the heap of class %s is no heap at %d", k, c, n)
				}
				got = append(got, q.Name)
			}
			if len(got) != len(want) || slices.ContainsFunc(want, func(q store.Queue) bool { return !slices.Contains(got, q) }) {
				t.Fatalf("outlet %d serves %v, want %v", k, got, want)
			}
		}
	}
}

// checkStore: the disk holds what the model held when it was last synced.
func (r *rig) checkStore(t *rapid.T) {
	sum, err := r.st.Summary()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, s := range sum.Queues {
		es := r.durable.queues[s.Queue]
		items, err := r.st.Scan(s.Queue, 0, len(es)+1)
		if err != nil || len(items) != len(es) || s.Count != len(es) {
			t.Fatalf("the store has %d messages for %v (%v), want %d", len(items), s.Queue, err, len(es))
		}
		bytes := int64(0)
		for n, it := range items {
			bytes += es[n].live()
			if b, err := r.st.Read(it.Header.Seq); !es[n].ended && (err != nil || len(b) != int(it.Header.Size)) {
				t.Fatalf("message %d lost its payload: %d bytes, %v", it.Header.Seq, len(b), err)
			}
			if it.Header.Seq != es[n].seq || (it.Entry.State == store.Ended) != es[n].ended {
				t.Fatalf("the store has message %d state %d for %v, want %+v", it.Header.Seq, it.Entry.State, s.Queue, es[n])
			}
		}
		if s.Bytes != bytes {
			t.Fatalf("the store counts %d bytes for %v, want %d", s.Bytes, s.Queue, bytes)
		}
		found += len(items)
	}
	for _, es := range r.durable.queues {
		found -= len(es)
	}
	if found != 0 {
		t.Fatalf("the store misses %d messages", -found)
	}
}

// drain takes everything out: whatever happened before, nothing is stuck.
func (r *rig) drain(t *rapid.T) {
	for name := range r.routes {
		r.routes[name] = max(r.routes[name], 0)
	}
	r.m.Reroute()
	for _, i := range r.flying {
		r.release(i)
	}
	r.flying = nil
	for idle := 0; idle < 3; idle++ {
		r.cut()
		r.sync()
		r.ask(t)
		for r.answer() {
			idle = 0
		}
		for k := range r.outlets {
			for i := r.next(t, k, bundle.NumClasses-1); i != nil; i = r.next(t, k, bundle.NumClasses-1) {
				r.release(i)
				idle = 0
			}
		}
		r.flying = nil
		r.check(t)
	}
	if s := r.m.Stats(); s != (Stats{}) {
		t.Fatalf("stuck in the machine: %+v", s)
	}
}

// What is read twice is in the window once.
func TestLoadedTwice(t *testing.T) {
	q := testQueues[0]
	m := New(Config{Window: testWindow}, func(store.Queue) *Outlet { return nil })
	m.Restore(store.Summary{NextSeq: 4, Queues: []store.QueueSummary{{Queue: q, Count: 3, Bytes: 3, First: 1}}})
	var items []store.Item
	for seq := range uint64(3) {
		items = append(items, store.Item{Header: &store.Header{Seq: seq + 1, Size: 1}, Entry: store.Entry{Queue: q}})
	}
	m.Loaded(q, items)
	m.Loaded(q, items)
	if n := m.Lookup(q).Windowed(); n != 3 {
		t.Errorf("%d items in the window, want 3", n)
	}
}

// A load that found nothing, because what it was for was not durable yet, is
// asked for again when it is.
func TestStarvedQueueIsReadAgain(t *testing.T) {
	q := testQueues[0]
	m := New(Config{Window: testWindow}, func(store.Queue) *Outlet { return nil })
	m.Restore(store.Summary{NextSeq: 2, Queues: []store.QueueSummary{{Queue: q, Count: 1, Bytes: 1, First: 1}}})
	first := m.Loads()
	m.Put(&store.Header{Seq: m.NextSeq(), Size: 1, Entries: []store.Entry{{Queue: q}}}, &store.Blob{})
	lsn := m.Cut().LSN
	m.Loaded(q, []store.Item{{Header: &store.Header{Seq: 1, Size: 1}, Entry: store.Entry{Queue: q}}})
	second := m.Loads()
	m.Loaded(q, nil) // read before the batch was synced
	third := m.Loads()
	m.Persisted(lsn)
	fourth := m.Loads()
	if len(first) != 1 || len(second) != 1 || len(third) != 0 || len(fourth) != 1 || fourth[0].After != 1 {
		t.Errorf("loads %v, %v, %v, %v", first, second, third, fourth)
	}
}
