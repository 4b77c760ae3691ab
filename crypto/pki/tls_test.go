package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// outcome is what the two ends of one connection saw. A server refuses after
// the client has finished its handshake, so both also exchange a byte.
type outcome struct {
	client, server       tls.ConnectionState
	clientErr, serverErr error
}

// connect runs a handshake over loopback TCP.
func connect(t *testing.T, server, client *tls.Config) outcome {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return handshake(c, s, server, client)
}

func handshake(c, s net.Conn, server, client *tls.Config) (o outcome) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.Close()
		conn := tls.Server(s, server)
		if o.serverErr = conn.Handshake(); o.serverErr == nil {
			_, o.serverErr = conn.Write([]byte{1})
		}
		o.server = conn.ConnectionState()
	}()
	conn := tls.Client(c, client)
	if o.clientErr = conn.Handshake(); o.clientErr == nil {
		_, o.clientErr = io.ReadFull(conn, make([]byte, 1)) // takes in session tickets too
	}
	o.client = conn.ConnectionState()
	c.Close()
	<-done
	return o
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestLinkOverPipe(t *testing.T) {
	m := newMesh(t)
	gw, luna := m.node(t, "gw-1", "earth"), m.node(t, "luna-1", "luna")
	c, s := net.Pipe()
	o := handshake(c, s, ServerConfig(gw, at(start()), discard()), ClientConfig(luna, at(start()), addr.MustNode("gw-1")))
	if o.clientErr != nil || o.serverErr != nil {
		t.Fatalf("client %v, server %v", o.clientErr, o.serverErr)
	}
	for _, end := range []struct {
		state tls.ConnectionState
		peer  Peer
	}{{o.client, gw.Self()}, {o.server, luna.Self()}} {
		if got := KexName(end.state); got != "X25519MLKEM768" {
			t.Errorf("key exchange %s", got)
		}
		if p, err := PeerOf(end.state); err != nil || p != end.peer {
			t.Errorf("peer = %+v, %v; want %+v", p, err, end.peer)
		}
	}
	if KexName(tls.ConnectionState{}) != "none" {
		t.Error("a key exchange before any handshake")
	}
	if _, err := PeerOf(tls.ConnectionState{}); err == nil {
		t.Error("a peer before any handshake")
	}
}

func TestLinkRefuses(t *testing.T) {
	m, foreign := newMesh(t), newMesh(t)
	gw, luna := m.node(t, "gw-1", "earth"), m.node(t, "luna-1", "luna")
	alien := foreign.node(t, "gw-1", "earth")
	now, late := at(start()), at(start().Add(LeafLife+time.Hour))
	server := func(mat *Material) *tls.Config { return ServerConfig(mat, now, discard()) }
	client := func(mat *Material) *tls.Config { return ClientConfig(mat, now, addr.MustNode("gw-1")) }
	with := func(c *tls.Config, change func(*tls.Config)) *tls.Config { change(c); return c }
	classical := func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }
	blind := func(c *tls.Config) { c.VerifyConnection = nil }
	unchecked := func(c *tls.Config) { classical(c); blind(c) }
	for _, c := range []struct {
		name           string
		server, client *tls.Config
		refuser        string // which end's error is checked
		want           error
		says           string
	}{
		{"X25519-only client", server(gw), with(client(luna), unchecked), "server", nil, "no key exchanges supported"},
		{"X25519-only server", with(server(gw), unchecked), client(luna), "server", nil, "no key exchanges supported"},
		{"X25519-only server, seen by the client", with(server(gw), unchecked), client(luna), "client", nil, "handshake failure"},
		{"server list edited, check holds", with(server(gw), classical), with(client(luna), unchecked), "server", ErrKeyExchange, "X25519, want"},
		{"client list edited, check holds", with(server(gw), unchecked), with(client(luna), classical), "client", ErrKeyExchange, "X25519, want"},
		{"TLS 1.2 client", server(gw), with(client(luna), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }), "server", nil, "unsupported versions"},
		{"server of another mesh", server(alien), client(luna), "client", ErrChain, m.Trust().Hash().String()},
		{"client of another mesh", server(gw), with(client(alien), blind), "server", ErrChain, "gw-1"},
		{"no client certificate", server(gw), with(client(luna), func(c *tls.Config) { c.Certificates = nil }), "server", nil, "certificate"},
		{"wrong node", server(luna), client(luna), "client", ErrWrongNode, "luna-1 answers, not gw-1"},
		{"expired server", server(gw), ClientConfig(luna, late, addr.Node{}), "client", ErrExpired, "gw-1"},
		{"expired client", ServerConfig(gw, late, discard()), client(luna), "server", ErrExpired, "luna-1"},
		{"other protocol", server(gw), with(client(luna), func(c *tls.Config) { c.NextProtos = []string{"h2"} }), "server", nil, "application protocol"},
		{"no protocol", server(gw), with(client(luna), func(c *tls.Config) { blind(c); c.NextProtos = nil }), "server", errALPN, "farhop/1"},
		{"join without join", server(gw), JoinClientConfig(now), "server", nil, "application protocol"},
		{"root as leaf", server(gw), with(client(luna), func(c *tls.Config) { c.Certificates = rootAsLeaf(m) }), "server", ErrCertificate, "authority's"},
		{"leaf for servers only", server(gw), client(m.forge(t, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		})), "server", nil, "usage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := connect(t, c.server, c.client)
			err := o.serverErr
			if c.refuser == "client" {
				err = o.clientErr
			}
			if o.clientErr == nil {
				t.Fatalf("the client got through; server: %v", o.serverErr)
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s: error = %v, want %v", c.refuser, err, c.want)
			}
			mentions(t, err, c.says)
		})
	}
}

