package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/farhop/farhop/storeforward/journal/index"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// Report is what Check found. Nothing was changed.
type Report struct {
	Segments int
	Blocks   int
	Entries  int   // that wait
	Messages int   // of these
	Tombs    int   // drops and marks that still matter
	Keys     int   // of the state
	Bytes    int64 // of all segment files
	NextSeq  uint64
	Damage   []Damage
	Unread   []uint64 // messages that wait and whose record or payload cannot be read
	Kept     []KeptFile
	Index    string // why the index was not used; "" when it was
	// Disagrees says where the index and a replay of the whole journal differ.
	// With damage they have to, and the index is what knows more.
	Disagrees []string
}

// OK reports whether everything is as it should be. An index that is not there
// is no fault.
func (r *Report) OK() bool { return len(r.Damage)+len(r.Unread)+len(r.Disagrees)+len(r.Kept) == 0 }

// Exists reports whether a data directory has a journal.
func Exists(dir string) bool {
	entries, err := os.ReadDir(filepath.Join(dir, FolderName))
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		_, ok := parseName(e.Name())
		return ok
	})
}

// visit takes an existing directory as Open does, without a daemon, and opens
// it with everything left to the caller.
func visit(dir string) (*Store, error) {
	if !Exists(dir) {
		return nil, fmt.Errorf("no journal in %s: %w", filepath.Join(dir, FolderName), fs.ErrNotExist)
	}
	return Open(Config{Dir: dir, Manual: true})
}

// Check reads the whole journal of a data directory without changing it, and
// compares it with its index. No daemon may run there.
func Check(dir string) (*Report, error) {
	path := filepath.Join(dir, FolderName)
	if !Exists(dir) {
		return nil, fmt.Errorf("check: no journal in %s: %w", path, fs.ErrNotExist)
	}
	lock, err := takeLock(path, defaultLockTimeout)
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	defer lock.release()
	folder, err := vfs.OS(path)
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	rep := &Report{Index: errNoCheckpoint.Error()}
	var ix Index
	if _, err := os.Lstat(filepath.Join(path, index.FileName)); err == nil {
		// Opening a damaged one begins it anew: it is a cache.
		if ix, err = openIndex(path); ix == nil {
			return nil, fmt.Errorf("check: %w", err)
		}
		defer ix.Close()
	}
	if err := rep.check(folder, ix); err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	if rep.Kept, err = Kept(dir); err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	return rep, nil
}

// check builds the book twice, with and without the index.
func (rep *Report) check(folder vfs.FS, ix Index) error {
	with := &recovery{
		fs: folder, index: ix, damage: func(_ *segment, d Damage) { rep.damage(d) },
		log: func(_ string, args ...any) { rep.Index = fmt.Sprint(args...) },
	}
	if err := with.run(); err != nil {
		return err
	}
	defer with.pool.closeAll()
	whole := &recovery{fs: folder, log: func(string, ...any) {}, hint: &with.id, damage: func(_ *segment, d Damage) {
		rep.damage(with.knownTo(d))
	}}
	if err := whole.run(); err != nil {
		return err
	}
	defer whole.pool.closeAll()
	rep.Blocks = whole.blocks
	if !with.used {
		rep.count(whole)
		return rep.read(whole)
	}
	rep.Index = ""
	rep.count(with)
	if len(rep.Damage) == 0 {
		rep.compare(with.book, whole.book)
	}
	return rep.read(with)
}

// knownTo returns damage that was found without the index as who has used it
// sees it: what is unknown then was told already.
func (r *recovery) knownTo(d Damage) Damage {
	if !r.used {
		return d
	}
	d.Unknown = false
	if d.LastSeq < d.FirstSeq {
		if d.LastSeq = r.book.high; d.LastSeq < d.FirstSeq {
			d.FirstSeq, d.LastSeq = 0, 0
		}
	}
	return d
}

// damage adds a place, unless it is part of one that is there.
func (rep *Report) damage(d Damage) {
	if !slices.ContainsFunc(rep.Damage, func(o Damage) bool {
		return o.Segment == d.Segment && o.Offset <= d.Offset && d.Offset+d.Bytes <= o.Offset+o.Bytes
	}) {
		rep.Damage = append(rep.Damage, d)
	}
}

func (rep *Report) count(r *recovery) {
	b := r.book
	rep.Segments, rep.Messages, rep.Keys, rep.NextSeq = len(b.segs), b.messages, b.keys.count, b.high+1
	for _, q := range b.queues {
		rep.Entries += q.set.Len()
	}
	for _, seg := range b.segs {
		rep.Bytes += seg.size
		for _, t := range seg.tombs {
			if t.nonce != unaccounted {
				rep.Tombs += t.n
			}
		}
	}
}

