package seqset

import (
	"slices"
	"sort"
)

// findPair returns the first member of a sparse container that is off or
// above, counted in members, and whether it is off.
func (c *container) findPair(off uint32) (int, bool) {
	n := len(c.items) / 2
	if n == 0 || c.pair(n-1) < off {
		return n, false
	}
	i := sort.Search(n, func(i int) bool { return c.pair(i) >= off })
	return i, c.pair(i) == off
}

func (c *container) pair(i int) uint32 {
	return uint32(c.items[2*i])<<16 | uint32(c.items[2*i+1])
}

// crowded reports whether a sparse container should be split. It looks closer
// only when memory would have to grow.
func (c *container) crowded() bool {
	if len(c.items) < 2*crowd || len(c.items) < min(cap(c.items), maxArray) {
		return false
	}
	parts := 0
	for i := 0; i < len(c.items); i += 2 {
		if i == 0 || c.items[i] != c.items[i-2] {
			parts++
		}
	}
	return len(c.items)/2 >= crowd*parts || len(c.items) >= maxArray
}

// split returns the members of a sparse container in ordinary ones.
func (c *container) split() (parts []container) {
	for i := 0; i < len(c.items); i += 2 {
		base := c.base() | uint64(c.items[i])<<16
		if n := len(parts); n == 0 || parts[n-1].base() != base {
			parts = append(parts, container{meta: base})
		}
		part := &parts[len(parts)-1]
		part.items = append(part.items, c.items[i+1])
	}
	for i := range parts {
		parts[i].pack()
	}
	return parts
}

// appendFrom appends up to n > 0 members from off on.
func (c *container) appendFrom(off uint32, n int, into []uint64) []uint64 {
	base, most := c.base(), len(into)+n
	switch c.kind() {
	case runs:
		for i := 2 * c.findRun(uint16(off)); i < len(c.items); i += 2 {
			for v := max(off, uint32(c.items[i])); v <= uint32(c.items[i+1]); v++ {
				if len(into) == most {
					return into
				}
				into = append(into, base|uint64(v))
			}
		}
	case bitmap:
		for at := c.nextBit(int(off), 0); at < Width && len(into) < most; at = c.nextBit(at+1, 0) {
			into = append(into, base|uint64(at))
		}
	case sparse:
		for i, _ := c.findPair(off); 2*i < len(c.items) && len(into) < most; i++ {
			into = append(into, base|uint64(c.pair(i)))
		}
	default:
		i, _ := slices.BinarySearch(c.items, uint16(off))
		for _, v := range c.items[i:min(len(c.items), i+n)] {
			into = append(into, base|uint64(v))
		}
	}
	return into
}
