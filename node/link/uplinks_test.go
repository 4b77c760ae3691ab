package link

import (
	"fmt"
	"strings"
	"testing"

	"github.com/farhop/farhop/routing/addr"
)

// TestSeveralLinks: two links with names stand side by side, each with what the
// file of its end says; the end of one is not the other's.
func TestSeveralLinks(t *testing.T) {
	m := newMesh(t)
	node := addr.MustNode("a")
	lte, sat := Properties{Uplink: "lte", Cost: 1}, Properties{Uplink: "sat", Cost: 10}
	b := m.start("b", func(c *Config) { c.More = []Peer{{Node: node, Link: lte}, {Node: node, Link: sat}} })
	_, port, _ := strings.Cut(b.addr, ":")
	a := m.start("a", func(c *Config) {
		c.Peers = []Peer{{Address: "127.0.0.1:" + port, Link: lte}, {Address: "localhost:" + port, Link: sat}}
	})
	for _, n := range []*testNode{a, b} {
		n.next("up")
		n.next("up")
		far := addr.MustNode("b")
		if n == b {
			far = node
		}
		first, other := n.SessionOver(far, "lte"), n.SessionOver(far, "sat")
		if len(n.Sessions()) != 2 || first == nil || other == nil || other.Link().Cost != 10 {
			t.Fatalf("%s has %d sessions, lte %v, sat %v", n.cfg.Node, len(n.Sessions()), first, other)
		}
		if n.Session(far) != first {
			t.Error("the cheaper is not the one to use")
		}
		first.Silent(true)
		if n.Session(far) != other {
			t.Error("a silent one is used")
		}
		first.Silent(false)
	}
	b.SessionOver(node, "sat").Close("enough")
	if e := a.next("down"); e.s.Uplink() != "sat" {
		t.Errorf("%s ended at a, want sat", e.s.Uplink())
	}
	if e := a.next("up"); e.s.Uplink() != "sat" || a.SessionOver(addr.MustNode("b"), "lte") == nil {
		t.Errorf("%s came up at a, want sat, and lte as before", e.s.Uplink())
	}
}

// TestLinksWithNamesAreBounded: names that nothing stands for make room.
func TestLinksWithNamesAreBounded(t *testing.T) {
	r, node := newRegistry(addr.MustNode("a")), addr.MustNode("b")
	for i := range maxUplinks {
		l := peering{node, fmt.Sprint("u", i)}
		if !r.takes(l) {
			t.Fatalf("link %d is not taken", i+1)
		}
		r.slot(l).cur = fakeSession(1)
	}
	if r.takes(peering{node, "more"}) || !r.takes(peering{node, "u0"}) || !r.takes(peering{node: node}) || !r.takes(peering{addr.MustNode("c"), "more"}) {
		t.Error("want no more names of that node, and all else")
	}
	r.slot(peering{node, "u3"}).cur = nil
	if !r.takes(peering{node, "more"}) {
		t.Error("a link that is gone has no room left")
	}
}
