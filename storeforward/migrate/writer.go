package migrate

import (
	"context"
	"fmt"
	"sync"

	"github.com/farhop/farhop/storeforward/store"
)

// Bounds of what is on its way to the new store.
const (
	batchOps   = 1024
	batchBytes = 1 << 20 // one message may be larger
	aheadMax   = 4       // batches appended and not reported
)

// writer fills a store with batches of bounded size, some of them ahead of
// the disk. It has no goroutine of its own; the store's reports.
type writer struct {
	s     store.Store
	batch *store.Batch
	ops   int
	bytes int
	lsn   store.LSN

	mu   sync.Mutex
	cond *sync.Cond
	done store.LSN
	err  error // of the first batch that was refused
}

func newWriter() *writer {
	w := &writer{batch: &store.Batch{}}
	w.cond = sync.NewCond(&w.mu)
	return w
}

// report is the store's Done.
func (w *writer) report(lsn store.LSN, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = lsn
	if w.err == nil && err != nil {
		w.err = err
	}
	w.cond.Broadcast()
}

// put adds a message, whose number is the highest so far.
func (w *writer) put(m *message) error {
	p := store.Put{Header: m.header}
	if m.payload != nil {
		p.Blob = &store.Blob{B: m.payload}
	}
	w.batch.Puts = append(w.batch.Puts, p)
	return w.added(headerBytes(m.header) + len(m.payload))
}

// set adds a key of the state.
func (w *writer) set(key string, value []byte) error {
	// A nil value would delete the key.
	w.batch.Sets = append(w.batch.Sets, store.Set{Key: key, Value: append([]byte{}, value...)})
	return w.added(len(key) + len(value))
}

func (w *writer) added(bytes int) error {
	w.bytes += bytes
	if w.ops++; w.ops < batchOps && w.bytes < batchBytes {
		return nil
	}
	return w.flush()
}

// flush appends what was gathered, and waits until few enough batches are on
// their way.
func (w *writer) flush() error {
	if w.batch.Empty() {
		return w.wait(aheadMax)
	}
	w.lsn++
	w.batch.LSN = w.lsn
	w.s.Append(w.batch)
	w.batch, w.ops, w.bytes = &store.Batch{}, 0, 0
	return w.wait(aheadMax)
}

// wait waits until at most n batches are on their way.
func (w *writer) wait(n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && int(w.lsn-w.done) > n {
		w.cond.Wait()
	}
	return w.err
}

// finish makes next the first number that is not used, and all durable.
func (w *writer) finish(next, last uint64) error {
	if next > 1 && last < next-1 {
		// No queue waits for it; the number stays used.
		w.batch.Puts = append(w.batch.Puts, store.Put{Header: &store.Header{Seq: next - 1}})
	}
	if err := w.flush(); err != nil {
		return err
	}
	return w.wait(0)
}

// headerBytes is about what a header takes on a disk.
func headerBytes(h *store.Header) int {
	n := 64 + len(h.Topic) + len(h.Service) + len(h.Charge)
	for i := range h.Entries {
		n += 16 + len(h.Entries[i].Queue.Name) + len(h.Entries[i].Frozen)
	}
	return n
}

// copyAll writes all of a store that can be read into another, and counts.
func copyAll(ctx context.Context, from *source, to *writer) (count, error) {
	var c count
	last := uint64(0)
	err := each(ctx, from.store, func(m *message) error {
		if m.lost != nil {
			return from.skip(&c, m)
		}
		c.add(m)
		last = m.header.Seq
		return to.put(m)
	})
	if err == nil {
		// Nothing may rest on a value that is not there: messages first.
		err = to.flush()
	}
	if err == nil {
		err = from.store.State("", func(key string, value []byte) error {
			c.state(key, value)
			return to.set(key, value)
		})
	}
	if err != nil {
		return c, err
	}
	sum, err := from.store.Summary()
	if err != nil {
		return c, err
	}
	if err := to.finish(sum.NextSeq, last); err != nil {
		return c, fmt.Errorf("write the new store: %w", err)
	}
	return c, nil
}
