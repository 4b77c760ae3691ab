package virtual_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/virtual"
)

// region of the nodes of these tests.
const region = "moon"

// noon is a time that certificates may begin at: a bubble begins in the year
// 2000, which only a broken clock has.
func noon() time.Time { return time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC) }

// mesh is an authority and what it certified, on a network.
type mesh struct {
	t    testing.TB
	net  *virtual.Net
	auth *pki.Authority
	mats map[string]*pki.Material
}

// newMesh waits until noon and makes a mesh. It is called in a bubble.
func newMesh(t testing.TB, c virtual.Config) *mesh {
	t.Helper()
	time.Sleep(time.Until(noon()))
	n, err := virtual.New(c)
	if err != nil {
		t.Fatal(err)
	}
	a, err := pki.NewAuthority(addr.MustRegion(region), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &mesh{t: t, net: n, auth: a, mats: map[string]*pki.Material{}}
}

// material returns the certificate of a node, the same each time.
func (m *mesh) material(name string) *pki.Material {
	m.t.Helper()
	if mat := m.mats[name]; mat != nil {
		return mat
	}
	id := identity.New()
	der, err := m.auth.Issue(pki.IssueRequest{Name: addr.MustNode(name), Region: addr.MustRegion(region), Keys: id.Public(), Now: time.Now()})
	if err != nil {
		m.t.Fatal(err)
	}
	mat, err := pki.NewMaterial(id, der, m.auth.Trust())
	if err != nil {
		m.t.Fatal(err)
	}
	m.mats[name] = mat
	return mat
}

// tls are the configurations to listen and to dial with.
func (m *mesh) tls(name string) (server *tls.Config, client func(addr.Node) *tls.Config) {
	m.t.Helper()
	mat := m.material(name)
	return pki.ListenerConfig(pki.Serving{Material: func() *pki.Material { return mat }, Now: time.Now, Log: slog.New(slog.DiscardHandler)}),
		func(pin addr.Node) *tls.Config { return pki.ClientConfig(mat, time.Now, pin) }
}

// home is the address of host i, from 1.
func home(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 7330)
}

// listen opens the socket of host i.
func (m *mesh) listen(i int) *virtual.Socket {
	m.t.Helper()
	s, err := m.net.Listen(home(i))
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

// config is that of host i. Its keys are the same each time, as if the node
// had them on disk; boot differs from run to run.
func (m *mesh) config(i int, name string, boot uint64, events link.Sink) link.Config {
	m.t.Helper()
	node, reg := addr.MustNode(name), addr.MustRegion(region)
	c := link.Config{
		Socket: m.listen(i), Node: node, Region: reg, Events: events, Log: slog.New(slog.DiscardHandler),
		Hello: wire.Hello{Version: wire.Version, Node: node, Region: reg, Boot: boot, MaxFrame: wire.MaxFrame, Software: "test"},
		Identify: func(state tls.ConnectionState) (link.Identity, error) {
			p, err := pki.PeerOf(state)
			return link.Identity{Node: p.Node, Region: p.Region, Kex: pki.KexName(state)}, err
		},
		StatelessResetKey: [32]byte{1, byte(i)}, TokenKey: [32]byte{2, byte(i)},
	}
	c.TLSServer, c.TLSClient = m.tls(name)
	binary.BigEndian.PutUint64(c.Seed[:], boot)
	c.Seed[31] = byte(i)
	return c
}

// run starts a manager; stop ends it and waits until it has.
func (m *mesh) run(c link.Config) (mgr *link.Manager, stop func()) {
	m.t.Helper()
	mgr, err := link.New(c)
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Run(ctx) }()
	return mgr, func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Errorf("%s: %v", c.Node, err)
		}
	}
}
