// Package boltcheck decides whether a bbolt file is safe to open. bbolt trusts
// the pages it reads: a damaged one makes it panic, at times in a goroutine of
// its own where nobody can recover, or read on without end. Check walks all of
// it first, with plain reads. It opens and changes no file and knows nothing
// of what records mean; storeforward/boltstore and journal/index call it.
package boltcheck

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"runtime/debug"
	"slices"
)

// What a page spends on itself and on each record, in bytes, besides the key
// and the value.
const (
	PageHead    = 16 // id u64, flags u16, count u16, overflow u32
	ElementSize = 16
)

// The file format of bbolt, version 2. Its numbers are in the byte order of
// the machine that wrote the file.
const (
	metaMagic     = 0xED0CDAED
	metaVersion   = 2
	metaSize      = 64 // the checksum covers the first 56 bytes
	bucketHead    = 16 // root u64, sequence u64
	branchPage    = 0x01
	leafPage      = 0x02
	freelistPage  = 0x10
	bucketElement = 1
	noFreelist    = math.MaxUint64
	maxTreeDepth  = 64
	minPageSize   = 1 << 10
	maxPageSize   = 16 << 20
	bigFreelist   = 0xFFFF
)

// What may be wrong with a file. Errors of reading come as they are.
var (
	ErrNotBolt = errors.New("not a bbolt file")
	ErrForeign = errors.New("a bbolt file of another program")
	ErrDamaged = errors.New("not as bbolt writes it")

	errChecksum = errors.New("checksum does not match")
)

// Meta is a valid meta page.
type Meta struct {
	PageSize int64
	Pages    uint64 // in use; the file has no fewer
	Alone    bool   // the other meta page is damaged, as by a torn write

	root, freelist, txid uint64 // the first two are page ids
}

// Clean reports whether the file was closed in order: then its freelist is
// in the file and bbolt need not scan.
func (m Meta) Clean() bool { return m.freelist != noFreelist }

// ReadMeta returns the newer valid meta page of the two of a file of size
// bytes. Its errors wrap ErrNotBolt or ErrDamaged.
func ReadMeta(r io.ReaderAt, size int64) (Meta, error) {
	var best Meta
	found, broken := false, false
	try := func(off int64) (ok bool) {
		b := make([]byte, PageHead+metaSize)
		if _, err := r.ReadAt(b, off); err != nil {
			return false
		}
		m, err := parseMeta(b[PageHead:])
		if err == nil && (!found || m.txid > best.txid) {
			best, found = m, true
		}
		broken = broken || errors.Is(err, errChecksum)
		return err == nil
	}
	alone := true
	if try(0) {
		alone = !try(best.PageSize)
	} else {
		// The second page stands where the page size, unknown now, puts it.
		for ps := int64(minPageSize); ps <= maxPageSize && !found && ps < size; ps *= 2 {
			try(ps)
		}
	}
	best.Alone = alone
	switch {
	case found && int64(best.Pages) > size/best.PageSize:
		return best, fmt.Errorf("%w: the file has %d bytes, its meta page wants %d: it was cut short",
			ErrDamaged, size, int64(best.Pages)*best.PageSize)
	case found:
		return best, nil
	case broken:
		return best, fmt.Errorf("%w: no valid meta page", ErrDamaged)
	}
	return best, ErrNotBolt
}

func parseMeta(b []byte) (m Meta, err error) {
	ne := binary.NativeEndian
	if ne.Uint32(b) != metaMagic || ne.Uint32(b[4:]) != metaVersion {
		return m, ErrNotBolt
	}
	sum := fnv.New64a()
	_, _ = sum.Write(b[:56])
	if sum.Sum64() != ne.Uint64(b[56:]) {
		return m, errChecksum
	}
	m = Meta{
		PageSize: int64(ne.Uint32(b[8:])),
		root:     ne.Uint64(b[16:]),
		freelist: ne.Uint64(b[32:]),
		Pages:    ne.Uint64(b[40:]),
		txid:     ne.Uint64(b[48:]),
	}
	if m.PageSize < minPageSize || m.PageSize > maxPageSize || m.PageSize&(m.PageSize-1) != 0 ||
		m.Pages > math.MaxInt64/maxPageSize {
		return m, errChecksum
	}
	return m, nil
}

