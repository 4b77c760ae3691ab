package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

func TestDialErrorsAreExplained(t *testing.T) {
	m := newMesh(t)
	b := m.start("b", nil)
	other := newMeshOnly(t).start("b", nil)
	for _, tc := range []struct {
		name   string
		peer   Peer
		change func(*Config)
		want   string
	}{
		{"wrong node", Peer{Address: b.addr, Node: addr.MustNode("c")}, nil, "b answers, not c"},
		{"other mesh", Peer{Address: other.addr}, nil, "authority"},
		{"itself", Peer{Address: "self"}, nil, "this node itself"},
		{
			"hello and certificate differ",
			Peer{Address: b.addr},
			func(c *Config) { c.Hello.Region = addr.MustRegion("luna") },
			"says region luna, its certificate says earth",
		},
		{"other version", Peer{Address: b.addr}, func(c *Config) { c.Hello.Version = 9 }, "version 9"},
		{"no such name", Peer{Address: "nowhere.invalid:1"}, nil, "nowhere.invalid"},
		{"nobody there", Peer{Address: udpPort(t), Link: Properties{OWLT: time.Millisecond}}, nil, "is farhop running there"},
		{"not post-quantum", Peer{Address: classicalServer(t, b)}, nil, "X25519MLKEM768"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := m.start("a", func(c *Config) {
				if tc.change != nil {
					tc.change(c)
				}
				if tc.peer.Address == "self" {
					c.Listen = udpPort(t)
					tc.peer.Address = c.Listen
				}
				c.Peers = []Peer{tc.peer}
			})
			if got := a.lastError(); !strings.Contains(got, tc.want) {
				t.Errorf("error %q, want one with %q", got, tc.want)
			}
			if st := a.Peers()[0]; st.Connected || st.Address != tc.peer.Address {
				t.Errorf("state %+v", st)
			}
			a.end()
		})
	}
	if n := len(b.events); n > 0 {
		t.Errorf("b saw %d sessions come or go", n)
	}
}

