package link

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// mostOfOne is what one peer may cost a node, in bytes: docs/limits.md.
const mostOfOne = 32 << 20

// heap is what this process holds.
func heap() int64 {
	runtime.GC()
	runtime.GC() // pools are emptied by the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// greedy starts a process that calls a node as z and does its worst.
func (m *mesh) greedy(t *testing.T, what, to string, layer Layer) (done func()) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.material(addr.MustNode("z")).Save(dir); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), greedEnv+"="+what, greedDir+"="+dir, greedTarget+"="+to, greedLayer+"="+string(layer))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _, _ = io.Copy(io.Discard, out); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	return func() {
		t.Helper()
		if !lines.Scan() || lines.Text() != "ready" {
			t.Fatalf("the greedy peer says %q", lines.Text())
		}
	}
}

// others sends some frames between two nodes that are well.
func others(t *testing.T, s *Session, far *testNode) {
	t.Helper()
	for i := range uint64(100) {
		s.Send(wire.Transfer{Class: bundle.Telemetry, XID: i + 1, Bundle: filled(i, 1000)})
	}
	for i := range uint64(100) {
		if f, ok := (<-far.frames).(wire.Transfer); !ok || f.XID != i+1 || string(f.Bundle) != string(filled(i, 1000)) {
			t.Fatalf("another peer got %T", f)
		}
	}
}

// TestGreedyPeers: a member that opens streams without end, begins frames that
// it never ends, sends more than is read, or reads nothing, costs a node no more
// than docs/limits.md says, on every layer. Others notice nothing.
func TestGreedyPeers(t *testing.T) {
	for _, tc := range []struct {
		what  string
		layer Layer
	}{
		{"streams", LayerQUIC},
		{"streams", LayerTLS},
		{"frames", LayerQUIC},
		{"frames", LayerTLS},
		{"flood", LayerQUIC},
		{"flood", LayerSalvo},
		{"flood", LayerTLS},
		{"deaf", LayerQUIC},
		{"deaf", LayerSalvo},
		{"deaf", LayerTLS},
	} {
		t.Run(tc.what+"/"+string(tc.layer), func(t *testing.T) {
			m := newMesh(t)
			sink := &stalling{name: addr.MustNode("z"), after: 64 << 20, hold: make(chan struct{})}
			a := m.start("a", func(c *Config) {
				c.Links = linksTo("z", tc.layer.properties())
				sink.Sink, c.Events = c.Events, sink
			})
			defer close(sink.hold)
			good := m.start("b", dials(a.addr))
			s := a.next("up").s
			good.next("up")
			before := heap()
			ready := m.greedy(t, tc.what, a.addr, tc.layer)
			z := a.next("up").s
			if tc.what == "deaf" {
				shout(t, z)
			}
			ready()
			steady(func() int64 { return int64(z.Stats().BytesReceived) + int64(z.Stats().Queued) })
			held := heap() - before
			t.Logf("%.1f MiB", float64(held)/(1<<20))
			if held > mostOfOne {
				t.Errorf("one peer costs %d bytes, at most %d are allowed", held, mostOfOne)
			}
			others(t, s, good)
			if len(a.events) > 0 {
				e := <-a.events
				t.Errorf("link %s of %s: %v", e.what, e.s.Node(), e.why)
			}
		})
	}
}

// shout sends as much as a node would whose store has no end, and QoS 0 until it
// is shed.
func shout(t *testing.T, s *Session) {
	t.Helper()
	frozen, payload, hop := large(16 << 10)
	ctx := t.Context()
	go func() {
		for xid := uint64(1); s.Await(ctx, bundle.Bulk); xid++ {
			again := func() ([]byte, error) { return payload, nil }
			if !s.SendTransfer(bundle.Bulk, xid, frozen, bytes.Clone(payload), hop, again) {
				return
			}
		}
	}()
	for s.Stats().VolatileShed == 0 {
		if !s.Send(wire.Volatile{Bundle: make([]byte, 16<<10)}) {
			t.Fatal("session over")
		}
	}
}

// stalling is a sink that stops to read one peer after so many bytes.
type stalling struct {
	Sink
	name  addr.Node
	after int
	hold  chan struct{}
}

// Frames implements Sink.
func (s *stalling) Frames(n *Session, frames []wire.Frame) {
	if n.Node() != s.name {
		s.Sink.Frames(n, frames)
		return
	}
	for _, f := range frames {
		if t, ok := f.(wire.Transfer); ok {
			s.after -= len(t.Bundle)
		}
	}
	if s.after <= 0 {
		<-s.hold
	}
}
