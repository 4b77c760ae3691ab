package storeforward

import (
	"testing"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// These tests exist because a bug that was planted on purpose went unnoticed
// (make mutants).

// three returns a machine with three durable items for one outlet.
func three() (*Machine, *Outlet) {
	o := NewOutlet("device")
	m := New(Config{}, func(store.Queue) *Outlet { return o })
	q := store.Queue{Kind: store.ToSession, Name: "device", Class: bundle.Telemetry}
	for range 3 {
		h := &store.Header{Seq: m.NextSeq(), Class: q.Class, Expires: 1 << 40, Entries: []store.Entry{{Queue: q}}}
		m.Put(h, nil)
	}
	m.Persisted(m.Cut().LSN)
	return m, o
}

// What comes back goes first again, whatever else is in flight.
func TestReturnKeepsThePlace(t *testing.T) {
	m, o := three()
	first, _ := m.Next(o, bundle.AllClasses)
	m.Next(o, bundle.AllClasses)
	m.Return(first)
	if i, _ := m.Next(o, bundle.AllClasses); i != first {
		t.Errorf("after the return of message %d comes %d", first.Header.Seq, i.Header.Seq)
	}
}

// That a device has a message is not acted upon before it is durable.
func TestMarkHoldsAnItemBack(t *testing.T) {
	m, o := three()
	first, _ := m.Next(o, bundle.AllClasses)
	m.MarkReceived(first)
	m.Return(first)
	if i, storing := m.Next(o, bundle.AllClasses); i != nil || !storing {
		t.Fatalf("message %v leaves before its mark is durable (storing: %t)", i, storing)
	}
	m.Persisted(m.Cut().LSN)
	if i, _ := m.Next(o, bundle.AllClasses); i != first || i.Entry.State != store.Received {
		t.Errorf("want message %d with its mark, got %v", first.Header.Seq, i)
	}
}
