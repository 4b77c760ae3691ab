package journal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/journal/index"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/storetest"
	"github.com/farhop/farhop/storeforward/vfs"
)

// openIndex opens the index of a disk; nil is one that was damaged.
func openIndex(disk *indexDisk, mem *vfs.Mem) (journal.Index, error) {
	if disk == nil {
		return (&indexDisk{mem: mem}).open(), fmt.Errorf("open index: %w", index.ErrDamaged)
	}
	return disk.open(), nil
}

// violation is a promise that an image breaks.
type violation struct {
	seed   uint64
	at     int
	what   error
	before string // what was done to the disk
}

func (v *violation) Error() string {
	return fmt.Sprintf("seed %d, power cut at %d: %v\nbefore it:\n%s", v.seed, v.at, v.what, v.before)
}

// found is what a store has after a power cut.
type found struct {
	marker int // of its last batch
	text   string
}

// visit makes images of the moments since the last visit and checks them. All
// batches were reported, but for lazy ones.
func (w *work) visit() error {
	for ; w.visited <= w.mem.Ops(); w.visited++ {
		w.counts.moments++
		for n := range uint64(w.opts.perPoint) {
			w.counts.images++
			// Not the workload's: how many moments there are depends on the
			// scheduler, and the workload must not.
			rng := rand.New(rand.NewPCG(w.opts.seed, uint64(w.visited)<<8|n|1<<60))
			if err := w.check(rng, w.visited); err != nil {
				return &violation{w.opts.seed, w.visited, err, w.mem.History(w.visited-40, w.visited)}
			}
		}
	}
	w.mem.Forget(w.visited - 50) // some are kept to be told of
	return nil
}

// check recovers from one image of a moment.
func (w *work) check(rng *rand.Rand, at int) error {
	img := w.mem.Image(rng, at)
	disk := w.index.image(rng, at, img)
	s, f, err := w.recover(img, disk)
	if err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	opened := img.Ops()
	if err := w.judge(f, at); err != nil {
		kill(s)
		return err
	}
	switch rng.IntN(6) {
	case 0:
		err = w.again(rng, s, img, disk, f, at, opened)
	case 1:
		if err = w.goOn(rng, s, img, disk, f); err != nil {
			err = fmt.Errorf("%w\nsince recovery began:\n%s", err, img.History(0, img.Ops()))
		}
	default:
		kill(s)
	}
	return err
}

// recover opens a store and reads all it has.
func (w *work) recover(mem *vfs.Mem, disk *indexDisk) (*journal.Store, found, error) {
	cfg := w.config(mem, disk, nil)
	var alarm error
	cfg.Alarm = func(d journal.Damage) { alarm = fmt.Errorf("a power cut was taken for damage: %+v", d) }
	s, err := journal.Open(cfg)
	if err != nil {
		return nil, found{}, err
	}
	seqs := uint64(0)
	if w.counts.images%16 == 0 {
		seqs = w.now.Next() // those that are gone as well
	}
	f, err := read(s, seqs)
	if err = errors.Join(err, alarm); err != nil {
		kill(s)
		return nil, f, err
	}
	return s, f, nil
}

func read(s *journal.Store, seqs uint64) (f found, err error) {
	err = s.State("n/", func(_ string, value []byte) error {
		n, err := strconv.Atoi(string(value))
		f.marker = max(f.marker, n)
		return err
	})
	if err == nil {
		f.text, err = storetest.Contents(s, crashQueues, seqs)
	}
	return f, err
}

// judge compares what was found with what may be there after a power cut.
func (w *work) judge(f found, at int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	marker := max(f.marker, w.first)
	if marker-w.first >= len(w.entries) {
		return fmt.Errorf("batch %d was never made", marker)
	}
	e := w.entries[marker-w.first]
	switch {
	case e.from > at:
		return fmt.Errorf("batch %d is there, which was appended at %d", marker, e.from)
	case e.denied >= 0 && e.denied <= at:
		return fmt.Errorf("batch %d is there, which was refused at %d", marker, e.denied)
	}
	for i := len(w.entries) - 1; i > marker-w.first; i-- {
		if a := w.entries[i].acked; a >= 0 && a <= at {
			return fmt.Errorf("batch %d is the last one there, batch %d was acknowledged at %d", marker, i+w.first, a)
		}
	}
	return e.same(f)
}

func (e *entry) same(f found) error {
	if e.text == "" {
		e.text = e.model.Contents(crashQueues)
	}
	if e.text != f.text {
		return fmt.Errorf("the store after batch %d is not what it should be:\n%s", f.marker, clip(storetest.Diff(f.text, e.text)))
	}
	return nil
}

func clip(s string) string {
	lines := strings.SplitAfter(s, "\n")
	var b strings.Builder
	for i, line := range lines {
		if i == 30 {
			fmt.Fprintf(&b, "and %d more lines\n", len(lines)-i)
			break
		}
		if len(line) > 400 {
			line = line[:400] + "...\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// again cuts the power in the midst of the recovery, or after it: once is as
// good as twice, and what a recovered store has shown stays.
func (w *work) again(rng *rand.Rand, s *journal.Store, img *vfs.Mem, disk *indexDisk, f found, at, opened int) error {
	kill(s)
	w.counts.twice++
	then := rng.IntN(img.Ops() + 1)
	if then < img.Oldest() {
		then = img.Ops()
	}
	second := img.Image(rng, then)
	if disk != nil {
		disk = disk.image(rng, then, second)
	}
	s, g, err := w.recover(second, disk)
	if err != nil {
		return fmt.Errorf("recovery after a power cut at step %d of recovery: %w\n%s", then, err, img.History(0, then))
	}
	kill(s)
	if then >= opened && g != f {
		return fmt.Errorf("a second recovery differs from the first, which ended with batch %d, by batch %d:\n%s",
			f.marker, g.marker, clip(storetest.Diff(g.text, f.text)))
	}
	if err := w.judge(g, at); err != nil {
		return fmt.Errorf("after a power cut at step %d of recovery: %w\n%s", then, err, img.History(0, then))
	}
	return nil
}

// goOn writes to a recovered store, closes it and opens it again.
func (w *work) goOn(rng *rand.Rand, s *journal.Store, img *vfs.Mem, disk *indexDisk, f found) error {
	w.counts.twice++
	w.mu.Lock()
	model := w.entries[max(f.marker, w.first)-w.first].model.Clone()
	w.mu.Unlock()
	if err := s.Close(); err != nil {
		return fmt.Errorf("close after recovery: %w", err)
	}
	if disk == nil {
		disk = &indexDisk{mem: img}
	}
	fate := make(chan error, 1)
	s, err := journal.Open(w.config(img, disk, func(_ store.LSN, err error) { fate <- err }))
	if err != nil {
		return fmt.Errorf("open after recovery and close: %w", err)
	}
	b := &store.Batch{LSN: 1, Puts: []store.Put{randomPut(rng, model.Next())}, Drops: model.Entries()}
	b.Drops = b.Drops[:len(b.Drops)/2]
	model.Apply(b)
	s.Append(b)
	if err := <-fate; err != nil {
		return fmt.Errorf("write after recovery: %w", err)
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	s, g, err := w.recover(img, disk)
	if err != nil {
		return fmt.Errorf("open after a write: %w", err)
	}
	kill(s)
	e := entry{model: model}
	if err := e.same(g); err != nil {
		return fmt.Errorf("after recovery, a batch more, and close: %w", err)
	}
	return nil
}