// rootAsLeaf presents the authority's own certificate, with its key.
func rootAsLeaf(m *mesh) []tls.Certificate {
	return []tls.Certificate{{Certificate: [][]byte{m.trust.RootCertDER}, PrivateKey: m.keys.Root}}
}

func TestClocks(t *testing.T) {
	m := newMesh(t)
	gw := m.node(t, "gw-1", "earth")
	luna := m.node(t, "luna-1", "luna")
	epoch := at(time.Unix(0, 0))
	year := 365 * 24 * time.Hour
	for _, c := range []struct {
		name   string
		client func() time.Time
		want   error
	}{
		{"1970, floor at the ticket", FloorClock(start(), epoch), nil},
		{"1970, floor before the peer's certificate", FloorClock(start().Add(-year), epoch), nil},
		{"1970, no floor", epoch, nil},
		{"1970, floor after the peer's certificate", FloorClock(start().Add(2*year), epoch), ErrExpired},
		{"right clock, old floor", FloorClock(start().Add(-year), at(start())), nil},
		{"right clock, late", FloorClock(start(), at(start().Add(2*year))), ErrExpired},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := connect(t, ServerConfig(gw, at(start()), discard()), ClientConfig(luna, c.client, addr.Node{}))
			if !errors.Is(o.clientErr, c.want) {
				t.Errorf("client dials: %v, want %v", o.clientErr, c.want)
			}
			o = connect(t, ServerConfig(luna, c.client, discard()), ClientConfig(gw, at(start()), addr.Node{}))
			if !errors.Is(o.serverErr, c.want) {
				t.Errorf("server accepts: %v, want %v", o.serverErr, c.want)
			}
		})
	}
}

