package link

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/routing/addr"
)

// ask is what a node needs to check another one.
func (m *mesh) ask(name, address string, pin string) CheckRequest {
	mat := m.material(addr.MustNode(name))
	r := CheckRequest{Peer: Peer{Address: address}, Identify: identify}
	if pin != "" {
		r.Peer.Node = addr.MustNode(pin)
	}
	r.TLS = pki.CheckConfig(mat, time.Now, r.Peer.Node)
	return r
}

// TestCheck looks from a node to its peer while their link stands, which is not
// touched.
func TestCheck(t *testing.T) {
	m := newMesh(t)
	far := m.start("far", nil)
	near := m.start("near", dials(far.addr))
	s := near.next("up").s
	far.next("up")
	c, err := near.Check(t.Context(), m.ask("near", far.addr, "far"))
	switch {
	case err != nil || c.Error != "" || !c.UDP || c.Old:
		t.Fatalf("%v: %+v", err, c)
	case c.Peer.Node.String() != "far" || c.Software != "test" || !c.Expires.After(time.Now()):
		t.Errorf("who: %+v", c)
	case c.Handshake <= 0 || c.RTT <= 0 || c.Within <= 0 || c.Offset.Abs() > c.Within+time.Millisecond:
		t.Errorf("times of two ends with one clock: %+v", c)
	case c.NAT != NATNone || c.Seen != near.addr || c.Local != near.addr:
		t.Errorf("no translation between %s and %s: %+v", near.addr, far.addr, c)
	case c.MTU < 1400 || !c.MTUDone:
		t.Errorf("loopback takes all that is used: %+v", c)
	case c.TCP != TCPOpen:
		t.Errorf("the far end listens for TCP too: %+v", c)
	case len(c.Addresses) != 1 || c.To != far.addr:
		t.Errorf("addresses: %+v", c)
	}
	if near.Session(addr.MustNode("far")) != s || len(near.events) > 0 {
		t.Error("the check ended the link")
	}
}

// TestCheckECN: marks pass on loopback, both ways, where the system has them.
func TestCheckECN(t *testing.T) {
	m := newMesh(t)
	far, near := m.start("far", nil), m.start("near", nil)
	c, err := near.Check(t.Context(), m.ask("near", far.addr, ""))
	if err != nil || c.Error != "" {
		t.Fatal(err, c.Error)
	}
	if c.ECNOut == ECNLost || c.ECNIn == ECNNone {
		t.Errorf("marks are lost on loopback: %+v", c)
	}
}

// TestCheckTells: what is in the way is told apart.
func TestCheckTells(t *testing.T) {
	m, other := newMesh(t), newMeshOnly(t)
	far, near := m.start("far", nil), m.start("near", nil)
	stranger := other.start("far", nil)
	old := m.start("old", func(c *Config) {
		c.TLSServer = pki.ServerConfig(m.material(addr.MustNode("old")), time.Now, slog.New(slog.DiscardHandler))
	})
	none := udpPort(t)
	lan := Properties{Profile: ProfileLAN, OWLT: time.Millisecond}
	for _, c := range []struct {
		what, address, pin, cause string
		udp, old                  bool
	}{
		{"nobody there", none, "", "timeout", false, false},
		{"a name that is none", "nowhere.invalid:7330", "", "name", false, false},
		{"another node", far.addr, "near", causeCertificate, true, false},
		{"another mesh", stranger.addr, "", "other-authority", true, false},
		{"a node that knows no checks", old.addr, "", "old", true, true},
	} {
		r := m.ask("near", c.address, c.pin)
		r.Peer.Link = lan
		got, err := near.Check(t.Context(), r)
		if err != nil || got.Cause != c.cause || got.UDP != c.udp || got.Old != c.old || got.Error == "" || got.MTU != 0 || got.ECNOut != ECNUnknown || got.NAT != NATUnknown {
			t.Errorf("%s: %v %+v", c.what, err, got)
		}
	}
}

// TestCheckAlone checks without a node that runs, and finds a listener of TCP.
func TestCheckAlone(t *testing.T) {
	m := newMesh(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far := m.start("far", func(c *Config) { c.Listen = ln.Addr().String() })
	ch, err := NewChecker(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	r := m.ask("near", far.addr, "far")
	r.Quick = true
	c, err := ch.Check(t.Context(), r)
	if err != nil || c.Error != "" || c.TCP != TCPOpen || c.TCPTook <= 0 || c.MTUDone {
		t.Errorf("%v %+v", err, c)
	}
}

// TestCheckIsBounded: who asks without end is hung up on, as who sends long lines.
func TestCheckIsBounded(t *testing.T) {
	from := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
	for what, in := range map[string]string{
		"without end": strings.Repeat("{}\n", 2*maxCheckAsks), "a long line": strings.Repeat("x", 2*maxCheckLine) + "\n", "no JSON": "x\n",
	} {
		var out strings.Builder
		err := answerCheck(struct {
			io.Reader
			io.Writer
		}{strings.NewReader(in), &out}, from, "test")
		if n := strings.Count(out.String(), "\n"); err == nil || n > maxCheckAsks {
			t.Errorf("%s: %v after %d answers", what, err, n)
		}
	}
}

// TestCheckIsNoLink: the protocols are told apart, so that a check is never
// taken for a session.
func TestCheckIsNoLink(t *testing.T) {
	m := newMesh(t)
	far, near := m.start("far", nil), m.start("near", nil)
	r := m.ask("near", far.addr, "")
	r.TLS = func() *tls.Config { c := r.TLS.Clone(); c.NextProtos = []string{ALPN}; return c }()
	if c, err := near.Check(t.Context(), r); err != nil || c.Error == "" || len(far.events) > 0 {
		t.Errorf("%v %+v", err, c)
	}
}
