package salvo

import (
	"slices"
	"sort"

	"github.com/farhop/farhop/node/salvo/packet"
)

// Range is the numbers from Lo to Hi-1: block ids, or bytes of a block.
type Range = packet.Range

// spans is a set of numbers as ranges in order that do not touch.
type spans []Range

// find returns the index of the first range that ends behind n.
func (s spans) find(n uint64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].Hi > n })
}

func (s spans) has(n uint64) bool {
	i := s.find(n)
	return i < len(s) && s[i].Lo <= n
}

// hasAll reports whether all of lo to hi-1 are members.
func (s spans) hasAll(lo, hi uint64) bool {
	i := s.find(lo)
	return lo >= hi || i < len(s) && s[i].Lo <= lo && hi <= s[i].Hi
}

// gap returns the first run of numbers within lo to hi-1 that are no members;
// empty when there is none.
func (s spans) gap(lo, hi uint64) Range {
	i := s.find(lo)
	if i < len(s) && s[i].Lo <= lo {
		lo = s[i].Hi
		i++
	}
	if lo >= hi {
		return Range{Lo: hi, Hi: hi}
	}
	if i < len(s) {
		hi = min(hi, s[i].Lo)
	}
	return Range{Lo: lo, Hi: hi}
}

// add makes lo to hi-1 members.
func (s *spans) add(lo, hi uint64) {
	if lo >= hi {
		return
	}
	v := *s
	if n := len(v); n > 0 && v[n-1].Lo <= lo && lo <= v[n-1].Hi { // the usual case
		v[n-1].Hi = max(v[n-1].Hi, hi)
		return
	}
	i := sort.Search(len(v), func(i int) bool { return v[i].Hi >= lo }) // touching counts
	j := i
	for j < len(v) && v[j].Lo <= hi {
		lo, hi = min(lo, v[j].Lo), max(hi, v[j].Hi)
		j++
	}
	*s = slices.Replace(v, i, j, Range{Lo: lo, Hi: hi})
}

// remove makes lo to hi-1 no members.
func (s *spans) remove(lo, hi uint64) {
	if lo >= hi {
		return
	}
	v := *s
	i := v.find(lo)
	j := i
	var rest [2]Range
	n := 0
	for j < len(v) && v[j].Lo < hi {
		if v[j].Lo < lo {
			rest[n] = Range{Lo: v[j].Lo, Hi: lo}
			n++
		}
		if v[j].Hi > hi {
			rest[n] = Range{Lo: hi, Hi: v[j].Hi}
			n++
		}
		j++
	}
	*s = slices.Replace(v, i, j, rest[:n]...)
}

// first is the smallest number that is no member.
func (s spans) first() uint64 {
	if len(s) > 0 && s[0].Lo == 0 {
		return s[0].Hi
	}
	return 0
}

// within reports whether s is a set, and has no member of limit or above.
func (s spans) within(limit uint64) bool {
	for i, r := range s {
		if r.Lo >= r.Hi || r.Hi > limit || i > 0 && r.Lo <= s[i-1].Hi {
			return false
		}
	}
	return true
}
