package boltstore

import (
	"math"
	"slices"
	"sort"
)

// chunkLen is the most items of one chunk: small enough that an insertion in
// the middle moves 4 KiB at most, large enough that chunks cost little.
const chunkLen = 512

// item is one message of a queue, 8 bytes: ten million of them fit a small
// box. size is 0 for entries that no longer need their payload.
type item struct {
	off  uint32 // Seq minus the base of the chunk
	size uint32
}

type chunk struct {
	base  uint64
	items []item // by off
}

func (c *chunk) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(c.items, seq-c.base, func(it item, off uint64) int {
		switch {
		case uint64(it.off) < off:
			return -1
		case uint64(it.off) > off:
			return 1
		}
		return 0
	})
}

// seqSet is the sorted set of the messages of one queue. Appending at the
// end and removing near the front, which is what a queue does, are cheap.
type seqSet struct {
	chunks []*chunk // by base, none empty
	count  int
	bytes  int64
}

// chunkOf returns the index of the only chunk that may hold seq, or -1.
func (s *seqSet) chunkOf(seq uint64) int {
	return sort.Search(len(s.chunks), func(i int) bool { return s.chunks[i].base > seq }) - 1
}

func (s *seqSet) get(seq uint64) (size uint32, ok bool) {
	ci := s.chunkOf(seq)
	if ci < 0 {
		return 0, false
	}
	c := s.chunks[ci]
	i, ok := c.find(seq)
	if !ok {
		return 0, false
	}
	return c.items[i].size, true
}

// add inserts seq, or changes its size.
func (s *seqSet) add(seq uint64, size uint32) {
	ci := s.chunkOf(seq)
	if ci < 0 {
		s.insertChunk(0, seq, size)
		return
	}
	c := s.chunks[ci]
	i, ok := c.find(seq)
	if ok {
		s.bytes += int64(size) - int64(c.items[i].size)
		c.items[i].size = size
		return
	}
	if seq-c.base > math.MaxUint32 || len(c.items) >= chunkLen && i == len(c.items) {
		s.insertChunk(ci+1, seq, size)
		return
	}
	if len(c.items) >= chunkLen {
		s.split(ci)
		s.add(seq, size)
		return
	}
	c.items = slices.Insert(c.items, i, item{uint32(seq - c.base), size})
	s.count++
	s.bytes += int64(size)
}

func (s *seqSet) insertChunk(at int, seq uint64, size uint32) {
	s.chunks = slices.Insert(s.chunks, at, &chunk{base: seq, items: []item{{0, size}}})
	s.count++
	s.bytes += int64(size)
}

// split halves a full chunk.
func (s *seqSet) split(ci int) {
	c := s.chunks[ci]
	half := len(c.items) / 2
	shift := c.items[half].off
	right := &chunk{base: c.base + uint64(shift), items: make([]item, 0, chunkLen)}
	for _, it := range c.items[half:] {
		right.items = append(right.items, item{it.off - shift, it.size})
	}
	c.items = c.items[:half]
	s.chunks = slices.Insert(s.chunks, ci+1, right)
}

func (s *seqSet) remove(seq uint64) bool {
	ci := s.chunkOf(seq)
	if ci < 0 {
		return false
	}
	c := s.chunks[ci]
	i, ok := c.find(seq)
	if !ok {
		return false
	}
	s.count--
	s.bytes -= int64(c.items[i].size)
	switch {
	case len(c.items) == 1 && ci == 0:
		s.chunks[0] = nil
		s.chunks = s.chunks[1:]
	case len(c.items) == 1:
		s.chunks = slices.Delete(s.chunks, ci, ci+1)
	case i == 0: // the head of a queue leaves first: move nothing
		c.items = c.items[1:]
	default:
		c.items = slices.Delete(c.items, i, i+1)
	}
	return true
}

// first returns the lowest Seq of a set that is not empty.
func (s *seqSet) first() uint64 {
	c := s.chunks[0]
	return c.base + uint64(c.items[0].off)
}

// after returns up to n members above seq, in order.
func (s *seqSet) after(seq uint64, n int) []uint64 {
	if seq == math.MaxUint64 || n <= 0 || s.count == 0 {
		return nil
	}
	out := make([]uint64, 0, min(n, s.count))
	for ci := max(0, s.chunkOf(seq+1)); ci < len(s.chunks); ci++ {
		c := s.chunks[ci]
		i := 0
		if seq >= c.base {
			i, _ = c.find(seq + 1)
		}
		for ; i < len(c.items); i++ {
			if len(out) == n {
				return out
			}
			out = append(out, c.base+uint64(c.items[i].off))
		}
	}
	return out
}
