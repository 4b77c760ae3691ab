package journal

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/vfs"
)

// listed is one segment file as it was found.
type listed struct {
	name  string
	head  segHead
	sound bool    // head is what the file says; otherwise what its name says
	alien bool    // its first bytes are neither ours nor unwritten
	blank bool    // they are unwritten
	was   segHead // a sound head of another name, as recycling leaves it; without a kind: none
	size  int64
}

// staleFile is a file that has to leave the journal.
type staleFile struct {
	name string
	keep bool // it is set aside: something in it may never have been accounted for
}

// recovery builds the book of a directory without changing any file. What has
// to change on disk before the next write is gathered, for settle.
type recovery struct {
	fs     vfs.FS
	index  Index // nil: none
	log    func(msg string, args ...any)
	damage func(*segment, Damage)

	bulk        []string  // see Config
	incarnation uint32    // of a new buffer; 0: drawn
	hint        *identity // whose segments these are when no head says it; nil: not known

	id     identity
	fresh  bool // nothing is there
	files  []listed
	book   *book
	pool   *pool
	stale  []staleFile
	aside  []listed // of these, those at the end in which nothing is readable
	newest *segment // of kind hot, nil: none
	next   uint64   // number of the next block
	num    uint64   // number of the next segment
	used   bool     // the checkpoint was used
	blocks int      // that were replayed
	pos    position // of the checkpoint
}

// position is a place in the journal.
type position struct {
	num  uint64 // segment
	off  int64
	next uint64 // number of the block there
}

func (r *recovery) newBook() *book {
	b := newBook()
	b.bulk = r.bulk
	return b
}

// run does it all.
func (r *recovery) run() error {
	r.pool = &pool{fs: r.fs}
	if err := r.list(); err != nil {
		return err
	}
	if err := r.identify(); err != nil {
		return err
	}
	if r.fresh {
		r.book, r.next, r.num = r.newBook(), 1, 1
		return nil
	}
	if err := r.retire(); err != nil {
		return err
	}
	if why := r.resume(); why != nil {
		if r.index != nil {
			r.log("the checkpoint does not fit the journal; reading all of it", "why", why)
		}
		r.rebuild()
	}
	if err := r.replay(); err != nil {
		return err
	}
	for i := range r.aside {
		r.tellAside(&r.aside[i])
	}
	return nil
}

// list reads the heads of all segment files.
func (r *recovery) list() error {
	all, err := r.fs.List()
	if err != nil {
		return err
	}
	for _, name := range all {
		head, ok := parseName(name)
		if !ok {
			if _, was := parseName(trimNew(name)); was {
				r.stale = append(r.stale, staleFile{name: name})
			}
			continue
		}
		l := listed{name: name, head: head}
		if err := r.readHead(&l); err != nil {
			return err
		}
		r.files = append(r.files, l)
	}
	slices.SortFunc(r.files, func(a, b listed) int {
		return cmp.Or(cmp.Compare(a.head.num, b.head.num), cmp.Compare(b.head.last, a.head.last),
			cmp.Compare(b.head.kind, a.head.kind), cmp.Compare(b.head.firstBlock, a.head.firstBlock))
	})
	return nil
}

func trimNew(name string) string {
	if n := len(name) - len(newSuffix); n > 0 && name[n:] == newSuffix {
		return name[:n]
	}
	return ""
}

func (r *recovery) readHead(l *listed) error {
	f, err := r.fs.Open(l.name)
	if err != nil {
		return err
	}
	defer f.Close()
	if l.size, err = f.Size(); err != nil {
		return err
	}
	b := make([]byte, segHeadLen)
	n, _ := f.ReadAt(b, 0)
	head, err := parseSegHead(b[:n])
	if errors.Is(err, ErrNewer) {
		return fmt.Errorf("%w: segment %s; run the newer version, or choose another --dir", err, l.name)
	}
	switch {
	case err == nil && head.fileName() == l.name:
		l.head, l.sound = head, true
	case err == nil:
		l.was = head
	case allZero(b[:n]):
		l.blank = true
	default:
		l.alien = string(b[:min(n, 8)]) != segMagic[:min(n, 8)]
	}
	return nil
}

func allZero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// identify finds out whose segments these are.
func (r *recovery) identify() error {
	if len(r.files) == 0 {
		r.fresh = true
		r.id = newIdentity()
		if r.incarnation != 0 {
			r.id.incarnation = r.incarnation
		}
		return nil
	}
	known := false
	for i := range r.files {
		l := &r.files[i]
		if !l.sound {
			continue
		}
		if known && l.head.identity != r.id {
			return fmt.Errorf("%w: segment %s belongs to another buffer; move it away", ErrForeign, l.name)
		}
		r.id, known = l.head.identity, true
	}
	if !known && r.index != nil {
		r.id, known = loadIdentity(r.index)
	}
	if !known && r.hint != nil {
		r.id, known = *r.hint, true
	}
	for i := range r.files {
		if l := &r.files[i]; !known && l.alien {
			return fmt.Errorf("%w: %s is not a segment of a journal; choose another --dir, or move the file away if nothing needs it",
				ErrForeign, l.name)
		}
	}
	if !known {
		return fmt.Errorf("%w: the heads of all %d segments are damaged; restore the journal from a backup, or move it away "+
			"to start empty: the messages in it that were not delivered are lost then", ErrHeads, len(r.files))
	}
	return nil
}

