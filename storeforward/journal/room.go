package journal

import (
	"math"
	"sync"

	"github.com/farhop/farhop/storeforward/vfs"
)

// room is what the owner was told of the room that is left, and what that
// follows from.
type room struct {
	mu    sync.Mutex // guards the rest, and calls of Config.Room
	spent int64      // Cost of all batches that were reported
	rest  int64      // of the current segment, as of then
	taken int64      // of the segment that is about to become the current one
	full  bool       // the last attempt to make a segment found no room
	told  int64      // the limit
	said  bool       // told is
}

// Until so little is left every step down is told; above, only great ones.
const roomPlenty = 256 << 20

// tellRoom tells the owner how far it may go, when that changed by enough. What
// is certain is the current segment or the one made in advance, whichever holds
// more: batches may be of such sizes that the rest of the first stays unused.
// What the disk has beside that is counted only above a reserve, which is left
// to the ends of messages, to the cleaner and to the index.
func (s *Store) tellRoom() {
	if s.cfg.Room == nil {
		return
	}
	next := s.maint.nextBytes()
	free := s.spareBytes()
	r := &s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	left := max(s.usable(r.rest), s.usable(r.taken), s.usable(next))
	switch {
	case r.full:
	case free == math.MaxInt64:
		left = math.MaxInt64 - r.spent
	default:
		left += max(0, free)
	}
	limit, before := r.spent+left, r.told-r.spent
	risen := limit > r.told && before < left/4*3
	fallen := limit < r.told && (left < roomPlenty || before > left+left/4)
	if r.said && !risen && !fallen {
		return
	}
	r.told, r.said = limit, true
	s.cfg.Room(limit)
}

// usable is what a segment with so much left takes of puts for certain. Beside
// the margin, as much again is left to what comes along with puts: the drops
// and the state of their batches.
func (s *Store) usable(rest int64) int64 {
	return max(0, rest-2*s.margin()-segHeadLen-2*blockHeadLen)
}

// reserve is what stays free of the disk, and of MaxBytes, before the next
// segment is made in advance: one and a half segments of which it takes one.
func (s *Store) reserve() int64 { return s.cfg.SegmentBytes + s.cfg.SegmentBytes/2 }

// spareBytes is what the disk, and the limit, have above the reserve, less than
// nothing when it is touched; MaxInt64 when neither is known.
func (s *Store) spareBytes() int64 {
	free := int64(math.MaxInt64)
	if n, ok := s.freeDisk(); ok {
		free = n
	}
	if s.cfg.MaxBytes > 0 {
		free = min(free, s.cfg.MaxBytes-s.fileBytes.Load())
	}
	if free == math.MaxInt64 {
		return free
	}
	return free - s.reserve()
}

// freeDisk is what the file system has for this process; false when that is
// not known.
func (s *Store) freeDisk() (int64, bool) {
	switch {
	case s.cfg.free != nil:
		return s.cfg.free(), true
	case s.cfg.FS != nil:
		return 0, false
	}
	return vfs.Free(s.path)
}

// scarce reports whether room can come only of segments that are there, or
// whether that shows only when one is made: then one made in advance is kept,
// and one is asked for again and again.
func (s *Store) scarce() bool {
	s.room.mu.Lock()
	full, half := s.room.full, s.room.rest < s.cfg.SegmentBytes/2
	s.room.mu.Unlock()
	if _, known := s.freeDisk(); !known && half {
		return true
	}
	return full || s.spareBytes() <= 0
}

func (s *Store) foundNoRoom(full bool) {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.room.full = full
}

// wrote is called by the committer after each sync, with all that was reported:
// from here on the owner's account and the segment agree.
func (r *room) wrote(bytes, rest int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spent += bytes
	r.rest = rest
}

// took is called by the committer before it ends the current segment.
func (r *room) took(size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken = size
}

// began is called by the committer with the size of the new current segment.
func (r *room) began(size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest, r.taken = size, 0
}
