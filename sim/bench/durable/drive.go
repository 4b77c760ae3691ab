package durable

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Item is a durable bundle as its sink knows it; the zero Item is none.
type Item struct {
	Queue int
	Seq   uint64
}

// Sink makes bundles durable. Producers call Put concurrently, each with its
// own number, which is below the number the sink was opened for.
type Sink interface {
	// Put returns when b would survive a power cut. gone, unless zero, is an
	// earlier bundle of the same producer that was delivered: it is removed
	// along with this put, and nothing waits for that.
	Put(producer int, b Bundle, gone Item) (Item, error)
	// Close ends the sink; all that was put is on disk.
	Close() error
}

// Part says how long producers drive a sink: until the time is over or all
// messages are durable, whichever is first.
type Part struct {
	Producers int
	Messages  int           // of all producers together; 0 is no limit
	Limit     time.Duration // 0 is no limit
	Cycle     bool          // each bundle is delivered and removed
}

// Rate is what came of a part.
type Rate struct {
	Durable   int     // bundles
	Seconds   float64 // from the first put to the end of the last
	PerSecond float64
}

// Drive lets the producers of a part put bundles of l into s. Every put that
// began counts, with the time until its end.
func Drive(ctx context.Context, s Sink, l *Load, p Part) (Rate, error) {
	var stop atomic.Bool
	end := context.AfterFunc(ctx, func() { stop.Store(true) })
	defer end()
	if p.Limit > 0 {
		t := time.AfterFunc(p.Limit, func() { stop.Store(true) })
		defer t.Stop()
	}
	counts := make([]int, p.Producers)
	errs := make([]error, p.Producers)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range p.Producers {
		quota := p.Messages / p.Producers
		if i < p.Messages%p.Producers {
			quota++
		}
		if p.Messages == 0 {
			quota = -1
		}
		wg.Go(func() {
			<-begin
			counts[i], errs[i] = produce(s, l, i, quota, p.Cycle, &stop)
			if errs[i] != nil {
				stop.Store(true)
			}
		})
	}
	start := time.Now()
	close(begin)
	wg.Wait()
	r := Rate{Seconds: time.Since(start).Seconds()}
	for _, n := range counts {
		r.Durable += n
	}
	if r.Seconds > 0 {
		r.PerSecond = float64(r.Durable) / r.Seconds
	}
	for i, err := range errs {
		if err != nil {
			return r, errors.Join(fmt.Errorf("producer %d: after %d bundles: %w", i, counts[i], err), ctx.Err())
		}
	}
	return r, ctx.Err()
}

// produce is one producer: at most quota puts, any number when it is negative.
func produce(s Sink, l *Load, producer, quota int, cycle bool, stop *atomic.Bool) (n int, err error) {
	var gone Item
	for n != quota && !stop.Load() {
		item, err := s.Put(producer, l.Bundle(producer, n), gone)
		if err != nil {
			return n, err
		}
		n++
		if cycle {
			gone = item
		}
	}
	if gone != (Item{}) {
		if g, ok := s.(interface{ Remove(Item) }); ok {
			g.Remove(gone)
		}
	}
	return n, nil
}
