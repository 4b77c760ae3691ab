package durable

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
	"github.com/farhop/farhop/storeforward/store"
)

// floorStep is by how much the floor's file is preallocated, in bytes. The
// first step is there before the clock starts.
const floorStep = 64 << 20

// floor is the least that may say "durable": it appends the bytes of bundles
// to a plain preallocated file, with one write and one fdatasync for all that
// waits. It keeps no queues, reads nothing back and forgets drops.
type floor struct {
	f    *os.File
	done store.Done
	at   int64         // end of what was written
	size int64         // of the preallocated file
	took time.Duration // by the last sync

	mu    sync.Mutex // guards what follows
	work  *sync.Cond
	queue []*store.Batch
	over  bool

	ended sync.WaitGroup
}

// openFloor makes the file in dir.
func openFloor(dir string, done store.Done) (*floor, error) {
	f, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		return nil, err
	}
	fl := &floor{f: f, done: done}
	fl.work = sync.NewCond(&fl.mu)
	if err := fl.reserve(1); err != nil {
		_ = f.Close()
		return nil, err
	}
	fl.ended.Go(fl.run)
	return fl, nil
}

// reserve has room for n more bytes.
func (f *floor) reserve(n int) error {
	if f.at+int64(n) <= f.size {
		return nil
	}
	f.size = (f.at + int64(n) + floorStep - 1) / floorStep * floorStep
	return proc.Allocate(f.f, f.size)
}

// Append queues a batch.
func (f *floor) Append(b *store.Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, b)
	if len(f.queue) == 1 {
		f.work.Signal()
	}
}

// run writes what waits, again and again, until Close.
func (f *floor) run() {
	var buf []byte
	var group []*store.Batch
	for {
		Gather(len(group), f.waiting, f.took)
		clear(group)
		f.mu.Lock()
		for len(f.queue) == 0 && !f.over {
			f.work.Wait()
		}
		group, f.queue = f.queue, group[:0]
		f.mu.Unlock()
		if len(group) == 0 {
			return
		}
		buf = buf[:0]
		for _, b := range group {
			buf = appendFramed(buf, b)
		}
		err := f.write(buf)
		for _, b := range group {
			f.done(b.LSN, err)
		}
	}
}

func (f *floor) waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.queue)
}

// Gather lets the producers run that were just told, so that what they bring
// next is part of the next group: all that make groups do so, and the floor
// would be half as high without. waiting says how many have come, took how long
// the last sync was: a sixteenth of it is waited at most for the others, once
// some are back.
func Gather(told int, waiting func() int, took time.Duration) {
	have := 0
	for have < told {
		runtime.Gosched()
		now := waiting()
		if now == have {
			break
		}
		have = now
	}
	most := took / 16
	if have == 0 || most < 50*time.Microsecond {
		return
	}
	for begin := time.Now(); have < told && time.Since(begin) < most; have = waiting() {
		time.Sleep(most / 4)
	}
}

func (f *floor) write(b []byte) error {
	if len(b) == 0 {
		return nil // drops alone
	}
	if err := f.reserve(len(b)); err != nil {
		return err
	}
	if _, err := f.f.WriteAt(b, f.at); err != nil {
		return err
	}
	f.at += int64(len(b))
	begin := time.Now()
	err := proc.Datasync(f.f)
	f.took = time.Since(begin)
	return err
}

// appendFramed appends the bundles of a batch, each with length and CRC-32C.
func appendFramed(buf []byte, b *store.Batch) []byte {
	for _, p := range b.Puts {
		head := len(buf)
		buf = append(buf, make([]byte, 8)...)
		for _, e := range p.Header.Entries {
			buf = append(buf, e.Frozen...)
		}
		buf = append(buf, p.Blob.B...)
		body := buf[head+8:]
		binary.LittleEndian.PutUint32(buf[head:], uint32(len(body)))
		binary.LittleEndian.PutUint32(buf[head+4:], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	}
	return buf
}

// Close ends the floor once all is written.
func (f *floor) Close() error {
	f.mu.Lock()
	f.over = true
	f.work.Signal()
	f.mu.Unlock()
	f.ended.Wait()
	return f.f.Close()
}

// syncRate appends size bytes and syncs, alone, for so long: the syncs a
// second that nothing can beat without grouping.
func syncRate(dir string, size int, limit time.Duration) (perSecond float64, err error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer f.Close() // nothing is kept
	if err := proc.Allocate(f, floorStep); err != nil {
		return 0, err
	}
	b := make([]byte, size)
	n, begin := 0, time.Now()
	for at := int64(0); time.Since(begin) < limit; at += int64(size) {
		if _, err := f.WriteAt(b, at); err != nil {
			return 0, err
		}
		if err := proc.Datasync(f); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}
