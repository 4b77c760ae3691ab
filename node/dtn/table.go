package dtn

import (
	"cmp"
	"slices"

	"github.com/farhop/farhop/routing/addr"
)

// Table finds the peer through which an endpoint is reached.
type Table struct{ rows []tableRow }

type tableRow struct {
	pattern addr.Pattern
	peer    string
}

// NewTable makes the table of all peers' EIDs. The most specific pattern wins,
// then the order of peers.
func NewTable(peers []Peer) Table {
	var t Table
	for _, p := range peers {
		for _, e := range p.EIDs {
			t.rows = append(t.rows, tableRow{e, p.Name})
		}
	}
	slices.SortStableFunc(t.rows, func(a, b tableRow) int { return cmp.Compare(b.pattern.Weight(), a.pattern.Weight()) })
	return t
}

// Peer returns the name of the peer that serves e.
func (t Table) Peer(e addr.EID) (string, bool) {
	for _, r := range t.rows {
		if r.pattern.Match(e) {
			return r.peer, true
		}
	}
	return "", false
}

// Patterns returns the texts of all patterns, the most specific first: what a
// node advertises as reachable through its doors.
func (t Table) Patterns() []string {
	var out []string
	for _, r := range t.rows {
		out = append(out, r.pattern.String())
	}
	return out
}
