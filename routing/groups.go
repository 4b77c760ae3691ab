package routing

import (
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
)

// Group is a shared subscription as the other nodes have members of it.
type Group struct {
	Filter  string   // "$share/GROUP/FILTER"
	Holders []Holder // by name of the node, never empty
}

// Holder is a node with members of a group.
type Holder struct {
	Node   addr.Node
	Online bool // one of them is connected
}

// groups are the shared subscriptions of the other nodes.
type groups struct {
	byFilter map[string]*Group
	trie     interest.Trie[*Group] // by what they subscribe to
}

// set replaces what a node told of its groups.
func (g *groups) set(n addr.Node, old, now []GroupState) {
	for _, s := range old {
		if !slices.ContainsFunc(now, func(o GroupState) bool { return o.Filter == s.Filter }) {
			g.remove(n, s.Filter)
		}
	}
	for _, s := range now {
		g.put(n, s)
	}
}

func (g *groups) put(n addr.Node, s GroupState) {
	_, topics, ok := interest.ParseShare(s.Filter)
	if !ok || len(s.Filter) > MaxGroupName || interest.ValidFilter(s.Filter) != nil {
		return // of a later version, perhaps
	}
	e := g.byFilter[s.Filter]
	if e == nil {
		e = &Group{Filter: s.Filter}
		if g.byFilter == nil {
			g.byFilter = map[string]*Group{}
		}
		g.byFilter[s.Filter] = e
		g.trie.Add(topics, e)
	}
	at, found := e.find(n)
	if !found {
		e.Holders = slices.Insert(e.Holders, at, Holder{Node: n})
	}
	e.Holders[at].Online = s.Online
}

func (g *groups) remove(n addr.Node, filter string) {
	e := g.byFilter[filter]
	if e == nil {
		return
	}
	if at, found := e.find(n); found {
		e.Holders = slices.Delete(e.Holders, at, at+1)
	}
	if len(e.Holders) == 0 {
		_, topics, _ := interest.ParseShare(filter)
		g.trie.Remove(topics, e)
		delete(g.byFilter, filter)
	}
}

func (e *Group) find(n addr.Node) (int, bool) {
	return slices.BinarySearchFunc(e.Holders, n, func(h Holder, n addr.Node) int { return h.Node.Compare(n) })
}

// HasGroups reports whether any other node has members of any group.
func (t *Table) HasGroups() bool { return len(t.groups.byFilter) > 0 }

// Group returns the other nodes with members of a shared subscription, nil
// when there are none. It must not be changed.
func (t *Table) Group(filter string) *Group { return t.groups.byFilter[filter] }

// Groups calls visit for every shared subscription that matches a topic and
// has members at another node.
func (t *Table) Groups(topic string, visit func(*Group)) { t.groups.trie.Match(topic, visit) }
