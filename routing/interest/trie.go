package interest

import (
	"slices"
	"strings"
)

// Trie maps topic filters to values, usually subscribers. The zero Trie is
// empty and ready. It is not safe for concurrent use, and it must not be
// changed from within a visit. It keeps parts of the filters it is given.
//
// What is visited, and in which order, is a function of the calls made
// before; no map order shows.
type Trie[V comparable] struct {
	root node[V]
	size int
}

// node is one level in which filters part. One that ends with it is in here,
// one whose next level is "#" in multi.
type node[V comparable] struct {
	literal children[V]
	plus    branch[V]
	here    *bag[V]
	multi   *bag[V]
}

// branch is what lies below a level: a node, or, as long as all filters there
// are one and the same, a leaf. Most filters of a crowd share their first
// levels and no others, and nodes for the rest would cost more than they do.
type branch[V comparable] struct {
	node *node[V]
	leaf *leaf[V]
}

// leaf is one filter from some level on. rest is what follows that level, with
// its '/': "", or "/b/c".
type leaf[V comparable] struct {
	rest string
	bag[V]
}

func (b branch[V]) none() bool { return b.node == nil && b.leaf == nil }

func (n *node[V]) empty() bool {
	return n.literal.empty() && n.plus.none() && n.here == nil && n.multi == nil
}

// split cuts the first level off a filter or topic; rest keeps its '/'.
func split(s string) (level, rest string) {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// Add stores v under filter. It returns false when v is stored there already
// and when filter is not valid (see ValidFilter). A "$share/" filter is
// stored as written and matches nothing.
func (t *Trie[V]) Add(filter string, v V) bool {
	if ValidFilter(filter) != nil || !t.root.add(filter, v) {
		return false
	}
	t.size++
	return true
}

func (n *node[V]) add(filter string, v V) bool {
	for {
		level, rest := split(filter)
		if level == "#" {
			return addTo(&n.multi, v)
		}
		b := n.get(level)
		switch {
		case b.none():
			n.put(level, branch[V]{leaf: &leaf[V]{rest: rest, bag: bag[V]{one: v}}})
			return true
		case b.leaf != nil && b.leaf.rest == rest:
			return b.leaf.add(v)
		case b.leaf != nil:
			b = branch[V]{node: b.leaf.open()}
			n.put(level, b)
		}
		if rest == "" {
			return addTo(&b.node.here, v)
		}
		n, filter = b.node, rest[1:]
	}
}

// open returns a node with what the leaf holds.
func (l *leaf[V]) open() *node[V] {
	n := new(node[V])
	switch l.rest {
	case "":
		n.here = &l.bag
	case "/#":
		n.multi = &l.bag
	default:
		level, rest := split(l.rest[1:])
		l.rest = rest
		n.put(level, branch[V]{leaf: l})
	}
	return n
}

func (n *node[V]) get(level string) branch[V] {
	if level == "+" {
		return n.plus
	}
	return n.literal.get(level)
}

// put replaces what lies below a level; nothing removes it.
func (n *node[V]) put(level string, b branch[V]) {
	switch {
	case level == "+":
		n.plus = b
	case b.none():
		n.literal.remove(level)
	default:
		n.literal.put(level, b)
	}
}

// Remove takes v from filter and prunes what it leaves empty. It returns
// false when v was not stored there.
func (t *Trie[V]) Remove(filter string, v V) bool {
	if filter == "" || !t.root.remove(filter, v) {
		return false
	}
	t.size--
	return true
}

func (n *node[V]) remove(filter string, v V) bool {
	level, rest := split(filter)
	if level == "#" {
		return rest == "" && removeFrom(&n.multi, v)
	}
	b := n.get(level)
	switch {
	case b.leaf != nil:
		if b.leaf.rest != rest {
			return false
		}
		gone, last := b.leaf.remove(v)
		if last {
			n.put(level, branch[V]{})
		}
		return gone
	case b.node == nil:
		return false
	case rest == "":
		if !removeFrom(&b.node.here, v) {
			return false
		}
	default:
		if !b.node.remove(rest[1:], v) {
			return false
		}
	}
	if b.node.empty() {
		n.put(level, branch[V]{})
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
	level, rest := split(topic)
	if wild {
		n.multi.each(visit)
	}
	n.literal.get(level).match(rest, visit)
	if wild {
		n.plus.match(rest, visit)
	}
}

func (b branch[V]) match(rest string, visit func(V)) {
	switch {
	case b.leaf != nil:
		if matchRest(b.leaf.rest, rest) {
			b.leaf.each(visit)
		}
	case b.node == nil:
	case rest != "":
		b.node.match(rest[1:], true, visit)
	default:
		b.node.here.each(visit)
		b.node.multi.each(visit) // "a/#" matches "a"
	}
}

// matchRest is Match from the end of a level on.
func matchRest(filter, topic string) bool {
	for {
		switch {
		case filter == topic: // as most are, with what devices subscribe to
			return true
		case filter == "/#": // "a/#" matches "a"
			return true
		case filter == "", topic == "":
			return false
		}
		f, fRest := split(filter[1:])
		t, tRest := split(topic[1:])
		if f != "+" && f != t {
			return false
		}
		filter, topic = fRest, tRest
	}
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
	if n.multi != nil {
		*out = append(*out, prefix+"#")
	}
	n.plus.filters(prefix+"+", out)
	n.literal.each(func(level string, b branch[V]) { b.filters(prefix+level, out) }) // the caller sorts
}

func (b branch[V]) filters(path string, out *[]string) {
	if b.leaf != nil {
		*out = append(*out, path+b.leaf.rest)
		return
	}
	if b.node == nil {
		return
	}
	if b.node.here != nil {
		*out = append(*out, path)
	}
	b.node.filters(path+"/", out)
}
