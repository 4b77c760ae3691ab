package routing

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

const far = uint64(1) << 60

// mesh is a random mesh, with all distances for a class by Floyd-Warshall.
type mesh struct {
	class   bundle.Class
	adverts []*Advert
	dist    [][]uint64
	up      [][]uint64 // cost of links that are up and carry the class; far: none
}

// randomMesh has some links that bar bulk, and some that bar telemetry.
func randomMesh(r *rand.Rand, class bundle.Class) *mesh {
	n := 3 + r.IntN(14)
	m := &mesh{class: class}
	for i := range n {
		m.adverts = append(m.adverts, &Advert{Node: node(i), Seq: 1})
		m.dist, m.up = append(m.dist, make([]uint64, n)), append(m.up, make([]uint64, n))
		for j := range n {
			m.dist[i][j], m.up[i][j] = far, far
		}
		m.dist[i][i] = 0
	}
	add := func(i, j int, cost uint32, up bool) {
		var bars bundle.Classes
		if r.IntN(5) == 0 {
			bars = bars.With(bundle.Bulk)
		}
		if r.IntN(9) == 0 {
			bars = bars.With(bundle.Telemetry)
		}
		m.adverts[i].Neighbors = append(m.adverts[i].Neighbors, Neighbor{node(j), cost, up, bars})
		if m.dist[i][j] = uint64(cost); up && !bars.Has(class) {
			m.up[i][j] = uint64(cost)
		} else {
			m.dist[i][j] += DownCost
		}
	}
	for i := range n {
		for j := range i {
			if r.IntN(n) > 3 {
				continue
			}
			cost, up := uint32(1+r.IntN(6)), r.IntN(8) > 0
			add(i, j, cost, up)
			if r.IntN(6) == 0 { // the other end sees it otherwise
				cost, up = uint32(1+r.IntN(6)), r.IntN(2) > 0
			}
			add(j, i, cost, up)
		}
	}
	for k := range n {
		for i := range n {
			for j := range n {
				m.dist[i][j] = min(m.dist[i][j], m.dist[i][k]+m.dist[k][j])
			}
		}
	}
	return m
}

func (m *mesh) table(self int) *Table {
	t := NewTable(node(self))
	for _, a := range m.adverts {
		t.Apply(a)
	}
	return t
}

func number(n addr.Node) int {
	var i int
	fmt.Sscanf(n.String(), "n%d", &i)
	return i
}

// allowed reports whether RFC 5286 lets s send by n what is for d.
func (m *mesh) allowed(s, n, d int) bool {
	return m.up[s][n] < far && m.up[s][n]+m.dist[n][d] < DownCost && m.dist[n][d] < m.dist[n][s]+m.dist[s][d]
}

// TestAlternatesAgainstOracle: there is an alternate whenever a neighbour
// satisfies the condition, it satisfies it, and what is sent by it arrives and
// never comes back, while all others still forward as before.
func TestAlternatesAgainstOracle(t *testing.T) {
	for _, class := range []bundle.Class{bundle.Control, bundle.Alarm, bundle.Telemetry, bundle.Bulk} {
		t.Run(class.String(), func(t *testing.T) { againstOracle(t, class) })
	}
}

func againstOracle(t *testing.T, class bundle.Class) {
	found, without := 0, 0
	for seed := range uint64(300) {
		m := randomMesh(rand.New(rand.NewPCG(seed, 5)), class)
		n := len(m.adverts)
		tables := make([]*Table, n)
		for i := range n {
			tables[i] = m.table(i)
		}
		for s := range n {
			tab := m.table(s)
			tab.Prepare()
			if len(tab.candidates(class)) == maxAlternates {
				continue // it does not look at all
			}
			for d := range n {
				p := tab.ClassPath(class, node(d))
				if d != s && p.Cost != min(m.dist[s][d], far)%far {
					t.Fatalf("seed %d: the path of %d to %d is %+v, the oracle's costs %d", seed, s, d, p, m.dist[s][d])
				}
				if d == s || !p.Up() {
					continue
				}
				want := false
				for k := range n {
					want = want || node(k) != p.Hop && k != s && m.allowed(s, k, d)
				}
				alt := tab.Alternate(class, node(d))
				if want == alt.Hop.IsZero() {
					t.Fatalf("seed %d: alternate of %d to %d is %+v, want one: %v", seed, s, d, alt, want)
				}
				if !want {
					without++
					continue
				}
				found++
				if k := number(alt.Hop); !m.allowed(s, k, d) || alt.Hop == p.Hop || alt.Cost != m.up[s][k]+m.dist[k][d] {
					t.Fatalf("seed %d: alternate of %d to %d is %+v beside %+v", seed, s, d, alt, p)
				}
				m.walk(t, tables, s, d, alt)
			}
		}
	}
	if found < 1000 || without < 1000 {
		t.Errorf("%d alternates and %d times none: the meshes are too kind", found, without)
	}
}

