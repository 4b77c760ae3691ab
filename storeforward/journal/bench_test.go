//go:build linux

package journal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
)

// appender is what the benchmark drives: Append queues, done reports.
type appender interface {
	Append(*store.Batch)
	Close() error
}

// BenchmarkPut is the rate of durable puts of 256 bytes with so many in
// flight, beside the limit of the disk: a file that is appended to and synced
// once per group, with the same grouping.
func BenchmarkPut(b *testing.B) {
	for _, inFlight := range []int{1, 32, 256, 1024} {
		b.Run(fmt.Sprintf("raw/%d", inFlight), func(b *testing.B) {
			benchPuts(b, inFlight, func(done store.Done) (appender, error) {
				return openRaw(filepath.Join(b.TempDir(), "raw"), done)
			})
		})
		b.Run(fmt.Sprintf("journal/%d", inFlight), func(b *testing.B) {
			benchPuts(b, inFlight, func(done store.Done) (appender, error) {
				return journal.Open(journal.Config{Dir: b.TempDir(), Done: done})
			})
		})
	}
}

func benchPuts(b *testing.B, inFlight int, open func(store.Done) (appender, error)) {
	slots := make(chan struct{}, inFlight)
	s, err := open(func(_ store.LSN, err error) {
		if err != nil {
			b.Error(err)
		}
		<-slots
	})
	if err != nil {
		b.Fatal(err)
	}
	n := uint64(0)
	for b.Loop() {
		slots <- struct{}{}
		n++
		s.Append(&store.Batch{LSN: store.LSN(n), Puts: []store.Put{put(n, 256)}})
	}
	for range inFlight { // all is durable
		slots <- struct{}{}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "puts/s")
	for range inFlight {
		<-slots
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// raw writes payloads to the end of a file, a group at a time.
type raw struct {
	f     *os.File
	done  store.Done
	mu    sync.Mutex
	cond  *sync.Cond
	queue []*store.Batch
	end   bool
	wg    sync.WaitGroup
}

func openRaw(path string, done store.Done) (*raw, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	r := &raw{f: f, done: done}
	r.cond = sync.NewCond(&r.mu)
	r.wg.Go(r.run)
	return r, nil
}

func (r *raw) Append(b *store.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, b)
	r.cond.Signal()
}

func (r *raw) run() {
	var buf []byte
	for {
		r.mu.Lock()
		for len(r.queue) == 0 && !r.end {
			r.cond.Wait()
		}
		group := r.queue
		r.queue = nil
		r.mu.Unlock()
		if len(group) == 0 {
			return
		}
		buf = buf[:0]
		for _, b := range group {
			buf = append(buf, b.Puts[0].Blob.B...)
		}
		_, err := r.f.Write(buf)
		if err == nil {
			err = syscall.Fdatasync(int(r.f.Fd()))
		}
		for _, b := range group {
			r.done(b.LSN, err)
		}
	}
}

func (r *raw) Close() error {
	r.mu.Lock()
	r.end = true
	r.cond.Signal()
	r.mu.Unlock()
	r.wg.Wait()
	return r.f.Close()
}

// BenchmarkCycle is a queue of 1,000 messages at its working point: each
// message is put, read and dropped, 256 in flight.
func BenchmarkCycle(b *testing.B) {
	const depth = 1000
	slots := make(chan struct{}, 256)
	s, err := journal.Open(journal.Config{Dir: b.TempDir(), Done: func(store.LSN, error) { <-slots }})
	if err != nil {
		b.Fatal(err)
	}
	n := uint64(0)
	for b.Loop() {
		n++
		batch := &store.Batch{LSN: store.LSN(n), Puts: []store.Put{put(n, 256)}}
		if n > depth {
			batch.Drops = []store.Drop{{Queue: queueA, Seq: n - depth, Size: 256}}
			if _, err := s.Read(n - depth); err != nil {
				b.Fatal(err)
			}
		}
		slots <- struct{}{}
		s.Append(batch)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "messages/s")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkScan reads the headers of 100 interleaved queues, 100 at a time.
func BenchmarkScan(b *testing.B) {
	const n, queues = 200_000, 100
	f := newFates()
	s, err := journal.Open(journal.Config{Dir: b.TempDir(), Done: f.done})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	fill(b, s, f, n, queues, 256)
	cursor := make([]uint64, queues)
	items := 0
	for q := 0; b.Loop(); q = (q + 1) % queues {
		got, err := s.Scan(queueOf(q), cursor[q], 100)
		if err != nil {
			b.Fatal(err)
		}
		cursor[q] = 0
		if len(got) > 0 {
			cursor[q] = got[len(got)-1].Header.Seq
		}
		items += len(got)
	}
	b.ReportMetric(float64(items)/b.Elapsed().Seconds(), "items/s")
}

// BenchmarkDrain reads a backlog of 100 interleaved queues as a node does: 256
// headers of a queue, then the payload of each.
func BenchmarkDrain(b *testing.B) {
	const n, queues, window = 200_000, 100, 256
	f := newFates()
	s, err := journal.Open(journal.Config{Dir: b.TempDir(), Done: f.done})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	fill(b, s, f, n, queues, 256)
	cursor := make([]uint64, queues)
	var items []store.Item
	for q, i := -1, 0; b.Loop(); i++ {
		if i == len(items) {
			i, q = 0, (q+1)%queues
			if items, err = s.Scan(queueOf(q), cursor[q], window); err != nil {
				b.Fatal(err)
			}
			cursor[q] = items[len(items)-1].Header.Seq
			if cursor[q] > n-queues {
				cursor[q] = 0 // once more
			}
		}
		if _, err := s.Read(items[i].Header.Seq); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkReopen opens a buffer with a million messages, after a clean close
// and after a kill.
func BenchmarkReopen(b *testing.B) {
	for _, clean := range []bool{true, false} {
		b.Run(fmt.Sprintf("clean=%v", clean), func(b *testing.B) {
			f := newFates()
			cfg := journal.Config{Dir: b.TempDir(), Done: f.done}
			s, err := journal.Open(cfg)
			if err != nil {
				b.Fatal(err)
			}
			fill(b, s, f, 1_000_000, 100, 256)
			for b.Loop() {
				if clean {
					err = s.Close()
				} else {
					s.Abandon()
				}
				if err == nil {
					s, err = journal.Open(cfg)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			_ = s.Close()
		})
	}
}
