package link

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/sim/emulator"
	"github.com/farhop/farhop/storeforward/bundle"
)

// moonish is a link where QUIC gets nowhere, near enough for a test.
func moonish() (Properties, emulator.Profile) {
	p := Properties{OWLT: 60 * time.Millisecond, Rate: 20e6, Loss: 0.01, Layer: LayerSalvo}
	return p, emulator.Profile{Delay: p.OWLT, Loss: p.Loss, Rate: p.Rate}
}

// filled returns n bytes that say which transfer they belong to.
func filled(xid uint64, n int) []byte {
	b := make([]byte, n)
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, xid))
	for i := range b {
		b[i] = sum[i%len(sum)] + byte(i>>8)
	}
	return b
}

// TestSalvoCarriesTheLanes sends both ways over a lossy link: all arrive once
// and in the order of their class, large and small ones.
func TestSalvoCarriesTheLanes(t *testing.T) {
	m := newMesh(t)
	props, profile := moonish()
	b := m.start("b", func(c *Config) { c.Links = linksTo("a", props) })
	_, at := via(t, b.addr, profile)
	a := m.start("a", func(c *Config) { c.Peers = []Peer{{Address: at, Link: props}} })
	sa, sb := a.next("up").s, b.next("up").s
	if sa.Layer() != LayerSalvo || sb.Layer() != LayerSalvo {
		t.Fatalf("layers %s and %s", sa.Layer(), sb.Layer())
	}
	const n = 300
	size := func(xid uint64) int { return int(xid*xid*7) % 20000 }
	classes := []bundle.Class{bundle.Alarm, bundle.Telemetry, bundle.Bulk}
	for xid := uint64(1); xid <= n; xid++ {
		for _, c := range classes {
			for _, s := range []*Session{sa, sb} {
				if !s.Send(wire.Transfer{Class: c, XID: xid, Bundle: filled(xid, size(xid))}) {
					t.Fatal("session over")
				}
			}
		}
	}
	for _, far := range []*testNode{a, b} {
		next := map[bundle.Class]uint64{}
		for range n * len(classes) {
			f, ok := (<-far.frames).(wire.Transfer)
			if !ok {
				t.Fatalf("got %T", f)
			}
			next[f.Class]++
			if f.XID != next[f.Class] || string(f.Bundle) != string(filled(f.XID, size(f.XID))) {
				t.Fatalf("class %s: transfer %d of %d bytes, want %d of %d", f.Class, f.XID, len(f.Bundle), next[f.Class], size(next[f.Class]))
			}
		}
	}
	sa.Send(wire.Ping{Stamp: 7})
	if f := <-b.frames; f != (wire.Ping{Stamp: 7}) {
		t.Errorf("got %v", f)
	}
	until(func() bool { return sa.salvo.out.waiting() == 0 && sb.salvo.out.waiting() == 0 })
}

// TestSalvoOneWay: only the end that knows its rate sends with salvo.
func TestSalvoOneWay(t *testing.T) {
	m := newMesh(t)
	props, _ := moonish()
	b := m.start("b", nil)
	a := m.start("a", func(c *Config) { c.Peers = []Peer{{Address: b.addr, Link: props}} })
	sa, sb := a.next("up").s, b.next("up").s
	if sa.Layer() != LayerSalvo || sb.Layer() != LayerQUIC {
		t.Fatalf("layers %s and %s", sa.Layer(), sb.Layer())
	}
	sa.Send(wire.Transfer{Class: bundle.Bulk, XID: 1, Bundle: filled(1, 100_000)})
	sb.Send(wire.Transfer{Class: bundle.Bulk, XID: 1, Bundle: filled(1, 100_000)})
	for _, far := range []*testNode{a, b} {
		if f, ok := (<-far.frames).(wire.Transfer); !ok || string(f.Bundle) != string(filled(1, 100_000)) {
			t.Errorf("got %T", f)
		}
	}
}
