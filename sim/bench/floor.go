package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// floorTime bounds the slow floors; the disk's rate shows long before.
const floorTime = 2 * time.Second

// Floor is what the disk could do: the bytes of the same PUBLISH packets,
// appended to a plain file. Rates are messages a second.
type Floor struct {
	SyncsPerSecond float64 `json:"syncsPerSecond"` // fdatasync after each message
	SyncMicros     float64 `json:"syncMicros"`     // what one takes
	Grouped        float64 `json:"grouped"`        // fdatasync after as many messages as there are clients
	// Natural has clients x window messages under way, as the servers have, and
	// syncs whatever waits (group commit).
	Natural float64 `json:"natural"`
	// Served is the same behind sockets: a server that does nothing but take
	// the publishes of the same clients, append, sync and acknowledge.
	Served       float64 `json:"served"`
	ServedP50    float64 `json:"servedP50Micros"`
	ServedP99    float64 `json:"servedP99Micros"`
	ServedClient float64 `json:"servedCpuMicrosPerMessage"` // of clients and server together
}

// floor measures one round.
func floor(ctx context.Context, c Config, dir string) (Floor, error) {
	var out Floor
	f, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		return out, err
	}
	packet, _, _ := template(0, c.Size)
	measure := func(what func() (float64, error), to *float64) {
		if err != nil {
			return
		}
		if err = f.Truncate(0); err == nil {
			_, err = f.Seek(0, 0)
		}
		if err == nil {
			*to, err = what()
		}
		err = errors.Join(err, ctx.Err())
	}
	measure(func() (float64, error) { return grouped(f, packet, c.Messages, 1) }, &out.SyncsPerSecond)
	measure(func() (float64, error) { return grouped(f, packet, c.Messages, c.Clients) }, &out.Grouped)
	measure(func() (float64, error) { return natural(f, packet, c) }, &out.Natural)
	measure(func() (float64, error) { return served(ctx, f, c, &out) }, &out.Served)
	if out.SyncsPerSecond > 0 {
		out.SyncMicros = 1e6 / out.SyncsPerSecond
	}
	if err = errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil {
		return out, fmt.Errorf("floor: %w", err)
	}
	return out, nil
}

// grouped appends n packets with a sync after each group.
func grouped(f *os.File, packet []byte, n, group int) (perSecond float64, err error) {
	var buf []byte
	for range group {
		buf = append(buf, packet...)
	}
	begin := time.Now()
	done := 0
	for done < n && time.Since(begin) < floorTime {
		if _, err := f.Write(buf); err != nil {
			return 0, err
		}
		if err := proc.Datasync(f); err != nil {
			return 0, err
		}
		done += group
	}
	return float64(done) / time.Since(begin).Seconds(), nil
}

// natural appends with group commit: producers wait for the sync of their
// oldest packet only when their window is full.
func natural(f *os.File, packet []byte, c Config) (perSecond float64, err error) {
	j := newJournal(f)
	left := make([]int, c.Clients) // credits of each producer, guarded by j.mu
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range c.Clients {
		left[i] = c.Window
		wg.Go(func() {
			j.mu.Lock()
			defer j.mu.Unlock()
			for range c.Messages / c.Clients {
				for left[i] == 0 && j.err == nil {
					j.room.Wait()
				}
				left[i]--
				j.add(packet, entry{producer: i})
			}
		})
	}
	go func() { wg.Wait(); j.end() }()
	err = j.run(func(done []entry) error {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, e := range done {
			left[e.producer]++
		}
		j.room.Broadcast()
		return nil
	})
	return float64(c.Messages/c.Clients*c.Clients) / time.Since(begin).Seconds(), err
}

// journal is a file with group commit.
type journal struct {
	f    *os.File
	mu   sync.Mutex // guards what follows
	room *sync.Cond // signalled by its user, and when run fails
	work *sync.Cond
	buf  []byte
	in   []entry
	over bool
	err  error
}

// entry is a packet that waits for the sync: of a producer, or of a client
// that wants a PUBACK.
type entry struct {
	producer int
	id       uint16
}

func newJournal(f *os.File) *journal {
	j := &journal{f: f}
	j.room, j.work = sync.NewCond(&j.mu), sync.NewCond(&j.mu)
	return j
}

// add queues a packet; j.mu is held.
func (j *journal) add(packet []byte, e entry) {
	j.buf, j.in = append(j.buf, packet...), append(j.in, e)
	if len(j.in) == 1 {
		j.work.Signal()
	}
}

// end lets run return once all is synced.
func (j *journal) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.over = true
	j.work.Signal()
}

// run syncs what waits, again and again, and reports each group.
func (j *journal) run(report func([]entry) error) error {
	var buf []byte
	var group []entry
	for {
		j.mu.Lock()
		for len(j.in) == 0 && !j.over {
			j.work.Wait()
		}
		buf, j.buf = j.buf, buf[:0]
		group, j.in = j.in, group[:0]
		j.mu.Unlock()
		if len(group) == 0 {
			return nil
		}
		_, err := j.f.Write(buf)
		if err == nil {
			err = proc.Datasync(j.f)
		}
		if err == nil {
			err = report(group)
		}
		if err != nil {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.err = err
			j.room.Broadcast()
			return err
		}
	}
}
