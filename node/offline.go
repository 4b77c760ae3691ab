package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/migrate"
	"github.com/farhop/farhop/storeforward/store"
)

// Errors of Offline, for callers that branch.
var (
	// ErrRunning says that a daemon has the store open.
	ErrRunning = errors.New("a farhop runs in this data directory")
	// ErrNoStore says that there is none: no daemon ever ran there.
	ErrNoStore = errors.New("there is no store")
	// ErrNotSupported is returned for what an engine has no need of.
	ErrNotSupported = errors.New("not supported")
)

// Offline is the store of a node that does not run. Each method takes its lock
// and gives it back; errors wrap ErrRunning when a daemon has it.
type Offline struct {
	engine string
	dir    string // of the node
	path   string // of its store
	log    *slog.Logger

	release func() // lets migrations in again
}

// FindStore finds the store in the data directory of a node, without opening
// it. The error wraps ErrNoStore when there is none. Until Close nobody can
// migrate the store.
func FindStore(dir string, log *slog.Logger) (*Offline, error) {
	o := &Offline{dir: dir, path: filepath.Join(dir, storeDir), log: log}
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(o.path, name))
		return !errors.Is(err, fs.ErrNotExist)
	}
	if !there(journal.FolderName) && !there(boltstore.FileName) {
		return nil, fmt.Errorf("%w in %s", ErrNoStore, o.path)
	}
	var err error
	if o.release, err = migrate.Hold(o.path); err != nil {
		return nil, err
	}
	if o.engine, err = chooseEngine(o.path, ""); err != nil {
		o.release()
		return nil, err
	}
	return o, nil
}

// Close lets others migrate the store.
func (o *Offline) Close() { o.release() }

// running puts ErrRunning in the place of the engines' own words.
func (o *Offline) running(err error) error {
	if errors.Is(err, boltstore.ErrInUse) || errors.Is(err, journal.ErrInUse) {
		return fmt.Errorf("%w: %s", ErrRunning, o.dir)
	}
	return err
}

// open runs f on the opened store.
func (o *Offline) open(f func(store.Store) error) (err error) {
	var s store.Store
	if o.engine == engineBolt {
		s, err = boltstore.Open(boltstore.Config{Dir: o.path, Log: o.log})
	} else {
		s, err = journal.Open(journal.Config{Dir: o.path, Log: o.log, Manual: true})
	}
	if err != nil {
		return o.running(err)
	}
	return errors.Join(f(s), s.Close())
}

// StoreStats is what a store holds.
type StoreStats struct {
	Engine      string       `json:"engine"`
	Path        string       `json:"path"`
	Messages    int          `json:"messages"` // a message in two queues counts twice
	Bytes       int64        `json:"bytes"`    // of their payload blocks
	FileBytes   int64        `json:"file_bytes"`
	Segments    int          `json:"segments,omitempty"`     // files of the journal
	UsefulBytes int64        `json:"useful_bytes,omitempty"` // of these, about what is still needed
	StateKeys   int          `json:"state_keys"`             // what the node itself remembers: sessions, retained messages, ...
	Queues      []StoreQueue `json:"queues"`
}

// StoreQueue is one queue that is not empty.
type StoreQueue struct {
	Queue   string    `json:"queue"`
	Class   string    `json:"class"`
	Bundles int       `json:"bundles"`
	Bytes   int64     `json:"bytes"`
	Oldest  time.Time `json:"oldest,omitzero"` // arrival of the first; zero when it cannot be read
}

func (st *StoreStats) add(q store.QueueSummary, oldest int64) {
	if q.Count == 0 {
		return
	}
	line := StoreQueue{Queue: core.QueueText(q.Queue), Class: q.Queue.Class.String(), Bundles: q.Count, Bytes: q.Bytes}
	if oldest != 0 {
		line.Oldest = utc(oldest)
	}
	st.Queues = append(st.Queues, line)
	st.Messages += q.Count
	st.Bytes += q.Bytes
}

// Stats counts what the store holds.
func (o *Offline) Stats(ctx context.Context) (StoreStats, error) {
	out := StoreStats{Engine: o.engine, Path: o.path, Queues: []StoreQueue{}}
	stats := o.journalStats
	if o.engine == engineBolt {
		stats = func(out *StoreStats) error {
			return o.open(func(s store.Store) error { return statsOf(ctx, s, out) })
		}
	}
	err := stats(&out)
	if err == nil {
		out.FileBytes, err = o.fileBytes()
	}
	return out, err
}

func (o *Offline) journalStats(out *StoreStats) error {
	st, err := journal.StatsOf(o.path)
	if err != nil {
		return o.running(err)
	}
	out.StateKeys, out.Segments = st.Keys, len(st.Segments)
	for _, seg := range st.Segments {
		out.UsefulBytes += seg.Useful
	}
	for _, q := range st.Queues {
		out.add(q.QueueSummary, q.Oldest)
	}
	return nil
}

func statsOf(ctx context.Context, s store.Store, out *StoreStats) error {
	sum, err := s.Summary()
	if err != nil {
		return err
	}
	for _, q := range sum.Queues {
		first, err := s.Scan(q.Queue, 0, 1)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		oldest := int64(0)
		if len(first) > 0 {
			oldest = first[0].Header.Received
		}
		out.add(q, oldest)
	}
	return s.State("", func(string, []byte) error { out.StateKeys++; return nil })
}

