package routing

import "github.com/farhop/farhop/routing/addr"

// Around reports whether a node can be reached from here over links that are up
// without the link to it from here.
func (t *Table) Around(n addr.Node) bool {
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
			case !nb.Up || seen[nb.Node] || at == t.self && nb.Node == n:
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
