package auth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	checkEvery = time.Second // between two looks at a file
	// settle is how long after its last change a file is still read again:
	// a second change within one tick of the file system's clock keeps the time.
	settle = 3 * time.Second
)

// watched is a file that is parsed again when it changed. What does not parse
// is reported, and what was in force before stays.
type watched[T any] struct {
	use   string // label of metrics and logs: users, acl, jwt
	path  string
	limit int64 // bytes
	parse func(name string, data []byte) (*T, error)
	now   func() time.Time
	log   *slog.Logger
	count *prometheus.CounterVec // use, result

	value   atomic.Pointer[T]
	checked atomic.Int64 // unix nanoseconds of the last look

	mu   sync.Mutex // held while the file is read
	seen os.FileInfo
	sum  [sha256.Size]byte
	read time.Time
	bad  error // why the bytes of sum, or none, are not in force
}

// open reads the file for the first time.
func (f *watched[T]) open() error {
	f.checked.Store(f.now().UnixNano())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bad = f.load()
	return f.bad
}

// get returns what is in force. At most once a second it looks whether the
// file changed; others meanwhile get what was.
func (f *watched[T]) get() *T {
	now, last := f.now().UnixNano(), f.checked.Load()
	if (now-last >= int64(checkEvery) || now < last) && f.checked.CompareAndSwap(last, now) && f.mu.TryLock() {
		defer f.mu.Unlock()
		if f.changed() {
			_ = f.update()
		}
	}
	return f.value.Load()
}

// reload reads the file now.
func (f *watched[T]) reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.update()
}

// check is get for those who only want the file to be looked at.
func (f *watched[T]) check() { f.get() }

func (f *watched[T]) changed() bool {
	info, err := os.Stat(f.path)
	switch {
	case err != nil || f.seen == nil:
		return (err == nil) != (f.seen == nil)
	case !os.SameFile(info, f.seen), info.Size() != f.seen.Size(), !info.ModTime().Equal(f.seen.ModTime()):
		return true
	}
	return f.read.Sub(info.ModTime()).Abs() < settle
}

// load reads the file, and parses it unless it has the bytes it had.
func (f *watched[T]) load() error {
	f.read = f.now()
	info, data, err := readFile(f.path, f.limit)
	f.seen = info
	if err != nil {
		f.sum = [sha256.Size]byte{}
		return err
	}
	sum := sha256.Sum256(data)
	if sum == f.sum {
		return f.bad
	}
	f.sum = sum
	v, err := f.parse(f.path, data)
	if err != nil {
		return err
	}
	if f.value.Swap(v) != nil {
		f.log.Info("file read again", "use", f.use, "file", f.path)
		f.count.WithLabelValues(f.use, "ok").Inc()
	}
	return nil
}

// update loads the file, and reports a fault when it is a new one.
func (f *watched[T]) update() error {
	was := f.bad
	f.bad = f.load()
	if f.bad != nil && (was == nil || was.Error() != f.bad.Error()) {
		f.count.WithLabelValues(f.use, "failed").Inc()
		f.log.Error("file cannot be used; what was read before stays in force until it is mended", "use", f.use, "file", f.path, "error", f.bad)
	}
	return f.bad
}

// readFile reads a whole regular file of at most limit bytes. The info is nil
// if there is none.
func readFile(path string, limit int64) (os.FileInfo, []byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w; make the file, or write the name of one", err)
	}
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return info, nil, fmt.Errorf("%s: is no regular file; write the name of one", path)
	}
	r, err := os.Open(path)
	if err != nil {
		return info, nil, err
	}
	defer r.Close()
	if info, err = r.Stat(); err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return info, nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return info, nil, fmt.Errorf("%s: more than %d bytes; is it the right file?", path, limit)
	}
	return info, data, nil
}
