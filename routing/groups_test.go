package routing

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/farhop/farhop/routing/interest"
)

// TestGroupsAgainstOracle applies adverts with random groups and compares with
// a search through the adverts.
func TestGroupsAgainstOracle(t *testing.T) {
	filters := []string{"$share/a/p/#", "$share/b/p/#", "$share/a/p/+/t", "$share/a/x", "$share/bad", "p/#", ""}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		tab := NewTable(node(0))
		for step := range 60 {
			a := &Advert{Node: node(r.IntN(5)), Seq: uint64(step + 1)}
			for _, f := range filters {
				if r.IntN(2) == 0 {
					a.Groups = append(a.Groups, GroupState{Filter: f, Online: r.IntN(2) == 0})
				}
			}
			tab.Apply(a)
			if r.IntN(10) == 0 {
				tab.Forget(node(1 + r.IntN(4)))
			}
			for _, topic := range []string{"p/1/t", "p", "x", "y"} {
				var got, want []string
				tab.Groups(topic, func(g *Group) {
					for _, h := range g.Holders {
						got = append(got, fmt.Sprint(g.Filter, h.Node, h.Online))
					}
				})
				for _, n := range tab.Nodes() {
					for _, s := range tab.Advert(n).Groups {
						if _, f, ok := interest.ParseShare(s.Filter); ok && n != node(0) && interest.Match(f, topic) {
							want = append(want, fmt.Sprint(s.Filter, n, s.Online))
						}
					}
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("seed %d: %s is for %v, want %v", seed, topic, got, want)
				}
			}
		}
	}
}
