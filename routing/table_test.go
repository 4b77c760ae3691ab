package routing

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

func node(i int) addr.Node { return addr.MustNode(fmt.Sprintf("n%02d", i)) }

func TestPathPrefersLiveLinks(t *testing.T) {
	a, b, c, d := addr.MustNode("a"), addr.MustNode("b"), addr.MustNode("c"), addr.MustNode("d")
	tab := NewTable(a)
	tab.Apply(&Advert{Node: a, Seq: 1, Neighbors: []Neighbor{{b, 10, true, 0}, {c, 10, true, 0}}})
	tab.Apply(&Advert{Node: b, Seq: 1, Neighbors: []Neighbor{{d, 10, false, 0}}})
	if p := tab.Path(d); p.Hop != b || p.Up() || p.Delay() != 20 {
		t.Errorf("with one dead link: %+v, want towards b, not up, 20 ms", p)
	}
	tab.Apply(&Advert{Node: c, Seq: 1, Neighbors: []Neighbor{{d, 1280, true, 0}}})
	if p := tab.Path(d); p.Hop != c || !p.Up() || p.Cost != 1290 {
		t.Errorf("with a live detour: %+v, want over c", p)
	}
	if newer, _ := tab.Apply(&Advert{Node: c, Seq: 1}); newer {
		t.Error("an advert of the same age replaced another")
	}
	if p := tab.Path(addr.MustNode("nowhere")); !p.Hop.IsZero() || p.Up() {
		t.Errorf("path to an unknown node: %+v", p)
	}
}

func TestRegionAndInterest(t *testing.T) {
	a, b, c := addr.MustNode("a"), addr.MustNode("b"), addr.MustNode("c")
	earth, moon := addr.MustRegion("earth/eu"), addr.MustRegion("moon")
	tab := NewTable(a)
	tab.Apply(&Advert{Node: a, Region: moon, Seq: 1, Neighbors: []Neighbor{{b, 5, true, 0}, {c, 9, true, 0}}})
	tab.Apply(&Advert{Node: b, Region: moon, Seq: 1, Interest: []string{"plant/#", "plant/+/temp"}})
	tab.Apply(&Advert{Node: c, Region: earth, Seq: 1, Interest: []string{"+/1/temp"}})
	if n, p := tab.RegionPath(bundle.Control, addr.MustRegion("earth")); n != c || p.Hop != c {
		t.Errorf("nearest node of earth is %v over %+v, want c", n, p)
	}
	if n, p := tab.RegionPath(bundle.Control, moon); n != a || p.Hop != a || p.Cost != 0 {
		t.Errorf("nearest node of moon is %v over %+v, want this node", n, p)
	}
	want := func(topic string, nodes ...addr.Node) {
		t.Helper()
		var got []addr.Node
		tab.Wants(topic, func(n addr.Node) { got = append(got, n) })
		if !slices.Equal(got, nodes) {
			t.Errorf("%s is wanted by %v, want %v", topic, got, nodes)
		}
	}
	want("plant/1/temp", b, c)
	want("ship/1/temp", c)
	if _, changed := tab.Apply(&Advert{Node: b, Region: moon, Seq: 2, Interest: []string{"x"}}); !changed {
		t.Error("a change of interest was not reported")
	}
	want("plant/1/temp", c)
}

// TestPathsAgainstOracle compares with Bellman-Ford on random meshes.
func TestPathsAgainstOracle(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		n := 2 + r.IntN(25)
		tab := NewTable(node(0))
		links := map[[2]int]uint64{}
		for i := range n {
			a := &Advert{Node: node(i), Seq: 1}
			for range r.IntN(5) {
				j := r.IntN(n)
				if _, dup := links[[2]int{i, j}]; dup || j == i {
					continue
				}
				nb := Neighbor{node(j), uint32(1 + r.IntN(50)), r.IntN(3) > 0, 0}
				a.Neighbors = append(a.Neighbors, nb)
				links[[2]int{i, j}] = uint64(nb.Cost)
				if !nb.Up {
					links[[2]int{i, j}] += DownCost
				}
			}
			tab.Apply(a)
		}
		dist := map[int]uint64{0: 0}
		for range n {
			for l, cost := range links {
				if d, ok := dist[l[0]]; ok {
					if old, ok := dist[l[1]]; !ok || d+cost < old {
						dist[l[1]] = d + cost
					}
				}
			}
		}
		for i := 1; i < n; i++ {
			p := tab.Path(node(i))
			want, ok := dist[i]
			if ok == p.Hop.IsZero() || p.Cost != want {
				t.Fatalf("seed %d: path to %d costs %d over %v, want %d (reachable %v)", seed, i, p.Cost, p.Hop, want, ok)
			}
		}
	}
}
