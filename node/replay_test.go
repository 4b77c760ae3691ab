package node

import (
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

// tape is a socket whose packets are recorded.
type tape struct {
	net.PacketConn
	mu      sync.Mutex
	packets [][]byte
}

// WriteTo implements net.PacketConn.
func (p *tape) WriteTo(b []byte, to net.Addr) (int, error) {
	p.mu.Lock()
	p.packets = append(p.packets, append([]byte(nil), b...))
	p.mu.Unlock()
	return p.PacketConn.WriteTo(b, to)
}

// play sends what was recorded, from an address of somebody else.
func (p *tape) play(t *testing.T, from net.PacketConn, to net.Addr) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.packets {
		if _, err := from.WriteTo(b, to); err != nil {
			t.Fatal(err)
		}
	}
}

// costs is what the process holds: goroutines and bytes.
func costs() (goroutines int, bytes int64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), int64(m.HeapAlloc)
}

// TestFlightPlayedAgain records the first flight of a node that knows its peer,
// and plays it again hours later, many times, from another address: with a
// session that stood after it, with none that ever did, and after the peer was
// killed. Nothing is delivered twice, no session comes or stays, nothing is kept.
func TestFlightPlayedAgain(t *testing.T) {
	for _, tc := range []struct {
		name   string
		deaf   bool // no answer reaches the dialler: no session ends the flight's epoch
		killed bool // the peer, before it is played
	}{
		{"a session stood", false, false},
		{"no session stood", true, false},
		{"no session stood, and the peer was killed", true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playFlightAgain(t, tc.deaf, tc.killed) })
		})
	}
}

// newThief is a socket of somebody else, where nothing that comes is kept.
func newThief(t *testing.T, w *soak) net.PacketConn {
	t.Helper()
	c, err := w.net.Listen(soakHome(9))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for buf := make([]byte, 1<<16); ; {
			if _, _, err := c.ReadFrom(buf); err != nil {
				return
			}
		}
	}()
	return c
}

func playFlightAgain(t *testing.T, deaf, killed bool) {
	w := newSoak(t, soakWorlds()[1], 1, "a", "b")
	w.dials(0, 1)
	defer w.start()()
	a, b := w.nodes[0], w.nodes[1]
	w.recovered("at the start")
	w.cut(0, 1, 1)
	w.cut(1, 0, 1)
	const n = 3
	for range n {
		a.send(b.name, bundle.Alarm, 100)
	}
	time.Sleep(time.Minute)
	a.shut(false)
	w.cut(0, 1, -1)
	if !deaf {
		w.cut(1, 0, -1)
	}
	time.Sleep(time.Hour) // b has given up the session
	a.tape = &tape{}
	a.start()
	time.Sleep(time.Minute)
	if missing, _ := w.ledger.missing(); missing > 0 {
		t.Fatalf("%d of %d bundles did not come with the first flight", missing, n)
	}
	a.shut(false)
	flight := a.tape
	a.tape = nil
	if killed {
		b.shut(true)
		b.start()
	}
	time.Sleep(time.Hour)
	thief := newThief(t, w)
	defer thief.Close()
	again := func() {
		flight.play(t, thief, net.UDPAddrFromAddrPort(b.home()))
		time.Sleep(time.Hour) // and what came of it gives up
		if s := b.manager.Sessions(); len(s) > 0 {
			t.Fatalf("a session of %s came up", s[0].Node())
		}
	}
	again() // what is made once is there
	goroutines, bytes := costs()
	const times = 100
	for range times {
		again()
	}
	if g, h := costs(); g > goroutines || h > bytes+times<<10 {
		t.Errorf("%d goroutines and %d bytes more after a flight of %d packets was played %d times", g-goroutines, h-bytes, len(flight.packets), times)
	}
	if deaf {
		w.cut(1, 0, -1)
	}
	a.start()
	w.most = time.Hour
	w.recovered("after the flight was played")
	w.settled()
	if w.ledger.again > 0 && !killed {
		t.Errorf("%d bundles were delivered again", w.ledger.again)
	}
}