// classicalServer listens with b's certificate and X25519 alone.
func classicalServer(t *testing.T, b *testNode) string {
	t.Helper()
	conf := b.cfg.TLSClient(addr.Node{})
	conf.CurvePreferences = []tls.CurveID{tls.X25519}
	ln, err := quic.ListenAddr("127.0.0.1:0", conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

// rawDial makes a connection as another program might.
func rawDial(t *testing.T, to string, conf *tls.Config) (*quic.Conn, error) {
	t.Helper()
	conn, err := quic.DialAddr(t.Context(), to, conf, nil)
	if err == nil {
		t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	}
	return conn, err
}

func TestClassicalPeerIsRefused(t *testing.T) {
	m := newMesh(t)
	a := m.start("a", nil)
	conf := pki.ClientConfig(m.material(addr.MustNode("b")), time.Now, addr.Node{})
	conf.CurvePreferences = []tls.CurveID{tls.X25519}
	if _, err := rawDial(t, a.addr, conf); err == nil {
		t.Error("a peer without X25519MLKEM768 got a connection")
	}
	// Even if the listener's own configuration lets it pass.
	lax := m.start("c", func(c *Config) {
		mat := m.material(c.Node)
		c.TLSServer = pki.ServerConfig(mat, time.Now, c.Log)
		c.TLSServer.CurvePreferences = nil
		c.TLSServer.VerifyConnection = nil
	})
	conf.VerifyConnection = nil
	conn, err := rawDial(t, lax.addr, conf)
	if err != nil {
		t.Fatal(err)
	}
	<-conn.Context().Done()
	if d := downOf(context.Cause(conn.Context())); d.Cause != Refused || !d.Remote {
		t.Errorf("hung up for %v", d)
	}
	if len(lax.events) > 0 {
		t.Error("a session came up")
	}
}

// impostor is a node that follows the protocol up to Hello.
func impostor(t *testing.T, m *mesh, name, to string) (*quic.Conn, *quic.Stream) {
	t.Helper()
	node := addr.MustNode(name)
	conn, err := rawDial(t, to, pki.ClientConfig(m.material(node), time.Now, addr.Node{}))
	if err != nil {
		t.Fatal(err)
	}
	st, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h := wire.Hello{Version: wire.Version, Node: node, Region: earth, Boot: 1, MaxFrame: wire.MaxFrame}
	if _, err := st.Write(wire.Append(nil, h)); err != nil {
		t.Fatal(err)
	}
	return conn, st
}

func TestBadFramesEndOnlyTheirSession(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<40)
	malformed := []byte{3, byte(wire.TypeAck), 0xff, 0xff}
	for _, tc := range []struct {
		name string
		data []byte
		uni  bool
	}{
		{"too large on a data stream", huge, true},
		{"too large on the control stream", huge, false},
		{"malformed on a data stream", malformed, true},
		{"malformed on the control stream", malformed, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMesh(t)
			a := m.start("a", nil)
			good := m.start("b", dials(a.addr))
			keep := a.next("up").s
			good.next("up")
			conn, st := impostor(t, m, "z", a.addr)
			bad := a.next("up").s
			w := io.Writer(st)
			if tc.uni {
				uni, err := conn.OpenUniStreamSync(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				w = uni
			}
			if _, err := w.Write(tc.data); err != nil {
				t.Fatal(err)
			}
			if e := a.next("down"); e.s != bad || e.why.Cause != Protocol || e.why.Remote {
				t.Errorf("down: %s for %v", e.s.Node(), e.why)
			}
			if !keep.Send(wire.Ping{}) {
				t.Error("the other session is over too")
			}
			<-good.frames
		})
	}
}

func TestUnknownFramesAreSkipped(t *testing.T) { overBoth(t, testUnknownFramesAreSkipped) }

func testUnknownFramesAreSkipped(t *testing.T, dials dialing) {
	m := newMesh(t)
	a := m.start("a", nil)
	_, st := impostor(t, m, "z", a.addr)
	a.next("up")
	data := wire.Append([]byte{4, 200, 1, 2, 3}, wire.Ping{Stamp: 5})
	if _, err := st.Write(data); err != nil {
		t.Fatal(err)
	}
	if f := <-a.frames; f != (wire.Ping{Stamp: 5}) {
		t.Errorf("got %v", f)
	}
}

func TestOverflowEndsTheSessionAndVolatileIsShed(t *testing.T) {
	overBoth(t, testOverflowEndsTheSessionAndVolatileIsShed)
}

func testOverflowEndsTheSessionAndVolatileIsShed(t *testing.T, dials dialing) {
	m := newMesh(t)
	b := m.start("b", nil)
	hold := make(chan struct{})
	b.hold = hold
	a := m.start("a", func(c *Config) {
		dials(b.addr)(c)
		c.SendBudget = 1 << 20
	})
	s := a.next("up").s
	s.Send(wire.Ping{}) // its sink call blocks all further reading
	payload := make([]byte, 100_000)
	for s.Stats().VolatileShed == 0 {
		if !s.Send(wire.Volatile{Bundle: payload}) {
			t.Fatal("volatile frames ended the session")
		}
	}
	for xid := uint64(1); s.Send(wire.Transfer{Class: bundle.Bulk, XID: xid, Bundle: payload}); xid++ {
		if q := s.Stats().Queued; q > 2<<20 {
			t.Fatalf("%d bytes wait, the budget is 1 MiB", q)
		}
	}
	if e := a.next("down"); e.why.Cause != Overflow {
		t.Errorf("down for %v", e.why)
	}
	close(hold)
}

func TestFrameBeyondThePeersLimitIsNotSent(t *testing.T) {
	overBoth(t, testFrameBeyondThePeersLimitIsNotSent)
}

func testFrameBeyondThePeersLimitIsNotSent(t *testing.T, dials dialing) {
	m := newMesh(t)
	b := m.start("b", func(c *Config) { c.Hello.MaxFrame = 64 << 10 })
	a := m.start("a", dials(b.addr))
	s := a.next("up").s
	if s.MaxFrame() != 64<<10 {
		t.Errorf("peer takes %d", s.MaxFrame())
	}
	if s.Send(wire.Transfer{Class: bundle.Bulk, XID: 1, Bundle: make([]byte, 65<<10)}) {
		t.Error("a frame the peer cannot take was accepted")
	}
	if e := a.next("down"); e.why.Cause != Protocol || e.why.Remote {
		t.Errorf("down for %v", e.why)
	}
}

func TestPortTaken(t *testing.T) {
	m := newMesh(t)
	a := m.start("a", nil)
	cfg := m.config("b")
	cfg.Listen, cfg.Events = a.addr, a
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = b.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), a.addr) || !strings.Contains(err.Error(), "mesh.listen") {
		t.Errorf("error %v, want one that names %s and mesh.listen", err, a.addr)
	}
}

