package boltstore

import (
	"math"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
)

// room is what the owner was told of the room that is left. It is the
// committer's.
type room struct {
	spent int64 // Cost of all batches that were reported
	told  int64 // the limit
	said  bool  // told is
}

const (
	// pageShare is how many bytes of pages one byte of a batch's Cost takes at
	// most: pages are at worst half empty (need), and records of small messages
	// are a little more than twice their Cost (headerRoom).
	pageShare = 5
	// diskReserve stays free of the disk: commits copy pages before they free
	// them.
	diskReserve = 8 << 20
	// Below roomPlenty every step down is told, above only great ones.
	roomPlenty = 256 << 20
	// roomEvery is how often an idle store with little room looks again.
	roomEvery = 500 * time.Millisecond
)

// idle waits for work, and looks for room meanwhile when there is little.
func (s *Store) idle() {
	if !s.room.said || s.room.told-s.room.spent >= roomPlenty {
		<-s.wake
		return
	}
	t := time.NewTimer(roomEvery)
	defer t.Stop()
	select {
	case <-s.wake:
	case <-t.C:
		s.tellRoom()
	}
}

// tellRoom tells the owner how far it may go, when that changed by enough.
func (s *Store) tellRoom() {
	if s.cfg.Room == nil || s.poison.Load() != nil {
		return
	}
	r := &s.room
	left := s.left()
	limit, before := r.spent+left, r.told-r.spent
	risen := limit > r.told && before < left/4*3
	fallen := limit < r.told && (left < roomPlenty || before > left+left/4)
	if r.said && !risen && !fallen {
		return
	}
	r.told, r.said = limit, true
	s.cfg.Room(limit)
}

// left is how much Cost finds room for certain: in pages that are free, and in
// what the file may grow by.
func (s *Store) left() int64 {
	grow := int64(math.MaxInt64)
	if free, ok := freeBytes(filepath.Dir(s.path)); ok {
		grow = free - diskReserve
	}
	if s.space.maxBytes > 0 {
		grow = min(grow, s.space.maxBytes-s.space.size)
	}
	if grow == math.MaxInt64 {
		return math.MaxInt64 - s.room.spent
	}
	err := guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error { s.freeBytes.Store(s.space.room(s.db, tx)); return nil })
	})
	if err != nil {
		return 0
	}
	pages := s.freeBytes.Load() + max(0, grow) - s.space.reserve() - 2*commitPages*s.space.pageSize
	return max(0, pages/pageShare)
}
