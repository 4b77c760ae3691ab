package boltstore

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/farhop/farhop/storeforward/boltcheck"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Contents of the file record.
const (
	fileMagic = "farhop buffer"
	schema    = 1
)

// Open opens the buffer of a directory, making both when missing. Its errors
// wrap ErrInUse, ErrForeign, ErrNewer or ErrDamaged when that is the matter,
// and nothing was modified then.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open buffer: %w", err)
	}
	cfg = cfg.withDefaults()
	s := &Store{
		cfg: cfg, path: filepath.Join(cfg.Dir, FileName), index: newIndex(),
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	if err := s.create(); err != nil {
		return nil, fmt.Errorf("open buffer: %w", err)
	}
	if err := s.inspect(); err != nil {
		return nil, fmt.Errorf("open buffer: %w", err)
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open buffer: %w", err)
	}
	s.tellRoom()
	go s.run()
	return s, nil
}

// options are those of every opening. The array freelist and a freelist in
// every commit, both bbolt's defaults, make small commits hundreds of times
// slower once a large backlog was drained.
func (s *Store) options() *bolt.Options {
	return &bolt.Options{
		Timeout:        s.cfg.LockTimeout,
		FreelistType:   bolt.FreelistMapType,
		NoFreelistSync: true,
	}
}

// create makes the file if there is none: wholly, under another name, and
// synced before it gets its own. A crash leaves no half file behind, and of
// two processes at once one wins and the other finds its file.
func (s *Store) create() error {
	if _, err := os.Lstat(s.path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.cfg.Dir, FileName+".*.new")
	if err != nil {
		return err
	}
	temp := f.Name()
	defer os.Remove(temp)
	if err := f.Close(); err != nil {
		return err
	}
	if err := s.initialize(temp); err != nil {
		return fmt.Errorf("create %s: %w", s.path, err)
	}
	err = os.Link(temp, s.path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without hard links.
		if _, lerr := os.Lstat(s.path); errors.Is(lerr, fs.ErrNotExist) {
			err = os.Rename(temp, s.path)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return errors.Join(syncDir(s.cfg.Dir), syncDir(filepath.Dir(s.cfg.Dir)))
}

// initialize fills a new file with empty buckets and its identity.
func (s *Store) initialize(path string) error {
	db, err := bolt.Open(path, 0o600, s.options())
	if err != nil {
		return err
	}
	// The new file is clean: it opens without a scan.
	db.NoFreelistSync = false
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMessages, bucketMarks, bucketPayloads, bucketState, bucketFile} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		body := appendFile(nil, s.cfg.Incarnation, time.Now())
		return putValue(tx.Bucket(bucketFile), &arena{}, keyFile, body, true)
	})
	return errors.Join(err, db.Close())
}

// newIncarnation draws 20 random bits, not all zero.
func newIncarnation() uint32 {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		if n := binary.LittleEndian.Uint32(b[:]) & bundle.MaxIncarnation; n != 0 {
			return n
		}
	}
}

func appendFile(b []byte, incarnation uint32, created time.Time) []byte {
	b = appendString(b, fileMagic)
	b = binary.AppendUvarint(b, schema)
	b = binary.AppendUvarint(b, uint64(incarnation))
	return binary.AppendVarint(b, created.UnixMilli())
}

// syncDir makes new names in a directory survive a power cut.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // has no such call
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil // a parent that may not be read is not ours to sync
	}
	defer d.Close()
	// Some file systems refuse to sync a directory; they need not.
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

// inspect looks at the file under a shared lock, changing nothing, before
// bbolt may write to it or walk it in a goroutine of its own.
func (s *Store) inspect() error {
	opts := s.options()
	opts.ReadOnly = true
	var db *bolt.DB
	err := guard(func() (err error) {
		db, err = bolt.Open(s.path, 0o600, opts)
		return err
	})
	if err != nil && errors.Is(err, berrors.ErrTimeout) {
		return s.inUse()
	}
	perr := s.checkFile()
	switch {
	case perr != nil && db == nil:
		return perr
	case perr != nil:
		return errors.Join(perr, db.Close())
	case err != nil:
		return fmt.Errorf("%s: %w", s.path, err)
	}
	err = guard(func() error { return db.View(s.readIdentity) })
	return errors.Join(err, db.Close())
}

func (s *Store) inUse() error {
	return fmt.Errorf("%w: data directory %s is in use by another farhop (lock on %s); stop it or choose another --dir",
		ErrInUse, s.cfg.Dir, s.path)
}

func (s *Store) foreign(what string) error {
	return fmt.Errorf("%w: %s is %s; choose another --dir, or move the file away if nothing needs it",
		ErrForeign, s.path, what)
}

