package link

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/farhop/farhop/node/begun"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/emulator"
	"github.com/farhop/farhop/storeforward/bundle"
)

// large returns a bundle of about n bytes, in the parts of SendTransfer.
func large(n int) (frozen, payload []byte, hop bundle.Hop) {
	p := bundle.Primary{
		Dest: addr.NodeEID(addr.MustNode("b"), "mqtt"), Source: addr.NodeEID(addr.MustNode("a"), "mqtt"), ReportTo: addr.None,
		Created: bundle.Timestamp{Seq: 7}, Lifetime: 3600_000,
	}
	return bundle.AppendFrozen(nil, &p, bundle.MeshInfo{}), bundle.AppendPayload(nil, filled(3, n)), bundle.Hop{HopLimit: 9, HopCount: 1, Age: time.Second}
}

func keeps(t *testing.T, dir string) func(*Config) {
	return func(c *Config) {
		s, err := begun.Open(begun.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		c.Parts = s
	}
}

// TestLargeBundlesGoOn: a bundle that takes longer than any session lasts
// arrives: over the ends of sessions, and over a restart of its receiver.
func TestLargeBundlesGoOn(t *testing.T) {
	for _, layer := range []Layer{LayerQUIC, LayerSalvo} {
		t.Run(string(layer), func(t *testing.T) { largeGoesOn(t, layer) })
	}
}

func largeGoesOn(t *testing.T, layer Layer) {
	m := newMesh(t)
	dir, port := t.TempDir(), udpPort(t)
	props := Properties{OWLT: 5 * time.Millisecond, Rate: 8e6, Layer: layer}
	listen := func(c *Config) { c.Listen = port; keeps(t, dir)(c) }
	b := m.start("b", listen)
	l, at := via(t, b.addr, emulator.Profile{Delay: props.OWLT, Rate: props.Rate, Queue: 64 << 10})
	a := m.start("a", func(c *Config) { c.Peers = []Peer{{Address: at, Link: props}} })
	frozen, payload, hop := large(2 << 20) // two seconds of the link
	want := bundle.AppendBundle(nil, frozen, payload, hop)
	sent := func() uint64 { return l.Stats().Up.Bytes }
	sessions := 0
	for {
		sessions++
		s := a.next("up").s
		b.next("up")
		before := sent()
		if !s.SendTransfer(bundle.Bulk, 1, frozen, payload, hop, nil) {
			t.Fatal("session over")
		}
		until(func() bool { return len(b.frames) > 0 || sent()-before > 900<<10 })
		if len(b.frames) > 0 {
			break
		}
		if sessions == 1 {
			s.Close("a contact ends")
			a.next("down")
			b.next("down")
			continue
		}
		b.end() // a restart
		a.next("down")
		b = m.start("b", listen)
	}
	f, ok := (<-b.frames).(wire.Transfer)
	if !ok || f.XID != 1 || f.Class != bundle.Bulk || !bytes.Equal(f.Bundle, want) {
		t.Fatalf("got %T of %d bytes, want %d", f, len(f.Bundle), len(want))
	}
	// No session lasts for all of it: it arrives because each goes on.
	if sessions < 2 || sessions > 12 {
		t.Errorf("it took %d sessions and %d bytes", sessions, sent())
	}
	until(func() bool { return b.cfg.Parts.(*begun.Store).Stats().Files == 0 })
}

// TestPartsThatDoNotFit end the session, and cost no memory.
func TestPartsThatDoNotFit(t *testing.T) {
	part := wire.Part{Class: bundle.Bulk, XID: 1, Total: 100, Frozen: 10, Data: make([]byte, 10)}
	for name, frames := range map[string][]wire.Frame{
		"a hole":             {part, with(part, func(p *wire.Part) { p.Offset = 20 })},
		"another bundle":     {part, with(part, func(p *wire.Part) { p.Offset, p.Key = 10, wire.PartKey{1} })},
		"too large":          {with(part, func(p *wire.Part) { p.Total = wire.MaxFrame + 1 })},
		"begun nowhere":      {with(part, func(p *wire.Part) { p.Offset = 50 })},
		"the same once more": {part, part},
	} {
		t.Run(name, func(t *testing.T) {
			c := Config{}
			keeps(t, t.TempDir())(&c)
			as := newAssembler(addr.MustNode("a"), c.Parts, wire.MaxFrame, nil)
			if got, err := as.replace(frames); err == nil {
				t.Errorf("got %v", got)
			}
		})
	}
	if _, err := newAssembler(addr.MustNode("a"), nil, wire.MaxFrame, nil).replace([]wire.Frame{part}); err == nil {
		t.Error("parts were taken by a node that takes none")
	}
}

func with(p wire.Part, change func(*wire.Part)) wire.Part {
	change(&p)
	return p
}
