package routing

import (
	"testing"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// TestAround: the link to the node itself, links that are down and ways back
// through here do not count.
func TestAround(t *testing.T) {
	s, a, b, c := addr.MustNode("s"), addr.MustNode("a"), addr.MustNode("b"), addr.MustNode("c")
	tab := NewTable(s)
	tab.Apply(&Advert{Node: s, Seq: 1, Neighbors: []Neighbor{{a, 1, true, 0}, {b, 1, true, 0}, {c, 1, false, 0}}})
	tab.Apply(&Advert{Node: a, Seq: 1, Neighbors: []Neighbor{{s, 1, true, 0}, {c, 1, true, 0}}})
	tab.Apply(&Advert{Node: b, Seq: 1, Neighbors: []Neighbor{{s, 1, true, 0}, {a, 1, false, 0}}})
	tab.Apply(&Advert{Node: c, Seq: 1, Neighbors: []Neighbor{{s, 1, false, 0}, {b, 1, true, 0}}})
	for n, want := range map[addr.Node]bool{a: false, b: true, c: true, addr.MustNode("x"): false} {
		if got := tab.Around(bundle.Bulk, n); got != want {
			t.Errorf("around to %v: %v, want %v", n, got, want)
		}
	}
	tab.Apply(&Advert{Node: a, Seq: 2, Neighbors: []Neighbor{{s, 1, true, 0}, {c, 1, true, 1 << bundle.Bulk}}})
	for class, want := range map[bundle.Class]bool{bundle.Bulk: false, bundle.Alarm: true} {
		if got := tab.Around(class, c); got != want {
			t.Errorf("around for %v: %v, want %v", class, got, want)
		}
	}
}
