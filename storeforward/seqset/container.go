package seqset

import (
	"math/bits"
	"slices"
)

// container holds the members of one range of numbers. It is 32 bytes.
type container struct {
	items []uint16
	meta  uint64 // base; its low bits, always zero in a base, hold what follows
}

const (
	kindMask = 3
	array    = 0 // items are the members, sorted
	runs     = 1 // items are pairs, first and last member of each run
	bitmap   = 2 // items are a bit per number, and in the last word the count less one
	sparse   = 3 // items are pairs, high and low part of each member, over a wide range

	dirtyBit = 1 << 2 // changed since it was saved
	savedBit = 1 << 3 // stands in a checkpoint, perhaps with other members
)

// Sizes in items.
const (
	maxArray    = 4096         // more members are smaller as a bitmap
	maxItems    = maxArray + 2 // of an array or runs: pack comes with the next insertion
	bitmapWords = Width / 16
	smallPack   = 16 // fewer are not worth a look at their shape
	crowd       = 32 // members per Width from which ordinary containers are smaller
)

func (c *container) base() uint64 { return c.meta &^ (Width - 1) }

// off returns the place of seq in the range.
func (c *container) off(seq uint64) uint32 { return uint32(seq - c.base()) }

// width returns how many numbers the range spans.
func (c *container) width() uint64 {
	if c.kind() == sparse {
		return wide
	}
	return Width
}

func (c *container) kind() uint64 { return c.meta & kindMask }

func (c *container) become(kind uint64, items []uint16) {
	c.meta, c.items = c.meta&^kindMask|kind, items
}

func (c *container) empty() bool { return len(c.items) == 0 }

func (c *container) count() int {
	switch c.kind() {
	case runs:
		n := 0
		for i := 0; i < len(c.items); i += 2 {
			n += int(c.items[i+1]-c.items[i]) + 1
		}
		return n
	case bitmap:
		return int(c.items[bitmapWords]) + 1
	case sparse:
		return len(c.items) / 2
	}
	return len(c.items)
}

