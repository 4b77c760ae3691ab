package routing

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/farhop/farhop/routing/addr"
)

const far = uint64(1) << 60

// mesh is a random mesh, with all distances by Floyd-Warshall.
type mesh struct {
	adverts []*Advert
	dist    [][]uint64
	up      [][]uint64 // cost of links that are up; far: none
}

func randomMesh(r *rand.Rand) *mesh {
	n := 3 + r.IntN(14)
	m := &mesh{}
	for i := range n {
		m.adverts = append(m.adverts, &Advert{Node: node(i), Seq: 1})
		m.dist, m.up = append(m.dist, make([]uint64, n)), append(m.up, make([]uint64, n))
		for j := range n {
			m.dist[i][j], m.up[i][j] = far, far
		}
		m.dist[i][i] = 0
	}
	add := func(i, j int, cost uint32, up bool) {
		m.adverts[i].Neighbors = append(m.adverts[i].Neighbors, Neighbor{node(j), cost, up})
		if m.dist[i][j] = uint64(cost); up {
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
	found, without := 0, 0
	for seed := range uint64(300) {
		m := randomMesh(rand.New(rand.NewPCG(seed, 5)))
		n := len(m.adverts)
		tables := make([]*Table, n)
		for i := range n {
			tables[i] = m.table(i)
		}
		for s := range n {
			tab := m.table(s)
			tab.Prepare()
			if len(tab.candidates()) == maxAlternates {
				continue // it does not look at all
			}
			for d := range n {
				p := tab.Path(node(d))
				if d == s || !p.Up() {
					continue
				}
				want := false
				for k := range n {
					want = want || node(k) != p.Hop && k != s && m.allowed(s, k, d)
				}
				alt := tab.Alternate(node(d))
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
		at = number(tables[at].Path(node(d)).Hop)
	}
	t.Fatalf("what %d sends to %d by %v loops", s, d, alt.Hop)
}

// TestAlternatesPreferAnotherNeighbour: a silent neighbour may be dead, so the
// way around it wins over a cheaper one by it.
func TestAlternatesPreferAnotherNeighbour(t *testing.T) {
	s, e, n, o, d := addr.MustNode("s"), addr.MustNode("e"), addr.MustNode("n"), addr.MustNode("o"), addr.MustNode("d")
	tab := NewTable(s)
	tab.Apply(&Advert{Node: s, Seq: 1, Neighbors: []Neighbor{{e, 1, true}, {n, 2, true}, {o, 9, true}}})
	tab.Apply(&Advert{Node: e, Seq: 1, Neighbors: []Neighbor{{s, 1, true}, {n, 1, true}, {d, 1, true}}})
	tab.Apply(&Advert{Node: n, Seq: 1, Neighbors: []Neighbor{{s, 2, true}, {e, 1, true}}})
	tab.Apply(&Advert{Node: o, Seq: 1, Neighbors: []Neighbor{{s, 9, true}, {d, 3, true}}})
	tab.Prepare()
	if p, a := tab.Path(d), tab.Alternate(d); p.Hop != e || a.Hop != o || a.Cost != 12 || a.Hops != 2 {
		t.Errorf("path %+v, alternate %+v; want by e, and by o", p, a)
	}
	if a := tab.Alternate(e); a.Hop != n {
		t.Errorf("alternate to e itself %+v, want by n", a)
	}
}

func TestFailOver(t *testing.T) {
	a, b, c, x := addr.MustNode("a"), addr.MustNode("b"), addr.MustNode("c"), addr.MustNode("x")
	links := func(up bool) []Neighbor { return []Neighbor{{b, 2, true}, {c, 1, up}} }
	tab := NewTable(a)
	tab.Apply(&Advert{Node: a, Seq: 1, Neighbors: links(true)})
	tab.Apply(&Advert{Node: b, Seq: 1, Neighbors: []Neighbor{{a, 2, true}, {c, 2, true}}})
	tab.Apply(&Advert{Node: c, Seq: 1, Neighbors: []Neighbor{{a, 1, true}, {b, 2, true}, {x, 1, true}}})
	hop := func(when string, to, want addr.Node) {
		t.Helper()
		if p := tab.Path(to); p.Hop != want {
			t.Errorf("%s: to %v by %v, want by %v", when, to, p.Hop, want)
		}
	}
	tab.FailOver(c)
	hop("not prepared", c, c)
	tab.Prepare()
	tab.FailOver(c)
	hop("after the silence", c, b)
	hop("after the silence", x, b)
	tab.Apply(&Advert{Node: a, Seq: 2, Neighbors: links(false)})
	tab.Apply(&Advert{Node: c, Seq: 2, Neighbors: []Neighbor{{a, 1, false}, {b, 2, true}, {x, 1, true}}})
	if tab.alt.patched == nil {
		t.Error("what both ends say of the silent link ended the alternate")
	}
	tab.Converge()
	hop("converged", c, b)
	if p := tab.Path(c); p.Cost != 4 || tab.alt.patched != nil {
		t.Errorf("converged to %+v", p)
	}
	tab.Prepare()
	tab.FailOver(b)
	hop("both are silent", c, b)
	tab.Apply(&Advert{Node: a, Seq: 3, Neighbors: links(true)})
	hop("healed", c, c)
	if tab.Prepared() {
		t.Error("alternates outlived the paths they were made for")
	}
}
