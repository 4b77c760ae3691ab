package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

func TestSessionCarriesFrames(t *testing.T) { overBoth(t, testSessionCarriesFrames) }

func testSessionCarriesFrames(t *testing.T, dials dialing) {
	m := newMesh(t)
	b := m.start("b", nil)
	a := m.start("a", dials(b.addr))
	sa, sb := a.next("up").s, b.next("up").s
	if sa.Node() != b.cfg.Node || sb.Node() != a.cfg.Node || sb.Region() != earth || sb.Kex() != "X25519MLKEM768" {
		t.Errorf("identities: %s, %s in %s with %s", sa.Node(), sb.Node(), sb.Region(), sb.Kex())
	}
	if !sa.Dialed() || sb.Dialed() || sa.RTT() <= 0 {
		t.Errorf("dialed %v and %v, rtt %v", sa.Dialed(), sb.Dialed(), sa.RTT())
	}
	until(func() bool { return b.pending.Load() == 0 }) // authenticated: it stands in nobody's way
	const n = 500
	for i := range uint64(n) {
		ok := sa.Send(wire.Transfer{Class: bundle.Alarm, XID: i + 1, Bundle: []byte("alarm")},
			wire.Transfer{Class: bundle.Bulk, XID: i + 1, Bundle: bytes.Repeat([]byte{7}, 2000)},
			wire.Volatile{Bundle: []byte("qos 0")}, wire.Ping{Stamp: i})
		if !ok {
			t.Fatal("session over")
		}
	}
	last := map[string]uint64{}
	for range 4 * n {
		switch f := (<-b.frames).(type) {
		case wire.Transfer:
			if last[f.Class.String()]++; f.XID != last[f.Class.String()] {
				t.Fatalf("class %s: transfer %d came where %d was due", f.Class, f.XID, last[f.Class.String()])
			}
		case wire.Volatile:
			last["volatile"]++
		case wire.Ping:
			if f.Stamp != last["ping"] {
				t.Fatalf("ping %d came where %d was due", f.Stamp, last["ping"])
			}
			last["ping"]++
		}
	}
	sb.Send(wire.Ack{Class: bundle.Alarm, XID: n})
	if f := <-a.frames; f != (wire.Ack{Class: bundle.Alarm, XID: n}) {
		t.Errorf("a got %v", f)
	}
	until(func() bool { return sa.Stats().Queued == 0 })
	if st := sa.Stats(); st.FramesSent != 4*n || st.BytesSent < n*2000 {
		t.Errorf("stats %+v", st)
	}
	sa.Close("enough")
	if e := b.next("down"); e.why.Cause != Closed || !e.why.Remote || !strings.Contains(e.why.Error(), "enough") {
		t.Errorf("b's link went down for %v", e.why)
	}
	if e := a.next("down"); e.why.Cause != Closed || e.why.Remote {
		t.Errorf("a's link went down for %v", e.why)
	}
	if sa.Send(wire.Ping{}) {
		t.Error("a session that is down takes frames")
	}
	a.next("up") // and dials again
}

func TestSplicedTransferArrivesWhole(t *testing.T) {
	m := newMesh(t)
	b := m.start("b", nil)
	a := m.start("a", dials(b.addr))
	s := a.next("up").s
	frozen, payload := []byte{0x82, 1, 2}, []byte{0x83, 1, 2, 3}
	if !s.SendTransfer(bundle.Telemetry, 1, frozen, payload, bundle.Hop{}, nil) {
		t.Fatal("session over")
	}
	f, ok := (<-b.frames).(wire.Transfer)
	if !ok || f.XID != 1 || f.Class != bundle.Telemetry || !bytes.Contains(f.Bundle, frozen) || !bytes.Contains(f.Bundle, payload) {
		t.Errorf("got %+v", f)
	}
}

func TestBothDial(t *testing.T) { overBoth(t, testBothDial) }

func testBothDial(t *testing.T, dials dialing) {
	for round := range 4 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			m := newMesh(t)
			pa, pb := udpPort(t), udpPort(t)
			var a, b *testNode
			m.material(addr.MustNode("a"))
			m.material(addr.MustNode("b"))
			a = m.start("a", func(c *Config) { c.Listen = pa; dials(pb)(c) })
			b = m.start("b", func(c *Config) { c.Listen = pb; dials(pa)(c) })
			sa, sb := a.next("up").s, b.next("up").s
			for i := range uint64(200) { // both must mean the same connection
				if !sa.Send(wire.Ping{Stamp: i}) || !sb.Send(wire.Ping{Stamp: i}) {
					t.Fatalf("session over after %d frames", i)
				}
				<-a.frames
				<-b.frames
			}
			if sa.Dialed() == sb.Dialed() {
				t.Errorf("dialed by both or neither: %v", sa.Dialed())
			}
			if len(a.events)+len(b.events) > 0 {
				t.Errorf("the link flapped: %d and %d more events", len(a.events), len(b.events))
			}
		})
	}
}

