package durable

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farhop/farhop/storeforward/store"
)

// TestRun runs every engine, a little.
func TestRun(t *testing.T) {
	for _, engine := range Engines() {
		t.Run(engine, func(t *testing.T) {
			dir := t.TempDir()
			r, err := Run(t.Context(), Config{Dir: dir, Engine: engine, Size: 200, Producers: 7, Messages: 501, Rounds: 2, Limit: time.Minute}, t.Logf)
			if err != nil {
				t.Fatal(err)
			}
			if r.Queued != 501 || r.Put <= 0 || r.Cycle <= 0 || r.Floor <= 0 || r.Syncs <= 0 || r.Share <= 0 || r.RSSAnon <= 0 {
				t.Errorf("%+v", r)
			}
			if engine != Memory && (r.Reopen <= 0 || !r.InMemory && (r.WA < 1 || r.PutWA < 1)) {
				t.Errorf("an engine that wrote nothing: %+v", r)
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

// TestCycleRemoves checks that a cycle leaves nothing behind, and a put all.
func TestCycleRemoves(t *testing.T) {
	for _, c := range []struct {
		name  string
		cycle bool
		want  int
	}{{"puts", false, 300}, {"cycles", true, 0}} {
		for _, engine := range Engines() {
			t.Run(c.name+" "+engine, func(t *testing.T) {
				l, err := NewLoad(128)
				if err != nil {
					t.Fatal(err)
				}
				s, err := Open(engine, t.TempDir(), l, 5)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if _, err := Drive(t.Context(), s, l, Part{Producers: 5, Messages: 300, Cycle: c.cycle}); err != nil {
					t.Fatal(err)
				}
				st := s.(*custody)
				if err := st.settle(0); err != nil {
					t.Fatal(err)
				}
				sum, err := st.to.(store.Store).Summary()
				n := 0
				for _, q := range sum.Queues {
					n += q.Count
				}
				if err != nil || n != c.want {
					t.Errorf("%d bundles are left, want %d (%v)", n, c.want, err)
				}
			})
		}
	}
}

// TestFloorFile reads back what the floor wrote.
func TestFloorFile(t *testing.T) {
	dir := t.TempDir()
	l, err := NewLoad(300)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(Floor, dir, l, 3)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Drive(t.Context(), s, l, Part{Producers: 3, Messages: 100, Cycle: true})
	if err = errors.Join(err, s.Close()); err != nil || r.Durable != 100 {
		t.Fatal(r, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "floor"))
	if err != nil {
		t.Fatal(err)
	}
	if len(data) != floorStep {
		t.Errorf("the file has %d bytes, want %d preallocated", len(data), floorStep)
	}
	n := 0
	for ; binary.LittleEndian.Uint32(data) != 0; n++ {
		size := binary.LittleEndian.Uint32(data)
		body := data[8 : 8+size]
		if crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(data[4:]) || size != 300 {
			t.Fatalf("bundle %d of %d bytes has another CRC", n, size)
		}
		if err := l.Check(body[frozenBytes(300):]); err != nil {
			t.Fatal(err)
		}
		data = data[8+size:]
	}
	if n != 100 {
		t.Errorf("%d bundles, want 100", n)
	}
}

// failing is a sink that fails after some puts.
type failing struct {
	mu   sync.Mutex
	left int
}

var errFailing = errors.New("the disk is on fire")

func (f *failing) Put(int, Bundle, Item) (Item, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left--; f.left < 0 {
		return Item{}, errFailing
	}
	return Item{}, nil
}

func (f *failing) Close() error { return nil }

// TestDriveEnds checks the three ends of a part: an error, its time, its
// context.
func TestDriveEnds(t *testing.T) {
	l, err := NewLoad(64)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Drive(t.Context(), &failing{left: 50}, l, Part{Producers: 4})
	if !errors.Is(err, errFailing) || r.Durable != 50 {
		t.Errorf("after an error: %+v, %v", r, err)
	}
	many := func() Sink { return &failing{left: 1 << 62} }
	if r, err = Drive(t.Context(), many(), l, Part{Producers: 4, Limit: time.Millisecond}); err != nil || r.Seconds <= 0 {
		t.Errorf("after its time: %+v, %v", r, err)
	}
	if r, err = Drive(t.Context(), many(), l, Part{Producers: 4, Messages: 11}); err != nil || r.Durable != 11 {
		t.Errorf("after its messages: %+v, %v", r, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = Drive(ctx, many(), l, Part{Producers: 4}); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context: %v", err)
	}
}

func TestLoad(t *testing.T) {
	for _, size := range []int{minSize, 255, 1024, maxSize} {
		l, err := NewLoad(size)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[int]bool{}
		for n := range 1000 {
			b := l.Bundle(3, n)
			seen[b.Queue] = true
			if b.Size() != size || l.Check(b.Payload) != nil {
				t.Fatalf("bundle %d has %d bytes, want %d: %v", n, b.Size(), size, l.Check(b.Payload))
			}
		}
		if len(seen) != Queues {
			t.Errorf("%d destinations, want %d", len(seen), Queues)
		}
		changed := append([]byte{}, l.Bundle(0, 1).Payload...)
		changed[len(changed)-1] ^= 1
		if l.Check(changed) == nil || l.Check(nil) == nil || l.Check([]byte{255, 0, 0, 0}) == nil {
			t.Error("a changed payload passes")
		}
	}
	if _, err := NewLoad(minSize - 1); err == nil {
		t.Error("too small a size passes")
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		c    Config
		want string // "" is no fault
	}{
		{"defaults", Config{Dir: "d"}, ""},
		{"large bundles", Config{Dir: "d", Size: maxSize, Producers: 4096}, ""},
		{"no folder", Config{}, "dir: missing"},
		{"engine", Config{Dir: "d", Engine: "ram"}, `engine: "ram", want `},
		{"size", Config{Dir: "d", Size: 10}, "size: 10, want 64 to 1048576"},
		{"producers", Config{Dir: "d", Producers: -1}, "producers: -1, want 1 to 4096"},
		{"fewer messages than producers", Config{Dir: "d", Producers: 9, Messages: 8}, "messages: 8, want 9 to"},
		{"rounds", Config{Dir: "d", Rounds: 200}, "rounds: 200, want 1 to 101"},
		{"limit", Config{Dir: "d", Limit: -1}, "limit: a negative time"},
		{"all at once", Config{Rounds: -1, Limit: -1}, "rounds: -1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.c.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := Open("ram", t.TempDir(), &Load{}, 1); err == nil {
		t.Error("an unknown engine opens")
	}
	if _, err := Open(Floor, t.TempDir(), &Load{}, 0); err == nil {
		t.Error("no producers at all are accepted")
	}
}

// TestMedians checks that shares are those of the rounds, not of the medians.
func TestMedians(t *testing.T) {
	r := Report{All: []Round{
		{Put: 50, Floor: 100, Cycle: 60}, {Put: 90, Floor: 100, Cycle: 95}, {Put: 9, Floor: 10, Cycle: 8},
	}}
	r.finish()
	if r.Put != 50 || r.Floor != 100 || r.Share != 0.9 || r.CycleShare != 0.8 {
		t.Errorf("put %v, floor %v, share %v, cycle share %v; want 50, 100, 0.9, 0.8", r.Put, r.Floor, r.Share, r.CycleShare)
	}
	if Median(nil, func(v float64) float64 { return v }) != 0 || Median([]float64{4, 1}, func(v float64) float64 { return v }) != 2.5 || Ratio(1, 0) != 0 {
		t.Error("medians of none and of two")
	}
}
