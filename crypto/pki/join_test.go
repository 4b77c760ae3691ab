package pki

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

func TestVerifyJoin(t *testing.T) {
	m, foreign := newMesh(t), newMesh(t)
	gw, luna := m.node(t, "gw-1", "earth"), m.node(t, "luna-1", "luna")
	alien := foreign.node(t, "gw-1", "earth")
	now := at(start())
	hash, issuer := m.Trust().Hash(), addr.MustNode("gw-1")
	genuine := JoinServerConfig(gw, now)
	// An impostor with a genuine root in its chain, and a copy of the bundle.
	impostor := JoinServerConfig(alien, now)
	impostor.Certificates[0].Certificate[1] = m.trust.RootCertDER
	for _, c := range []struct {
		name   string
		server *tls.Config
		trust  *Trust // what the server sends
		now    time.Time
		want   error
		says   string
	}{
		{"genuine", genuine, m.Trust(), start(), nil, ""},
		{"genuine, clock in 1970", genuine, m.Trust(), time.Unix(0, 0), nil, ""},
		{"another authority", JoinServerConfig(alien, now), foreign.Trust(), start(), ErrAuthority, hash.String()},
		{"another authority with a copy of the bundle", JoinServerConfig(alien, now), m.Trust(), start(), ErrAuthority, "right trust bundle"},
		{"another authority with bundle and root", impostor, m.Trust(), start(), ErrAuthority, "right trust bundle"},
		{"a node of the mesh that is not the issuer", JoinServerConfig(luna, now), m.Trust(), start(), ErrWrongNode, "luna-1 answers"},
		{"no bundle", genuine, nil, start(), ErrTrust, "none received"},
		{"expired", genuine, m.Trust(), start().Add(2 * LeafLife), ErrExpired, "gw-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := connect(t, c.server, JoinClientConfig(now))
			if o.clientErr != nil || o.serverErr != nil || KexName(o.client) != "X25519MLKEM768" {
				t.Fatalf("client %v, server %v, %s", o.clientErr, o.serverErr, KexName(o.client))
			}
			p, err := VerifyJoin(c.trust, hash, issuer, o.client, c.now)
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Fatalf("error = %v, want %v", err, c.want)
			}
			if c.want != nil {
				mentions(t, err, c.says)
			} else if p != gw.Self() {
				t.Errorf("server = %+v", p)
			}
		})
	}
}

func TestVerifyJoinNeedsAJoinConnection(t *testing.T) {
	m := newMesh(t)
	gw, luna := m.node(t, "gw-1", "earth"), m.node(t, "luna-1", "luna")
	o := connect(t, ServerConfig(gw, at(start()), discard()), ClientConfig(luna, at(start()), addr.Node{}))
	if o.clientErr != nil {
		t.Fatal(o.clientErr)
	}
	if _, err := VerifyJoin(m.Trust(), m.Trust().Hash(), addr.Node{}, o.client, start()); !errors.Is(err, errALPN) {
		t.Errorf("a link's state: %v", err)
	}
	if _, err := VerifyJoin(m.Trust(), m.Trust().Hash(), addr.Node{}, tls.ConnectionState{}, start()); !errors.Is(err, ErrKeyExchange) {
		t.Errorf("no connection: %v", err)
	}
}

func TestJoinHandshakeRefuses(t *testing.T) {
	m := newMesh(t)
	gw := m.node(t, "gw-1", "earth")
	now := at(start())
	noRoot := JoinServerConfig(gw, now)
	noRoot.Certificates = []tls.Certificate{gw.certificate(false)}
	classical := JoinClientConfig(now)
	classical.CurvePreferences = []tls.CurveID{tls.X25519}
	if o := connect(t, noRoot, JoinClientConfig(now)); !errors.Is(o.clientErr, ErrCertificate) {
		t.Errorf("server without its root: %v", o.clientErr)
	}
	if o := connect(t, JoinServerConfig(gw, now), classical); o.serverErr == nil {
		t.Error("a classical client may join")
	}
}