// walk follows the alternate hop by hop.
func (m *mesh) walk(t *testing.T, tables []*Table, s, d int, alt Path) {
	t.Helper()
	at := number(alt.Hop)
	for range len(tables) {
		if at == d {
			return
		}
		if at == s {
			break
		}
		at = number(tables[at].ClassPath(m.class, node(d)).Hop)
	}
	t.Fatalf("what %d sends to %d by %v loops", s, d, alt.Hop)
}

// TestAlternatesPreferAnotherNeighbour: a silent neighbour may be dead, so the
// way around it wins over a cheaper one by it.
func TestAlternatesPreferAnotherNeighbour(t *testing.T) {
	s, e, n, o, d := addr.MustNode("s"), addr.MustNode("e"), addr.MustNode("n"), addr.MustNode("o"), addr.MustNode("d")
	tab := NewTable(s)
	tab.Apply(&Advert{Node: s, Seq: 1, Neighbors: []Neighbor{{e, 1, true, 0}, {n, 2, true, 0}, {o, 9, true, 0}}})
	tab.Apply(&Advert{Node: e, Seq: 1, Neighbors: []Neighbor{{s, 1, true, 0}, {n, 1, true, 0}, {d, 1, true, 0}}})
	tab.Apply(&Advert{Node: n, Seq: 1, Neighbors: []Neighbor{{s, 2, true, 0}, {e, 1, true, 0}}})
	tab.Apply(&Advert{Node: o, Seq: 1, Neighbors: []Neighbor{{s, 9, true, 0}, {d, 3, true, 0}}})
	tab.Prepare()
	if p, a := tab.Path(d), tab.Alternate(bundle.Control, d); p.Hop != e || a.Hop != o || a.Cost != 12 || a.Hops != 2 {
		t.Errorf("path %+v, alternate %+v; want by e, and by o", p, a)
	}
	if a := tab.Alternate(bundle.Control, e); a.Hop != n {
		t.Errorf("alternate to e itself %+v, want by n", a)
	}
}

func TestFailOver(t *testing.T) {
	a, b, c, x := addr.MustNode("a"), addr.MustNode("b"), addr.MustNode("c"), addr.MustNode("x")
	links := func(up bool) []Neighbor { return []Neighbor{{b, 2, true, 0}, {c, 1, up, 0}} }
	tab := NewTable(a)
	tab.Apply(&Advert{Node: a, Seq: 1, Neighbors: links(true)})
	tab.Apply(&Advert{Node: b, Seq: 1, Neighbors: []Neighbor{{a, 2, true, 0}, {c, 2, true, 0}}})
	tab.Apply(&Advert{Node: c, Seq: 1, Neighbors: []Neighbor{{a, 1, true, 0}, {b, 2, true, 0}, {x, 1, true, 0}}})
	hop := func(when string, to, want addr.Node) {
		t.Helper()
		if p := tab.Path(to); p.Hop != want {
			t.Errorf("%s: to %v by %v, want by %v", when, to, p.Hop, want)
		}
	}
	tab.FailOver(c, bundle.AllClasses)
	hop("not prepared", c, c)
	tab.Prepare()
	tab.FailOver(c, bundle.AllClasses)
	hop("after the silence", c, b)
	hop("after the silence", x, b)
	tab.Apply(&Advert{Node: a, Seq: 2, Neighbors: links(false)})
	tab.Apply(&Advert{Node: c, Seq: 2, Neighbors: []Neighbor{{a, 1, false, 0}, {b, 2, true, 0}, {x, 1, true, 0}}})
	if tab.ways[0].alt.patched == nil {
		t.Error("what both ends say of the silent link ended the alternate")
	}
	tab.Converge()
	hop("converged", c, b)
	if p := tab.Path(c); p.Cost != 4 || tab.ways[0].alt.patched != nil {
		t.Errorf("converged to %+v", p)
	}
	tab.Prepare()
	tab.FailOver(b, bundle.AllClasses)
	hop("both are silent", c, b)
	tab.Apply(&Advert{Node: a, Seq: 3, Neighbors: links(true)})
	hop("healed", c, c)
	if tab.Prepared() {
		t.Error("alternates outlived the paths they were made for")
	}
}