// pageChecker walks the trees of a file with plain reads and refuses what
// would make bbolt panic, fault or never end: wrong page ids and types, pages
// out of bounds or used twice, elements that point outside of their page, keys
// out of order (bbolt's own check reports that, and its caller panics).
// What the records mean is not its business.
type pageChecker struct {
	r    io.ReaderAt
	meta Meta
	seen []uint64 // a bit per page
}

// bucketRef is one bucket of the root tree.
type bucketRef struct {
	name string
	root uint64 // 0: the bucket is inline and was checked
}

// Check checks the pages of the file that m describes, the bucket own among
// those of the root; without it the file is another program's, ErrForeign.
// Anything out of place is ErrDamaged. skip may name buckets that need no
// look; nil skips none.
func (m Meta) Check(r io.ReaderAt, own string, skip func(bucket string) bool) error {
	c := &pageChecker{r: r, meta: m, seen: make([]uint64, m.Pages/64+1)}
	var buckets []bucketRef
	if err := c.tree(m.root, nil, nil, 0, &buckets); err != nil {
		return err
	}
	if !slices.ContainsFunc(buckets, func(b bucketRef) bool { return b.name == own }) {
		return ErrForeign
	}
	for _, b := range buckets {
		if b.root == 0 || skip != nil && skip(b.name) {
			continue
		}
		if err := c.tree(b.root, nil, nil, 0, nil); err != nil {
			return fmt.Errorf("bucket %q: %w", b.name, err)
		}
	}
	if m.Clean() {
		return c.freelist()
	}
	return nil
}

// Guard calls f and turns a panic, and a fault in the memory map, into
// ErrDamaged: also a file that passed Check may turn bad later. bbolt keeps
// its locks then, so the caller must not begin or close anything after it.
func Guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return f()
}

func (c *pageChecker) bad(id uint64, format string, args ...any) error {
	return fmt.Errorf("%w: page %d: %s", ErrDamaged, id, fmt.Sprintf(format, args...))
}

// page reads a page with its overflow pages and claims them all.
func (c *pageChecker) page(id uint64) ([]byte, error) {
	if id < 2 || id >= c.meta.Pages {
		return nil, c.bad(id, "outside of the file's %d pages", c.meta.Pages)
	}
	p := make([]byte, c.meta.PageSize)
	if _, err := c.r.ReadAt(p, int64(id)*c.meta.PageSize); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	if got := binary.NativeEndian.Uint64(p); got != id {
		return nil, c.bad(id, "says it is page %d", got)
	}
	overflow := uint64(binary.NativeEndian.Uint32(p[12:]))
	if overflow >= c.meta.Pages-id {
		return nil, c.bad(id, "runs over the end of the file")
	}
	for i := id; i <= id+overflow; i++ {
		if c.seen[i/64]&(1<<(i%64)) != 0 {
			return nil, c.bad(i, "used twice")
		}
		c.seen[i/64] |= 1 << (i % 64)
	}
	if overflow > 0 {
		// Claimed pages are read once, so all of this is no more than the file.
		p = make([]byte, int64(overflow+1)*c.meta.PageSize)
		if _, err := c.r.ReadAt(p, int64(id)*c.meta.PageSize); err != nil {
			return nil, fmt.Errorf("page %d: %w", id, err)
		}
	}
	return p, nil
}

// tree checks the tree below page id, whose keys lie in [low, high); nil is
// no bound. buckets, when not nil, takes the buckets it holds; elsewhere a
// bucket is an error.
func (c *pageChecker) tree(id uint64, low, high []byte, depth int, buckets *[]bucketRef) error {
	p, err := c.page(id)
	if err != nil {
		return err
	}
	if depth > maxTreeDepth {
		return c.bad(id, "tree deeper than %d", maxTreeDepth)
	}
	switch flags := binary.NativeEndian.Uint16(p[8:]); flags {
	case branchPage:
		return c.branch(id, p, low, high, depth, buckets)
	case leafPage:
		return c.leaf(id, p, low, high, buckets)
	default:
		return c.bad(id, "type %#x where a tree should go on", flags)
	}
}

