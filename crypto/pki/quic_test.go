package pki

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/routing/addr"
)

// serveQUIC accepts connections on loopback until the test ends. Each is given
// to handle, or on nil held open until the client closes it.
func serveQUIC(t *testing.T, conf *tls.Config, handle func(*quic.Conn)) (address string) {
	t.Helper()
	ln, err := quic.ListenAddr("127.0.0.1:0", conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept(context.Background())
			if err != nil {
				return // closed below
			}
			if handle != nil {
				handle(conn)
			}
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// dialQUIC connects and waits for the server's verdict: a client's handshake
// ends before the server has judged its certificate.
func dialQUIC(t *testing.T, address string, conf *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	conn, err := quic.DialAddr(t.Context(), address, conf, nil)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.CloseWithError(0, "")
	s, err := conn.AcceptUniStream(t.Context())
	if err != nil {
		return tls.ConnectionState{}, err
	}
	_, err = io.ReadAll(s)
	return conn.ConnectionState().TLS, err
}

// greet opens a stream, which says that the client was accepted.
func greet(conn *quic.Conn) {
	if s, err := conn.OpenUniStream(); err == nil {
		s.Write([]byte{1})
		s.Close()
	}
}

func TestQUICLink(t *testing.T) {
	m := newMesh(t)
	gw, luna := m.node(t, "gw-1", "earth"), m.node(t, "luna-1", "luna")
	alien := newMesh(t).node(t, "luna-1", "luna")
	now, want := at(start()), addr.MustNode("gw-1")
	blindX25519 := func(c *tls.Config) *tls.Config {
		c.CurvePreferences, c.VerifyConnection = []tls.CurveID{tls.X25519}, nil
		return c
	}
	blind := func(c *tls.Config) *tls.Config { c.VerifyConnection = nil; return c }
	good := serveQUIC(t, ServerConfig(gw, now, discard()), greet)
	classical := serveQUIC(t, blindX25519(ServerConfig(gw, now, discard())), greet)
	foreign := serveQUIC(t, ServerConfig(alien, now, discard()), greet)
	state, err := dialQUIC(t, good, ClientConfig(luna, now, want))
	if err != nil || KexName(state) != "X25519MLKEM768" {
		t.Fatalf("good link: %s, %v", KexName(state), err)
	}
	if p, err := PeerOf(state); err != nil || p != gw.Self() {
		t.Errorf("peer = %+v, %v", p, err)
	}
	for _, c := range []struct {
		name, address string
		client        *tls.Config
		says          string
	}{
		{"X25519-only client", good, blindX25519(ClientConfig(luna, now, want)), "handshake failure"},
		{"X25519-only server", classical, ClientConfig(luna, now, want), "handshake failure"},
		{"server of another mesh", foreign, ClientConfig(luna, now, want), "not signed by this mesh"},
		{"client of another mesh", good, blind(ClientConfig(alien, now, want)), "bad certificate"},
		{"wrong node", good, ClientConfig(luna, now, addr.MustNode("gw-2")), "gw-1 answers, not gw-2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := dialQUIC(t, c.address, c.client)
			var refused *quic.TransportError
			if !errors.As(err, &refused) || !refused.ErrorCode.IsCryptoError() {
				t.Fatalf("error = %v, want a TLS refusal", err)
			}
			mentions(t, err, c.says)
		})
	}
}

func TestRenewedCertificateServesAtOnce(t *testing.T) {
	m := newMesh(t)
	gw, luna := m.node(t, "gw-1", "earth"), m.node(t, "luna-1", "luna")
	var current atomic.Pointer[Material]
	current.Store(gw)
	address := serveQUIC(t, ListenerConfig(Serving{Material: current.Load, Now: at(start()), Log: discard()}), greet)
	for range 2 {
		state, err := dialQUIC(t, address, ClientConfig(luna, at(start()), addr.MustNode("gw-1")))
		if err != nil {
			t.Fatal(err)
		}
		if leaf := state.PeerCertificates[0]; !leaf.Equal(current.Load().Leaf()) {
			t.Error("the listener shows an old certificate")
		}
		cert, err := m.ledger.Admit(IssueRequest{Name: addr.MustNode("gw-1"), Region: addr.MustRegion("earth"), Keys: gw.Identity.Public(), Now: start()})
		if err != nil {
			t.Fatal(err)
		}
		renewed, err := NewMaterial(gw.Identity, cert, m.Trust())
		if err != nil {
			t.Fatal(err)
		}
		current.Store(renewed)
	}
	if _, err := dialQUIC(t, address, JoinClientConfig(at(start()))); err == nil {
		t.Error("a listener without Joins accepts a join")
	}
}

// TestJoinThenLink is the whole way of a new node over one QUIC listener: the
// ticket as text, join, certificate, restart, link.
func TestJoinThenLink(t *testing.T) {
	m := newMesh(t)
	ledger, err := CreateLedger(m.Authority, filepath.Join(keyDir(t), LedgerFile))
	if err != nil {
		t.Fatal(err)
	}
	m.ledger = ledger
	gw := m.node(t, "gw-1", "earth")
	now := at(start())
	serving := Serving{Material: func() *Material { return gw }, Joins: true, Now: now, Log: discard()}
	address := serveQUIC(t, ListenerConfig(serving), func(conn *quic.Conn) {
		if conn.ConnectionState().TLS.NegotiatedProtocol == JoinALPN {
			if err := serveJoin(conn, m); err != nil {
				t.Errorf("join server: %v", err)
			}
			return
		}
		greet(conn)
	})
	ticket, err := m.ledger.Invite(Invitation{Region: addr.MustRegion("luna/south"), Issuer: gw.Self().Node, Addresses: []string{address}}, start())
	if err != nil {
		t.Fatal(err)
	}
	dir := keyDir(t)
	for range 2 { // the second time as if the answer had been lost
		mat, err := join(t.Context(), ticket.Text(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := mat.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	mat, err := LoadMaterial(dir)
	if err != nil {
		t.Fatal(err)
	}
	if issued := m.ledger.Issued(); len(issued) != 2 || issued[1].Name != mat.Self().Node {
		t.Errorf("issued: %+v", issued)
	}
	state, err := dialQUIC(t, address, ClientConfig(mat, now, ticket.Issuer))
	if err != nil || KexName(state) != "X25519MLKEM768" {
		t.Errorf("link after join: %s, %v", KexName(state), err)
	}
	if _, err := join(t.Context(), ticket.Text(), keyDir(t)); err == nil {
		t.Error("a second box joined with the same ticket")
	}
}

// serveJoin answers one join: trust bundle out; ticket id, secret and request
// in; certificate out, or nothing.
func serveJoin(conn *quic.Conn, m *mesh) error {
	s, err := conn.OpenStream()
	if err != nil {
		return err
	}
	defer s.Close()
	if err := writeMsg(s, m.Trust().Encode()); err != nil {
		return err
	}
	msg, err := readMsg(s)
	if err != nil {
		return err
	}
	req, err := ParseRequest(msg[48:])
	if err != nil {
		return err
	}
	cert, err := redeemSecret(m.ledger, TicketID(msg[:16]), Secret(msg[16:48]), req, start())
	if errors.Is(err, ErrTicketUsed) {
		return nil
	}
	return errors.Join(err, writeMsg(s, cert))
}

// join is the new node's side; its clock stands in 1970.
func join(ctx context.Context, text, dir string) (*Material, error) {
	ticket, err := ParseTicket(text)
	if err != nil {
		return nil, err
	}
	id, _, err := identity.LoadOrNew(dir)
	if err != nil {
		return nil, err
	}
	clock := FloorClock(ticket.IssuedAt, at(start().AddDate(-57, 0, 0)))
	conn, err := quic.DialAddr(ctx, ticket.Addresses[0], JoinClientConfig(clock), nil)
	if err != nil {
		return nil, err
	}
	defer conn.CloseWithError(0, "")
	s, err := conn.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	bundle, err := readMsg(s)
	if err != nil {
		return nil, err
	}
	trust, err := ParseTrust(bundle)
	if err != nil {
		return nil, err
	}
	if _, err := VerifyJoin(trust, ticket.Authority, ticket.Issuer, conn.ConnectionState().TLS, clock()); err != nil {
		return nil, err
	}
	req, err := NewRequest(id, addr.Node{}, ticket.Region, ticket.ID)
	if err != nil {
		return nil, err
	}
	if err := writeMsg(s, append(append(ticket.ID[:], ticket.Secret[:]...), req.Encode()...)); err != nil {
		return nil, err
	}
	cert, err := readMsg(s)
	if err != nil {
		return nil, fmt.Errorf("no certificate: %w", err)
	}
	return NewMaterial(id, cert, trust)
}

func writeMsg(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

func readMsg(r io.Reader) ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}
