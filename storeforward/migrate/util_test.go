package migrate_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/migrate"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/storetest"
)

var engines = []migrate.Engine{migrate.Journal, migrate.Bolt}

func other(e migrate.Engine) migrate.Engine {
	if e == migrate.Journal {
		return migrate.Bolt
	}
	return migrate.Journal
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(3, 5)) }

// fastDir is a temporary directory in RAM where the system has one.
func fastDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "migrate") //nolint:usetesting // tb.TempDir is on disk
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// buffer is a store of either engine.
type buffer interface {
	store.Store
	Incarnation() uint32
}

func open(tb testing.TB, e migrate.Engine, dir string, done store.Done) buffer {
	tb.Helper()
	var b buffer
	var err error
	if e == migrate.Bolt {
		b, err = boltstore.Open(boltstore.Config{Dir: dir, Done: done, Strict: true})
	} else {
		b, err = journal.Open(journal.Config{Dir: dir, Done: done, Strict: true, SegmentBytes: 1 << 20})
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func queues() (out []store.Queue) {
	for _, k := range []store.Kind{store.ToNode, store.ToRegion, store.ToSession, store.ToService, store.ToOrder} {
		for _, name := range []string{"a", "b/c", strings.Repeat("long", 50)} {
			out = append(out, store.Queue{Kind: k, Name: name, Class: bundle.Class(len(out) % int(bundle.NumClasses))})
		}
	}
	return out
}

// put makes a message with all fields set, of size bytes; negative: without a
// payload.
func put(rng *rand.Rand, seq uint64, size int, in ...store.Queue) store.Put {
	h := &store.Header{
		Seq: seq, Message: bundle.ID{Node: addr.MustNode("origin"), Seq: bundle.NewSequence(7, bundle.Telemetry, seq)},
		Origin: addr.MustNode("maker"), Prev: addr.MustNode("hop"), Class: bundle.Class(seq % uint64(bundle.NumClasses)),
		Hops: byte(seq), QoS: byte(seq % 3), Retain: seq%2 == 0, Topic: fmt.Sprintf("plant/%d/temp", seq), Service: "mqtt",
		Charge: strings.Repeat("q", int(seq%3)), Count: uint16(seq % 4), Received: int64(seq) * 1000, Expires: -int64(seq),
		Size: uint32(max(size, 0)),
	}
	for i, q := range in {
		e := store.Entry{Queue: q, Bundle: bundle.Sequence(rng.Uint64()), DSeq: seq, QoS: byte(i % 3)}
		if seq%5 > 0 {
			e.Frozen = bytes.Repeat([]byte{byte(seq)}, int(seq%5-1)*60)
		}
		h.Entries = append(h.Entries, e)
	}
	p := store.Put{Header: h}
	if size >= 0 {
		p.Blob = &store.Blob{B: bytes.Repeat(fmt.Appendf(nil, "%x.", rng.Uint64()), size/8+1)[:size]}
		copy(p.Blob.B, fmt.Sprintf("payload of %d", seq))
	}
	return p
}

// fill writes a store with some of everything: messages in one queue and in
// many, of all sizes, marked, dropped, ended, and a state.
func fill(tb testing.TB, e migrate.Engine, dir string, messages int) {
	tb.Helper()
	fates := make(chan error, 1)
	s := open(tb, e, dir, func(_ store.LSN, err error) { fates <- err })
	rng := rand.New(rand.NewPCG(1, uint64(messages)))
	all := queues()
	lsn, next := store.LSN(0), uint64(1)
	write := func(b *store.Batch) {
		lsn++
		b.LSN = lsn
		s.Append(b)
		if err := <-fates; err != nil {
			tb.Fatal(err)
		}
	}
	var entries []store.Drop
	for next <= uint64(messages) {
		b := &store.Batch{}
		for range 40 {
			in := []store.Queue{all[rng.IntN(len(all))]}
			if rng.IntN(4) == 0 {
				in = all[rng.IntN(8) : 8+rng.IntN(7)]
			}
			size := [...]int{-1, 0, 20, 200, 1000, 5000, 40_000}[min(rng.IntN(20), 6)*rng.IntN(7)/6]
			b.Puts = append(b.Puts, put(rng, next, size, in...))
			for _, q := range in {
				entries = append(entries, store.Drop{Queue: q, Seq: next, Size: uint32(max(size, 0))})
			}
			next += 1 + uint64(rng.IntN(2))
		}
		for range 25 {
			m := entries[rng.IntN(len(entries))]
			b.Marks = append(b.Marks, store.Mark{Queue: m.Queue, Seq: m.Seq, State: store.EntryState(1 + rng.IntN(2)), Size: m.Size})
			b.Drops = append(b.Drops, entries[rng.IntN(len(entries))])
		}
		for range 10 {
			key := fmt.Sprintf("key/%d\x00%d", rng.IntN(200), rng.IntN(3))
			b.Sets = append(b.Sets, store.Set{Key: key, Value: bytes.Repeat([]byte{byte(lsn)}, rng.IntN(3)*rng.IntN(4000)+rng.IntN(2))})
		}
		b.Sets = append(b.Sets, store.Set{Key: "", Value: []byte("of the empty key")}, store.Set{Key: "empty", Value: []byte{}})
		write(b)
	}
	// The highest number belongs to nothing any more.
	last := put(rng, next, 10, all[0])
	write(&store.Batch{Puts: []store.Put{last}})
	write(&store.Batch{Drops: []store.Drop{{Queue: all[0], Seq: next, Size: 10}}})
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
}

// contents is all that a store holds, as text, and its incarnation.
func contents(tb testing.TB, e migrate.Engine, dir string) string {
	tb.Helper()
	s := open(tb, e, dir, nil)
	sum, err := s.Summary()
	if err != nil {
		tb.Fatal(err)
	}
	text, err := storetest.Contents(s, queues(), sum.NextSeq)
	if err != nil {
		tb.Fatal(err)
	}
	text += fmt.Sprintf("incarnation %d\n", s.Incarnation())
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	return text
}

// inUse returns the engine of the store in use.
func inUse(tb testing.TB, dir string) migrate.Engine {
	tb.Helper()
	p, err := migrate.Look(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return p.Engine
}

// same fails with the first line in which two contents differ.
func same(tb testing.TB, what, got, want string) {
	tb.Helper()
	if got == want {
		return
	}
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			tb.Fatalf("%s: line %d is\n%.300q\nwant\n%.300q", what, i+1, a[i], b[i])
		}
	}
	tb.Fatalf("%s: %d lines, want %d", what, len(a), len(b))
}

// tree is every name below a folder with what is in it, but for a lock and for
// what an index was to be made of: they are empty, or mean nothing.
func tree(tb testing.TB, dir string) string {
	tb.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() == "lock" || d.Name() == "index.db.new" {
			return err
		}
		data := []byte(nil)
		if d.Type().IsRegular() {
			data, err = os.ReadFile(path)
		}
		fmt.Fprintf(&out, "%s %s %x\n", path, d.Type(), data)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out.String()
}

func oneLine(tb testing.TB, what string, err error) {
	tb.Helper()
	if err == nil || strings.Contains(err.Error(), "\n") {
		tb.Errorf("%s: %v; want an error in one line", what, err)
	}
}
