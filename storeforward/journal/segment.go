package journal

import (
	"sort"
	"sync"

	"github.com/farhop/farhop/storeforward/vfs"
)

// segment is one file of the journal. Its fields are guarded by the lock of
// the book that lists it, but for file and users, which are the pool's.
type segment struct {
	segHead
	name string
	size int64 // of the file, space reserved in advance included
	end  int64 // of its blocks

	from, to uint64   // Seqs its puts may have; from > to: none
	samples  []sample // where blocks with puts are
	putBytes int64    // of blocks with puts
	puts     int      // entries written

	live       int   // entries that still wait
	stateBytes int64 // of keys whose value is here
	keyTombs   int64 // of deletes of keys, which matter while older segments exist
	tombs      []tombs
	changed    bool   // since the last checkpoint: of the fields above
	saved      bool   // in a checkpoint, as it will stay
	fresh      int64  // what was useful of a cold one when it was made; 0: not known
	sealed     bool   // nothing is added any more
	headless   bool   // its head is damaged
	next       uint64 // nonce of what will replace it, while that is being made

	file  vfs.File
	users int
	gone  bool // no longer in the table: closed when nobody uses it
}

// sample is one place of the sparse index: the puts from first on, up to the
// next sample, are in the n bytes of blocks at off.
type sample struct {
	first uint64
	off   uint32
	n     uint32
}

// tombs counts drops and marks that concern puts of an older segment. They
// matter as long as it exists as it was then, which its nonce tells.
type tombs struct {
	nonce uint64
	n     int
}

// tombBytes is what a drop takes, more or less.
const tombBytes = 6

func (s *segment) tombstone(target *segment) {
	if target == nil || target == s {
		return
	}
	s.changed = true
	s.tomb(target.nonce)
	if target.next != 0 {
		s.tomb(target.next)
	}
}

func (s *segment) tomb(nonce uint64) {
	for i := len(s.tombs) - 1; i >= 0; i-- {
		if s.tombs[i].nonce == nonce {
			s.tombs[i].n++
			if i+1 < len(s.tombs) { // the next is likely to be of the same
				last := len(s.tombs) - 1
				s.tombs[i], s.tombs[last] = s.tombs[last], s.tombs[i]
			}
			return
		}
	}
	s.tombs = append(s.tombs, tombs{nonce, 1})
}

// note adds a block that was written at off.
func (s *segment) note(off int64, h *blockHead, first, last uint64, entries int) {
	s.end = off + h.size()
	s.changed = true
	if first == 0 {
		return
	}
	s.from, s.to = min(s.from, first), max(s.to, last)
	s.puts += entries
	s.putBytes += h.size()
	end := off + blockHeadLen + int64(h.body)
	if n := len(s.samples); n > 0 && end-int64(s.samples[n-1].off) <= sampleSpan {
		s.samples[n-1].n = uint32(end - int64(s.samples[n-1].off))
		return
	}
	s.samples = append(s.samples, sample{first, uint32(off), uint32(end - off)})
}

// sampleOf returns the sample that covers seq.
func (s *segment) sampleOf(seq uint64) (int, bool) {
	if seq < s.from || seq > s.to {
		return 0, false
	}
	i := sort.Search(len(s.samples), func(i int) bool { return s.samples[i].first > seq }) - 1
	return i, i >= 0
}

// segmentOf returns the segment in which message seq would be, nil if none.
func (b *book) segmentOf(seq uint64) *segment {
	i := len(b.segs) - 1
	if i < 0 {
		return nil
	}
	if seq < b.segs[i].from {
		i = sort.Search(i, func(i int) bool { return b.segs[i].from > seq }) - 1
	}
	// A segment without puts starts where the next one does.
	for ; i >= 0; i-- {
		if s := b.segs[i]; seq >= s.from && seq <= s.to {
			return s
		} else if s.from <= s.to {
			return nil
		}
	}
	return nil
}

// useful is how many bytes of a segment are still needed: those of entries
// that wait, of keys, and of tombstones for segments that exist.
func (s *segment) useful(exists map[uint64]bool, oldest bool) int64 {
	n := s.stateBytes
	if s.puts > 0 {
		n += s.putBytes * int64(s.live) / int64(s.puts)
	}
	if !oldest {
		n += s.keyTombs
	}
	for _, t := range s.tombs {
		if exists[t.nonce] {
			n += tombBytes * int64(t.n)
		}
	}
	return n
}

// dead reports whether nothing of a sealed segment is needed any more.
func (s *segment) dead(exists map[uint64]bool, oldest bool) bool {
	if s.live > 0 || s.stateBytes > 0 || s.keyTombs > 0 && !oldest {
		return false
	}
	for _, t := range s.tombs {
		if exists[t.nonce] {
			return false
		}
	}
	return true
}

// maxOpen is how many sealed segments are open at once.
const maxOpen = 128

// pool opens segment files when they are read, and closes them when many are
// open.
type pool struct {
	fs vfs.FS

	mu   sync.Mutex
	open []*segment // those with a file
}

// acquire opens a segment for its caller, who releases it. The caller holds
// the lock of the book, so the segment is in the table and its file exists.
func (p *pool) acquire(s *segment) (vfs.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.file == nil {
		if len(p.open) >= maxOpen {
			p.shrink()
		}
		f, err := p.fs.Open(s.name)
		if err != nil {
			return nil, err
		}
		s.file = f
		p.open = append(p.open, s)
	}
	s.users++
	return s.file, nil
}

// adopt takes over a file that is already open, with one user.
func (p *pool) adopt(s *segment, f vfs.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.file, s.users = f, 1
	p.open = append(p.open, s)
}

func (p *pool) release(s *segment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.users--; s.users == 0 && s.gone {
		p.close(s)
	}
}

// retire says that a segment left the table. It returns the open file when
// nobody else uses it: the caller owns it then.
func (p *pool) retire(s *segment) vfs.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.gone = true
	if s.users > 0 || s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	p.forget(s)
	return f
}

// shrink closes about half of what nobody uses.
func (p *pool) shrink() {
	for _, s := range append([]*segment(nil), p.open[:len(p.open)/2]...) {
		if s.users == 0 {
			p.close(s)
		}
	}
}

func (p *pool) close(s *segment) {
	_ = s.file.Close() // only read, or synced before
	s.file = nil
	p.forget(s)
}

func (p *pool) forget(s *segment) {
	for i := range p.open {
		if p.open[i] == s {
			p.open = append(p.open[:i], p.open[i+1:]...)
			return
		}
	}
}

func (p *pool) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.open {
		_ = s.file.Close()
		s.file, s.gone = nil, true
	}
	p.open = nil
}