// damaged says what to do about a file that cannot be trusted.
func (s *Store) damaged(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w; run farhop as the owner of the data directory, or give it to who runs it", s.path, err)
	}
	if errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%s: %w; mount its disk for writing", s.path, err)
	}
	return fmt.Errorf("%s: %w; restore it from a backup, or move it away to start empty: "+
		"the messages in it that were not delivered are lost then", s.path, err)
}

// checkFile runs the page check.
func (s *Store) checkFile() error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return s.foreign("not a regular file")
	}
	if st.Size() == 0 {
		return s.foreign("empty")
	}
	meta, err := boltcheck.ReadMeta(f, st.Size())
	if err == nil {
		// Of a file that was closed cleanly the payload tree, by far the
		// largest, is left out: bbolt will not walk it either, and a damaged
		// page found later ends one read or commit.
		err = meta.Check(f, string(bucketFile), func(bucket string) bool {
			return meta.Clean() && bucket == string(bucketPayloads)
		})
	}
	switch {
	case err == nil:
		if meta.Alone {
			// A torn write of an unreported commit looks the same, and is harmless.
			s.cfg.Log.Warn("one of the buffer's two meta pages is damaged; if the disk did that, the last commit is lost",
				"file", s.path)
		}
		if !meta.Clean() {
			s.cfg.Log.Info("buffer was not closed cleanly; its pages were checked",
				"file", s.path, "bytes", int64(meta.Pages)*meta.PageSize)
		}
		return nil
	case errors.Is(err, boltcheck.ErrNotBolt), errors.Is(err, boltcheck.ErrForeign):
		return s.foreign(err.Error())
	case errors.Is(err, boltcheck.ErrDamaged):
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return s.damaged(err)
}

// readIdentity reads the file record.
func (s *Store) readIdentity(tx *bolt.Tx) error {
	b := tx.Bucket(bucketFile)
	if b == nil || b.Get(keyFile) == nil {
		return s.foreign(boltcheck.ErrForeign.Error())
	}
	body, err := getValue(b, keyFile)
	if err != nil {
		return s.damaged(damagedRecord(s.path, bucketFile, keyFile, err))
	}
	r := reader{b: body}
	if magic := r.string(); magic != fileMagic {
		return s.foreign(boltcheck.ErrForeign.Error())
	}
	if v := r.uvarint(math.MaxUint64); v > schema {
		return fmt.Errorf("%w: %s has format %d, this one reads up to %d; run the newer version, or choose another --dir",
			ErrNewer, s.path, v, schema)
	}
	s.incarnation = uint32(r.uvarint(bundle.MaxIncarnation))
	s.created = time.UnixMilli(r.varint())
	if err := r.end(); err != nil {
		return s.damaged(damagedRecord(s.path, bucketFile, keyFile, err))
	}
	for _, name := range [][]byte{bucketMessages, bucketMarks, bucketPayloads, bucketState} {
		if tx.Bucket(name) == nil {
			return s.damaged(fmt.Errorf("%w: no bucket %q", ErrDamaged, name))
		}
	}
	return nil
}

// open opens the inspected file for writing and loads the index.
func (s *Store) open() error {
	var file *os.File
	opts := s.options()
	opts.MaxSize = int(s.cfg.MaxBytes)
	opts.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := s.cfg.openFile(name, flag&^os.O_CREATE, mode)
		file = f
		return f, err
	}
	err := guard(func() (err error) {
		s.db, err = bolt.Open(s.path, 0o600, opts)
		return err
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return s.inUse()
	}
	if err != nil {
		if s.db == nil && file != nil {
			_ = file.Close() // lets go of the lock after a panic
		}
		return s.damaged(err)
	}
	s.db.AllocSize = os.Getpagesize() // the file grows by our steps, see space
	err = s.load(file)
	if err != nil {
		return errors.Join(err, s.db.Close())
	}
	removeLeftovers(s.cfg.Dir)
	return nil
}

func (s *Store) load(file *os.File) error {
	st, err := file.Stat()
	if err != nil {
		return err
	}
	s.space = space{file: file, pageSize: int64(s.db.Info().PageSize), maxBytes: s.cfg.MaxBytes, size: st.Size()}
	s.fileBytes.Store(st.Size())
	err = guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			if err := s.readIdentity(tx); err != nil {
				return err
			}
			s.freeBytes.Store(s.space.room(s.db, tx))
			return s.index.load(tx, s.path)
		})
	})
	if errors.Is(err, ErrDamaged) {
		return s.damaged(err)
	}
	return err
}

// removeLeftovers removes files of creations that a crash ended. The caller
// owns the directory, so a live creation could only find that it lost.
func removeLeftovers(dir string) {
	names, _ := filepath.Glob(filepath.Join(dir, FileName+".*.new"))
	for _, name := range names {
		_ = os.Remove(name)
	}
}