// compare lists where two books differ.
func (rep *Report) compare(a, b *book) {
	differ := func(format string, args ...any) {
		rep.Disagrees = append(rep.Disagrees, fmt.Sprintf(format, args...))
	}
	if a.high != b.high || a.messages != b.messages || a.bytes != b.bytes {
		differ("totals: %d messages of %d bytes up to %d, the journal has %d of %d up to %d",
			a.messages, a.bytes, a.high, b.messages, b.bytes, b.high)
	}
	x, y := a.summary().Queues, b.summary().Queues
	for i := range max(len(x), len(y)) {
		if i >= len(x) || i >= len(y) || x[i] != y[i] {
			differ("queues differ from the %d. on", i+1)
			break
		}
		p, q := a.queues[x[i].Queue], b.queues[x[i].Queue]
		if !slices.Equal(p.set.After(0, p.set.Len(), nil), q.set.After(0, q.set.Len(), nil)) {
			differ("queue %+v holds other messages", x[i].Queue)
		}
	}
	if a.keys.count != b.keys.count {
		differ("%d keys of the state, the journal has %d", a.keys.count, b.keys.count)
	}
	a.keys.each("", func(e *keyEntry) bool {
		v := a.keys.value(e)
		if w, ok := b.keys.get(e.key); !ok || v.inside && w.inside && string(v.value) != string(w.value) || v.at != w.at {
			differ("state key %q", e.key)
		}
		return true
	})
}

// read reads every message that waits, and the state.
func (rep *Report) read(r *recovery) error {
	s := &Store{pool: r.pool, book: r.book, cache: newCache(defaultCacheBytes), damaged: map[damageKey]bool{}, path: "journal"}
	s.cfg = Config{Alarm: rep.damage}.withDefaults()
	ignore := func(string, []byte) error { return nil }
	if err := s.State("", ignore); err != nil && !errors.Is(err, store.ErrDamaged) {
		return err
	}
	return s.each(func(it store.Item, payload []byte, err error) error {
		if it.Damaged || err != nil {
			rep.Unread = append(rep.Unread, it.Header.Seq)
		}
		return nil
	})
}

// each calls f for every entry that waits, by queue and Seq. payload is nil
// when no entry of the message needs it.
func (s *Store) each(f func(it store.Item, payload []byte, err error) error) error {
	const step = 256
	for _, q := range s.book.summary().Queues {
		for after := uint64(0); ; {
			items, err := s.Scan(q.Queue, after, step)
			if err != nil {
				return err
			}
			for _, it := range items {
				after = it.Header.Seq
				var payload []byte
				var err error
				if !it.Damaged {
					payload, err = s.Read(it.Header.Seq)
				}
				if errors.Is(err, store.ErrNotFound) {
					err = nil
				}
				if err := f(it, payload, err); err != nil {
					return err
				}
			}
			if len(items) < step {
				break
			}
		}
	}
	return nil
}

// SegmentStats is one segment.
type SegmentStats struct {
	Name   string
	Bytes  int64
	Useful int64 // of these, that are still needed, about
	Live   int   // entries that wait
}

// QueueStats is one queue.
type QueueStats struct {
	store.QueueSummary
	Oldest int64 // arrival of its first message, ms; 0 when that cannot be read
}

// DirStats is what StatsOf tells of a directory.
type DirStats struct {
	Stats
	Queues   []QueueStats
	Segments []SegmentStats
	Keys     int // of the state
}

// StatsOf describes the journal of a data directory. No daemon may run there.
func StatsOf(dir string) (st DirStats, err error) {
	s, err := visit(dir)
	if err != nil {
		return st, fmt.Errorf("stats: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	st.Stats = s.Stats()
	st.Keys = s.book.keys.count
	exists := map[uint64]bool{}
	for i, seg := range s.book.segs {
		if seg.end > 0 {
			st.Segments = append(st.Segments, SegmentStats{seg.name, seg.size, seg.useful(exists, i == 0), seg.live})
		}
		exists[seg.nonce] = true
	}
	for _, q := range s.book.summary().Queues {
		qs := QueueStats{QueueSummary: q}
		items, err := s.Scan(q.Queue, 0, 1)
		if err != nil {
			return st, fmt.Errorf("stats: %w", err)
		}
		if len(items) > 0 {
			qs.Oldest = items[0].Header.Received
		}
		st.Queues = append(st.Queues, qs)
	}
	return st, nil
}

// compactShare is what Compact leaves as it is: a segment of which so much is
// needed.
const compactShare = 0.9

// Compact rewrites all segments of a data directory of which a tenth or more
// is not needed, and returns the bytes of all segments before and after. No
// daemon may run there.
func Compact(dir string) (before, after int64, err error) {
	s, err := visit(dir)
	if err != nil {
		return 0, 0, fmt.Errorf("compact: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	used := func() (n int64) {
		for _, seg := range s.book.segs {
			n += seg.end
		}
		return n
	}
	before = used()
	s.maint.mu.Lock()
	err = s.clean(compactShare)
	s.maint.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("compact: %w", err)
	}
	return before, used(), err
}

// Export calls f for every entry that waits in a data directory, by queue and
// arrival. payload is nil when nobody needs it any more, or when it cannot be
// read: then damaged says so. No daemon may run there.
func Export(dir string, f func(it store.Item, payload []byte, damaged bool) error) (err error) {
	s, err := visit(dir)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	err = s.each(func(it store.Item, payload []byte, err error) error {
		return f(it, payload, err != nil || it.Damaged)
	})
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}