// A link that carries alarms alone: the rest goes around, with other ways around
// when a neighbour falls silent, and nobody sends back what came.
func TestClassPaths(t *testing.T) {
	a, b, c := addr.MustNode("a"), addr.MustNode("b"), addr.MustNode("c")
	const bulk = bundle.Classes(1 << bundle.Bulk)
	var tabs []*Table
	tell := func(ad *Advert) {
		for _, tab := range tabs {
			tab.Apply(ad)
		}
	}
	tabs = []*Table{NewTable(a), NewTable(b), NewTable(c)}
	tell(&Advert{Node: a, Seq: 1, Neighbors: []Neighbor{{b, 1, true, bulk}, {c, 5, true, 0}}})
	tell(&Advert{Node: b, Seq: 1, Neighbors: []Neighbor{{a, 1, true, 0}, {c, 5, true, 0}}})
	tell(&Advert{Node: c, Seq: 1, Neighbors: []Neighbor{{a, 5, true, 0}, {b, 9, true, 0}}})
	hop := func(when string, of int, class bundle.Class, to, want addr.Node, up bool) {
		t.Helper()
		if p := tabs[of].ClassPath(class, to); p.Hop != want || p.Up() != up {
			t.Errorf("%s: %s of %d to %v by %v, up %v; want by %v, %v", when, class, of, to, p.Hop, p.Up(), want, up)
		}
	}
	hop("a bars bulk to b", 0, bundle.Bulk, b, c, true)
	hop("a bars bulk to b", 2, bundle.Bulk, b, b, true) // by a it would be barred
	hop("a bars bulk to b", 2, bundle.Alarm, b, a, true)
	hop("a bars bulk to b", 0, bundle.Alarm, b, b, true)
	hop("a bars bulk to b", 1, bundle.Bulk, a, a, true)
	if p := tabs[0].ClassPath(bundle.Telemetry, b); p != tabs[0].Path(b) {
		t.Errorf("telemetry goes by %v", p)
	}

	tell(&Advert{Node: a, Seq: 2, Neighbors: []Neighbor{{b, 1, true, 0}, {c, 5, true, 0}}})
	tell(&Advert{Node: c, Seq: 2, Neighbors: []Neighbor{{a, 5, true, 0}, {b, 5, true, 0}}})
	hop("nothing is barred", 0, bundle.Bulk, b, b, true)
	tabs[0].Prepare()
	tabs[0].FailOver(b, bulk) // of two links to b the one that took bulk is silent
	hop("before the mesh knows", 0, bundle.Bulk, b, c, true)
	hop("before the mesh knows", 0, bundle.Telemetry, b, b, true)
	tabs[0].Apply(&Advert{Node: a, Seq: 3, Neighbors: []Neighbor{{b, 7, true, bulk}, {c, 5, true, 0}}}) // the other one is slower
	if tabs[0].ways[bundle.Bulk].alt.patched == nil {
		t.Error("the news of the silent link ended its alternate")
	}
	hop("told", 0, bundle.Telemetry, b, b, true)
	tabs[0].Converge()
	hop("converged", 0, bundle.Bulk, b, c, true)

	tabs[0].Forget(b)
	tabs[0].Forget(a)
	if tabs[0].bars != [bundle.NumClasses]int{} {
		t.Errorf("forgotten links still bar: %v", tabs[0].bars)
	}
}
