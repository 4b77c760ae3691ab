package link

import (
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

	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/mux"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/emulator"
	"github.com/farhop/farhop/storeforward/bundle"
)

// firewall lets TCP pass to a node and drops UDP, until open is called.
func firewall(t *testing.T, to string) (at string, open func()) {
	t.Helper()
	pass := func(network, listen string) *emulator.Link {
		l, err := emulator.Open(emulator.Config{Network: network, Listen: listen, To: to})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = l.Run(ctx) })
		t.Cleanup(func() { cancel(); wg.Wait() })
		return l
	}
	at = pass("tcp", "127.0.0.1:0").Addr().String()
	hole, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hole.Close() })
	return at, func() {
		_ = hole.Close()
		pass("udp", at)
	}
}

// TestFirewall: a link comes up over TCP where no UDP passes, and moves to UDP
// when it does, with all that has custody.
func TestFirewall(t *testing.T) {
	m := newMesh(t)
	a := m.start("a", func(c *Config) {
		c.Join = func(_ context.Context, st *Stream, _ net.Addr, _ tls.ConnectionState) {
			req, _ := io.ReadAll(st)
			fmt.Fprintf(st, "welcome, %s", req)
		}
	})
	at, open := firewall(t, a.addr)

	var newcomer sync.WaitGroup
	defer newcomer.Wait()
	newcomer.Go(func() {
		err := DialJoin(t.Context(), at, pki.JoinClientConfig(a.cfg.TLSServer.Time), func(st *Stream, _ tls.ConnectionState) error {
			_, _ = st.Write([]byte("stranger"))
			_ = st.CloseWrite()
			if got, err := io.ReadAll(st); string(got) != "welcome, stranger" {
				t.Errorf("newcomer heard %q, %v", got, err)
			}
			return nil
		})
		if err != nil {
			t.Errorf("join: %v", err)
		}
	})

	b := m.start("b", func(c *Config) {
		c.Peers = []Peer{{Address: at, Link: Properties{Profile: ProfileLAN, Rate: 1e9, Loss: 0.001}}}
	})
	s, far := b.next("up").s, a.next("up").s
	if s.Layer() != LayerTLS || far.Layer() != LayerTLS || s.Kex() != "X25519MLKEM768" || s.RTT() <= 0 || far.RTT() <= 0 {
		t.Errorf("layers %s and %s, %s, round trips %v and %v", s.Layer(), far.Layer(), s.Kex(), s.RTT(), far.RTT())
	}
	if s.Window() != 0 || s.hello.Salvo.Version != 0 || b.reg.over(LayerTLS) != 1 {
		t.Errorf("window %d, salvo %+v, %d sessions over tls", s.Window(), s.hello.Salvo, b.reg.over(LayerTLS))
	}
	newcomer.Wait()

	open()
	until(func() bool { return !far.fresh() })
	d := b.dialers[0]
	b.wg.Go(func() { d.moveBack(t.Context(), t.Context(), s, time.Millisecond, make(chan struct{})) })
	if e := b.next("down"); e.why.Cause != Replaced || e.s != s {
		t.Errorf("down for %v", e.why)
	}
	if e := a.next("down"); e.why.Cause != Replaced {
		t.Errorf("down there for %v", e.why)
	}
	s, far = b.next("up").s, a.next("up").s
	if s.Layer() != LayerQUIC || far.Layer() != LayerQUIC {
		t.Errorf("layers %s and %s", s.Layer(), far.Layer())
	}
	s.Send(wire.Ping{Stamp: 7})
	if f := <-a.frames; f != (wire.Ping{Stamp: 7}) {
		t.Errorf("got %v", f)
	}
	d.mu.Lock()
	if d.overTCP || d.deaf != 0 {
		t.Errorf("over TCP %v, deaf %d", d.overTCP, d.deaf)
	}
	d.mu.Unlock()
	if len(a.events)+len(b.events) > 0 {
		t.Errorf("the link flapped: %d and %d more events", len(a.events), len(b.events))
	}
}

// TestWays holds what is tried after what.
func TestWays(t *testing.T) {
	silent, other := errors.New("wrapped"), errors.New("refused")
	silent = fmt.Errorf("%w: %w", silent, &quic.HandshakeTimeoutError{})
	for _, tc := range []struct {
		name   string
		layer  Layer
		errs   []error
		tcp    string // of each attempt, and of the one after
		socket bool
	}{
		{"answers", LayerAuto, []error{other, nil, other}, "uuuu", false},
		{"silent", "", []error{silent, silent, other, silent, other, silent}, "uututut", false},
		{"silent with pauses", LayerAuto, []error{silent, other, silent, nil, silent}, "uuuuuu", false},
		{"tcp works", LayerAuto, []error{silent, silent, nil, nil, other, silent, nil}, "uutttuuu", false},
		{"never", LayerQUIC, []error{silent, silent, silent}, "uuuu", false},
		{"always", LayerTLS, []error{other, nil, other}, "tttt", false},
		{"no tcp", LayerAuto, []error{silent, silent, silent}, "uuuu", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &Manager{}
			if tc.socket {
				m.cfg.Socket = &net.UDPConn{}
			}
			d, got := &dialer{m: m, peer: Peer{Link: Properties{Layer: tc.layer}}}, ""
			for i := range len(tc.errs) + 1 {
				w := d.way()
				got += map[bool]string{true: "t", false: "u"}[w.tcp]
				if i < len(tc.errs) {
					d.learn(w, tc.errs[i])
				}
			}
			if got != tc.tcp {
				t.Errorf("went %s, want %s", got, tc.tcp)
			}
		})
	}
}

