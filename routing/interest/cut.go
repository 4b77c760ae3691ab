package interest

import (
	"cmp"
	"container/heap"
)

// Summary is Summary of the trie's filters, but of those that begin with '$',
// in time that limit bounds and not their number: a node sums up after every
// change, and may have a million of them.
//
// What parts early is told apart first, and of what parts equally early the
// smaller ones: filters below a level that has more of them than there is room
// for become "PREFIX/#".
func (t *Trie[V]) Summary(limit int) []string {
	limit = max(limit, 1)
	if size := t.root.size(); t.root.multi != nil || size > limit {
		return []string{"#"}
	}
	c := cut[V]{limit: limit}
	c.expand("", 0, &t.root)
	for c.waiting.Len() > 0 {
		p := heap.Pop(&c.waiting).(part[V])
		if n := len(c.out) + c.waiting.Len() + p.size; p.node.multi != nil || n > limit {
			c.out = append(c.out, p.prefix+"/#")
			continue
		}
		c.expand(p.prefix+"/", p.depth, p.node)
	}
	return Summary(c.out, limit)
}

// size is how many parts lie below n.
func (n *node[V]) size() int {
	if n.plus.none() {
		return n.literal.len()
	}
	return n.literal.len() + 1
}

// cut is a part of a trie from the root downwards.
type cut[V comparable] struct {
	limit   int
	out     []string // filters
	waiting parts[V]
}

// part is a node that may be told apart, or stand as "PREFIX/#".
type part[V comparable] struct {
	prefix      string
	node        *node[V]
	depth, size int
}

// expand tells what lies below a node apart; prefix ends in '/' but at the root.
func (c *cut[V]) expand(prefix string, depth int, n *node[V]) {
	add := func(level string, b branch[V]) {
		switch {
		case prefix == "" && level != "" && level[0] == '$':
		case b.leaf != nil:
			c.out = append(c.out, prefix+level+b.leaf.rest)
		case b.node != nil:
			if b.node.here != nil {
				c.out = append(c.out, prefix+level)
			}
			heap.Push(&c.waiting, part[V]{prefix + level, b.node, depth + 1, b.node.size()})
		}
	}
	add("+", n.plus)
	n.literal.each(add)
}

// parts is a heap: the next one to be told apart first, the same one whatever
// the order they came in.
type parts[V comparable] []part[V]

func (p parts[V]) Len() int      { return len(p) }
func (p parts[V]) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p parts[V]) Less(i, j int) bool {
	a, b := &p[i], &p[j]
	return cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(a.size, b.size), cmp.Compare(a.prefix, b.prefix)) < 0
}

func (p *parts[V]) Push(x any) { *p = append(*p, x.(part[V])) }

func (p *parts[V]) Pop() any {
	old := *p
	x := old[len(old)-1]
	*p = old[:len(old)-1]
	return x
}
