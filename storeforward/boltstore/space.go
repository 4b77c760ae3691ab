package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/farhop/farhop/storeforward/store"
)

// A commit of bbolt that runs out of space costs a scan of the whole file
// (tx.rollback without a synced freelist). So room is made before a commit:
// the file is extended ahead of need with real blocks, a batch that does not
// fit is refused before it reaches bbolt, and a reserve stays free for drops.
const (
	growMin    = 256 << 10
	growMax    = 16 << 20
	reserveMax = 1 << 20
)

// space tracks the file's room within one group.
type space struct {
	file     *os.File
	pageSize int64
	maxBytes int64 // 0 = the disk is the limit
	size     int64 // of the file
}

// reserve is what only drops and marks may use: a sixteenth of a small file.
func (sp *space) reserve() int64 {
	if sp.maxBytes > 0 {
		return min(reserveMax, sp.maxBytes/16)
	}
	return reserveMax
}

// room returns the bytes that a transaction can still allocate without
// growing the file.
func (sp *space) room(db *bolt.DB, tx *bolt.Tx) int64 {
	if tx.Size() > sp.size { // bbolt grew the file itself, for pages in one piece
		if st, err := sp.file.Stat(); err == nil {
			sp.size = st.Size()
		}
	}
	st := db.Stats()
	return int64(st.FreePageN+st.PendingPageN)*sp.pageSize + sp.size - tx.Size()
}

// fit makes sure that need bytes and the reserve are there, growing the file
// when they are not, and reports whether it succeeded. have is what room said.
func (sp *space) fit(have, need int64) (grown int64, err error) {
	missing := need + sp.reserve() - have
	if missing <= 0 {
		return 0, nil
	}
	// A generous step first, then exactly what is missing.
	step := max(missing, min(max(sp.size/4, growMin), growMax))
	for _, n := range []int64{step, missing} {
		n = (n + sp.pageSize - 1) / sp.pageSize * sp.pageSize
		if sp.maxBytes > 0 && sp.size+n > sp.maxBytes {
			err = fmt.Errorf("%w: %s holds %d bytes, its limit is %d", store.ErrFull, sp.file.Name(), sp.size, sp.maxBytes)
			continue
		}
		if err = allocate(sp.file, sp.size, n); err == nil {
			sp.size += n
			return n, nil
		}
		if !noSpace(err) {
			return 0, fmt.Errorf("grow %s to %d bytes: %w", sp.file.Name(), sp.size+n, err)
		}
		err = fmt.Errorf("%w: no room for %d more bytes of %s", store.ErrFull, n, sp.file.Name())
	}
	return 0, err
}

// cost is a batch in numbers.
type cost struct {
	ops   int
	bytes int64 // record bytes it may add
	grows bool  // it stores payloads; such a batch must leave the reserve alone
}

// costOf estimates a batch on the high side. Small state and marks
// count as bytes but do not make a batch grow the file: they come along with
// drops, which must pass when the disk is full.
func costOf(b *store.Batch) cost {
	c := cost{ops: len(b.Puts) + len(b.Marks) + len(b.Drops) + len(b.Sets)}
	for i := range b.Puts {
		p := &b.Puts[i]
		if p.Blob != nil {
			c.bytes += int64(len(p.Blob.B))
		}
		if p.Header != nil {
			if p.From != 0 && p.Blob == nil {
				c.bytes += int64(p.Header.Size)
			}
			c.bytes += int64(headerRoom(p.Header, p.Header.Entries)) + 3*32
		}
	}
	values := int64(0)
	for i := range b.Sets {
		s := &b.Sets[i]
		values += int64(len(s.Value) + len(s.Key) + 32)
		if s.Blob != nil {
			values += int64(len(s.Blob.B))
		}
	}
	c.bytes += values
	c.grows = len(b.Puts) > 0 || values > 64<<10
	return c
}

// commitPages is what the trees around the new records cost: the paths to
// the right edges, to the dropped records, and the root.
const commitPages = 32

// need converts a group's bytes to bytes of pages: every page is at worst
// half empty, and the paths of ops that touch old records are copied.
func (sp *space) need(c cost) int64 {
	return c.bytes*2 + commitPages*sp.pageSize
}

// noSpace reports an errno that means a full disk or quota.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// diskFull tells a commit that bbolt rolled back for want of space from one
// that leaves the file in doubt. A failed write of pages is harmless; a failed
// fsync never is, even when it says "no space" (a late allocation).
func diskFull(err error) bool {
	if errors.Is(err, berrors.ErrMaxSizeReached) {
		return true
	}
	var pe *fs.PathError
	return errors.As(err, &pe) && pe.Op == "write" && noSpace(err)
}

// extend is allocate where blocks cannot be had in advance: the file becomes
// sparse, as bbolt itself would make it.
func extend(f *os.File, size, n int64) error {
	if err := f.Truncate(size + n); err != nil {
		return err
	}
	return f.Sync()
}
