// Package index is the checkpoint of the journal: a key-value file, index.db,
// in which nothing is that the journal could not make again. It owns that file
// and how to notice that it cannot be trusted; then it throws it away. What
// keys and values mean is the journal's business, its only caller.
//
// Of a file that opens, every record is as it was written: pages are checked
// before bbolt sees them (it panics over damaged ones where nobody can
// recover), each value carries a CRC-32C over its key and itself, and a total
// tells whether a record is missing. Should opening end the process all the
// same, a sentinel file tells the next start to begin anew.
//
//	f, err := index.Open(dir)
//	if errors.Is(err, index.ErrDamaged) {
//		rebuild() // f is empty, and good to use
//	} else if err != nil {
//		return err
//	}
package index

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/farhop/farhop/storeforward/boltcheck"
	"github.com/farhop/farhop/storeforward/vfs"
)

// The names of the files, for those who list the directory.
const (
	FileName     = "index.db"
	newName      = "index.db.new"     // being made; a leftover means nothing
	sentinelName = "index.db.opening" // there while the file is being opened
)

// MaxBytes limits the file. It is mapped whole, and twice as large when it
// grows, and a 32-bit system has little room for that.
const MaxBytes = 256 << 20

const (
	pageSize    = 4096
	fillPercent = 0.9         // keys come sorted and values mostly keep their size
	compactSize = 1 << 20     // smaller files are not worth a rewrite
	lockTimeout = time.Second // the journal locks the directory, so this is for strangers
)

// ErrDamaged says that the file was not what this package wrote: damaged,
// foreign, of another version, or its last opening ended the process.
var ErrDamaged = errors.New("the index cannot be trusted and was begun anew")

// Change sets a key, or deletes it when Value is nil.
type Change struct {
	Key   string
	Value []byte
}

// File is the open index. It is safe for concurrent use.
type File struct {
	dir string

	path string

	mu    sync.Mutex
	db    *bolt.DB // nil when closed or given up
	total total
	err   error // why the file was given up, until Reset
}

// Open opens the index of a directory that exists. A file that cannot be
// trusted is removed: then the error is ErrDamaged, with the reason, and the
// File is a fresh and empty one. A missing file is made without an error:
// Fresh tells. With any other error there is no File.
func Open(dir string) (*File, error) {
	f := &File{dir: dir, path: filepath.Join(dir, FileName)}
	if err := os.Remove(filepath.Join(dir, newName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open index: %w", err)
	}
	if _, err := os.Lstat(f.path); errors.Is(err, fs.ErrNotExist) {
		if err := f.Reset(); err != nil {
			return nil, fmt.Errorf("open index: %w", err)
		}
		return f, nil
	}
	err := f.open()
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, ErrDamaged) {
		return nil, fmt.Errorf("open index: %w", err)
	}
	if err := f.Reset(); err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	return f, fmt.Errorf("open index: %s: %w", f.path, err)
}

// Fresh reports whether the file holds nothing: no Apply ever succeeded.
func (f *File) Fresh() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total.records == 0
}

