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

	Faults
}

// Faults are what a harness can do to the disk below its engine. Each may be
// nil; the cases that need it are left out then.
type Faults struct {
	// LoseUnsynced ends a store as Crash does, and of what was written the
	// next Open finds only what was synced.
	LoseUnsynced func(store.Store)
	// Tear ends a store as a power cut does: what was written and not synced
	// is there in part, torn and out of order.
	Tear func(store.Store)
	// FailCommit makes the next commit of the open store fail, as a disk does
	// that breaks.
	FailCommit func()
	// Full lets the disk have no more room, or room again. What was reserved
	// before may still be used.
	Full func(bool)
	// FlipBit changes one bit of the payload of a message wherever it stands
	// on the disk. The store is closed.
	FlipBit func(store.Put)
	// Slow makes every commit take a while.
	Slow func(bool)
}

// Run runs the suite. open is called once per test, and once per case of the
// property test, and gives a new and empty place.
func Run(t *testing.T, open func(TB) Harness) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, newDriver(t, open(t))) })
	}
	for _, c := range faultCases {
		t.Run(c.name, func(t *testing.T) {
			h := open(t)
			if !c.can(h.Faults) {
				t.Skip("this engine has no such fault")
			}
			c.run(t, newDriver(t, h))
		})
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
	lazy bool      // the last batch is lazy: its report waits for another one

	sizes map[uint64]uint32 // of the messages that were put

	mu      sync.Mutex
	changed chan struct{} // replaced with every report
	reports []report      // since open
}

func newDriver(tb TB, h Harness) *driver {
	d := &driver{tb: tb, h: h, changed: make(chan struct{}), sizes: map[uint64]uint32{}}
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
	d.next, d.reports, d.lazy = 1, nil, false
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

// append appends b under the next LSN without waiting. It gives drops and
// marks the sizes of their messages, as the owner of a store does.
func (d *driver) append(b *store.Batch) {
	for i := range b.Puts {
		d.sizes[b.Puts[i].Header.Seq] = b.Puts[i].Header.Size
	}
	for i := range b.Drops {
		b.Drops[i].Size = d.sizes[b.Drops[i].Seq]
	}
	for i := range b.Marks {
		b.Marks[i].Size = d.sizes[b.Marks[i].Seq]
	}
	b.LSN, d.lazy = d.next, b.Lazy
	d.next++
	d.s.Append(b)
}

// sync waits until every appended batch was reported and returns all reports
// since open.
func (d *driver) sync() []report {
	d.tb.Helper()
	if d.lazy {
		d.append(&store.Batch{})
	}
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
	return d.sync()[b.LSN-1].err
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

// crash ends the store by kill, one of the harness, and opens it again; it
// returns how many of the batches since open were acknowledged before.
func (d *driver) crash(kill func(store.Store)) (acked int) {
	d.tb.Helper()
	kill(d.s)
	d.mu.Lock()
	for _, r := range d.reports {
		if r.err == nil {
			acked++
		}
	}
	d.mu.Unlock()
	d.open()
	return acked
}
