package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/storetest"
	"github.com/farhop/farhop/storeforward/vfs"
)

// entry is one batch of the workload, and the state once it is applied. The
// moments are those of the disk's clock, -1 for never.
type entry struct {
	model  *storetest.Model
	text   string // of model, once it was needed
	lsn    store.LSN
	from   int // when it was appended
	acked  int
	denied int // refused whole, as on a full disk
}

// work is a store on a disk in memory, with a history of random batches.
type work struct {
	rng   *rand.Rand
	opts  options
	mem   *vfs.Mem
	index *indexDisk
	store *journal.Store

	now     *storetest.Model
	alive   int // messages aimed at
	lsn     store.LSN
	visited int // images were made of all moments before
	counts  *counts

	mu      sync.Mutex
	first   int      // marker of entries[0], which is the state after the last cut
	entries []*entry // by the marker that each batch sets
	reports int
	fates   []error // by LSN - 1, since open
	changed chan struct{}
}

// options say what a run is like.
type options struct {
	seed     uint64
	groups   int  // of batches
	perPoint int  // images of each moment
	manual   bool // checkpoints and cleaning are called, else they come by themselves
	lie      int  // every so many syncs is a lie
	lieDir   int
	faults   bool // failing, full disks
}

// counts are what a run did.
type counts struct {
	images, moments, batches, checkpoints, cleanings, reopens, cuts, poisons, fulls, twice, segments int
}

func (c *counts) add(o counts) {
	c.images += o.images
	c.moments += o.moments
	c.batches += o.batches
	c.checkpoints += o.checkpoints
	c.cleanings += o.cleanings
	c.reopens += o.reopens
	c.cuts += o.cuts
	c.poisons += o.poisons
	c.fulls += o.fulls
	c.twice += o.twice
	c.segments = max(c.segments, o.segments)
}

func newWork(o options) *work {
	mem := vfs.NewMem()
	mem.Lie(o.lie, o.lieDir)
	w := &work{
		rng: rand.New(rand.NewPCG(o.seed, 1)), opts: o, mem: mem, index: &indexDisk{mem: mem},
		now: storetest.NewModel(), counts: &counts{}, changed: make(chan struct{}, 1),
	}
	w.alive = []int{5, 20, 40}[w.rng.IntN(3)]
	w.entries = []*entry{{model: w.now.Clone(), acked: 0, denied: -1}}
	return w
}

// config is that of every store of the work and of its images. Every other
// work has the values of the State on the disk alone.
func (w *work) config(mem *vfs.Mem, disk *indexDisk, done store.Done) journal.Config {
	var bulk []string
	if w.opts.seed%2 == 1 {
		bulk = []string{"s/", "n/"}
	}
	return journal.Config{
		FS: mem, SegmentBytes: 64 << 10, CheckpointBytes: 24 << 10, Manual: w.opts.manual, Done: done, Bulk: bulk,
		OpenIndex: func() (journal.Index, error) { return openIndex(disk, mem) },
	}
}

func (w *work) open() error {
	w.mu.Lock()
	w.lsn, w.reports, w.fates = 0, 0, nil
	w.mu.Unlock()
	s, err := journal.Open(w.config(w.mem, w.index, w.done))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	w.store = s
	return nil
}

