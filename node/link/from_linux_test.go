package link

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/emulator"
	"github.com/farhop/farhop/storeforward/bundle"
)

// TestLinksLeaveFrom: two links to one address, each from an address of its own,
// carry bundles over every layer, and come up again from there.
func TestLinksLeaveFrom(t *testing.T) {
	for _, layer := range []Layer{LayerQUIC, LayerSalvo, LayerTLS} {
		t.Run(string(layer), func(t *testing.T) {
			m := newMesh(t)
			b := m.start("b", nil)
			peer := func(from, name string) Peer {
				p := Peer{Address: b.addr, From: from, Link: Properties{Uplink: name, Layer: layer}}
				if layer == LayerSalvo {
					p.Link.Rate = 50e6
				}
				return p
			}
			a := m.start("a", func(c *Config) { c.Peers = []Peer{peer("127.0.0.2", "lte"), peer("127.0.0.3", "sat")} })
			want := map[string]string{"lte": "127.0.0.2", "sat": "127.0.0.3"}
			for range 2 {
				a.next("up")
				b.next("up")
			}
			check := func(name string) {
				t.Helper()
				s := b.SessionOver(addr.MustNode("a"), name)
				if host, _, _ := net.SplitHostPort(s.RemoteAddr()); host != want[name] {
					t.Errorf("%s comes from %s, want %s", name, host, want[name])
				}
				if s := a.SessionOver(addr.MustNode("b"), name); s.Layer() != layer || !s.Send(wire.Transfer{Class: bundle.Bulk, XID: 1, Bundle: filled(1, 300<<10)}) {
					t.Errorf("%s over %s does not send", name, s.Layer())
				}
				if f, ok := (<-b.frames).(wire.Transfer); !ok || !bytes.Equal(f.Bundle, filled(1, 300<<10)) {
					t.Errorf("%s carried %T", name, f)
				}
			}
			check("lte")
			check("sat")
			b.SessionOver(addr.MustNode("a"), "sat").Close("a cut")
			awaits(b, "up", "sat")
			awaits(a, "up", "sat")
			check("sat")
			check("lte")
		})
	}
}

// TestLinkLeavesByAnInterface, and the explanations where there is none.
func TestLinkLeavesByAnInterface(t *testing.T) {
	m := newMesh(t)
	b := m.start("b", nil)
	a := m.start("a", func(c *Config) { c.Peers = []Peer{{Address: b.addr, From: "lo"}} })
	a.next("up")
	b.next("up")
	for from, text := range map[string]string{
		"192.0.2.77": "from 192.0.2.77: this machine has no such address now",
		"nowhere0":   "from nowhere0: this machine has no such interface now",
		"::1":        "from ::1: " + b.addr + " has no address of that kind",
	} {
		for _, layer := range []Layer{LayerQUIC, LayerTLS} {
			c := m.start("c"+string(layer), func(c *Config) { c.Peers = []Peer{{Address: b.addr, From: from, Link: Properties{Layer: layer}}} })
			if got := c.lastError(); !strings.Contains(got, text) {
				t.Errorf("from %s over %s: %q, want %q", from, layer, got, text)
			}
			c.end()
		}
	}
}

// TestEndIsHeardLater: a peer that did not hear that a session from a socket of its
// own ended is told when it sends something, and need not wait for silence.
func TestEndIsHeardLater(t *testing.T) {
	for when, pause := range map[string]time.Duration{"at once": 0, "when QUIC has forgotten it": 500 * time.Millisecond} {
		t.Run(when, func(t *testing.T) {
			m := newMesh(t)
			b := m.start("b", nil)
			way, at := via(t, b.addr, emulator.Profile{Delay: time.Millisecond})
			// The last contact: nothing replaces the session.
			contact := Window{Start: time.Now().Add(-time.Millisecond), For: 2 * time.Second}
			a := m.start("a", func(c *Config) {
				c.Peers = []Peer{{Address: at, From: "127.0.0.2", Link: Properties{Profile: ProfileCellular, Contacts: []Window{contact}}}}
			})
			a.next("up")
			s := b.next("up").s
			s.Send(wire.Ping{})
			<-a.frames
			way.Cut(true)
			if e := a.next("down"); e.why.Cause != ContactEnd {
				t.Fatalf("a: down for %v", e.why)
			}
			time.Sleep(pause)
			way.Cut(false)
			s.Send(wire.Transfer{Class: bundle.Alarm, XID: 1, Bundle: make([]byte, 100)})
			e := b.next("down")
			if !e.why.Remote || e.why.Cause != ContactEnd && e.why.Cause != Restarted {
				t.Errorf("b: down for %v", e.why)
			}
			t.Log(e.why)
		})
	}
}

// TestOneSocketRests: of the sockets whose sessions ended one of each peer is kept.
func TestOneSocketRests(t *testing.T) {
	m := newMesh(t)
	b := m.start("b", nil)
	a := m.start("a", func(c *Config) {
		c.Peers = []Peer{{Address: b.addr, From: "127.0.0.2", Link: Properties{Profile: ProfileCellular}}}
	})
	d := a.dialers[0]
	resting := func() chan struct{} {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.resting
	}
	var last chan struct{}
	for n := range 3 {
		s := a.next("up").s
		s.Close("a cut")
		a.next("down")
		until(func() bool { return resting() != last })
		if last != nil {
			<-last // or the test ends by its timeout
		}
		if last = resting(); isDone(last) {
			t.Errorf("end %d: the socket does not rest", n+1)
		}
	}
}
