package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// sector is what a disk writes whole or not at all.
const sector = 512

// Limits of the history, beyond which its older part is folded together.
const (
	maxOps   = 1 << 13
	maxBytes = 64 << 20
)

// Mem is a directory in memory that remembers what was done to it since some
// time, so that Image can tell what a power cut at any moment of that time
// could leave behind. It can also be made to fail, lie and forget. It is safe
// for concurrent use.
//
//	m := vfs.NewMem()
//	run(m)
//	for at := m.Oldest(); at <= m.Ops(); at++ {
//		recover(m.Image(rng, at))
//	}
type Mem struct {
	mu  sync.Mutex
	dir map[string]*inode // as programs see it

	// The history: the state at boundary base, and the operations since.
	base    int
	names   map[string]*inode // what the disk has of dir
	pending []op              // changes of dir that the disk may or may not have
	ops     []op
	bytes   int // of data in ops

	faults
}

// inode is one file, whatever its names.
type inode struct {
	now      content // as programs see it
	reserved int64   // by Allocate

	disk    content // what the disk has for certain, at boundary base
	pending []op    // changes that it may or may not have

	list    []op // while an image is made: changes of this file
	durable int  // how many of list are on the disk
}

// content is the bytes of a file. Those from len(b) to size are zero.
type content struct {
	b      []byte
	size   int64
	shared bool // b belongs to others as well
}

// kind is the kind of an operation.
type kind uint8

const (
	opWrite kind = iota
	opTruncate
	opAllocate
	opFlip
	opSync
	opCreate
	opRename
	opRemove
	opSyncDir
)

// String names the operation.
func (k kind) String() string {
	return [...]string{"write", "truncate", "allocate", "flip", "sync", "create", "rename", "remove", "syncdir"}[k]
}

// op is one operation. Which fields count depends on its kind.
type op struct {
	kind     kind
	ino      *inode
	name, to string
	off      int64 // or the new size
	data     []byte
	lost     bool // a failed sync forgot it
}

// NewMem returns an empty directory.
func NewMem() *Mem {
	return &Mem{dir: map[string]*inode{}, names: map[string]*inode{}, faults: faults{capacity: -1}}
}

// Ops returns the number of operations so far. A moment, for Image, is such a
// number: the one at which so many had been done.
func (m *Mem) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.base + len(m.ops)
}

// Oldest returns the earliest moment that Image knows.
func (m *Mem) Oldest() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.base
}

// Forget gives up the history before at, which makes images cheaper.
func (m *Mem) Forget(at int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(at)
}

