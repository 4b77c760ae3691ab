package storeforward_test

import (
	"testing"

	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// serve makes a machine with n items in each class and takes all of them; it
// returns the classes in the order they were served.
func serve(t *testing.T, n int, classes ...bundle.Class) []bundle.Class {
	t.Helper()
	o := storeforward.NewOutlet(nil)
	m := storeforward.New(storeforward.Config{}, func(store.Queue) *storeforward.Outlet { return o })
	for _, c := range classes {
		for range n {
			m.Put(&store.Header{Seq: m.NextSeq(), Class: c, Size: 1, Entries: []store.Entry{
				{Queue: store.Queue{Kind: store.ToNode, Name: "b", Class: c}},
			}}, &store.Blob{B: []byte{1}})
		}
	}
	m.Persisted(m.Cut().LSN)
	var out []bundle.Class
	for {
		i, _ := m.Next(o, bundle.AllClasses)
		if i == nil {
			return out
		}
		out = append(out, i.Header.Class)
		m.Release(i)
	}
}

// Classes are served strictly, but one that waits is served now and then: a
// link that alarms saturate for days still carries some telemetry.
func TestAgeing(t *testing.T) {
	order := serve(t, 200, bundle.Alarm, bundle.Telemetry, bundle.Bulk)
	count := map[bundle.Class]int{}
	for _, c := range order[:200] {
		count[c]++
	}
	if count[bundle.Alarm] < 180 || count[bundle.Telemetry] == 0 || count[bundle.Bulk] == 0 {
		t.Errorf("of the first 200: %v", count)
	}
	if len(order) != 600 {
		t.Errorf("%d of 600 were served", len(order))
	}
}

// Nothing ages past control: it is little, and the mesh hangs on it.
func TestControlFirst(t *testing.T) {
	for n, c := range serve(t, 200, bundle.Bulk, bundle.Control)[:200] {
		if c != bundle.Control {
			t.Fatalf("%s was served at place %d", c, n)
		}
	}
}

// A queue whose items were refused tries with one, and with more only as they
// are taken.
func TestCredit(t *testing.T) {
	o := storeforward.NewOutlet(nil)
	m := storeforward.New(storeforward.Config{Window: 8}, func(store.Queue) *storeforward.Outlet { return o })
	name := store.Queue{Kind: store.ToNode, Name: "b", Class: bundle.Bulk}
	for range 40 {
		m.Put(&store.Header{Seq: m.NextSeq(), Class: bundle.Bulk, Entries: []store.Entry{{Queue: name}}}, nil)
	}
	m.Persisted(m.Cut().LSN)
	take := func() (items []*storeforward.Item) {
		for i, _ := m.Next(o, bundle.AllClasses); i != nil; i, _ = m.Next(o, bundle.AllClasses) {
			items = append(items, i)
		}
		return items
	}
	all := take()
	q := m.Lookup(name)
	if len(all) != 8 {
		t.Fatalf("%d of a window of 8 were taken", len(all))
	}
	m.Rest(q)
	for _, i := range all {
		m.Return(i)
	}
	if got := take(); len(got) != 0 {
		t.Fatalf("%d were taken while the queue rests", len(got))
	}
	m.Resume(q)
	for _, want := range []int{1, 2, 4} {
		got := take()
		if len(got) != want {
			t.Fatalf("%d were taken with credit for %d", len(got), want)
		}
		for n, i := range got {
			if n == 0 {
				m.Taken(q)
			}
			m.Return(i)
		}
	}
}

// The lowest class is refused first, control last.
func TestReserve(t *testing.T) {
	m := storeforward.New(storeforward.Config{MaxCount: 100, MaxBytes: 1000}, func(store.Queue) *storeforward.Outlet { return nil })
	full := map[bundle.Class]int{bundle.Bulk: 80, bundle.Telemetry: 90, bundle.Interactive: 95, bundle.Alarm: 98, bundle.Control: 100}
	for n := range 100 {
		for c, limit := range full {
			want := bundle.OK
			if n >= limit {
				want = bundle.StoreFull
			}
			if got := m.Room(c, 1, 1); got != want {
				t.Fatalf("%s with %d of 100: %s", c, n, got)
			}
		}
		m.Put(&store.Header{Seq: m.NextSeq(), Size: 1, Entries: []store.Entry{{Queue: store.Queue{Kind: store.ToNode, Name: "b"}}}}, nil)
	}
}