// findRun returns the first run that ends at off or later.
func (c *container) findRun(off uint16) int {
	low, high := 0, len(c.items)/2
	if high > 0 && c.items[len(c.items)-1] < off {
		return high
	}
	for low < high {
		mid := (low + high) / 2
		if c.items[2*mid+1] < off {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

func (c *container) has(off uint32) bool {
	low := uint16(off)
	switch c.kind() {
	case runs:
		r := c.findRun(low)
		return 2*r < len(c.items) && c.items[2*r] <= low
	case bitmap:
		return c.items[low/16]&(1<<(low%16)) != 0
	case sparse:
		_, ok := c.findPair(off)
		return ok
	}
	_, ok := slices.BinarySearch(c.items, low)
	return ok
}

func (c *container) add(off uint32) bool {
	low := uint16(off)
	switch c.kind() {
	case runs:
		return c.addRun(low)
	case bitmap:
		if c.has(off) {
			return false
		}
		c.items[low/16] |= 1 << (low % 16)
		c.items[bitmapWords]++
		return true
	case sparse:
		at, ok := c.findPair(off)
		if !ok {
			c.items = slices.Insert(c.items, 2*at, uint16(off>>16), low)
		}
		return !ok
	}
	at := len(c.items)
	if at > 0 && low <= c.items[at-1] {
		var ok bool
		if at, ok = slices.BinarySearch(c.items, low); ok {
			return false
		}
	}
	if c.room(1) {
		return c.add(off)
	}
	c.items = slices.Insert(c.items, at, low)
	return true
}

func (c *container) addRun(off uint16) bool {
	r := c.findRun(off)
	end := 2*r == len(c.items)
	if !end && c.items[2*r] <= off {
		return false
	}
	joinsLeft := r > 0 && c.items[2*r-1]+1 == off
	joinsRight := !end && c.items[2*r]-1 == off
	switch {
	case joinsLeft && joinsRight:
		c.items = slices.Delete(c.items, 2*r-1, 2*r+1)
	case joinsLeft:
		c.items[2*r-1] = off
	case joinsRight:
		c.items[2*r] = off
	default:
		if c.room(2) {
			return c.add(uint32(off))
		}
		c.items = slices.Insert(c.items, 2*r, off, off)
	}
	return true
}

func (c *container) remove(off uint32) bool {
	at, ok, size := 0, false, 1
	switch c.kind() {
	case runs:
		return c.removeRun(uint16(off))
	case bitmap:
		return c.removeBit(uint16(off))
	case sparse:
		at, ok = c.findPair(off)
		at, size = 2*at, 2
	default:
		at, ok = slices.BinarySearch(c.items, uint16(off))
	}
	if !ok {
		return false
	}
	if at == 0 {
		c.items = c.items[size:] // shrink lets go of what is before it
	} else {
		c.items = slices.Delete(c.items, at, at+size)
	}
	c.shrink()
	return true
}

func (c *container) removeBit(off uint16) bool {
	if !c.has(uint32(off)) {
		return false
	}
	c.items[off/16] &^= 1 << (off % 16)
	c.items[bitmapWords]-- // far from none: pack makes few members an array
	if n := c.count(); n&(n-1) == 0 {
		c.pack()
	}
	return true
}

func (c *container) removeRun(off uint16) bool {
	r := c.findRun(off)
	if 2*r == len(c.items) || c.items[2*r] > off {
		return false
	}
	switch first, last := c.items[2*r], c.items[2*r+1]; {
	case first == last:
		c.items = slices.Delete(c.items, 2*r, 2*r+2)
		c.shrink()
	case off == first:
		c.items[2*r]++
	case off == last:
		c.items[2*r+1]--
	default:
		if c.room(2) {
			return c.remove(uint32(off))
		}
		c.items = slices.Insert(c.items, 2*r+1, off-1, off+1)
	}
	return true
}

// room is asked before n items are inserted. It reports true when it gave the
// container another kind, in which the caller starts again.
func (c *container) room(n int) (changed bool) {
	if len(c.items)+n <= min(cap(c.items), maxArray) || len(c.items) < smallPack {
		return false
	}
	was := c.kind()
	c.pack()
	return c.kind() != was
}

// shrink gives back memory whenever the length falls to a power of two. That
// is all it goes by: what slicing left before the first item is not in cap.
func (c *container) shrink() {
	if n := len(c.items); n == 0 {
		c.items = nil
	} else if n&(n-1) == 0 {
		c.items = exact(c.items)
	}
}

func exact(items []uint16) []uint16 {
	out := make([]uint16, len(items))
	copy(out, items)
	return out
}

// pack gives the container the kind that is smallest, with a margin against
// going to and fro, and no spare memory. A sparse one stays sparse.
func (c *container) pack() {
	if c.kind() != sparse {
		c.choose()
	}
	if cap(c.items)-len(c.items) > len(c.items)/16 {
		c.items = exact(c.items)
	}
}

func (c *container) choose() {
	n, r := c.count(), c.countRuns()
	size := min(n, bitmapWords+1)
	switch {
	case 4*r <= size || c.kind() == runs && 2*r <= size:
		if c.kind() != runs {
			c.become(runs, c.toRuns(r))
		}
	case n > maxArray || c.kind() == bitmap && n > maxArray/2:
		if c.kind() != bitmap {
			c.become(bitmap, c.toBitmap(n))
		}
	case c.kind() != array:
		c.become(array, c.toArray(n))
	}
}

// spans calls f for the runs of consecutive members, in order. Those of an
// array or bitmap are found; the runs of a container of runs are as they are.
func (c *container) spans(f func(first, last uint16)) {
	switch c.kind() {
	case runs:
		for i := 0; i < len(c.items); i += 2 {
			f(c.items[i], c.items[i+1])
		}
	case bitmap:
		c.bitmapSpans(f)
	default:
		for i := 0; i < len(c.items); {
			first := i
			for i++; i < len(c.items) && c.items[i] == c.items[i-1]+1; i++ {
			}
			f(c.items[first], c.items[i-1])
		}
	}
}

func (c *container) bitmapSpans(f func(first, last uint16)) {
	for at := c.nextBit(0, 0); at < Width; {
		end := c.nextBit(at, 0xFFFF)
		f(uint16(at), uint16(end-1))
		at = c.nextBit(end, 0)
	}
}

// nextBit returns the first number from at on whose bit differs from that of
// the word skip (all zeros or all ones), or Width.
func (c *container) nextBit(at int, skip uint16) int {
	for at < Width {
		if w := (c.items[at/16] ^ skip) >> (at % 16); w != 0 {
			return at + bits.TrailingZeros16(w)
		}
		at = (at/16 + 1) * 16
	}
	return Width
}

func (c *container) countRuns() (n int) {
	if c.kind() == runs {
		return len(c.items) / 2
	}
	c.spans(func(uint16, uint16) { n++ })
	return n
}

func (c *container) toRuns(n int) []uint16 {
	out := make([]uint16, 0, 2*n)
	c.spans(func(first, last uint16) { out = append(out, first, last) })
	return out
}

func (c *container) toArray(n int) []uint16 {
	out := make([]uint16, 0, n)
	c.spans(func(first, last uint16) {
		for v := int(first); v <= int(last); v++ {
			out = append(out, uint16(v))
		}
	})
	return out
}

func (c *container) toBitmap(n int) []uint16 {
	out := make([]uint16, bitmapWords+1)
	c.spans(func(first, last uint16) {
		for v := int(first); v <= int(last); v++ {
			out[v/16] |= 1 << (v % 16)
		}
	})
	out[bitmapWords] = uint16(n - 1)
	return out
}
