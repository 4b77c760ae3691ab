package link

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/sim/emulator"
	"github.com/farhop/farhop/storeforward/bundle"
)

// The link of TestUrgentGoesFirst.
const (
	thinRate  = 2_000_000 // bit/s
	thinLight = 20 * time.Millisecond
	thinQueue = 32 << 10 // bytes in front of the bottleneck
	thinTaken = 64 << 10 // the window that TCP opens at once, bytes; kernels reckon in buffers, of up to twice
)

// overtaking counts bulk, and notes how much had come when something urgent did.
type overtaking struct {
	Sink
	bulk   atomic.Int64
	urgent chan int64
}

// Frames implements Sink.
func (o *overtaking) Frames(_ *Session, frames []wire.Frame) {
	for _, f := range frames {
		switch f := f.(type) {
		case wire.Transfer:
			if f.Class == bundle.Bulk {
				o.bulk.Add(int64(len(f.Bundle)))
				continue
			}
			o.urgent <- o.bulk.Load()
		case wire.Ping:
			o.urgent <- o.bulk.Load()
		}
	}
}

// thinTCP is a way over TCP with a rate and a queue: what is in it cannot be
// overtaken. The emulator's sockets hold more than its link does.
func thinTCP(t *testing.T, to string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		near, err := ln.Accept()
		if err != nil {
			return
		}
		defer near.Close()
		_ = near.(*net.TCPConn).SetReadBuffer(thinTaken / 4)
		far, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer far.Close()
		wg.Go(func() { _, _ = io.Copy(near, far); _ = near.Close() })
		const piece = thinRate / 8 / 200
		for tick := time.NewTicker(time.Second / 200); ; <-tick.C {
			if _, err := io.CopyN(far, near, piece); err != nil {
				tick.Stop()
				return
			}
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// underWay is the most that a layer may have under way on that link, where
// nothing can overtake it, in bytes.
func underWay(layer Layer, p Properties) int64 {
	const pipe = thinRate / 8 * int64(2*thinLight) / int64(time.Second) // of a round trip
	switch layer {
	case LayerQUIC: // its window grows until packets are lost, and is twice as large for a round trip
		return 2 * (pipe + thinQueue)
	case LayerTLS: // what the kernel holds, what is written at once, and what the way holds
		c := p.muxConfig(true)
		return int64(c.Unsent+c.Batch) + 2*thinTaken + thinRate/8/200 + pipe
	}
	// One group, whose bulk is delivered together, and the block that is begun.
	return pipe + thinRate/8/4 + maxBlock/8
}

// TestUrgentGoesFirst: with a narrow link full of bulk, and megabytes of it
// waiting, an alarm and a frame of the mesh itself pass what waits. They stay
// behind what the layer has under way, and no more.
func TestUrgentGoesFirst(t *testing.T) {
	for _, layer := range []Layer{LayerQUIC, LayerSalvo, LayerTLS} {
		t.Run(string(layer), func(t *testing.T) {
			m := newMesh(t)
			far := &overtaking{urgent: make(chan int64, 16)}
			b := m.start("b", func(c *Config) { far.Sink, c.Events = c.Events, far })
			p := Properties{Layer: layer, OWLT: thinLight, Rate: thinRate}
			at := ""
			if layer == LayerTLS {
				at = thinTCP(t, b.addr)
			} else {
				_, at = via(t, b.addr, emulator.Profile{Delay: thinLight, Rate: thinRate, Queue: thinQueue})
			}
			a := m.start("a", func(c *Config) { c.Peers = []Peer{{Address: at, Link: p}} })
			s := a.next("up").s
			if s.Layer() != layer {
				t.Fatalf("layer %s", s.Layer())
			}
			const size = 4 << 10
			sent := int64(0)
			fill := func() { // as the core would: some megabytes wait at any time
				for sent-far.bulk.Load() < 2<<20 {
					sent += size
					s.Send(wire.Transfer{Class: bundle.Bulk, XID: uint64(sent / size), Bundle: make([]byte, size)})
				}
			}
			most := underWay(layer, p)
			for i := range uint64(8) {
				fill()
				until(func() bool { return far.bulk.Load() > int64(i+4)*(most/2) }) // the link is full
				before := far.bulk.Load()
				var f wire.Frame = wire.Ping{Stamp: i}
				if i%2 == 0 {
					f = wire.Transfer{Class: bundle.Alarm, XID: i/2 + 1, Bundle: make([]byte, 200)}
				}
				s.Send(f)
				passed := <-far.urgent - before
				t.Logf("%T: behind %d bytes of bulk, %d waited, at most %d", f, passed, sent-before, most)
				if passed > most {
					t.Errorf("%T came behind %d bytes of bulk, of which at most %d were under way", f, passed, most)
				}
			}
			if len(b.events) > 1 {
				t.Error("the link flapped")
			}
		})
	}
}
