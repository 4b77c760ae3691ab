package durable

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
	"github.com/farhop/farhop/storeforward/store"
)

// How a backlog is drained: drainers share the queues and take turns with
// them, window bundles at a time, as a node with many links does. Every so
// many windows one waits until what it removed is durable.
const (
	drainers = 2
	window   = 256
	windows  = 64
)

// commitPairs is how often a commit in a drained store is compared with one in a new
// store.
const commitPairs = 300

// empty drains the store and measures what it is like then.
func (s *site) empty(ctx context.Context, r *BacklogReport, dir string) error {
	debug.FreeOSMemory()
	sink, err := Open(s.c.Engine, dir, s.l, s.c.Producers)
	if err != nil {
		return err
	}
	c := sink.(*custody)
	err = s.emptied(ctx, r, dir, c)
	return errors.Join(err, c.Close())
}

func (s *site) emptied(ctx context.Context, r *BacklogReport, dir string, c *custody) error {
	m, err := proc.MemoryOf(os.Getpid())
	if err != nil {
		return err
	}
	r.ReopenedRSS, r.ReopenedAnon = megabytes(m.Resident), megabytes(m.Anonymous)
	full, err := proc.DiskBytes(dir)
	if err != nil {
		return err
	}
	r.Disk = megabytes(full)
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, s.c.DrainLimit)
	n, err := c.drain(limited, s.l)
	cancel()
	r.Drained, r.Drain = n, Ratio(float64(n), time.Since(begin).Seconds())
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		s.note("only %d bundles drained within %v, %.0f/s: nothing is known of an empty store", n, s.c.DrainLimit, r.Drain)
		r.ReturnedMillis = -1
		return nil
	}
	if err == nil && n != r.Queued {
		err = fmt.Errorf("%d bundles came back, %d were acknowledged", n, r.Queued)
	}
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	s.note("drained %d bundles, %.0f/s", n, r.Drain)
	if err := s.waitForDisk(ctx, r, dir, full); err != nil {
		return err
	}
	s.note("%.1f %% of %.0f MB given back after %.0f ms", 100*r.ReturnedShare, r.Disk, r.ReturnedMillis)
	return s.commits(r, c)
}

// drain takes all bundles out of a store: each is read back, compared with
// what was put, and removed.
func (c *custody) drain(ctx context.Context, l *Load) (n int, err error) {
	from := c.to.(store.Store)
	counts, errs := make([]int, drainers), make([]error, drainers+1)
	var wg sync.WaitGroup
	for i := range drainers {
		wg.Go(func() { counts[i], errs[i] = c.drainShare(ctx, from, l, i) })
	}
	wg.Wait()
	for _, k := range counts {
		n += k
	}
	errs[drainers] = c.settle(0)
	return n, errors.Join(errs...)
}

// drainShare drains every drainers-th queue.
func (c *custody) drainShare(ctx context.Context, from store.Store, l *Load, who int) (n int, err error) {
	after := make([]uint64, Queues)
	turns := 0
	for left := true; left; {
		left = false
		for q := who; q < Queues; q += drainers {
			if err := ctx.Err(); err != nil {
				return n, err
			}
			k, err := c.drainWindow(from, l, c.queues[q], &after[q])
			n += k
			if err != nil {
				return n, err
			}
			left = left || k > 0
			if turns++; turns%windows == 0 {
				if err := c.settle(who); err != nil {
					return n, err
				}
			}
		}
	}
	return n, nil
}

// drainWindow drains the next bundles of one queue.
func (c *custody) drainWindow(from store.Store, l *Load, q store.Queue, after *uint64) (int, error) {
	items, err := from.Scan(q, *after, window)
	if err != nil || len(items) == 0 {
		return 0, err
	}
	b := &store.Batch{Drops: make([]store.Drop, 0, len(items))}
	for _, it := range items {
		if it.Damaged {
			return len(b.Drops), fmt.Errorf("bundle %d is damaged", it.Header.Seq)
		}
		payload, err := from.Read(it.Header.Seq)
		if err != nil {
			return len(b.Drops), fmt.Errorf("bundle %d: %w", it.Header.Seq, err)
		}
		if err := l.Check(payload); err != nil {
			return len(b.Drops), fmt.Errorf("bundle %d: %w", it.Header.Seq, err)
		}
		*after = it.Header.Seq
		b.Drops = append(b.Drops, store.Drop{Queue: q, Seq: it.Header.Seq, Size: it.Header.Size})
	}
	c.lazily(b)
	return len(items), nil
}

// waitForDisk watches how much of the disk comes back.
func (s *site) waitForDisk(ctx context.Context, r *BacklogReport, dir string, full int64) error {
	begin := time.Now()
	r.ReturnedMillis = -1
	for ctx.Err() == nil {
		now, err := proc.DiskBytes(dir)
		if err != nil {
			return err
		}
		took := time.Since(begin)
		r.DiskAfter, r.ReturnedShare = megabytes(now), Ratio(float64(full-now), float64(full))
		if r.ReturnedShare >= returned {
			r.ReturnedMillis = float64(took) / float64(time.Millisecond)
			return nil
		}
		if took > s.c.Return {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return ctx.Err()
}

// commits compares single puts in the drained store and in a new one.
func (s *site) commits(r *BacklogReport, drained *custody) error {
	sink, err := Open(s.c.Engine, s.fresh(), s.l, 1)
	if err != nil {
		return err
	}
	type pair struct{ drained, fresh float64 } // microseconds
	var all []pair
	var bytes, freshBytes float64
	for n := range commitPairs {
		var p pair
		if p.drained, err = s.commit(drained, n, &bytes); err == nil {
			p.fresh, err = s.commit(sink, n, &freshBytes)
		}
		if err != nil {
			return errors.Join(err, sink.Close())
		}
		all = append(all, p)
	}
	r.Commit = Median(all, func(p pair) float64 { return p.drained })
	r.CommitFresh = Median(all, func(p pair) float64 { return p.fresh })
	r.CommitShare = Median(all, func(p pair) float64 { return Ratio(p.drained, p.fresh) })
	r.CommitBytes, r.CommitFreshBytes = bytes/commitPairs, freshBytes/commitPairs
	return sink.Close()
}

// commit puts one bundle, and returns how long that took in microseconds.
func (s *site) commit(to Sink, n int, written *float64) (micros float64, err error) {
	before, err := proc.Written(os.Getpid())
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if _, err := to.Put(0, s.l.Bundle(0, n), Item{}); err != nil {
		return 0, err
	}
	micros = float64(time.Since(begin)) / float64(time.Microsecond)
	after, err := proc.Written(os.Getpid())
	*written += float64(after - before)
	return micros, err
}