// element is one entry of a branch or leaf page. For branches child is set,
// for leaves flags and value.
type element struct {
	key, value []byte
	flags      uint32
	child      uint64
}

// elements reads the entries of a page; their keys must ascend within
// [low, high). ok is false when anything is out of place.
func elements(p []byte, leaf bool, low, high []byte) (out []element, ok bool) {
	n := int(binary.NativeEndian.Uint16(p[10:]))
	if PageHead+n*ElementSize > len(p) {
		return nil, false
	}
	out = make([]element, n)
	for i := range out {
		at := PageHead + i*ElementSize
		b, e := p[at:], &out[i]
		pos, ksize, vsize := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:]), uint32(0)
		if leaf {
			e.flags = pos
			pos, ksize, vsize = ksize, binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:])
		} else {
			e.child = binary.NativeEndian.Uint64(b[8:])
		}
		start := uint64(at) + uint64(pos)
		if ksize == 0 || start+uint64(ksize)+uint64(vsize) > uint64(len(p)) {
			return nil, false
		}
		e.key = p[start : start+uint64(ksize)]
		e.value = p[start+uint64(ksize) : start+uint64(ksize)+uint64(vsize)]
		if low != nil && bytes.Compare(e.key, low) < 0 || i > 0 && bytes.Equal(e.key, low) ||
			high != nil && bytes.Compare(e.key, high) >= 0 {
			return nil, false
		}
		low = e.key
	}
	return out, true
}

func (c *pageChecker) branch(id uint64, p, low, high []byte, depth int, buckets *[]bucketRef) error {
	children, ok := elements(p, false, low, high)
	if !ok || len(children) == 0 {
		return c.bad(id, "branch with elements out of place")
	}
	for i, e := range children {
		end := high
		if i+1 < len(children) {
			end = children[i+1].key
		}
		if err := c.tree(e.child, e.key, end, depth+1, buckets); err != nil {
			return err
		}
	}
	return nil
}

func (c *pageChecker) leaf(id uint64, p, low, high []byte, buckets *[]bucketRef) error {
	values, ok := elements(p, true, low, high)
	if !ok {
		return c.bad(id, "leaf with elements out of place")
	}
	for i, e := range values {
		switch {
		case e.flags == 0:
			continue
		case e.flags != bucketElement || buckets == nil || len(e.value) < bucketHead:
			return c.bad(id, "element %d is no bucket and has flags %#x", i, e.flags)
		}
		ref := bucketRef{name: string(e.key), root: binary.NativeEndian.Uint64(e.value)}
		if ref.root == 0 && !inlineOK(e.value[bucketHead:]) {
			return c.bad(id, "inline bucket %q is damaged", ref.name)
		}
		*buckets = append(*buckets, ref)
	}
	return nil
}

// inlineOK checks the page of a bucket so small that it lives in its parent.
func inlineOK(p []byte) bool {
	if len(p) < PageHead || binary.NativeEndian.Uint16(p[8:]) != leafPage {
		return false
	}
	values, ok := elements(p, true, nil, nil)
	return ok && !slices.ContainsFunc(values, func(e element) bool { return e.flags != 0 })
}

// freelist checks the list of free pages of a clean file: in order, in
// bounds, and none of them in use as far as the walk went.
func (c *pageChecker) freelist() error {
	id := c.meta.freelist
	p, err := c.page(id)
	if err != nil {
		return err
	}
	if flags := binary.NativeEndian.Uint16(p[8:]); flags != freelistPage {
		return c.bad(id, "type %#x where the freelist should be", flags)
	}
	n, b := uint64(binary.NativeEndian.Uint16(p[10:])), p[PageHead:]
	if n == bigFreelist {
		n = binary.NativeEndian.Uint64(b)
		b = b[8:]
	}
	if n > uint64(len(b)/8) {
		return c.bad(id, "%d free pages do not fit", n)
	}
	last := uint64(1)
	for i := range n {
		free := binary.NativeEndian.Uint64(b[i*8:])
		if free <= last || free >= c.meta.Pages || c.seen[free/64]&(1<<(free%64)) != 0 {
			return c.bad(id, "lists page %d, which is not free", free)
		}
		last = free
	}
	return nil
}
