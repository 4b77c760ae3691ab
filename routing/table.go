package routing

import (
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
)

// DownCost is added for every link of a path that is down now, or does not
// carry the class. A path over links that are up is always preferred; without
// one, bundles still move as near to their destination as live links carry them.
const DownCost = 1 << 32

// Path is the way to a node as seen from here.
type Path struct {
	Hop  addr.Node // neighbour to hand to; zero when there is no path
	Cost uint64    // sum of one-way delays in ms, plus DownCost per dead link
	Hops int
}

// Up reports whether every link of the path is up.
func (p Path) Up() bool { return !p.Hop.IsZero() && p.Cost < DownCost }

// Delay returns the light time of the path in ms, dead links not counted.
func (p Path) Delay() uint64 { return p.Cost % DownCost }

// Table holds the newest advert of every node and the paths that follow. It
// is not safe for concurrent use.
type Table struct {
	self    addr.Node
	adverts map[addr.Node]*Advert
	nodes   []addr.Node // sorted keys of adverts
	trie    interest.Trie[addr.Node]
	groups  groups
	ways    [bundle.NumClasses]ways // of classes that all links carry, those of control
	bars    [bundle.NumClasses]int  // how many links bar the class
}

// NewTable returns the table of one node, which knows only itself.
func NewTable(self addr.Node) *Table {
	return &Table{self: self, adverts: map[addr.Node]*Advert{}}
}

// Apply takes in an advert if it is newer than what is known of its node. It
// reports whether it was, and whether its interest, or its part in shared
// subscriptions, differs from before.
func (t *Table) Apply(a *Advert) (newer, interestChanged bool) {
	old := t.adverts[a.Node]
	if old != nil && old.Seq >= a.Seq {
		return false, false
	}
	if old == nil {
		at, _ := slices.BinarySearchFunc(t.nodes, a.Node, addr.Node.Compare)
		t.nodes = slices.Insert(t.nodes, at, a.Node)
		old = &Advert{}
	}
	t.adverts[a.Node] = a
	if !slices.Equal(old.Neighbors, a.Neighbors) || old.Region != a.Region {
		t.count(old, -1)
		t.count(a, 1)
		t.moved(old, a)
	}
	if a.Node != t.self && !slices.Equal(old.Interest, a.Interest) {
		interestChanged = true
		for _, f := range old.Interest {
			t.trie.Remove(f, a.Node)
		}
		for _, f := range a.Interest {
			t.trie.Add(f, a.Node)
		}
	}
	if a.Node != t.self && !slices.Equal(old.Groups, a.Groups) {
		interestChanged = true
		t.groups.set(a.Node, old.Groups, a.Groups)
	}
	return true, interestChanged
}

// Forget drops the advert of a node, so that any other is news.
func (t *Table) Forget(n addr.Node) {
	old := t.adverts[n]
	if old == nil {
		return
	}
	for _, f := range old.Interest {
		t.trie.Remove(f, n)
	}
	t.groups.set(n, old.Groups, nil)
	t.count(old, -1)
	delete(t.adverts, n)
	t.nodes = slices.DeleteFunc(t.nodes, func(o addr.Node) bool { return o == n })
	t.forgetPaths()
}

// Advert returns the newest advert of a node, nil when there is none. It must
// not be changed.
func (t *Table) Advert(n addr.Node) *Advert { return t.adverts[n] }

// Nodes returns all known nodes, this one among them, by name. The slice must
// not be changed.
func (t *Table) Nodes() []addr.Node { return t.nodes }

// Path returns the way to a node over links of any class. Its Hop is zero when
// none is known.
func (t *Table) Path(to addr.Node) Path { return t.ClassPath(bundle.Control, to) }

// ClassPath returns the way that a class takes to a node.
func (t *Table) ClassPath(class bundle.Class, to addr.Node) Path { return t.computed(class).paths[to] }

// RegionPath returns the way that a class takes to the nearest node of a
// region, and that node. A node of the region reaches it with a path of no hops.
func (t *Table) RegionPath(class bundle.Class, r addr.Region) (addr.Node, Path) {
	var best addr.Node
	var path Path
	for _, n := range t.nodes {
		if !r.Contains(t.adverts[n].Region) {
			continue
		}
		if n == t.self {
			return n, Path{Hop: n}
		}
		if p := t.ClassPath(class, n); !p.Hop.IsZero() && (best.IsZero() || p.Cost < path.Cost) {
			best, path = n, p
		}
	}
	return best, path
}

// Wants calls visit once for every other node with a subscriber of topic, by
// name.
func (t *Table) Wants(topic string, visit func(addr.Node)) {
	var some [16]addr.Node
	nodes := some[:0]
	t.trie.Match(topic, func(n addr.Node) { nodes = append(nodes, n) })
	slices.SortFunc(nodes, addr.Node.Compare)
	for _, n := range slices.Compact(nodes) {
		visit(n)
	}
}