func TestResumptionKeepsAllChecks(t *testing.T) {
	m := newMesh(t)
	gw, luna := m.node(t, "gw-1", "earth"), m.node(t, "luna-1", "luna")
	now := start()
	clock := func() time.Time { return now }
	server := ListenerConfig(Serving{Material: func() *Material { return gw }, Now: clock, Log: discard()})
	cache := tls.NewLRUClientSessionCache(4)
	dial := func(want string) *tls.Config {
		c := ClientConfig(luna, clock, addr.MustNode(want))
		c.ClientSessionCache, c.ServerName = cache, "mesh"
		return c
	}
	for i := range 3 {
		o := connect(t, server, dial("gw-1"))
		if o.clientErr != nil || o.serverErr != nil {
			t.Fatalf("connection %d: client %v, server %v", i, o.clientErr, o.serverErr)
		}
		if o.client.DidResume != (i > 0) || KexName(o.client) != "X25519MLKEM768" {
			t.Errorf("connection %d: resumed %v by %s", i, o.client.DidResume, KexName(o.client))
		}
		if p, err := PeerOf(o.server); err != nil || p != luna.Self() {
			t.Errorf("connection %d: peer %+v, %v", i, p, err)
		}
	}
	if o := connect(t, server, dial("gw-2")); !errors.Is(o.clientErr, ErrWrongNode) || !o.client.DidResume {
		t.Errorf("resumed to the wrong node: %v, resumed %v", o.clientErr, o.client.DidResume)
	}
	// The server moves to another mesh: the session is still good for TLS.
	if o := connect(t, server, dial("gw-1")); o.clientErr != nil { // a failed resumption spends its ticket
		t.Fatal(o.clientErr)
	}
	gw = newMesh(t).node(t, "gw-1", "earth")
	if o := connect(t, server, dial("gw-1")); !errors.Is(o.serverErr, ErrChain) || !o.client.DidResume {
		t.Errorf("resumed across meshes: server %v, resumed %v", o.serverErr, o.client.DidResume)
	}
	gw, now = m.node(t, "gw-1b", "earth"), start().Add(LeafLife+time.Hour)
	if o := connect(t, server, dial("gw-1")); o.clientErr == nil {
		t.Error("resumed with an expired certificate")
	}
}

// TestTicketsOutliveTheProcess: what another process gave is taken with the
// same secret, for days, and with no other.
func TestTicketsOutliveTheProcess(t *testing.T) {
	m := newMesh(t)
	gw, luna := m.node(t, "gw-1", "earth"), m.node(t, "luna-1", "luna")
	for _, c := range []struct {
		name   string
		after  time.Duration
		secret [32]byte
		want   bool
	}{
		{"at once", time.Minute, [32]byte{1}, true},
		{"in six days", 6*24*time.Hour + time.Hour, [32]byte{1}, true},
		{"clock was ahead", -20 * time.Hour, [32]byte{1}, true},
		{"in nine days", 9 * 24 * time.Hour, [32]byte{1}, false},
		{"another secret", time.Minute, [32]byte{2}, false},
		{"no secret", time.Minute, [32]byte{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			now, cache := start(), tls.NewLRUClientSessionCache(4)
			clock := func() time.Time { return now }
			resumed := func(secret [32]byte) bool {
				server := ListenerConfig(Serving{Material: func() *Material { return gw }, Resume: secret, Now: clock, Log: discard()})
				conf := ClientConfig(luna, clock, addr.MustNode("gw-1"))
				conf.ClientSessionCache, conf.ServerName = cache, "mesh"
				o := connect(t, server, conf)
				if o.clientErr != nil || o.serverErr != nil {
					t.Fatal(o.clientErr, o.serverErr)
				}
				return o.client.DidResume
			}
			if resumed([32]byte{1}) {
				t.Fatal("resumed without a ticket")
			}
			now = now.Add(c.after)
			if got := resumed(c.secret); got != c.want {
				t.Errorf("resumed %v, want %v", got, c.want)
			}
		})
	}
}

func TestDowngradeIsLogged(t *testing.T) {
	m := newMesh(t)
	gw, luna := m.node(t, "gw-1", "earth"), m.node(t, "luna-1", "luna")
	for _, name := range []string{"server", "listener"} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			log := slog.New(slog.NewTextHandler(&out, nil))
			server := ServerConfig(gw, at(start()), log)
			if name == "listener" {
				server = ListenerConfig(Serving{Material: func() *Material { return gw }, Joins: true, Now: at(start()), Log: log})
			}
			client := ClientConfig(luna, at(start()), addr.Node{})
			connect(t, server, client)
			if out.Len() > 0 {
				t.Errorf("a good client is logged: %s", out.String())
			}
			client.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
			if o := connect(t, server, client); o.serverErr == nil {
				t.Error("a classical client got through")
			}
			for _, want := range []string{"peer 127.0.0.1:", "offers only X25519,CurveP256; update it", "want=X25519MLKEM768"} {
				if !bytes.Contains(out.Bytes(), []byte(want)) {
					t.Errorf("log lacks %q: %s", want, out.String())
				}
			}
		})
	}
}
