package link

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/emulator"
	"github.com/farhop/farhop/storeforward/bundle"
)

// via opens an emulated link in front of a node and returns its address.
func via(t *testing.T, to string, p emulator.Profile) (*emulator.Link, string) {
	t.Helper()
	l, err := emulator.Open(emulator.Config{Listen: "127.0.0.1:0", To: to, Up: p, Down: p, Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return l, l.Addr().String()
}

func TestLossyFarLink(t *testing.T) {
	m := newMesh(t)
	b := m.start("b", nil)
	_, at := via(t, b.addr, emulator.Profile{Delay: 60 * time.Millisecond, Loss: 0.02})
	a := m.start("a", dials(at))
	s := a.next("up").s
	if s.RTT() < 120*time.Millisecond {
		t.Errorf("rtt %v on a link of twice 60 ms", s.RTT())
	}
	const n = 100
	for xid := range uint64(n) {
		s.Send(wire.Transfer{Class: bundle.Telemetry, XID: xid + 1, Bundle: make([]byte, 1000)})
	}
	for xid := range uint64(n) {
		if f, ok := (<-b.frames).(wire.Transfer); !ok || f.XID != xid+1 || len(f.Bundle) != 1000 {
			t.Fatalf("transfer %d: got %T %d", xid+1, f, f.XID)
		}
	}
}

func TestBothDialFarApart(t *testing.T) {
	for round := range 3 {
		t.Run(fmt.Sprint(round), bothDialFarApart)
	}
}

func bothDialFarApart(t *testing.T) {
	m := newMesh(t)
	pa, pb := udpPort(t), udpPort(t)
	far := emulator.Profile{Delay: 40 * time.Millisecond, Jitter: 20 * time.Millisecond}
	_, toA := via(t, pa, far)
	_, toB := via(t, pb, far)
	m.material(addr.MustNode("b"))
	a := m.start("a", func(c *Config) { c.Listen = pa; dials(toB)(c) })
	b := m.start("b", func(c *Config) { c.Listen = pb; dials(toA)(c) })
	sa, sb := a.next("up").s, b.next("up").s
	for i := range uint64(5) {
		if !sa.Send(wire.Ping{Stamp: i}) || !sb.Send(wire.Ping{Stamp: i}) {
			t.Fatal("session over")
		}
		<-a.frames
		<-b.frames
	}
	until(func() bool { return a.Peers()[0].Connected && b.Peers()[0].Connected })
	if len(a.events)+len(b.events) > 0 {
		t.Errorf("the link flapped: %d and %d more events", len(a.events), len(b.events))
	}
	if a.Peers()[0].Inbound == b.Peers()[0].Inbound {
		t.Error("the ends do not agree on who dialled")
	}
}

func TestCutOfSomeSecondsKeepsTheSession(t *testing.T) {
	m := newMesh(t)
	b := m.start("b", nil)
	l, at := via(t, b.addr, emulator.Profile{Delay: 5 * time.Millisecond})
	a := m.start("a", dials(at))
	s := a.next("up").s
	l.Cut(true)
	s.Send(wire.Transfer{Class: bundle.Alarm, XID: 1, Bundle: []byte("through the cut")})
	time.Sleep(300 * time.Millisecond) // several retransmissions are lost
	l.Cut(false)
	if f, ok := (<-b.frames).(wire.Transfer); !ok || f.XID != 1 {
		t.Errorf("got %+v", f)
	}
	if a.Session(b.cfg.Node) != s {
		t.Error("another session is up")
	}
}

func TestScheduledLink(t *testing.T) {
	m := newMesh(t)
	b := m.start("b", nil)
	start := time.Now().Add(200 * time.Millisecond)
	contact := Window{Start: start, For: 2 * time.Second}
	a := m.start("a", func(c *Config) {
		c.Peers = []Peer{{Address: b.addr, Link: Properties{Contacts: []Window{contact}}}}
	})
	up := a.next("up").s
	if up.Since().Before(start) {
		t.Errorf("up %v before the contact", start.Sub(up.Since()))
	}
	if e := a.next("down"); e.why.Cause != ContactEnd || !strings.Contains(fmt.Sprint(e.why), "the last contact of the schedule") {
		t.Errorf("down for %v", e.why)
	}
	if time.Now().Before(start.Add(contact.For)) {
		t.Error("closed inside the contact")
	}
	b.next("up")
	if e := b.next("down"); e.why.Cause != ContactEnd || !e.why.Remote {
		t.Errorf("b: down for %v", e.why)
	}
}

func TestShortGapsKeepTheSessionAndWakeIt(t *testing.T) {
	m := newMesh(t)
	b := m.start("b", nil)
	contacts := Window{Start: time.Now().Add(-time.Millisecond), Every: 300 * time.Millisecond, For: 200 * time.Millisecond}
	a := m.start("a", func(c *Config) {
		c.Peers = []Peer{{Address: b.addr, Link: Properties{Contacts: []Window{contacts}}}}
	})
	s := a.next("up").s
	for range 3 { // one kick at each start
		if f := <-b.frames; f != (wire.Ping{}) {
			t.Errorf("got %v", f)
		}
	}
	if a.Session(b.cfg.Node) != s || len(a.events) > 0 {
		t.Error("a gap of 100 ms ended the session")
	}
}