// ErrHeads is returned for a journal of which no segment says whose it is.
var ErrHeads = errors.New("the journal is damaged")

func newIdentity() (id identity) {
	_, _ = rand.Read(id.id[:]) // never fails
	for id.incarnation == 0 {
		var b [4]byte
		_, _ = rand.Read(b[:])
		id.incarnation = binary.LittleEndian.Uint32(b[:]) & bundle.MaxIncarnation
	}
	id.created = time.Now().UnixMilli()
	return id
}

func newNonce() uint64 {
	for {
		var b [8]byte
		_, _ = rand.Read(b[:])
		if n := binary.LittleEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}

// rebuild chooses the segments without a checkpoint: what the cleaner wrote
// goes before what it replaced.
func (r *recovery) rebuild() {
	r.used, r.pos = false, position{}
	r.book = r.newBook()
	r.book.dirtyKeys = nil
	var keep []listed
	covered, doubt := uint64(0), false
	for _, l := range r.files { // by first number, the longest first
		if l.head.last <= covered {
			r.stale = append(r.stale, staleFile{l.name, doubt})
			continue
		}
		if l.head.kind == cold {
			covered, doubt = l.head.last, !l.sound
		}
		keep = append(keep, l)
	}
	r.files = keep
	for i := range keep {
		r.book.segs = append(r.book.segs, r.segmentOf(&keep[i]))
	}
}

// segmentOf makes the segment of a file that nothing is known of yet.
func (r *recovery) segmentOf(l *listed) *segment {
	s := &segment{segHead: l.head, name: l.name, size: l.size, changed: true}
	if !l.sound {
		s.identity, s.nonce, s.headless = r.id, newNonce(), true
		if s.kind == cold {
			s.length = l.size
		}
	}
	s.from, s.to = s.high+1, s.high
	return s
}

// replay applies what the book does not know yet.
func (r *recovery) replay() error {
	rp := &replayer{b: r.book, damage: r.tell}
	segs := r.book.segs
	newest := len(segs) - 1
	for i, seg := range segs {
		if seg.headless {
			r.tell(seg, Damage{Segment: seg.num, Bytes: segHeadLen})
		}
		if seg.last < r.pos.num {
			continue
		}
		off := int64(segHeadLen)
		if seg.num == r.pos.num {
			off = max(off, r.pos.off)
		}
		if err := r.replaySegment(rp, i, off, i == newest); err != nil {
			return err
		}
	}
	r.blocks = rp.blocks
	last := segs[newest]
	r.num, r.newest = last.last+1, last
	r.next = max(r.next, rp.number+1, r.pos.next)
	if last.kind == cold {
		r.newest = nil
	}
	r.book.high = max(r.book.high, last.high)
	return nil
}

func (r *recovery) replaySegment(rp *replayer, i int, off int64, newest bool) error {
	seg := r.book.segs[i]
	f, err := r.pool.acquire(seg)
	if err != nil {
		return err
	}
	defer r.pool.release(seg)
	if seg.headless && !seg.saved {
		// The checkpoint does not know it. Its place among the Seqs is behind
		// all that came before.
		seg.high = r.book.high
		seg.from, seg.to = seg.high+1, seg.high
	}
	seg.saved, seg.changed = false, true // the checkpoint had it as it was then
	r.book.high = max(r.book.high, seg.high)
	end, guessed, err := r.end(seg, f, i, off, newest)
	if err != nil {
		return err
	}
	if err := rp.segment(seg, f, off, end); err != nil {
		return err
	}
	if guessed {
		if err := rp.behind(seg, f, end); err != nil {
			return err
		}
	}
	rp.settle(r.highAfter(i))
	seg.end = end
	return nil
}

// highAfter returns the highest Seq that segment i may have, as a later one
// says; false when none does.
func (r *recovery) highAfter(i int) (uint64, bool) {
	for _, seg := range r.book.segs[i+1:] {
		if !seg.headless || seg.saved {
			return seg.high, true
		}
	}
	return 0, false
}

// end returns where the blocks of a segment end. guessed says that what is
// behind need not be a torn tail: where the head was damaged more may be, and
// nobody but the head of the next one knows where a segment ended.
func (r *recovery) end(seg *segment, f vfs.File, i int, off int64, newest bool) (end int64, guessed bool, err error) {
	if seg.kind == cold {
		return seg.length, false, nil
	}
	guessed = seg.headless
	if !newest {
		if next := r.book.segs[i+1]; next.num == seg.last+1 && next.prevEnd > 0 {
			return next.prevEnd, guessed, nil
		} else if next.headless && !next.saved {
			guessed = true
		}
	}
	w, err := newWindow(f)
	if err != nil {
		return 0, guessed, err
	}
	first, sure := max(seg.firstBlock, 1), false
	if seg.num == r.pos.num && r.pos.off > 0 {
		first = r.pos.next
	} else if seg.headless { // its blocks tell where they begin
		at, h, ok := w.find(off, w.size, seg.seed())
		if !ok {
			return off, guessed, w.err
		}
		off, first, sure = at, h.number, true
	}
	end, next := survey(w, seg.seed(), off, first, sure)
	r.next = max(r.next, next)
	return end, guessed, nil
}
