// Package storetest is the suite that every engine of storeforward/store must
// pass: what a batch does, what is read back, what survives a crash, and a
// property test against a model so plain that it is right by reading. It
// knows no engine; the tests of boltstore and memstore call Run.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t storetest.TB) storetest.Harness { ... })
//	}
package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/farhop/farhop/storeforward/store"
)

// TB is what a harness may ask of the test it serves: *testing.T and
// *rapid.T both have it.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Harness is one place where a store can live: a directory, or a variable.
type Harness struct {
	// Open opens the store of that place, making it the first time.
	Open func(done store.Done) (store.Store, error)
	// Sync makes the engine report all that was appended. nil: it does so by
	// itself, soon.
	Sync func(store.Store)
	// Crash ends a store as a kill does: appended batches that were not
	// reported may be there at the next Open, whole, or not.
	Crash func(store.Store)
}

// Run runs the suite. open is called once per test, and once per case of the
// property test, and gives a new and empty place.
func Run(t *testing.T, open func(TB) Harness) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, newDriver(t, open(t))) })
	}
	t.Run("model", func(t *testing.T) { runModel(t, open) })
}

// report is one call of Done.
type report struct {
	lsn store.LSN
	err error
}

// driver appends numbered batches and waits for their reports.
type driver struct {
	tb   TB
	h    Harness
	s    store.Store
	next store.LSN // of the next batch since open

	mu      sync.Mutex
	changed chan struct{} // replaced with every report
	reports []report      // since open
}

func newDriver(tb TB, h Harness) *driver {
	d := &driver{tb: tb, h: h, changed: make(chan struct{})}
	d.open()
	tb.Cleanup(func() {
		if d.s != nil {
			_ = d.s.Close()
		}
	})
	return d
}

func (d *driver) open() {
	d.tb.Helper()
	d.mu.Lock()
	d.next, d.reports = 1, nil
	d.mu.Unlock()
	s, err := d.h.Open(d.done)
	if err != nil {
		d.tb.Fatalf("open: %v", err)
	}
	d.s = s
}

func (d *driver) done(lsn store.LSN, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reports = append(d.reports, report{lsn, err})
	close(d.changed)
	d.changed = make(chan struct{})
}

// append appends b under the next LSN without waiting.
func (d *driver) append(b *store.Batch) {
	b.LSN = d.next
	d.next++
	d.s.Append(b)
}

// sync waits until every appended batch was reported and returns all reports
// since open.
func (d *driver) sync() []report {
	d.tb.Helper()
	if d.h.Sync != nil {
		d.h.Sync(d.s)
	}
	// Only a hung engine meets this deadline; nothing is timed by it.
	hung := time.After(time.Minute)
	for {
		d.mu.Lock()
		reports, changed := d.reports, d.changed
		d.mu.Unlock()
		if len(reports) == int(d.next-1) {
			return reports
		}
		select {
		case <-changed:
		case <-hung:
			d.tb.Fatalf("%d of %d batches were reported", len(reports), d.next-1)
		}
	}
}

// write appends b, waits, and returns its fate.
func (d *driver) write(b *store.Batch) error {
	d.tb.Helper()
	d.append(b)
	reports := d.sync()
	return reports[len(reports)-1].err
}

// must is write for batches that have to pass.
func (d *driver) must(b *store.Batch) {
	d.tb.Helper()
	if err := d.write(b); err != nil {
		d.tb.Fatalf("batch %d: %v", b.LSN, err)
	}
}

// reopen closes the store in order and opens it again.
func (d *driver) reopen() {
	d.tb.Helper()
	if err := d.s.Close(); err != nil {
		d.tb.Fatalf("close: %v", err)
	}
	d.open()
}

// crash kills the store and opens it again; it returns how many of the
// batches since open were acknowledged before.
func (d *driver) crash() (acked int) {
	d.tb.Helper()
	d.h.Crash(d.s)
	d.mu.Lock()
	acked = len(d.reports)
	d.mu.Unlock()
	d.open()
	return acked
}
