package journal_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/storetest"
	"github.com/farhop/farhop/storeforward/vfs"
)

// TestConformanceOnBadDisks is the suite with every fault there is, on small
// segments, so that cases meet their borders.
func TestConformanceOnBadDisks(t *testing.T) {
	for name, manual := range map[string]bool{"cleaning by itself": false, "never cleaning": true} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(tb storetest.TB) storetest.Harness {
				return newBadDisk(tb, manual).harness()
			})
		})
	}
}

// badDisk is a directory in memory that does as it is told.
type badDisk struct {
	tb     storetest.TB
	manual bool
	rng    *rand.Rand
	mem    *vfs.Mem
	index  *indexDisk
}

func newBadDisk(tb storetest.TB, manual bool) *badDisk {
	mem := vfs.NewMem()
	return &badDisk{tb, manual, rand.New(rand.NewPCG(1, 2)), mem, &indexDisk{mem: mem}}
}

func (d *badDisk) harness() storetest.Harness {
	return storetest.Harness{
		Open: func(done store.Done) (store.Store, error) {
			return journal.Open(journal.Config{
				FS: d.mem, SegmentBytes: 64 << 10, CheckpointBytes: 32 << 10, Manual: d.manual, Done: done,
				OpenIndex: func() (journal.Index, error) { return d.index.open(), nil },
			})
		},
		Crash: func(s store.Store) { d.end(s, d.mem.Copy) },
		Faults: storetest.Faults{
			LoseUnsynced: func(s store.Store) {
				d.end(s, func() *vfs.Mem { return d.mem.Image(nil, d.mem.Ops()) })
			},
			Tear: func(s store.Store) {
				d.end(s, func() *vfs.Mem { return d.mem.Image(d.rng, d.mem.Ops()) })
			},
			FailCommit: func() { d.mem.Fail("sync", 1) },
			Full: func(on bool) {
				d.mem.SetCapacity(-1)
				if on {
					d.mem.SetCapacity(d.mem.Used())
				}
			},
			FlipBit: d.flip,
			Slow: func(on bool) {
				d.mem.Hook(nil)
				if on {
					d.mem.Hook(func(op, _ string) error {
						if op == "sync" {
							time.Sleep(time.Millisecond)
						}
						return nil
					})
				}
			},
		},
	}
}

// end kills a store and goes on with another directory.
func (d *badDisk) end(s store.Store, next func() *vfs.Mem) {
	kill(s.(*journal.Store))
	d.mem = next()
	d.index = &indexDisk{mem: d.mem, past: d.index.past}
}

// flip changes a bit wherever a payload stands.
func (d *badDisk) flip(p store.Put) {
	names, err := d.mem.List()
	if err != nil {
		d.tb.Fatalf("%v", err)
	}
	found := 0
	for _, name := range names {
		f, err := d.mem.Open(name)
		if err != nil {
			d.tb.Fatalf("%v", err)
		}
		size, _ := f.Size()
		b := make([]byte, size)
		_, _ = f.ReadAt(b, 0)
		_ = f.Close()
		if at := bytes.Index(b, p.Blob.B); at >= 0 {
			found++
			if err := d.mem.Flip(name, int64(at+len(p.Blob.B)/2), 4); err != nil {
				d.tb.Fatalf("%v", err)
			}
		}
	}
	if found == 0 {
		d.tb.Fatalf("the payload of message %d is nowhere", p.Header.Seq)
	}
}
