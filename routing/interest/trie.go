package interest

import (
	"slices"
	"strings"
)

// Trie maps topic filters to values, usually subscribers. The zero Trie is
// empty and ready. It is not safe for concurrent use, and it must not be
// changed from within a visit.
//
// What is visited, and in which order, is a function of the calls made
// before; no map order shows.
type Trie[V comparable] struct {
	root node[V]
	size int
}

// node is one level. A filter ends in here, in multi when its last level is
// "#" (which thereby needs no node of its own).
type node[V comparable] struct {
	literal children[V]
	plus    *node[V]
	here    set[V]
	multi   set[V]
}

func (n *node[V]) empty() bool {
	return n.literal.empty() && n.plus == nil && len(n.here.list) == 0 && len(n.multi.list) == 0
}

// Add stores v under filter. It returns false when v is stored there already
// and when filter is not valid (see ValidFilter). A "$share/" filter is
// stored as written and matches nothing.
func (t *Trie[V]) Add(filter string, v V) bool {
	if ValidFilter(filter) != nil {
		return false
	}
	n, rest, more := &t.root, filter, true
	for more {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if level == "#" {
			return t.added(n.multi.add(v))
		}
		n = n.descend(level)
	}
	return t.added(n.here.add(v))
}

func (t *Trie[V]) added(ok bool) bool {
	if ok {
		t.size++
	}
	return ok
}

// descend returns the child of n for one level, made when missing.
func (n *node[V]) descend(level string) *node[V] {
	if level == "+" {
		if n.plus == nil {
			n.plus = new(node[V])
		}
		return n.plus
	}
	c := n.literal.get(level)
	if c == nil {
		c = new(node[V])
		n.literal.put(strings.Clone(level), c) // a clone: do not pin the whole filter
	}
	return c
}

// Remove takes v from filter and prunes what it leaves empty. It returns
// false when v was not stored there.
func (t *Trie[V]) Remove(filter string, v V) bool {
	if filter == "" || !t.root.remove(filter, true, v) {
		return false
	}
	t.size--
	return true
}

func (n *node[V]) remove(rest string, more bool, v V) bool {
	if !more {
		return n.here.remove(v)
	}
	level, rest, more := strings.Cut(rest, "/")
	switch level {
	case "#":
		return !more && n.multi.remove(v)
	case "+":
		if n.plus == nil || !n.plus.remove(rest, more, v) {
			return false
		}
		if n.plus.empty() {
			n.plus = nil
		}
	default:
		c := n.literal.get(level)
		if c == nil || !c.remove(rest, more, v) {
			return false
		}
		if c.empty() {
			n.literal.remove(level)
		}
	}
	return true
}

// Match calls visit for each value whose filter matches topic: once per
// matching filter, so a value under "a/+" and "a/#" is visited twice for
// "a/b" and the caller dedups if that matters. It allocates nothing. The
// topic must be valid; of an invalid one nothing useful is visited.
func (t *Trie[V]) Match(topic string, visit func(V)) {
	if topic == "" {
		return
	}
	t.root.match(topic, topic[0] != '$', visit)
}

// match visits what lies at n and below. wild is false only at the root of a
// '$' topic (MQTT 5, 4.7.2).
func (n *node[V]) match(topic string, wild bool, visit func(V)) {
	level, rest, more := strings.Cut(topic, "/")
	if wild {
		n.multi.each(visit)
	}
	if c := n.literal.get(level); c != nil {
		c.next(rest, more, visit)
	}
	if wild && n.plus != nil {
		n.plus.next(rest, more, visit)
	}
}

func (n *node[V]) next(rest string, more bool, visit func(V)) {
	if more {
		n.match(rest, true, visit)
		return
	}
	n.here.each(visit)
	n.multi.each(visit) // "a/#" matches "a"
}

// Len returns the number of (filter, value) pairs.
func (t *Trie[V]) Len() int { return t.size }

// Filters returns each filter that has a value, once, sorted.
func (t *Trie[V]) Filters() []string {
	var out []string
	t.root.filters("", &out)
	slices.Sort(out)
	return out
}

// filters appends the filters below n; prefix ends in '/' except at the root.
func (n *node[V]) filters(prefix string, out *[]string) {
	if len(n.multi.list) > 0 {
		*out = append(*out, prefix+"#")
	}
	child := func(level string, c *node[V]) {
		if len(c.here.list) > 0 {
			*out = append(*out, prefix+level)
		}
		c.filters(prefix+level+"/", out)
	}
	if n.plus != nil {
		child("+", n.plus)
	}
	if n.literal.only != nil {
		child(n.literal.level, n.literal.only)
	}
	for level, c := range n.literal.more { // the caller sorts
		child(level, c)
	}
}

// children are the nodes below one by their level. Most nodes have one at
// most, and a map for it would cost more than all the rest of the node.
type children[V comparable] struct {
	level string // of only
	only  *node[V]
	more  map[string]*node[V] // instead of only
}

func (c *children[V]) empty() bool { return c.only == nil && len(c.more) == 0 }

func (c *children[V]) get(level string) *node[V] {
	if c.only != nil && c.level == level {
		return c.only
	}
	return c.more[level]
}

func (c *children[V]) put(level string, n *node[V]) {
	switch {
	case c.more != nil:
		c.more[level] = n
	case c.only != nil:
		c.more = map[string]*node[V]{c.level: c.only, level: n}
		c.level, c.only = "", nil
	default:
		c.level, c.only = level, n
	}
}

func (c *children[V]) remove(level string) {
	if c.only != nil {
		c.level, c.only = "", nil
		return
	}
	if delete(c.more, level); len(c.more) == 0 {
		c.more = nil
	}
}

// set is a small ordered set. Up to smallSet values are found by scanning; an
// index is kept for more.
type set[V comparable] struct {
	list  []V
	index map[V]int
}

const smallSet = 16

func (s *set[V]) find(v V) int {
	if s.index == nil {
		return slices.Index(s.list, v)
	}
	if i, ok := s.index[v]; ok {
		return i
	}
	return -1
}

func (s *set[V]) add(v V) bool {
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
func (s *set[V]) remove(v V) bool {
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
	if last == 0 {
		s.list = nil
	}
	return true
}

func (s *set[V]) each(visit func(V)) {
	for _, v := range s.list {
		visit(v)
	}
}