// History tells the operations from one moment to another, a line each, for
// people who look for what went wrong.
func (m *Mem) History(from, to int) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	for at := max(from, m.base); at < min(to, m.base+len(m.ops)); at++ {
		o := &m.ops[at-m.base]
		fmt.Fprintf(&b, "%6d %s %s", at, o.kind, o.name)
		switch {
		case o.kind == opRename:
			fmt.Fprintf(&b, " to %s", o.to)
		case o.kind == opWrite:
			fmt.Fprintf(&b, " %d bytes at %d", len(o.data), o.off)
		case o.kind < opSync:
			fmt.Fprintf(&b, " %d", o.off)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// record adds an operation to the history.
func (m *Mem) record(o op) {
	m.ops = append(m.ops, o)
	m.bytes += len(o.data)
	if len(m.ops) > maxOps || m.bytes > maxBytes {
		m.forget(m.base + len(m.ops)/2 + 1)
	}
}

// Create makes a file that does not exist.
func (m *Mem) Create(name string) (File, error) {
	if err := m.before(opCreate, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dir[name] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	ino := &inode{}
	m.dir[name] = ino
	m.record(op{kind: opCreate, ino: ino, name: name})
	return &memFile{m: m, ino: ino, name: name}, nil
}

// Open opens a file.
func (m *Mem) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ino := m.dir[name]
	if ino == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memFile{m: m, ino: ino, name: name}, nil
}

// Rename replaces to by from.
func (m *Mem) Rename(from, to string) error {
	if err := m.before(opRename, from); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	ino := m.dir[from]
	if ino == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	delete(m.dir, from)
	m.dir[to] = ino
	m.record(op{kind: opRename, ino: ino, name: from, to: to})
	return nil
}

// Remove unlinks a file.
func (m *Mem) Remove(name string) error {
	if err := m.before(opRemove, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dir[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	delete(m.dir, name)
	m.record(op{kind: opRemove, name: name})
	return nil
}

// List returns the names of all files.
func (m *Mem) List() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.dir)), nil
}

// SyncDir makes names durable.
func (m *Mem) SyncDir() error {
	if err := m.before(opSyncDir, ""); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.liesAboutDir() {
		m.record(op{kind: opSyncDir})
	}
	return nil
}

// memFile is an open file of a Mem.
type memFile struct {
	m      *Mem
	ino    *inode
	name   string
	closed bool // guarded by m.mu
}

var errNegative = errors.New("negative offset or size")

// use locks the directory for one operation on the file.
func (f *memFile) use(off int64) error {
	f.m.mu.Lock()
	var err error
	switch {
	case f.closed:
		err = fs.ErrClosed
	case off < 0:
		err = errNegative
	default:
		return nil
	}
	f.m.mu.Unlock()
	return &fs.PathError{Op: "use", Path: f.name, Err: err}
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.use(off); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	c := &f.ino.now
	n := int(max(0, min(int64(len(b)), c.size-off)))
	have := 0
	if off < int64(len(c.b)) {
		have = copy(b[:n], c.b[off:])
	}
	clear(b[have:n])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	failed := f.m.before(opWrite, f.name)
	if err := f.use(off); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	n := len(b)
	if failed != nil {
		n = n / 2 / sector * sector // what a failed write leaves is anybody's guess
	} else if end := f.m.room(f.ino, off+int64(n)); end < off+int64(n) {
		n, failed = int(max(0, end-off)), ErrFull
	}
	if n > 0 {
		o := op{kind: opWrite, ino: f.ino, name: f.name, off: off, data: slices.Clone(b[:n])}
		f.ino.now.apply(&o, nil)
		f.m.record(o)
	}
	return n, failed
}

func (f *memFile) Sync() error {
	failed := f.m.before(opSync, f.name)
	if err := f.use(0); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	switch {
	case failed != nil:
		f.m.forgetWrites(f.ino)
		return failed
	case !f.m.lies():
		f.m.record(op{kind: opSync, ino: f.ino, name: f.name})
	}
	return nil
}

func (f *memFile) Truncate(size int64) error {
	if err := f.m.before(opTruncate, f.name); err != nil {
		return err
	}
	if err := f.use(size); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	o := op{kind: opTruncate, ino: f.ino, name: f.name, off: size}
	f.ino.now.apply(&o, nil)
	f.ino.reserved = min(f.ino.reserved, size)
	f.m.record(o)
	return nil
}

func (f *memFile) Allocate(size int64) error {
	if err := f.m.before(opAllocate, f.name); err != nil {
		return err
	}
	if err := f.use(size); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	if f.m.room(f.ino, size) < size {
		return ErrFull
	}
	o := op{kind: opAllocate, ino: f.ino, name: f.name, off: size}
	f.ino.now.apply(&o, nil)
	f.ino.reserved = max(f.ino.reserved, size)
	f.m.record(o)
	return nil
}

func (f *memFile) Size() (int64, error) {
	if err := f.use(0); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	return f.ino.now.size, nil
}

func (f *memFile) Close() error {
	if err := f.use(0); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	f.closed = true
	return nil
}

// own makes the bytes ours to change, n of them at least.
func (c *content) own(n int64) {
	if !c.shared && int64(len(c.b)) >= n {
		return
	}
	if c.shared || int64(cap(c.b)) < n {
		b := make([]byte, max(n, int64(len(c.b))), max(n+n/4, int64(len(c.b))))
		copy(b, c.b)
		c.b, c.shared = b, false
		return
	}
	old := len(c.b)
	c.b = c.b[:n]
	clear(c.b[old:])
}

// apply makes a change. With rng not nil a write is torn: some of its sectors
// are not written.
func (c *content) apply(o *op, rng *rand.Rand) {
	switch o.kind { //nolint:exhaustive // the others change no content
	case opTruncate:
		if c.size = o.off; int64(len(c.b)) > c.size {
			c.b = c.b[:c.size]
		}
	case opAllocate:
		c.size = max(c.size, o.off)
	case opFlip:
		if o.off < c.size {
			c.own(o.off + 1)
			c.b[o.off] ^= o.data[0]
		}
	case opWrite:
		if rng != nil {
			c.tear(o, rng)
			return
		}
		c.write(o.data, o.off)
	}
}

func (c *content) write(b []byte, off int64) {
	end := off + int64(len(b))
	c.own(end)
	copy(c.b[off:], b)
	c.size = max(c.size, end)
}

// tear writes a random part of the sectors. The size may be that of the whole
// write: file systems may have noted it before the bytes came.
func (c *content) tear(o *op, rng *rand.Rand) {
	end := o.off + int64(len(o.data))
	for at := o.off; at < end; {
		next := min(end, (at/sector+1)*sector)
		if rng.Uint64()&1 == 0 {
			c.write(o.data[at-o.off:next-o.off], at)
		}
		at = next
	}
	if rng.Uint64()&1 == 0 {
		c.size = max(c.size, end)
	}
}