func TestManyStrangersDoNotStopPeers(t *testing.T) {
	m := newMesh(t)
	a := m.start("a", nil)
	junk, err := net.Dial("udp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer junk.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 2000 { // long header, version 1, of no use
			_, _ = junk.Write(append([]byte{0xc0, 0, 0, 0, 1, 8}, bytes.Repeat([]byte{9}, 1200)...))
		}
	})
	b := m.start("b", dials(a.addr))
	b.next("up")
	wg.Wait()
}

// TestStrangersAreBounded: of connections that have not shown who they are so
// many wait, and who goes makes room.
func TestStrangersAreBounded(t *testing.T) {
	m := newMesh(t)
	cfg := m.config("a")
	cfg.Events = &testNode{}
	mgr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	info := &quic.ClientInfo{RemoteAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 9), Port: 9}}
	ctx, cancel := context.WithCancel(t.Context())
	for i := range maxPending {
		c := t.Context()
		if i == 0 {
			c = ctx
		}
		if _, err := mgr.admit(c, info); err != nil {
			t.Fatalf("connection %d: %v", i+1, err)
		}
	}
	if _, err := mgr.admit(t.Context(), info); err == nil {
		t.Errorf("connection %d was admitted", maxPending+1)
	}
	cancel()
	until(func() bool { return mgr.pending.Load() < maxPending })
	if _, err := mgr.admit(t.Context(), info); err != nil {
		t.Errorf("after one went: %v", err)
	}
}

func TestConfigFaultsAreAllNamed(t *testing.T) {
	m := newMesh(t)
	cfg := m.config("a")
	cfg.Listen, cfg.Events = "nonsense", nil
	cfg.Hello.MaxFrame = 10
	cfg.Peers = []Peer{{Address: "x"}, {Address: "h:1", Node: cfg.Node}, {Address: "h:1", Link: Properties{
		OWLT: -1, Contacts: []Window{{Every: time.Hour, For: 2 * time.Hour}},
	}}}
	_, err := New(cfg)
	for _, want := range []string{"listen", "events", "max frame", "peers[0].address", "peers[1].node", "listed twice", "contacts[0]", "owlt"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
}

func FuzzReadLoop(f *testing.F) {
	f.Add(wire.Append(wire.Append(nil, wire.Ping{Stamp: 1}), wire.Ack{Class: bundle.Bulk, XID: 9}))
	f.Add([]byte{0})
	f.Add([]byte{4, 200, 1, 2, 3, 1, 1})
	f.Add(binary.AppendUvarint(nil, 1<<62))
	f.Fuzz(func(t *testing.T, data []byte) {
		frames := 0
		err := readLoop(newReader(bytes.NewReader(data)), 4096, func(batch []wire.Frame) { frames += len(batch) })
		if err == nil {
			t.Error("the end of data is no error")
		}
		if errors.Is(err, io.EOF) && frames == 0 && len(data) > 4096 {
			t.Errorf("%d bytes without a frame or a fault", len(data))
		}
	})
}
