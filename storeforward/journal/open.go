package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/farhop/farhop/storeforward/journal/index"
	"github.com/farhop/farhop/storeforward/vfs"
)

// Open opens the buffer of a directory, making both when missing. Its errors
// wrap ErrInUse, ErrForeign, ErrNewer or ErrHeads when that is the matter, and
// no segment was modified then.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open buffer: %w", err)
	}
	s := &Store{
		cfg: cfg.withDefaults(), wake: make(chan struct{}, 1), ended: make(chan struct{}), closed: make(chan struct{}),
		cache: newCache(defaultCacheBytes), damaged: map[damageKey]bool{},
	}
	s.commit.enc = newEncoder()
	s.maint.wake, s.maint.quit = make(chan struct{}, 1), make(chan struct{})
	if err := s.openFiles(); err != nil {
		return nil, fmt.Errorf("open buffer: %w", err)
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open buffer: %w", err), s.release())
	}
	go s.run()
	if !s.cfg.Manual {
		s.maint.start(s)
	}
	return s, nil
}

// openFiles takes the directory, and opens the index.
func (s *Store) openFiles() error {
	s.fs, s.path = s.cfg.FS, "the journal"
	open := s.cfg.OpenIndex
	if s.fs == nil {
		s.path = filepath.Join(s.cfg.Dir, FolderName)
		if err := makeFolder(s.path); err != nil {
			return err
		}
		var err error
		if s.lock, err = takeLock(s.path, s.cfg.LockTimeout); err != nil {
			return err
		}
		if s.fs, err = vfs.OS(s.path); err != nil {
			s.lock.release()
			return err
		}
		if open == nil {
			open = func() (Index, error) { return openIndex(s.path) }
		}
	}
	s.pool = &pool{fs: s.fs}
	if open == nil {
		return nil
	}
	if err := s.precheck(); err != nil {
		s.lock.release()
		return err
	}
	ix, err := open()
	if err != nil && !errors.Is(err, index.ErrDamaged) {
		s.lock.release()
		return err
	}
	if err != nil {
		s.cfg.Log.Warn("the index was damaged; the journal is read as a whole, which takes longer", "dir", s.path, "err", err)
	}
	s.index = ix
	return nil
}

// precheck refuses what is refused in any case before the index is opened,
// which may make or begin anew one: a journal of a newer farhop keeps all it
// has, and files of strangers get no index beside them.
func (s *Store) precheck() error {
	r := &recovery{fs: s.fs}
	if err := r.list(); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(s.path, index.FileName)); !errors.Is(err, fs.ErrNotExist) || s.cfg.OpenIndex != nil {
		return nil // it may know whose segments these are
	}
	if err := r.identify(); errors.Is(err, ErrForeign) {
		return err
	}
	return nil
}

func openIndex(dir string) (Index, error) {
	f, err := index.Open(dir)
	if f == nil {
		return nil, err
	}
	return f, err
}

// makeFolder makes the folder and what leads to it, durably.
func makeFolder(path string) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		parent, err := vfs.OS(dir)
		if err != nil {
			return nil // what may not be read is not ours to sync
		}
		if err := parent.SyncDir(); err != nil || dir == filepath.Dir(dir) || dir == filepath.Dir(filepath.Dir(path)) {
			return err
		}
	}
}

// recover builds the book, and then makes the files fit for writing.
func (s *Store) recover() error {
	r := &recovery{
		fs: s.fs, index: s.index, damage: s.tell, incarnation: s.cfg.Incarnation, bulk: s.cfg.Bulk,
		log: func(msg string, args ...any) { s.cfg.Log.Info(msg, append(args, "dir", s.path)...) },
	}
	if err := r.run(); err != nil {
		return err
	}
	s.pool = r.pool
	s.id, s.book = r.id, r.book
	s.maint.all, s.maint.savedNum = !r.used, r.pos.num
	return s.settle(r)
}

// settle makes the directory what the book says: no file that means nothing,
// the newest segment cut where its last whole group ends, and all that was
// found in it on the disk, since it is visible from now on.
func (s *Store) settle(r *recovery) error {
	c := &s.commit
	c.block, c.high = max(r.next, 1), s.book.high
	prevEnd := int64(0)
	if r.newest != nil {
		prevEnd = r.newest.end
		if err := s.seal(r.newest); err != nil {
			return fmt.Errorf("end segment %s: %w", r.newest.name, err)
		}
	}
	// The oldest goes first, and for good, before the next: a later one may
	// hold the ends of messages in it, which would live again without them.
	for _, f := range r.stale {
		leave := s.fs.Remove
		if f.keep {
			leave = s.setAside
		}
		if err := leave(f.name); err != nil {
			return fmt.Errorf("remove what is not needed: %w", err)
		}
		if err := s.fs.SyncDir(); err != nil {
			return fmt.Errorf("remove what is not needed: %w", err)
		}
	}
	for _, seg := range s.book.segs {
		seg.sealed = true
		s.fileBytes.Add(seg.size)
	}
	s.maint.nextNum = max(r.num, 1)
	return s.first(r.fresh, prevEnd)
}

// seal ends what was the newest segment. Where its head is damaged, nobody
// knows that what is behind its last group is a torn tail: it stays.
func (s *Store) seal(seg *segment) error {
	f, err := s.pool.acquire(seg)
	if err != nil {
		return err
	}
	defer s.pool.release(seg)
	if seg.size > seg.end && !seg.headless {
		if err := f.Truncate(seg.end); err != nil {
			return err
		}
		seg.size = seg.end
	}
	return f.Sync()
}

// first begins the first segment of this life. On a full disk it is as small
// as it gets; the first batches will say so.
func (s *Store) first(fresh bool, prevEnd int64) error {
	c := &s.commit
	s.commit.synced = c.block - 1
	if fresh {
		return s.firstOfAll()
	}
	for _, size := range []int64{s.cfg.SegmentBytes, marginMax, minSegment, 0} {
		s.maint.nextMu.Lock()
		file, err := s.create(min(size, s.cfg.SegmentBytes), 0)
		s.maint.nextMu.Unlock()
		if errors.Is(err, vfs.ErrFull) && size > 0 {
			continue
		}
		if err != nil {
			return err
		}
		s.beginSegment(file, s.maint.nextNum, min(size, s.cfg.SegmentBytes), prevEnd)
		s.maint.nextNum++
		return nil
	}
	return nil
}

// firstOfAll makes the first segment of a new buffer: with its head, under
// another name until that is synced. So a lone segment without a sound head is
// never an unfinished creation.
func (s *Store) firstOfAll() error {
	name := hotName(1)
	temp := name + newSuffix
	if err := s.fs.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := s.fs.Create(temp)
	if err != nil {
		return err
	}
	if err := file.Allocate(s.cfg.SegmentBytes); err != nil {
		return errors.Join(fmt.Errorf("create %s: %w", name, err), file.Close(), s.fs.Remove(temp))
	}
	s.beginSegment(file, 1, s.cfg.SegmentBytes, 0)
	c := &s.commit
	if _, err = file.WriteAt(c.cur.segHead.append(nil), 0); err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = s.fs.Rename(temp, name)
	}
	if err == nil {
		err = s.fs.SyncDir()
	}
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	c.off, c.cur.end = segHeadLen, segHeadLen
	s.pos.off = segHeadLen
	s.maint.nextNum = 2
	s.fileBytes.Add(c.cur.size)
	return nil
}