// done notes when a batch was acknowledged.
func (w *work) done(lsn store.LSN, err error) {
	at := w.mem.Ops()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports++
	w.fates = append(w.fates, err)
	for i := len(w.entries) - 1; i > 0; i-- {
		if e := w.entries[i]; e.lsn == lsn {
			if err == nil {
				e.acked = at
			} else if errors.Is(err, store.ErrFull) {
				e.denied = at
			}
			break
		}
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// wait returns when every batch was reported, and the first error.
func (w *work) wait() error {
	hung := time.After(time.Minute) // only a hung engine meets it
	for {
		w.mu.Lock()
		n, err := w.reports, error(nil)
		for _, e := range w.fates {
			if err == nil {
				err = e
			}
		}
		w.mu.Unlock()
		if n == int(w.lsn) {
			return err
		}
		select {
		case <-w.changed:
		case <-hung:
			return fmt.Errorf("%d of %d batches were reported", n, w.lsn)
		}
	}
}

// append appends one batch.
func (w *work) append(b *store.Batch) *entry {
	n := w.first + len(w.entries)
	b.Sets = append(b.Sets, store.Set{Key: "n/" + strconv.Itoa(n%3), Value: strconv.AppendInt(nil, int64(n), 10)})
	w.lsn++
	b.LSN = w.lsn
	w.now.Apply(b)
	e := &entry{model: w.now.Clone(), lsn: b.LSN, from: w.mem.Ops(), acked: -1, denied: -1}
	w.mu.Lock()
	w.entries = append(w.entries, e)
	w.mu.Unlock()
	w.counts.batches++
	w.store.Append(b)
	return e
}

// crashQueues are few, so that batches meet.
var crashQueues = func() (out []store.Queue) {
	for _, name := range []string{"a", "b", "c"} {
		out = append(out, store.Queue{Kind: store.ToNode, Name: name, Class: bundle.Telemetry},
			store.Queue{Kind: store.ToSession, Name: name, Class: bundle.Alarm})
	}
	return out
}()

func randomSize(r *rand.Rand) int {
	switch r.IntN(20) {
	case 0:
		return r.IntN(30_000)
	case 1, 2, 3, 4:
		return r.IntN(4000)
	default:
		return r.IntN(300)
	}
}

func randomPut(r *rand.Rand, seq uint64) store.Put {
	size := randomSize(r)
	h := &store.Header{
		Seq: seq, Message: bundle.ID{Node: addr.MustNode("origin"), Seq: bundle.Sequence(seq * 3)},
		Origin: addr.MustNode("maker"), Class: bundle.Telemetry, Hops: byte(seq), QoS: 1, Retain: seq%2 == 0,
		Topic: "plant/" + strconv.Itoa(r.IntN(5)), Service: "mqtt", Received: int64(seq) * 10,
		Expires: int64(seq)*10 + 5000, Size: uint32(size),
	}
	if r.IntN(4) == 0 {
		h.Prev, h.Charge, h.Count = addr.MustNode("hop"), "tenant", uint16(seq)
	}
	for _, i := range r.Perm(len(crashQueues))[:1+r.IntN(3)*r.IntN(2)] {
		e := store.Entry{Queue: crashQueues[i], Bundle: bundle.Sequence(seq), DSeq: seq + 1, QoS: 1}
		if r.IntN(2) == 0 {
			e.Frozen = []byte("frozen " + strconv.Itoa(int(seq)))
		}
		h.Entries = append(h.Entries, e)
	}
	b := bytes.Repeat(strconv.AppendUint(nil, seq, 10), size/len(strconv.FormatUint(seq, 10))+1)[:size]
	return store.Put{Header: h, Blob: &store.Blob{B: b}}
}

// draw makes a batch.
func (w *work) draw() *store.Batch {
	r, b := w.rng, &store.Batch{}
	b.Lazy = r.IntN(4) == 0
	waiting, next := w.now.Entries(), w.now.Next()
	if len(waiting) < w.alive || r.IntN(2) == 0 {
		for range 1 + r.IntN(3) {
			next += uint64(r.IntN(5) / 4)
			b.Puts = append(b.Puts, randomPut(r, next))
			next++
		}
	}
	if len(waiting) > 0 && r.IntN(8) == 0 {
		d := waiting[r.IntN(len(waiting))]
		moved := randomPut(r, next)
		moved.Blob, moved.From, moved.Header.Size = nil, d.Seq, d.Size
		b.Puts = append(b.Puts, moved)
		b.Drops = append(b.Drops, d)
	}
	for range r.IntN(3) {
		if len(waiting) > 0 {
			d := waiting[r.IntN(len(waiting))]
			b.Marks = append(b.Marks, store.Mark{Queue: d.Queue, Seq: d.Seq, Size: d.Size, State: store.EntryState(r.IntN(3))})
		}
	}
	for i := range waiting {
		// From the front mostly, and now and then a queue at once.
		if len(waiting)-i > w.alive && r.IntN(4) > 0 || r.IntN(60) == 0 {
			b.Drops = append(b.Drops, waiting[i])
		}
	}
	for range r.IntN(3) {
		s := store.Set{Key: "s/" + strconv.Itoa(r.IntN(8))}
		if r.IntN(4) > 0 {
			s.Value = bytes.Repeat([]byte{byte(next)}, []int{0, 5, 100, 2500}[r.IntN(4)])
		}
		b.Sets = append(b.Sets, s)
	}
	return b
}
