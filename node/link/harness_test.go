package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
)

var earth = addr.MustRegion("earth")

// mesh is an authority and the nodes it has certified.
type mesh struct {
	t     testing.TB
	auth  *pki.Authority
	mu    sync.Mutex
	known map[addr.Node]*pki.Material
	ahead time.Duration // of the clock that certificates are made by
}

func newMesh(t testing.TB) *mesh {
	t.Helper()
	noLeaks(t)
	return newMeshOnly(t)
}

// newMeshOnly is newMesh for a second mesh in one test.
func newMeshOnly(t testing.TB) *mesh {
	t.Helper()
	a, err := pki.NewAuthority(earth, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &mesh{t: t, auth: a, known: map[addr.Node]*pki.Material{}}
}

// noLeaks fails the test when goroutines of this package outlive its nodes.
func noLeaks(t testing.TB) {
	t.Cleanup(func() {
		var stacks string
		for range 2000 { // 20 s: a busy machine takes more than two
			buf := make([]byte, 1<<20)
			stacks = string(buf[:runtime.Stack(buf, true)])
			if strings.Count(stacks, "node/link.(*") == 0 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("goroutines left:\n%s", stacks)
	})
}

func (m *mesh) material(name addr.Node) *pki.Material {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if mat := m.known[name]; mat != nil {
		return mat
	}
	id := identity.New()
	der, err := m.auth.Issue(pki.IssueRequest{Name: name, Region: earth, Keys: id.Public(), Now: time.Now().Add(m.ahead)})
	if err != nil {
		m.t.Fatal(err)
	}
	mat, err := pki.NewMaterial(id, der, m.auth.Trust())
	if err != nil {
		m.t.Fatal(err)
	}
	m.known[name] = mat
	return mat
}

func identify(state tls.ConnectionState) (Identity, error) {
	p, err := pki.PeerOf(state)
	return Identity{Node: p.Node, Region: p.Region, Kex: pki.KexName(state)}, err
}

// event is one call of a Sink.
type event struct {
	what string // up, down
	s    *Session
	why  Down
}

// testNode is a Manager under test; it is its own Sink.
type testNode struct {
	*Manager
	t      testing.TB
	events chan event // up and down
	frames chan wire.Frame
	got    atomic.Int64  // frames received
	hold   chan struct{} // while open, Frames blocks; nil: never
	addr   string
	stop   context.CancelFunc
	done   chan struct{}
}

func (n *testNode) LinkUp(s *Session)           { n.events <- event{what: "up", s: s} }
func (n *testNode) LinkDown(s *Session, d Down) { n.events <- event{what: "down", s: s, why: d} }
func (n *testNode) Frames(s *Session, frames []wire.Frame) {
	if n.hold != nil {
		select {
		case <-n.hold:
		case <-s.ctx.Done():
		}
	}
	n.got.Add(int64(len(frames)))
	for _, f := range frames {
		select {
		case n.frames <- f:
		default: // a test that does not look at so many
		}
	}
}

func (m *mesh) config(name string) Config {
	return configOf(m.material(addr.MustNode(name)))
}

// configOf is the configuration of a node that has a certificate.
func configOf(mat *pki.Material) Config {
	node := mat.Self().Node
	name := node.String()
	log := slog.New(slog.DiscardHandler)
	return Config{
		Listen: "127.0.0.1:0", Node: node, Region: earth,
		Hello: wire.Hello{Version: wire.Version, Node: node, Region: earth, Boot: 1, MaxFrame: wire.MaxFrame, Software: "test"},
		TLSServer: pki.ListenerConfig(pki.Serving{
			Material: func() *pki.Material { return mat }, Joins: true, Now: time.Now, Log: log,
		}),
		TLSClient:         func(pin addr.Node) *tls.Config { return pki.ClientConfig(mat, time.Now, pin) },
		Identify:          identify,
		StatelessResetKey: [32]byte{1, byte(len(name)), name[0]},
		TokenKey:          [32]byte{2, name[0]},
		Seed:              [32]byte{name[0]},
		Log:               log,
	}
}

// start runs a node until the test ends or n.stop.
func (m *mesh) start(name string, change func(*Config)) *testNode {
	m.t.Helper()
	n := &testNode{t: m.t, events: make(chan event, 1024), frames: make(chan wire.Frame, 1<<16), done: make(chan struct{})}
	cfg := m.config(name)
	cfg.Events = n
	if change != nil {
		change(&cfg)
	}
	mgr, err := New(cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	n.Manager = mgr
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	go func() {
		defer close(n.done)
		_ = mgr.Run(ctx)
	}()
	m.t.Cleanup(n.end)
	a, err := mgr.Addr(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	n.addr = a.String()
	return n
}

func (n *testNode) end() {
	n.stop()
	<-n.done
}

// next returns the next LinkUp or LinkDown.
func (n *testNode) next(what string) event {
	n.t.Helper()
	e := <-n.events
	if e.what != what {
		n.t.Fatalf("%s: link %s of %s (%v), want %s", n.cfg.Node, e.what, e.s.Node(), e.why, what)
	}
	return e
}

// dials makes a node dial addresses of other nodes.
func dials(addresses ...string) func(*Config) {
	return func(c *Config) {
		for _, a := range addresses {
			c.Peers = append(c.Peers, Peer{Address: a})
		}
	}
}

// dialing is dials for the layer of a test.
type dialing func(addresses ...string) func(*Config)

// overBoth runs a test over QUIC and over TLS.
func overBoth(t *testing.T, test func(t *testing.T, dials dialing)) {
	t.Run("quic", func(t *testing.T) { test(t, dials) })
	t.Run("tls", func(t *testing.T) { test(t, dialsTLS) })
}

// dialsTLS is dials over TCP.
func dialsTLS(addresses ...string) func(*Config) {
	return func(c *Config) {
		for _, a := range addresses {
			c.Peers = append(c.Peers, Peer{Address: a, Link: Properties{Layer: LayerTLS}})
		}
	}
}

// until polls; a condition that never comes is the test binary's timeout.
func until(cond func() bool) {
	for !cond() {
		time.Sleep(time.Millisecond)
	}
}

// lastError waits for the first failure to reach a configured peer.
func (n *testNode) lastError() string {
	until(func() bool { return n.Peers()[0].LastError != "" })
	return n.Peers()[0].LastError
}

func udpPort(t testing.TB) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return fmt.Sprint(c.LocalAddr())
}

// linksTo says what a node knows of the link to one that dials it.
func linksTo(name string, p Properties) map[addr.Node]Properties {
	return map[addr.Node]Properties{addr.MustNode(name): p}
}