func TestDialErrorsOverTCP(t *testing.T) {
	m := newMesh(t)
	b := m.start("b", nil)
	other := newMeshOnly(t).start("b", nil)
	conf := b.cfg.TLSClient(addr.Node{})
	conf.CurvePreferences = []tls.CurveID{tls.X25519}
	classical, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for c, err := classical.Accept(); err == nil; c, err = classical.Accept() {
			_ = c.(*tls.Conn).Handshake()
			_ = c.Close()
		}
	})
	defer wg.Wait()
	defer classical.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for _, tc := range []struct {
		name   string
		peer   Peer
		change func(*Config)
		want   string
	}{
		{"wrong node", Peer{Address: b.addr, Node: addr.MustNode("c")}, nil, "b answers, not c"},
		{"other mesh", Peer{Address: other.addr}, nil, "authority"},
		{"other version", Peer{Address: b.addr}, func(c *Config) { c.Hello.Version = 9 }, "version 9"},
		{"nobody there", Peer{Address: udpPort(t)}, nil, "nobody listens"},
		{"no answer", Peer{Address: mute.Addr().String(), Link: Properties{Profile: ProfileLAN}}, nil, "may TCP pass"},
		{"not post-quantum", Peer{Address: classical.Addr().String()}, nil, "X25519MLKEM768"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.peer.Link.Layer = LayerTLS
			a := m.start("a", func(c *Config) {
				if tc.change != nil {
					tc.change(c)
				}
				c.Peers = []Peer{tc.peer}
			})
			if got := a.lastError(); !strings.Contains(got, tc.want) {
				t.Errorf("error %q, want one with %q", got, tc.want)
			}
			a.end()
		})
	}
	if n := len(b.events); n > 0 {
		t.Errorf("b saw %d sessions come or go", n)
	}
}

// TestSilentStrangersDoNotStopPeers: connections that say nothing are bounded,
// and make way for those that do.
func TestSilentStrangersDoNotStopPeers(t *testing.T) {
	m := newMesh(t)
	a := m.start("a", nil)
	for range maxPending + 10 {
		c, err := net.Dial("tcp", a.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	b := m.start("b", dialsTLS(a.addr))
	b.next("up")
	a.waiting.mu.Lock()
	defer a.waiting.mu.Unlock()
	if n := len(a.waiting.conns); n > maxPending {
		t.Errorf("%d connections wait, the limit is %d", n, maxPending)
	}
}

// TestBothDialOtherLayers: one session stays, whichever.
func TestBothDialOtherLayers(t *testing.T) {
	m := newMesh(t)
	pa, pb := udpPort(t), udpPort(t)
	a := m.start("a", func(c *Config) { c.Listen = pa; dials(pb)(c) })
	b := m.start("b", func(c *Config) { c.Listen = pb; dialsTLS(pa)(c) })
	until(func() bool {
		sa, sb := a.Session(b.cfg.Node), b.Session(a.cfg.Node)
		return sa != nil && sb != nil && sa.Layer() == sb.Layer() && !sa.fresh() && !sb.fresh()
	})
	sa := a.Session(b.cfg.Node)
	sa.Send(wire.Transfer{Class: bundle.Alarm, XID: 1, Bundle: []byte("x")})
	<-b.frames
}

func TestDownOfTLS(t *testing.T) {
	for _, tc := range []struct {
		err    error
		cause  Cause
		remote bool
	}{
		{&mux.CloseError{Code: Overflow.code(), Remote: true}, Overflow, true},
		{&mux.CloseError{Code: 99, Text: "later"}, Failed, false},
		{fmt.Errorf("%w: x", mux.ErrProtocol), Protocol, false},
		{fmt.Errorf("%w: %w", mux.ErrCut, io.EOF), Restarted, true},
		{mux.ErrIdle, Silent, false},
	} {
		if d := downOf(tc.err); d.Cause != tc.cause || d.Remote != tc.remote || d.Err == nil {
			t.Errorf("%v is %v", tc.err, d)
		}
	}
}

func TestTLSOnNarrowLinks(t *testing.T) {
	for _, tc := range []struct {
		p             Properties
		batch, unsent int
	}{
		{Properties{}, 0, 0},
		{Properties{Rate: 9600}, minBatch, minBatch},
		{Properties{Rate: 10e6}, 6250, 25000},
		{Properties{Rate: 10e9}, mux.DefaultBatch, mux.DefaultUnsent},
	} {
		if c := tc.p.muxConfig(true); c.Batch != tc.batch || c.Unsent != tc.unsent || c.Idle != tc.p.idleTimeout() || c.KeepAlive != tc.p.keepAlive() {
			t.Errorf("%+v: %+v", tc.p, c)
		}
	}
	for want, p := range map[string]Properties{
		"leave them out": {Layer: LayerTLS, Loss: 0.01},
		"":               {Layer: LayerTLS, OWLT: time.Second, Rate: 1e6, ReturnRate: 1e6},
	} {
		if err := p.Validate(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}
