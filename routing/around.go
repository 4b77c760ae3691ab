package routing

import (
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Around reports whether a class reaches a node from here over links that carry
// it without the link to it from here.
func (t *Table) Around(class bundle.Class, n addr.Node) bool {
	seen := map[addr.Node]bool{t.self: true}
	next := []addr.Node{t.self}
	for len(next) > 0 {
		at := next[0]
		next = next[1:]
		a := t.adverts[at]
		if a == nil {
			continue
		}
		for _, nb := range a.Neighbors {
			switch {
			case !nb.Carries(class) || seen[nb.Node] || at == t.self && nb.Node == n:
			case nb.Node == n:
				return true
			default:
				seen[nb.Node] = true
				next = append(next, nb.Node)
			}
		}
	}
	return false
}