// The order of a crossing is forced: b dials, its Hello waits at a while a's
// own attempt is under way.
func TestCrossingKeepsTheLowerNamesConnection(t *testing.T) {
	r := newRegistry(addr.MustNode("a"))
	b := addr.MustNode("b")
	release, err := r.claimDial(peering{node: b}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.claimDial(peering{node: b}, nil); !errors.Is(err, errRedundant) {
		t.Errorf("a second attempt of our own: %v, want redundant", err)
	}
	var wg sync.WaitGroup
	inbound := make(chan error, 1)
	wg.Go(func() {
		_, err := r.claimInbound(t.Context(), peering{node: b}, 1)
		inbound <- err
	})
	r.mu.Lock()
	r.slot(peering{node: b}).cur = fakeSession(1)
	r.mu.Unlock()
	release()
	wg.Wait()
	if err := <-inbound; !errors.Is(err, errRedundant) {
		t.Errorf("the crossing connection: %v, want redundant", err)
	}
	if release, err := r.claimInbound(t.Context(), peering{node: b}, 2); err != nil {
		t.Errorf("a connection of a newer boot: %v, want it accepted", err)
	} else {
		release()
	}
	higher := newRegistry(addr.MustNode("c"))
	higher.slot(peering{node: b}).cur = fakeSession(1)
	if _, err := higher.claimInbound(t.Context(), peering{node: b}, 1); err != nil {
		t.Errorf("c does not judge, but: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.slot(peering{node: b}).cur = nil
	if _, err := r.claimDial(peering{node: b}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.claimInbound(ctx, peering{node: b}, 1); !errors.Is(err, errRedundant) {
		t.Errorf("waiting ended with %v", err)
	}
}

func TestNewerConnectionReplaces(t *testing.T) { overBoth(t, testNewerConnectionReplaces) }

func testNewerConnectionReplaces(t *testing.T, dials dialing) {
	for _, name := range []string{"b", "0"} { // the old and the new are judged by a, and by themselves
		t.Run(name, func(t *testing.T) {
			m := newMesh(t)
			a := m.start("a", nil)
			first := m.start(name, dials(a.addr))
			old := a.next("up").s
			first.next("up")
			m.start(name, func(c *Config) {
				dials(a.addr)(c)
				c.Hello.Boot = 2
			})
			if e := a.next("down"); e.s != old || e.why.Cause != Replaced {
				t.Errorf("session %d went down for %v", e.s.ID(), e.why)
			}
			if s := a.next("up").s; s == old || s.Hello().Boot != 2 {
				t.Errorf("session %d of boot %d is up", s.ID(), s.Hello().Boot)
			}
			if e := first.next("down"); e.why.Cause != Replaced || !e.why.Remote {
				t.Errorf("at the old process: %v", e.why)
			}
		})
	}
}

// sock is a socket that a test can close under a node, which then dies as by
// kill -9: no CONNECTION_CLOSE leaves.
func sock(t *testing.T, at string) *net.UDPConn {
	t.Helper()
	ua, err := net.ResolveUDPAddr("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUDP("udp", ua)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCrashOfOneOfTwoThatDialEachOther(t *testing.T) {
	for _, victim := range []string{"b", "0"} { // not the judge, and the judge
		t.Run(victim, func(t *testing.T) {
			m := newMesh(t)
			pa := udpPort(t)
			first := sock(t, "127.0.0.1:0")
			v := m.start(victim, func(c *Config) { c.Socket = first; dials(pa)(c) })
			a := m.start("a", func(c *Config) { c.Listen = pa; dials(v.addr)(c) })
			a.next("up").s.Send(wire.Ping{})
			<-v.frames
			first.Close()
			v.end()
			again := m.start(victim, func(c *Config) {
				c.Socket = sock(t, v.addr)
				c.Hello.Boot = 2
				dials(pa)(c)
			})
			if e := a.next("down"); e.why.Cause != Replaced && e.why.Cause != Restarted {
				t.Errorf("down for %v", e.why)
			}
			s, back := a.next("up").s, again.next("up").s
			for i := range uint64(100) {
				if !s.Send(wire.Ping{Stamp: i}) || !back.Send(wire.Ping{Stamp: i}) {
					t.Fatal("session over")
				}
				<-a.frames
				<-again.frames
			}
			if len(a.events)+len(again.events) > 0 {
				t.Errorf("the link flapped: %d and %d more events", len(a.events), len(again.events))
			}
		})
	}
}

func TestRestartIsNoticed(t *testing.T) {
	m := newMesh(t)
	first := sock(t, "127.0.0.1:0")
	b := m.start("b", func(c *Config) { c.Socket = first })
	a := m.start("a", dials(b.addr))
	s := a.next("up").s
	s.Send(wire.Ping{})
	<-b.frames
	first.Close()
	b.end()
	again := sock(t, b.addr)
	m.start("b", func(c *Config) {
		c.Socket = again
		c.Hello.Boot = 2
	})
	s.Send(wire.Ping{Stamp: 1})
	if e := a.next("down"); e.why.Cause != Restarted {
		t.Errorf("down for %v, want the restart noticed", e.why)
	}
	if s := a.next("up").s; s.Hello().Boot != 2 {
		t.Errorf("up with boot %d", s.Hello().Boot)
	}
}

func TestStreams(t *testing.T) { overBoth(t, testStreams) }

func testStreams(t *testing.T, dials dialing) {
	m := newMesh(t)
	gone := make(chan error, 1)
	b := m.start("b", func(c *Config) {
		c.Streams = func(_ context.Context, s *Session, open wire.StreamOpen, st *Stream) {
			if open.Service == "echo" {
				_, _ = io.Copy(st, st)
				_ = st.CloseWrite()
				return
			}
			_, _ = st.Write([]byte("x"))
			_, err := io.Copy(io.Discard, st)
			gone <- err
		}
	})
	a := m.start("a", dials(b.addr))
	s := a.next("up").s
	open := func(service string) *Stream {
		st, err := s.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o := wire.StreamOpen{Service: service, Dest: b.cfg.Node, Source: a.cfg.Node, Hops: 8, ID: 1}
		if _, err := st.Write(wire.Append(nil, o)); err != nil {
			t.Fatal(err)
		}
		return st
	}
	st, data := open("echo"), bytes.Repeat([]byte("0123456789"), 300_000)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = st.Write(data)
		_ = st.CloseWrite()
	})
	got, err := io.ReadAll(st)
	wg.Wait()
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("echo of %d bytes: %d, %v", len(data), len(got), err)
	}
	sink := open("sink")
	if _, err := io.ReadFull(sink, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	sink.Reset(2)
	if err := <-gone; err == nil {
		t.Error("a reset stream ended in order")
	}
	bad, err := s.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bad.Write(wire.Append(nil, wire.Ping{})); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(bad); err == nil {
		t.Error("a stream without StreamOpen was accepted")
	}
	if a.Session(b.cfg.Node) != s {
		t.Error("the session did not survive")
	}
}

func TestJoin(t *testing.T) {
	m := newMesh(t)
	a := m.start("a", func(c *Config) {
		c.Join = func(_ context.Context, st *Stream, remote net.Addr, state tls.ConnectionState) {
			req, _ := io.ReadAll(st)
			fmt.Fprintf(st, "%s from %v with %d certificates", req, remote != nil, len(state.PeerCertificates))
		}
	})
	var answer []byte
	use := func(st *Stream, _ tls.ConnectionState) (err error) {
		if _, err := st.Write([]byte("ticket")); err != nil {
			return err
		}
		if err := st.CloseWrite(); err != nil {
			return err
		}
		answer, err = io.ReadAll(st)
		return err
	}
	conf := pki.JoinClientConfig(a.cfg.TLSServer.Time)
	if err := DialJoin(t.Context(), a.addr, conf, use); err != nil {
		t.Fatal(err)
	}
	if want := "ticket from true with 0 certificates"; string(answer) != want {
		t.Errorf("answer %q, want %q", answer, want)
	}
	b := m.start("b", nil)
	if err := DialJoin(t.Context(), b.addr, conf, use); err == nil || !strings.Contains(err.Error(), "newcomers") {
		t.Errorf("a node without Join: %v", err)
	}
}

func fakeSession(boot uint64) *Session {
	return &Session{hello: wire.Hello{Boot: boot}, upAt: time.Now()}
}
