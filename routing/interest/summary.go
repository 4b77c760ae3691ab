package interest

import (
	"cmp"
	"slices"
	"strings"
)

// Summary returns a short sorted list of filters that matches at least every
// topic that filters match.
//
// Up to limit it is exact: only filters covered by another one are left out.
// Beyond, filters with a common prefix are replaced by "PREFIX/#", from the
// deepest level upwards and the largest groups first, so that what is matched
// in excess stays near what was asked for. The result is longer than limit in
// one case only: no filter can stand for two first levels that start with
// '$', so each of those keeps one. Filters that are not valid are left out; a
// limit below 1 is taken as 1.
func Summary(filters []string, limit int) []string {
	limit = max(limit, 1)
	out := minimal(filters)
	depth := 0
	for _, f := range out {
		depth = max(depth, strings.Count(f, "/"))
	}
	for ; depth > 0 && len(out) > limit; depth-- {
		out = aggregate(out, depth, len(out)-limit)
	}
	if len(out) > limit {
		if all := minimal(append(out, "#")); len(all) < len(out) {
			return all // not when it only widens the one that is left
		}
	}
	return out
}

// minimal returns the valid filters that no other one covers, sorted, once
// each.
func minimal(filters []string) []string {
	var t Trie[struct{}]
	for _, f := range filters {
		t.Add(canonical(f), struct{}{})
	}
	return slices.DeleteFunc(t.Filters(), func(f string) bool { return t.root.covered(f, f[0] != '$', false) })
}

// covered reports whether the trie below n holds a filter that covers filter,
// not counting that itself. It walks as match does, with a filter in the place
// of the topic; wider tells that some level of the path was wider than the
// filter's own, so that an equal rest counts.
func (n *node[V]) covered(filter string, wild, wider bool) bool {
	level, rest := split(filter)
	if level == "#" { // its twin "+/#" is never stored: see canonical
		return wider && n.multi != nil
	}
	if wild && n.multi != nil {
		return true
	}
	if wild && n.plus.covered(rest, wider || level != "+") {
		return true
	}
	return n.literal.get(level).covered(rest, wider)
}

func (b branch[V]) covered(rest string, wider bool) bool {
	switch {
	case b.leaf != nil:
		return coversRest(b.leaf.rest, rest, wider)
	case b.node == nil:
		return false
	case rest != "":
		return b.node.covered(rest[1:], true, wider)
	}
	return b.node.multi != nil || wider && b.node.here != nil
}

// coversRest reports whether a covers b, both from the end of a level on; of
// equal ones only if something before was wider.
func coversRest(a, b string, wider bool) bool {
	for {
		switch {
		case a == b:
			return wider
		case a == "/#":
			return true
		case a == "", b == "", b == "/#":
			return false
		}
		x, xRest := split(a[1:])
		y, yRest := split(b[1:])
		if x != "+" && x != y {
			return false
		}
		wider = wider || x != y
		a, b = xRest, yRest
	}
}

// aggregate replaces groups of filters that share their first depth levels by
// "PREFIX/#", largest group first, until surplus filters are gone.
func aggregate(filters []string, depth, surplus int) []string {
	type group struct {
		prefix string
		size   int
	}
	var groups []group
	index := make(map[string]int) // sorting by text does not keep equal prefixes together
	for _, f := range filters {
		p, ok := prefix(f, depth)
		if !ok {
			continue
		}
		if i, seen := index[p]; seen {
			groups[i].size++
			continue
		}
		index[p] = len(groups)
		groups = append(groups, group{p, 1})
	}
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.prefix, b.prefix))
	})
	out := slices.Clone(filters)
	for _, g := range groups {
		if surplus <= 0 || g.size < 2 {
			break
		}
		out = append(out, g.prefix+"/#")
		surplus -= g.size - 1
	}
	return minimal(out)
}

// prefix returns the first depth levels of a filter that has at least as
// many, not counting a final "#".
func prefix(filter string, depth int) (string, bool) {
	end := 0
	for i := range depth {
		level, _, more := strings.Cut(filter[end:], "/")
		if level == "#" {
			return "", false
		}
		end += len(level)
		if i == depth-1 {
			return filter[:end], true
		}
		if !more {
			return "", false
		}
		end++
	}
	return "", false
}
