package link

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/begun"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/emulator"
	"github.com/farhop/farhop/storeforward/bundle"
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

// awaits takes events until one of a link.
func awaits(n *testNode, what, uplink string) {
	for e := (event{}); e.what != what || e.s.Uplink() != uplink; {
		e = <-n.events
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

// TestLargeBundleChangesLinks: what came of a bundle over one link is not sent
// again over another.
func TestLargeBundleChangesLinks(t *testing.T) {
	m := newMesh(t)
	b := m.start("b", keeps(t, t.TempDir()))
	lte := Properties{Uplink: "lte", OWLT: 5 * time.Millisecond, Rate: 8e6, Layer: LayerQUIC}
	sat := lte
	sat.Uplink = "sat"
	way := emulator.Profile{Delay: lte.OWLT, Rate: lte.Rate, Queue: 64 << 10}
	first, at := via(t, b.addr, way)
	second, other := via(t, b.addr, way)
	a := m.start("a", func(c *Config) { c.Peers = []Peer{{Address: at, Link: lte}, {Address: other, Link: sat}} })
	for range 2 {
		a.next("up")
		b.next("up")
	}
	far := addr.MustNode("b")
	frozen, payload, hop := large(2 << 20)
	send := func(s *Session) {
		t.Helper()
		if !s.SendTransfer(bundle.Bulk, 1, frozen, payload, hop, nil) {
			t.Fatal("session over")
		}
	}
	send(a.SessionOver(far, "lte"))
	until(func() bool { return first.Stats().Up.Bytes > 1500<<10 })
	a.SessionOver(far, "lte").Close("out of reach")
	awaits(b, "down", "lte")
	// What is kept is said as a session comes up: the next one knows more.
	a.SessionOver(far, "sat").Close("another harbour")
	awaits(a, "down", "sat")
	awaits(a, "up", "sat")
	before := second.Stats().Up.Bytes
	send(a.SessionOver(far, "sat"))
	f, ok := (<-b.frames).(wire.Transfer)
	if want := bundle.AppendBundle(nil, frozen, payload, hop); !ok || !bytes.Equal(f.Bundle, want) {
		t.Fatalf("got %T of %d bytes, want %d", f, len(f.Bundle), len(want))
	}
	if sent := second.Stats().Up.Bytes - before; sent > 1<<20 {
		t.Errorf("the second link carried %d bytes, the first %d: want the rest of 2 MiB", sent, first.Stats().Up.Bytes)
	}
	until(func() bool { return b.cfg.Parts.(*begun.Store).Stats().Files == 0 })
}
