package journal_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/farhop/farhop/storeforward/journal/index"
	"github.com/farhop/farhop/storeforward/vfs"
)

// indexDisk is where an index in memory is kept: all checkpoints there ever
// were, so that a power cut may leave any of them, as bbolt falls back to an
// older one, or none.
type indexDisk struct {
	mem *vfs.Mem // whose clock tells when a checkpoint began

	mu    sync.Mutex
	past  []checkpoint
	fails bool // the next Apply
}

// checkpoint is what an index held since a moment. Nobody changes data.
type checkpoint struct {
	at   int
	data map[string][]byte
}

var errIndex = errors.New("the disk below the index fails")

// open returns the index as it was left, as index.Open does.
func (d *indexDisk) open() *memIndex {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := &memIndex{disk: d}
	if n := len(d.past); n > 0 {
		x.data = d.past[n-1].data
	}
	return x
}

// fail makes the next Apply fail, or not.
func (d *indexDisk) fail(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = on
}

func (d *indexDisk) write(data map[string][]byte, at int) {
	d.past = append(d.past, checkpoint{at, data})
	if len(d.past) > 64 {
		d.past = slices.Delete(d.past, 1, 32)
	}
}

// image is the disk as a power cut at some moment may leave it, below a store
// on mem. nil: a damaged file, which was begun anew.
func (d *indexDisk) image(rng *rand.Rand, at int, mem *vfs.Mem) *indexDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.past)
	for n > 0 && d.past[n-1].at > at {
		n--
	}
	out := &indexDisk{mem: mem}
	if n == 0 {
		return out
	}
	switch rng.IntN(10) {
	case 0:
		return nil
	case 1:
		return out // missing
	case 2:
		n = 1 + rng.IntN(n)
	case 3, 4:
		n = max(1, n-1)
	}
	out.past = []checkpoint{{0, d.past[n-1].data}}
	return out
}

// memIndex is an open index.
type memIndex struct {
	disk *indexDisk
	mu   sync.Mutex
	data map[string][]byte
}

func (x *memIndex) Apply(changes []index.Change, _ bool) error {
	x.disk.mu.Lock()
	defer x.disk.mu.Unlock()
	if x.disk.fails {
		x.disk.fails = false
		return errIndex
	}
	// From here on a power cut may find it: bbolt cannot know when its last
	// page has arrived.
	at := x.disk.mem.Ops()
	next := maps.Clone(x.data)
	if next == nil {
		next = map[string][]byte{}
	}
	for _, c := range changes {
		if delete(next, c.Key); c.Value != nil {
			next[c.Key] = slices.Clone(c.Value)
		}
	}
	x.disk.write(next, at)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.data = next
	return nil
}

func (x *memIndex) Each(prefix string, f func(key string, value []byte) error) error {
	x.mu.Lock()
	data := x.data
	x.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if strings.HasPrefix(key, prefix) {
			if err := f(key, data[key]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *memIndex) Reset() error {
	x.disk.mu.Lock()
	defer x.disk.mu.Unlock()
	x.disk.write(nil, x.disk.mem.Ops())
	x.mu.Lock()
	defer x.mu.Unlock()
	x.data = nil
	return nil
}

func (x *memIndex) Size() (n int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for k, v := range x.data {
		n += int64(len(k) + len(v))
	}
	return n
}

func (x *memIndex) MaybeCompact() error { return nil }

func (x *memIndex) Close() error { return nil }
