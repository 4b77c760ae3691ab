package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/mux"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
)

// pages keeps what a node logs.
type pages struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (p *pages) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.Write(b)
}

// has reports whether one line has all words.
func (p *pages) has(words ...string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range strings.Lines(p.buf.String()) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return true
		}
	}
	return false
}

// await returns when one line has all words. A line that never comes is told
// with what came in its place, long before the test binary's own end.
func (p *pages) await(t *testing.T, words ...string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !p.has(words...); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Fatalf("no line of the log has %q:\n%s", words, p.buf.String())
		}
	}
}

func (p *pages) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buf.Reset()
}

// logger writes all levels: of what strangers provoke one line a second is a
// warning, the others are for Debug.
func (p *pages) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(p, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// stranger is how a caller comes that is to be refused.
type stranger struct {
	name  string
	tls   func(t *testing.T, m *mesh, c *tls.Config)
	hello func(h *wire.Hello)
	first []byte   // in the place of a Hello
	log   []string // words of one line
	only  Layer    // "": both
	cause Cause    // that is counted; "": Refused
}

// showing has a caller show the certificate of a node of another mesh, or of
// another time.
func showing(mat *pki.Material, c *tls.Config) {
	c.Certificates = pki.ClientConfig(mat, time.Now, addr.Node{}).Certificates
}

// padded adds certificates to a chain.
func padded(c *tls.Config, n, size int) {
	own := c.Certificates[0]
	for range n {
		own.Certificate = append(own.Certificate, bytes.Repeat([]byte{0x30}, size))
	}
	c.Certificates = []tls.Certificate{own}
}

// expired is a certificate that was good until a while ago, by the clock of
// TestStrangers.
func expired(t *testing.T, m *mesh) *pki.Material {
	t.Helper()
	id := identity.New()
	der, err := m.auth.Issue(pki.IssueRequest{Name: addr.MustNode("z"), Region: earth, Keys: id.Public(), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	mat, err := pki.NewMaterial(id, der, m.auth.Trust())
	if err != nil {
		t.Fatal(err)
	}
	return mat
}

func strangers() []stranger {
	return []stranger{
		{name: "classical", tls: func(_ *testing.T, _ *mesh, c *tls.Config) {
			c.CurvePreferences = []tls.CurveID{tls.X25519}
		}, log: []string{"offers only X25519", "want=X25519MLKEM768"}},
		{name: "tls 1.2", only: LayerTLS, tls: func(_ *testing.T, _ *mesh, c *tls.Config) {
			c.MinVersion, c.MaxVersion, c.CurvePreferences = tls.VersionTLS12, tls.VersionTLS12, nil
		}, log: []string{"connection refused", "unsupported versions"}},
		{name: "other authority", tls: func(t *testing.T, m *mesh, c *tls.Config) {
			other := newMeshOnly(t)
			other.ahead = m.ahead
			showing(other.material(addr.MustNode("z")), c)
		}, log: []string{"connection refused", "not signed by this mesh's authority"}},
		{name: "expired", tls: func(t *testing.T, m *mesh, c *tls.Config) {
			showing(expired(t, m), c)
		}, log: []string{"connection refused", "certificate has expired", "z"}},
		{
			name: "no certificate", tls: func(_ *testing.T, _ *mesh, c *tls.Config) { c.Certificates = nil },
			log: []string{"connection refused", "didn't provide a certificate"},
		},
		{name: "long chain", tls: func(_ *testing.T, _ *mesh, c *tls.Config) {
			own := c.Certificates[0].Certificate[0]
			c.Certificates[0].Certificate = [][]byte{own, own, own, own}
		}, log: []string{"connection refused", "4 certificates sent, want 1 to 3"}},
		{
			name: "oversized chain", only: LayerQUIC, tls: func(_ *testing.T, _ *mesh, c *tls.Config) { padded(c, 2, 40<<10) },
			log: []string{"connection refused", "CRYPTO_BUFFER_EXCEEDED"},
		},
		{
			name: "oversized chain", only: LayerTLS, tls: func(_ *testing.T, _ *mesh, c *tls.Config) { padded(c, 2, 40<<10) },
			log: []string{"connection refused", "a handshake of more than 65536 bytes"},
		},
		{
			name: "other protocol", tls: func(_ *testing.T, _ *mesh, c *tls.Config) { c.NextProtos = []string{"farhop/2"} },
			log: []string{"connection refused", "application protocol"},
		},
		{
			name: "no protocol", only: LayerTLS, tls: func(_ *testing.T, _ *mesh, c *tls.Config) { c.NextProtos = nil },
			log: []string{"connection refused", "peer speaks another protocol"},
		},
		{
			name: "other version", hello: func(h *wire.Hello) { h.Version = 9 },
			log: []string{"connection refused", "node z speaks version 9 of the mesh protocol, this node 1"},
		},
		{
			name: "other name", hello: func(h *wire.Hello) { h.Node = addr.MustNode("b") },
			log: []string{"connection refused", "hello says node b, its certificate says z"},
		},
		{
			name: "other region", hello: func(h *wire.Hello) { h.Region = addr.MustRegion("nowhere") },
			log: []string{"connection refused", "hello of z says region nowhere, its certificate says"},
		},
		{
			name: "small frames", hello: func(h *wire.Hello) { h.MaxFrame = 100 },
			log: []string{"connection refused", "takes frames of 100 bytes"},
		},
		{
			name: "no hello", first: wire.Append(nil, wire.Ping{}), cause: Protocol,
			log: []string{"connection refused", "not a hello"},
		},
		{
			name: "endless hello", first: binary.AppendUvarint(nil, 1<<60), cause: Protocol,
			log: []string{"connection refused", "the limit is 4096"},
		},
	}
}

// call makes a connection as another program might, and says what a stranger
// says first, as far as it gets.
func (s stranger) call(t *testing.T, m *mesh, layer Layer, to string) {
	t.Helper()
	node := addr.MustNode("z")
	conf := pki.ClientConfig(m.material(node), time.Now, addr.Node{})
	conf.VerifyConnection = nil
	if s.tls != nil {
		s.tls(t, m, conf)
	}
	h := wire.Hello{Version: wire.Version, Node: node, Region: earth, Boot: 1, MaxFrame: wire.MaxFrame}
	if s.hello != nil {
		s.hello(&h)
	}
	if s.first == nil {
		s.first = wire.Append(nil, h)
	}
	c, err := rawCall(t, layer, to, conf)
	if err != nil {
		return // the far end says why
	}
	if st, err := c.OpenStream(t.Context()); err == nil {
		_, _ = st.Write(s.first)
	}
}

// rawCall connects over a layer, with nothing of a session on it.
func rawCall(t *testing.T, layer Layer, to string, conf *tls.Config) (carrier, error) {
	t.Helper()
	c, err := bareCall(t.Context(), layer, to, conf)
	if err == nil {
		t.Cleanup(func() { _ = c.CloseWithError(0, "over") })
	}
	return c, err
}

// bareCall is rawCall outside of a test.
func bareCall(ctx context.Context, layer Layer, to string, conf *tls.Config) (carrier, error) {
	if layer == LayerQUIC {
		c, err := quic.DialAddr(ctx, to, conf, nil)
		return quicCarrier{conn: c}, err
	}
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	c, err := mux.Client(ctx, nc, conf, Properties{}.muxConfig(true))
	if err != nil {
		return nil, err
	}
	return tlsCarrier{c}, nil
}

// TestStrangers: who may not come in is refused, with the reason in the log and
// a count, leaves nothing behind, and a peer that is up notices nothing.
func TestStrangers(t *testing.T) {
	m := newMesh(t)
	m.ahead = pki.LeafLife + time.Hour
	log, reg := &pages{}, prometheus.NewRegistry()
	a := m.start("a", func(c *Config) {
		mat := m.material(c.Node)
		c.Log, c.Registerer = log.logger(), reg
		c.TLSServer = pki.ListenerConfig(pki.Serving{Material: func() *pki.Material { return mat }, Now: func() time.Time { return time.Now().Add(m.ahead) }, Log: c.Log})
	})
	good := m.start("b", dials(a.addr))
	keep := a.next("up").s
	good.next("up")
	stamp := uint64(0)
	refused := func(t *testing.T, cause Cause, words []string, call func()) {
		t.Helper()
		log.clear()
		before := counted(t, reg, "farhop_link_refused_total", string(cause))
		call()
		log.await(t, words...)
		until(func() bool {
			return counted(t, reg, "farhop_link_refused_total", string(cause)) > before
		})
		stamp++
		keep.Send(wire.Ping{Stamp: stamp})
		if f := <-good.frames; f != (wire.Ping{Stamp: stamp}) {
			t.Errorf("the good peer got %v", f)
		}
		if len(a.events)+len(good.events) > 0 {
			t.Errorf("%d sessions came or went", len(a.events)+len(good.events))
		}
	}
	for _, s := range strangers() {
		for _, layer := range []Layer{LayerQUIC, LayerTLS} {
			if s.only != "" && s.only != layer {
				continue
			}
			t.Run(string(layer)+"/"+s.name, func(t *testing.T) {
				cause := Refused
				if s.cause != "" {
					cause = s.cause
				}
				refused(t, cause, s.log, func() { s.call(t, m, layer, a.addr) })
			})
		}
	}
	t.Run("quic/version", func(t *testing.T) {
		refused(t, Refused, []string{"connection refused", "version 0x1a2a3a4a of QUIC"}, func() { otherQUIC(t, a.addr) })
	})
	until(func() bool { return a.pending.Load() == 0 })
	until(func() bool { a.waiting.mu.Lock(); defer a.waiting.mu.Unlock(); return len(a.waiting.conns) == 0 })
}

// otherQUIC sends the first packet of a version that there is not, and reads
// which there are.
func otherQUIC(t *testing.T, to string) {
	t.Helper()
	c, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	first := append([]byte{0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 4, 9, 9, 9, 9}, make([]byte, 1200)...)
	if _, err := c.Write(first); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1500)
	n, err := c.Read(answer)
	if err != nil || n < 7 || answer[0]&0x80 == 0 || binary.BigEndian.Uint32(answer[1:]) != 0 {
		t.Errorf("answered with %x, %v: want a version negotiation (RFC 9000, section 17.2.1)", answer[:n], err)
	}
}

// TestStrangersAreLoggedSeldom: a stranger cannot fill a disk with its log.
func TestStrangersAreLoggedSeldom(t *testing.T) {
	m := newMesh(t)
	log := &pages{}
	a := m.start("a", func(c *Config) {
		mat := m.material(c.Node)
		c.Log = slog.New(slog.NewTextHandler(log, nil))
		c.TLSServer = pki.ListenerConfig(pki.Serving{Material: func() *pki.Material { return mat }, Now: time.Now, Log: c.Log})
	})
	began := time.Now()
	const calls = 50
	for range calls {
		conf := pki.ClientConfig(m.material(addr.MustNode("z")), time.Now, addr.Node{})
		conf.CurvePreferences = []tls.CurveID{tls.X25519}
		if _, err := quic.DialAddr(t.Context(), a.addr, conf, nil); err == nil {
			t.Fatal("connected")
		}
	}
	log.await(t, "level=WARN", "connection refused")
	log.await(t, "level=WARN", "offers only X25519")
	log.mu.Lock()
	defer log.mu.Unlock()
	// Two lines a second at most, from the first to the last.
	if n, most := strings.Count(log.buf.String(), "level=WARN"), 2*(2+int(time.Since(began).Seconds())); n > most {
		t.Errorf("%d refusals made %d lines of the log, at most %d are allowed", calls, n, most)
	}
}
