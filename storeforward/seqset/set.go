// Package seqset is the sorted set of message numbers that a queue of the
// store engine keeps in RAM: about two bytes a member, or much less where
// numbers are dense; four where thousands of queues share them. It also says which of its parts changed, so that a checkpoint writes only
// those. It knows neither messages nor files; storeforward/journal is its
// caller, and brings the lock: a Set is for one goroutine at a time.
//
//	var s seqset.Set
//	s.Add(7)
//	s.Containers(func(base uint64, dirty bool) {
//		if dirty {
//			save(base, s.AppendContainer(nil, base))
//			s.Clean(base)
//		}
//	})
package seqset

import (
	"math"
	"slices"
	"sort"
)

// Width is how many neighbouring numbers share a container. A container of few
// and scattered members spans wide. A base is a multiple of what is spanned.
const (
	Width = 1 << 16
	wide  = 1 << 22
)

// Set is a sorted set of numbers. The zero value is empty and ready for use.
type Set struct {
	containers []container // by base; none is empty
	count      int
	vanished   []uint64 // sorted bases
}

// Add puts seq into the set and reports whether it was not there. At the end
// it costs next to nothing, elsewhere up to a copy of 8 KiB.
func (s *Set) Add(seq uint64) bool {
	i, ok := s.find(seq)
	if !ok {
		if i == len(s.containers) && i > 0 {
			// Numbers rise: the container before is as good as complete.
			s.containers[i-1].pack()
		}
		s.insert(i, s.newContainer(i, seq))
	} else if s.containers[i].kind() == sparse && s.containers[i].crowded() {
		s.split(i)
		return s.Add(seq)
	}
	c := &s.containers[i]
	if !c.add(c.off(seq)) {
		return false
	}
	c.meta |= dirtyBit
	s.count++
	return true
}

// newContainer returns the container for seq, which will stand at i. A range
// of wide is one sparse container or any number of ordinary ones.
func (s *Set) newContainer(i int, seq uint64) container {
	mate := func(i int) bool {
		return i >= 0 && i < len(s.containers) && s.containers[i].base()/wide == seq/wide
	}
	if mate(i-1) || mate(i) {
		return container{meta: seq &^ (Width - 1)}
	}
	return container{meta: seq&^(wide-1) | sparse}
}

// split makes ordinary containers of the sparse container i.
func (s *Set) split(i int) {
	old := s.containers[i]
	parts := old.split()
	for n := range parts {
		parts[n].meta |= dirtyBit
		s.unvanish(&parts[n])
	}
	if old.meta&savedBit != 0 {
		if parts[0].base() == old.base() {
			parts[0].meta |= savedBit
		} else {
			s.vanish(old.base())
		}
	}
	s.containers = slices.Replace(s.containers, i, i+1, parts...)
}

// Remove takes seq out of the set and reports whether it was there. At the
// front it costs next to nothing.
func (s *Set) Remove(seq uint64) bool {
	i, ok := s.find(seq)
	if !ok {
		return false
	}
	c := &s.containers[i]
	if !c.remove(c.off(seq)) {
		return false
	}
	c.meta |= dirtyBit
	s.count--
	if c.empty() {
		s.forget(i)
	}
	return true
}

// Has reports whether seq is in the set.
func (s *Set) Has(seq uint64) bool {
	i, ok := s.find(seq)
	return ok && s.containers[i].has(s.containers[i].off(seq))
}

// Len returns the number of members.
func (s *Set) Len() int { return s.count }

// First returns the lowest member; false when there is none.
func (s *Set) First() (uint64, bool) {
	if s.count == 0 {
		return 0, false
	}
	var one [1]uint64
	return s.containers[0].appendFrom(0, 1, one[:0])[0], true
}

// After appends to into up to n members above seq, in order, and returns it.
func (s *Set) After(seq uint64, n int, into []uint64) []uint64 {
	if seq == math.MaxUint64 {
		return into
	}
	from := seq + 1
	i, here := s.find(from)
	most := len(into) + max(n, 0)
	for ; i < len(s.containers) && len(into) < most; i++ {
		off := uint32(0)
		if here {
			off, here = s.containers[i].off(from), false
		}
		into = s.containers[i].appendFrom(off, most-len(into), into)
	}
	return into
}

// Containers calls f for every container, by base; dirty says that it changed
// since Clean or LoadContainer. f may call Clean and AppendContainer.
func (s *Set) Containers(f func(base uint64, dirty bool)) {
	for i := range s.containers {
		c := &s.containers[i]
		f(c.base(), c.meta&dirtyBit != 0)
	}
}

// Clean says that the bytes of this container, as they are now, will be
// saved. Call it under the lock under which AppendContainer took them.
func (s *Set) Clean(base uint64) {
	if i, ok := s.at(base); ok {
		s.containers[i].meta = s.containers[i].meta&^dirtyBit | savedBit
	}
}

// Vanished returns the bases of containers that were saved once (Clean,
// LoadContainer) and have no member any more, in order, until ClearVanished.
// A container that came back is not among them; it is dirty.
func (s *Set) Vanished() []uint64 { return s.vanished }

// ClearVanished forgets what Vanished returns.
func (s *Set) ClearVanished() { s.vanished = nil }

// at returns the container of that base.
func (s *Set) at(base uint64) (int, bool) {
	i, ok := s.find(base)
	return i, ok && s.containers[i].base() == base
}

// find returns the container that seq belongs to, or where it would stand.
func (s *Set) find(seq uint64) (int, bool) {
	i := len(s.containers)
	// Most questions are about the end or the front.
	switch {
	case i == 0 || seq >= s.containers[i-1].base():
	case i == 1 || seq < s.containers[1].base():
		i = 1
		if seq < s.containers[0].base() {
			i = 0
		}
	default:
		i = sort.Search(i, func(i int) bool { return s.containers[i].base() > seq })
	}
	if i > 0 && seq-s.containers[i-1].base() < s.containers[i-1].width() {
		return i - 1, true
	}
	return i, false
}

func (s *Set) insert(i int, c container) {
	s.unvanish(&c)
	s.containers = slices.Insert(s.containers, i, c)
}

// forget removes the empty container i.
func (s *Set) forget(i int) {
	base, saved := s.containers[i].base(), s.containers[i].meta&savedBit != 0
	s.containers = slices.Delete(s.containers, i, i+1)
	if n := len(s.containers); n == 0 {
		s.containers = nil
	} else if n <= cap(s.containers)/2 {
		s.containers = slices.Clone(s.containers)
	}
	if saved {
		s.vanish(base)
	}
}

func (s *Set) vanish(base uint64) {
	if at, ok := slices.BinarySearch(s.vanished, base); !ok {
		s.vanished = slices.Insert(s.vanished, at, base)
	}
}

// unvanish is for a new container: its members will be saved over older ones.
func (s *Set) unvanish(c *container) {
	if at, ok := slices.BinarySearch(s.vanished, c.base()); ok {
		s.vanished = slices.Delete(s.vanished, at, at+1)
		c.meta |= savedBit // it stands in the checkpoint still
	}
}