func (o *Offline) fileBytes() (n int64, err error) {
	err = filepath.WalkDir(o.path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}

// maxFaults bounds the faults a check names; all are counted.
const maxFaults = 100

// StoreCheck is what a check found.
type StoreCheck struct {
	Engine   string   `json:"engine"`
	Path     string   `json:"path"`
	Messages int      `json:"messages"` // a message in two queues counts twice
	State    int      `json:"state_keys"`
	Damaged  int      `json:"damaged"` // faults
	Faults   []string `json:"faults"`  // the first of them
}

func (c *StoreCheck) fault(format string, args ...any) {
	if c.Damaged++; len(c.Faults) < maxFaults {
		c.Faults = append(c.Faults, fmt.Sprintf(format, args...))
	}
}

// Check reads all there is, and changes nothing. What it finds is no error.
func (o *Offline) Check(ctx context.Context) (StoreCheck, error) {
	out := StoreCheck{Engine: o.engine, Path: o.path, Faults: []string{}}
	if o.engine == engineBolt {
		err := o.open(func(s store.Store) error { return out.check(ctx, s) })
		return out, err
	}
	r, err := journal.Check(o.path)
	if err != nil {
		return out, o.running(err)
	}
	out.Messages, out.State = r.Entries, r.Keys
	for _, d := range r.Damage {
		out.fault("segment %d, bytes %d to %d: they are not what was written; %s", d.Segment, d.Offset, d.Offset+d.Bytes, missing(&d))
	}
	for _, k := range r.Kept {
		out.fault("%s, %d bytes, was set aside for damage: messages in it may never have been accounted for; keep it elsewhere, or remove it",
			k.Path, k.Bytes)
	}
	for _, seq := range r.Unread {
		out.fault("message number %d waits and cannot be read", seq)
	}
	for _, text := range r.Disagrees {
		out.fault("the index, which can be removed and is made again: %s", text)
	}
	return out, nil
}

// missing says which messages may have been in a damaged place.
func missing(d *journal.Damage) string {
	switch {
	case d.FirstSeq == 0:
		return "no message was there"
	case d.LastSeq < d.FirstSeq:
		return fmt.Sprintf("messages with numbers from %d on may have been there", d.FirstSeq)
	}
	return fmt.Sprintf("messages with numbers from %d to %d may have been there", d.FirstSeq, d.LastSeq)
}

// check reads every message and all of the state.
func (c *StoreCheck) check(ctx context.Context, s store.Store) error {
	err := each(ctx, s, func(it store.Item) error {
		q := it.Entry.Queue
		c.Messages++
		where := fmt.Sprintf("%s, class %s, number %d", core.QueueText(q), q.Class, it.Header.Seq)
		if it.Damaged {
			c.fault("%s: its header cannot be read", where)
			return nil
		}
		if it.Entry.State == store.Ended {
			return nil
		}
		block, err := s.Read(it.Header.Seq)
		if err == nil {
			_, err = bundle.PayloadData(block)
		}
		if err != nil {
			c.fault("%s, message %s: %v", where, it.Header.Message, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.State("", func(string, []byte) error { c.State++; return nil }); err != nil {
		c.fault("what the node remembers: %v", err)
	}
	return nil
}

// each calls f for every item of every queue.
func each(ctx context.Context, s store.Store, f func(store.Item) error) error {
	sum, err := s.Summary()
	if err != nil {
		return err
	}
	for _, q := range sum.Queues {
		for after := uint64(0); ; {
			items, err := s.Scan(q.Queue, after, scanPage)
			if err = errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			for _, it := range items {
				if err := f(it); err != nil {
					return err
				}
			}
			if len(items) < scanPage {
				break
			}
			after = items[len(items)-1].Header.Seq
		}
	}
	return nil
}

// Compacted is what Compact gave back.
type Compacted struct {
	Engine string `json:"engine"`
	Before int64  `json:"before"` // bytes of the messages' files in use
	After  int64  `json:"after"`
}

// Compact gives unused space back to the disk. ErrNotSupported: the engine
// keeps it for new messages.
func (o *Offline) Compact(context.Context) (Compacted, error) {
	out := Compacted{Engine: o.engine}
	if o.engine == engineBolt {
		// The store must be free all the same: one answer for every engine.
		if err := o.open(func(store.Store) error { return nil }); err != nil {
			return out, err
		}
		return out, fmt.Errorf("%w: the engine %s keeps the space of what left for new messages", ErrNotSupported, o.engine)
	}
	var err error
	out.Before, out.After, err = journal.Compact(o.path)
	return out, o.running(err)
}

// Export calls f with every message, queue by queue, those of a batch one by
// one. What cannot be read has Unread set.
func (o *Offline) Export(ctx context.Context, now time.Time, f func(admin.Stored) error) error {
	return o.open(func(s store.Store) error {
		return each(ctx, s, func(it store.Item) error {
			var block []byte
			var unread string
			if !it.Damaged && it.Entry.State != store.Ended {
				var err error
				if block, err = s.Read(it.Header.Seq); err != nil {
					block, unread = nil, err.Error()
				}
			}
			for _, line := range stored(it, block, now.UnixMilli()) {
				if unread != "" {
					line.Unread = unread
				}
				if err := f(line); err != nil {
					return err
				}
			}
			return nil
		})
	})
}