// open opens the existing file under the protection of the sentinel.
func (f *File) open() error {
	sentinel := filepath.Join(f.dir, sentinelName)
	if _, err := os.Lstat(sentinel); err == nil {
		return fmt.Errorf("%w: the last opening of it ended the process", ErrDamaged)
	}
	if err := f.checkFile(); err != nil {
		return err
	}
	// Not synced: this is about a process that ends, not about a power cut.
	if err := os.WriteFile(sentinel, nil, 0o600); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	db, err := openBolt(f.path)
	if err == nil {
		f.db = db
		err = f.guard(func() error { return db.View(f.verify) })
	}
	for _, bad := range []error{boltcheck.ErrDamaged, berrors.ErrInvalid, berrors.ErrVersionMismatch, berrors.ErrChecksum} {
		if errors.Is(err, bad) && !errors.Is(err, ErrDamaged) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if err != nil {
		f.release()
	}
	return errors.Join(err, os.Remove(sentinel))
}

// checkFile looks at the pages before bbolt does.
func (f *File) checkFile() error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Size() > MaxBytes {
		return fmt.Errorf("%w: no file of at most %d bytes", ErrDamaged, MaxBytes)
	}
	meta, err := boltcheck.ReadMeta(file, st.Size())
	if err == nil {
		err = meta.Check(file, string(bucketName), nil)
	}
	if err != nil { // a sector that cannot be read among them
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// openBolt opens or makes a file. The array freelist and a freelist in every
// commit, both bbolt's defaults, make small commits slow once much was freed.
func openBolt(path string) (db *bolt.DB, err error) {
	err = boltcheck.Guard(func() error {
		db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout:        lockTimeout,
			FreelistType:   bolt.FreelistMapType,
			NoFreelistSync: true,
			PageSize:       pageSize,
			MaxSize:        MaxBytes,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	db.AllocSize = 1 << 20
	return db, nil
}

// Reset begins anew with an empty file: the caller will Apply all there is.
func (f *File) Reset() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.release()
	f.err, f.total = nil, total{}
	if err := f.replace(func(*bolt.Tx) error { return nil }); err != nil {
		f.err = fmt.Errorf("make a new index: %w", err)
		return f.err
	}
	return nil
}

// replace makes a whole new file, filled by fill, under another name, and puts
// it in place of the old one when it is durable. The old one is released.
func (f *File) replace(fill func(*bolt.Tx) error) error {
	temp := filepath.Join(f.dir, newName)
	_ = os.Remove(temp)
	db, err := openBolt(temp)
	if err != nil {
		return full(err)
	}
	db.NoFreelistSync = false // so that it opens without a scan
	err = db.Update(func(tx *bolt.Tx) error {
		if _, err := tx.CreateBucket(bucketName); err != nil {
			return err
		}
		if err := fill(tx); err != nil {
			return err
		}
		return putTotal(tx.Bucket(bucketName), f.total)
	})
	if err = errors.Join(full(err), db.Close()); err != nil {
		_ = os.Remove(temp)
		return err
	}
	f.release()
	if err := os.Rename(temp, f.path); err != nil {
		return err
	}
	if err := syncDir(f.dir); err != nil {
		return err
	}
	// It has its name and is whole: what stands in the way of its opening no
	// longer does.
	if err := os.Remove(filepath.Join(f.dir, sentinelName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.db, err = openBolt(f.path)
	return err
}

// release closes bbolt, if it is in a state to be closed.
func (f *File) release() {
	if f.db != nil {
		_ = boltcheck.Guard(f.db.Close)
	}
	f.db = nil
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.db == nil {
		return nil
	}
	err := boltcheck.Guard(f.db.Close)
	f.db = nil
	if err != nil {
		return fmt.Errorf("close index: %w", err)
	}
	return nil
}

// Size returns the length of the file in bytes; 0 when it is closed.
func (f *File) Size() int64 {
	st, err := os.Stat(f.path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// usable returns the database, or why there is none.
func (f *File) usable() (*bolt.DB, error) {
	if f.err != nil {
		return nil, f.err
	}
	if f.db == nil {
		return nil, fs.ErrClosed
	}
	return f.db, nil
}

// guard runs f and gives up the file when bbolt panicked in it: its locks are
// held for ever then.
func (f *File) guard(run func() error) error {
	err := boltcheck.Guard(run)
	if errors.Is(err, boltcheck.ErrDamaged) {
		f.db, f.err = nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		return f.err
	}
	return err
}

// Apply writes all changes, or, with an error, none; of two for one key the
// later counts. last is for the final one before Close: the next Open needs no
// scan then. An error that is vfs.ErrFull leaves the file usable; after any
// other, what the file holds is not known until Reset.
func (f *File) Apply(changes []Change, last bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	db, err := f.usable()
	if err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	// Sorted, since bbolt inserts into a page by moving all that is behind.
	sorted := slices.Clone(changes)
	slices.SortStableFunc(sorted, func(a, b Change) int { return strings.Compare(a.Key, b.Key) })
	after := f.total
	db.NoFreelistSync = !last
	err = f.guard(func() error {
		return db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(bucketName)
			b.FillPercent = fillPercent
			for i := range sorted {
				if i+1 < len(sorted) && sorted[i+1].Key == sorted[i].Key {
					continue
				}
				if err := after.apply(b, &sorted[i]); err != nil {
					return err
				}
			}
			return putTotal(b, after)
		})
	})
	if err = full(err); err != nil {
		if !errors.Is(err, vfs.ErrFull) && f.err == nil {
			f.release()
			f.err = err
		}
		return fmt.Errorf("write index: %w", err)
	}
	f.total = after
	return nil
}

// Each calls f for every record whose key starts with prefix, by key; only
// keys above 32,000 bytes may come out of order. key and value are f's own. It
// must not call the File.
func (f *File) Each(prefix string, do func(key string, value []byte) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	db, err := f.usable()
	if err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	var stop error
	err = f.guard(func() error {
		return db.View(func(tx *bolt.Tx) error {
			return each(tx.Bucket(bucketName), prefix, func(key string, value []byte) error {
				stop = do(key, value)
				return stop
			})
		})
	})
	if stop != nil {
		return stop
	}
	if err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	return nil
}

// MaybeCompact rewrites the file when more than half of it is free. After an
// error the old file is still there; vfs.ErrFull leaves it in use.
func (f *File) MaybeCompact() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	db, err := f.usable()
	if err != nil {
		return fmt.Errorf("compact index: %w", err)
	}
	stats := db.Stats()
	free := int64(stats.FreePageN+stats.PendingPageN) * pageSize // as of the last Apply
	if size := f.Size(); size < compactSize || free <= size/2 {
		return nil
	}
	err = f.guard(func() error {
		tx, err := db.Begin(false)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		return f.replace(func(to *bolt.Tx) error {
			defer tx.Rollback() // before release, which waits for readers
			return copyAll(to.Bucket(bucketName), tx.Bucket(bucketName))
		})
	})
	if err != nil {
		if f.db == nil {
			f.err = cmp.Or(f.err, err)
		}
		return fmt.Errorf("compact index: %w", err)
	}
	return nil
}
