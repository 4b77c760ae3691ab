package journal_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
)

// How long the search for broken promises goes on:
//
//	go test -run CrashImages ./storeforward/journal
//	go test -run CrashImages ./storeforward/journal -args -images 100000
//	go test -run CrashImages -timeout 0 ./storeforward/journal -args -images 10000000 -state soak.json
//
// With a state file a run that was ended goes on where it was.
var (
	wantImages = flag.Int("images", 3000, "crash images to recover from")
	stateFile  = flag.String("state", "", "file that remembers how far the crash images are")
	firstSeed  = flag.Uint64("seed", 1, "first seed of the crash images")
)

// progress is what the state file says.
type progress struct {
	Seed   uint64 // next
	Images int
}

// run plays one workload.
func run(o options) (c counts, err error) {
	w := newWork(o)
	if err := w.open(); err != nil {
		return *w.counts, err
	}
	defer func() { kill(w.store) }()
	for range o.groups {
		if err := w.step(); err != nil {
			return *w.counts, err
		}
		if err := w.visit(); err != nil {
			return *w.counts, err
		}
		names, err := w.mem.List()
		if err != nil {
			return *w.counts, err
		}
		w.counts.segments = max(w.counts.segments, len(names))
	}
	return *w.counts, nil
}

// step appends a group, or does one of the rarer things.
func (w *work) step() error {
	r := w.rng
	switch n := r.IntN(100); {
	case n < 6 && w.opts.manual:
		w.index.fail(r.IntN(5) == 0)
		w.counts.checkpoints++
		if err := w.store.Checkpoint(); err != nil && !errors.Is(err, errIndex) {
			return fmt.Errorf("checkpoint: %w", err)
		}
		return nil
	case n < 14 && w.opts.manual:
		w.counts.cleanings++
		if err := w.store.Clean(); err != nil {
			return fmt.Errorf("clean: %w", err)
		}
		return nil
	case n < 16:
		w.counts.reopens++
		if err := w.store.Close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
		return w.open()
	case n < 18:
		return w.cut()
	case n < 20 && w.opts.faults:
		return w.breaks()
	case n < 22 && w.opts.faults:
		return w.full()
	}
	for range 1 + r.IntN(5) {
		w.append(w.draw())
	}
	w.append(&store.Batch{}) // not lazy: all will be reported
	return w.wait()
}

// cut cuts the power and goes on from an image.
func (w *work) cut() error {
	w.counts.cuts++
	for range 1 + w.rng.IntN(4) {
		w.append(w.draw()) // some of it may be on its way
	}
	kill(w.store)
	if err := w.visit(); err != nil {
		return err
	}
	at := w.mem.Ops()
	img := w.mem.Image(w.rng, at)
	disk := w.index.image(w.rng, at, img)
	if disk == nil {
		disk = &indexDisk{mem: img}
	}
	img.Lie(w.opts.lie, w.opts.lieDir)
	w.mem, w.index, w.visited = img, disk, 0
	if err := w.open(); err != nil {
		return fmt.Errorf("open after a power cut: %w", err)
	}
	f, err := read(w.store, w.now.Next())
	if err == nil {
		err = w.judge(f, at)
	}
	if err != nil {
		return fmt.Errorf("after a power cut at %d: %w", at, err)
	}
	// What was found is the beginning now, and no moment of the new disk has
	// less.
	w.mu.Lock()
	defer w.mu.Unlock()
	first := max(f.marker, w.first)
	e := w.entries[first-w.first]
	w.now = e.model.Clone()
	w.entries, w.first = []*entry{{model: e.model, text: e.text, acked: 0, denied: -1}}, first
	return nil
}

// breaks makes the disk fail, which must poison the store, and cuts the power.
func (w *work) breaks() error {
	w.counts.poisons++
	w.mem.Fail([]string{"write", "sync"}[w.rng.IntN(2)], 1+w.rng.IntN(3))
	for range 4 {
		for range 1 + w.rng.IntN(3) {
			w.append(w.draw())
		}
		w.append(&store.Batch{})
		if err := w.wait(); err != nil && !errors.Is(err, store.ErrPoisoned) {
			return fmt.Errorf("a failing disk: %w", err)
		}
	}
	w.mem.Fail("write", 0)
	w.mem.Fail("sync", 0)
	return w.cut()
}

// full takes the room from the disk for a while.
func (w *work) full() error {
	w.counts.fulls++
	w.mem.SetCapacity(w.mem.Used() + w.rng.Int64N(100<<10))
	for range 20 {
		before := w.now.Clone()
		b := w.draw()
		b.Lazy = false
		e := w.append(b)
		err := w.wait()
		w.mu.Lock()
		fate := w.fates[e.lsn-1]
		w.mu.Unlock()
		switch {
		case errors.Is(fate, store.ErrFull):
			w.now = before
			w.mu.Lock()
			w.fates[e.lsn-1] = nil
			w.mu.Unlock()
		case err != nil:
			return fmt.Errorf("a full disk: %w", err)
		}
	}
	w.mem.SetCapacity(-1)
	return nil
}

func kill(s *journal.Store) { s.Kill() }

// TestCrashImages recovers from what power cuts at every moment of random
// workloads can leave behind.
func TestCrashImages(t *testing.T) {
	p := progress{Seed: *firstSeed}
	if *stateFile != "" {
		b, err := os.ReadFile(*stateFile)
		if err == nil {
			err = json.Unmarshal(b, &p)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	var total counts
	for p.Images < *wantImages {
		c, err := runSome(p.Seed, runtime.GOMAXPROCS(0))
		total.add(c)
		p.Images += c.images
		if err != nil {
			t.Fatalf("%d images: %v", p.Images, err)
		}
		p.Seed += uint64(runtime.GOMAXPROCS(0))
		if *stateFile != "" {
			b, err := json.Marshal(p)
			if err == nil {
				err = os.WriteFile(*stateFile, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d images in all, next seed %d; this run: %+v", p.Images, p.Seed, total)
}

// runSome plays n seeds at once.
func runSome(seed uint64, n int) (total counts, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range uint64(n) {
		seed := seed + i
		wg.Go(func() {
			c, rerr := run(options{seed: seed, groups: 100, perPoint: 1, manual: seed%4 != 0, faults: seed%2 == 0})
			mu.Lock()
			defer mu.Unlock()
			total.add(c)
			err = errors.Join(err, rerr)
		})
	}
	wg.Wait()
	return total, err
}

// TestCrashImagesNoticeLies runs the same on disks that lie: a check that
// never fails checks nothing.
func TestCrashImagesNoticeLies(t *testing.T) {
	for name, o := range map[string]options{
		"a lost sync":              {lie: 5},
		"a lost directory sync":    {lieDir: 2},
		"no sync does anything":    {lie: 1},
		"no directory sync at all": {lieDir: 1},
	} {
		t.Run(name, func(t *testing.T) {
			o.groups, o.perPoint, o.manual = 60, 2, true
			images := 0
			for o.seed = 1; o.seed <= 10; o.seed++ {
				c, err := run(o)
				images += c.images
				if err != nil {
					t.Logf("noticed after %d images", images)
					return
				}
			}
			t.Errorf("%d images, and nothing was noticed", images)
		})
	}
}
