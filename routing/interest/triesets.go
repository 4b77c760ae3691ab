package interest

import "slices"

// children are what lies below the levels of a node that are no wildcards.
// Most nodes have one at most, and a map for it would cost more than all the
// rest of the node.
type children[V comparable] struct {
	level string // of only
	only  branch[V]
	more  map[string]branch[V] // instead of only
}

func (c *children[V]) empty() bool { return c.only.none() && len(c.more) == 0 }

func (c *children[V]) len() int {
	if !c.only.none() {
		return 1
	}
	return len(c.more)
}

func (c *children[V]) get(level string) branch[V] {
	if c.more != nil {
		return c.more[level]
	}
	if c.level == level {
		return c.only
	}
	return branch[V]{}
}

// put keeps level, which is a part of a filter, and so pins that.
func (c *children[V]) put(level string, b branch[V]) {
	switch {
	case c.more != nil:
		c.more[level] = b
	case c.only.none(), c.level == level:
		c.level, c.only = level, b
	default:
		c.more = map[string]branch[V]{c.level: c.only, level: b}
		c.level, c.only = "", branch[V]{}
	}
}

func (c *children[V]) remove(level string) {
	if c.more == nil {
		c.level, c.only = "", branch[V]{}
		return
	}
	if delete(c.more, level); len(c.more) == 0 {
		c.more = nil
	}
}

// each visits all, in no order.
func (c *children[V]) each(visit func(string, branch[V])) {
	if !c.only.none() {
		visit(c.level, c.only)
	}
	for level, b := range c.more {
		visit(level, b)
	}
}

// bag is a small ordered set, never empty where it is kept: nearly always of
// one value, which needs nothing else.
type bag[V comparable] struct {
	one  V
	many *many[V] // two or more, instead of one
}

// many finds up to smallSet values by scanning; an index is kept for more.
type many[V comparable] struct {
	list  []V
	index map[V]int
}

const smallSet = 16

// addTo adds to a bag that may not be there yet.
func addTo[V comparable](to **bag[V], v V) bool {
	if *to != nil {
		return (*to).add(v)
	}
	*to = &bag[V]{one: v}
	return true
}

// removeFrom removes from a bag, and the bag with its last value.
func removeFrom[V comparable](from **bag[V], v V) bool {
	if *from == nil {
		return false
	}
	gone, last := (*from).remove(v)
	if last {
		*from = nil
	}
	return gone
}

func (b *bag[V]) add(v V) bool {
	switch {
	case b.many != nil:
		return b.many.add(v)
	case b.one == v:
		return false
	}
	b.many = &many[V]{list: []V{b.one, v}}
	var none V
	b.one = none // release what it points to
	return true
}

// remove reports whether v was there, and whether it was the last one: then
// the bag is to be dropped.
func (b *bag[V]) remove(v V) (gone, last bool) {
	if b.many == nil {
		return b.one == v, b.one == v
	}
	if gone = b.many.remove(v); len(b.many.list) == 1 {
		b.one, b.many = b.many.list[0], nil
	}
	return gone, false
}

// each visits nothing of a bag that is not there.
func (b *bag[V]) each(visit func(V)) {
	switch {
	case b == nil:
	case b.many == nil:
		visit(b.one)
	default:
		for _, v := range b.many.list {
			visit(v)
		}
	}
}

func (s *many[V]) find(v V) int {
	if s.index == nil {
		return slices.Index(s.list, v)
	}
	if i, ok := s.index[v]; ok {
		return i
	}
	return -1
}

func (s *many[V]) add(v V) bool {
	if s.find(v) >= 0 {
		return false
	}
	s.list = append(s.list, v)
	switch {
	case s.index != nil:
		s.index[v] = len(s.list) - 1
	case len(s.list) > smallSet:
		s.index = make(map[V]int, 2*smallSet)
		for i, v := range s.list {
			s.index[v] = i
		}
	}
	return true
}

// remove moves the last value into the gap.
func (s *many[V]) remove(v V) bool {
	i := s.find(v)
	if i < 0 {
		return false
	}
	last := len(s.list) - 1
	s.list[i] = s.list[last]
	if s.index != nil {
		s.index[s.list[i]] = i
		delete(s.index, v)
	}
	var zero V
	s.list[last] = zero // release what it points to
	if s.list = s.list[:last]; last <= smallSet/2 {
		s.index = nil
	}
	return true
}
