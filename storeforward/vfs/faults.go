package vfs

import (
	"fmt"
	"io/fs"
	"syscall"
)

// ErrIO is what a Mem returns where it was told to fail.
var ErrIO error = syscall.EIO

// faults are the ways in which a Mem is not a perfect disk.
type faults struct {
	hook     func(op, name string) error
	failIn   map[string]int
	capacity int64 // bytes, negative: no limit
	lieEvery int
	lieDir   int
	syncs    int
	dirSyncs int
	dropped  int
}

// Hook has f called before every change: "write", "truncate", "allocate",
// "sync", "create", "rename", "remove" or "syncdir", and the file. It may wait,
// and its error is that of the change. nil ends that.
func (m *Mem) Hook(f func(op, name string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = f
}

// Fail makes the n-th change of a kind from now, named as for Hook, fail with
// ErrIO; 0 takes that back. A failed write may have happened in part. What a
// failed sync was to make durable is in doubt for ever, as with Linux: a later
// sync does not make up for it.
func (m *Mem) Fail(op string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failIn == nil {
		m.failIn = map[string]int{}
	}
	m.failIn[op] = n
}

// SetCapacity limits the bytes of all files, those reserved among them. What
// needs more is ErrFull, a write after the part that fits. Negative: no limit.
func (m *Mem) SetCapacity(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = n
}

// Used returns the bytes that count for SetCapacity.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used()
}

// Lie makes every n-th Sync, and every d-th SyncDir, do nothing and say that it
// did. 0: none.
func (m *Mem) Lie(n, d int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lieEvery, m.lieDir = n, d
}

// Lies returns how many syncs did nothing so far.
func (m *Mem) Lies() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dropped
}

// Flip inverts the bits of mask in one byte of a file, on the disk as well.
func (m *Mem) Flip(name string, off int64, mask byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ino := m.dir[name]
	if ino == nil || off < 0 || off >= ino.now.size {
		return fmt.Errorf("flip byte %d of %s: %w", off, name, fs.ErrNotExist)
	}
	o := op{kind: opFlip, ino: ino, name: name, off: off, data: []byte{mask}}
	ino.now.apply(&o, nil)
	m.record(o)
	return nil
}

// before runs the hook and decides whether the change fails.
func (m *Mem) before(k kind, name string) error {
	m.mu.Lock()
	hook := m.hook
	fail := false
	if m.failIn[k.String()] > 0 {
		m.failIn[k.String()]--
		fail = m.failIn[k.String()] == 0
	}
	m.mu.Unlock()
	if hook != nil {
		if err := hook(k.String(), name); err != nil {
			return err
		}
	}
	if fail {
		return &fs.PathError{Op: k.String(), Path: name, Err: ErrIO}
	}
	return nil
}

func (m *Mem) lies() bool {
	m.syncs++
	if m.lieEvery > 0 && m.syncs%m.lieEvery == 0 {
		m.dropped++
		return true
	}
	return false
}

func (m *Mem) liesAboutDir() bool {
	m.dirSyncs++
	if m.lieDir > 0 && m.dirSyncs%m.lieDir == 0 {
		m.dropped++
		return true
	}
	return false
}

// held is what a file takes of the capacity.
func (ino *inode) held() int64 { return max(ino.reserved, int64(len(ino.now.b))) }

func (m *Mem) used() (n int64) {
	for _, ino := range m.dir {
		n += ino.held()
	}
	return n
}

// room returns how far a change that would reach end may go.
func (m *Mem) room(ino *inode, end int64) int64 {
	if m.capacity < 0 || end <= ino.held() {
		return end
	}
	free := max(0, m.capacity-m.used())
	return min(end, ino.held()+free)
}

// forgetWrites is the aftermath of a failed sync: every other change since the
// last good one is lost, though reads still see it.
func (m *Mem) forgetWrites(ino *inode) {
	n := 0
	mark := func(ops []op) {
		for i := range ops {
			if o := &ops[i]; o.ino == ino && o.kind < opFlip {
				o.lost = o.lost || n%2 == 0
				n++
			}
		}
	}
	from := len(m.ops)
	for from > 0 && (m.ops[from-1].ino != ino || m.ops[from-1].kind != opSync) {
		from--
	}
	if from == 0 {
		mark(ino.pending)
	}
	mark(m.ops[from:])
}
