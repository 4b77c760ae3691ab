package dtn

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// eid parses an EID of a test.
func eid(t testing.TB, s string) addr.EID {
	t.Helper()
	e, err := addr.ParseEID(s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func pattern(t testing.TB, s string) addr.Pattern {
	t.Helper()
	p, err := addr.ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// makeBundle makes a bundle with a payload of n bytes.
func makeBundle(t testing.TB, src, dst string, seq uint64, payload []byte) []byte {
	t.Helper()
	p := bundle.Primary{
		Dest: eid(t, dst), Source: eid(t, src), ReportTo: addr.None, Lifetime: 3600_000,
		Created: bundle.Timestamp{Time: bundle.DTNTime(time.Now().UnixMilli()), Seq: seq},
	}
	return bundle.AppendBundle(nil, bundle.AppendPrimary(nil, &p), bundle.AppendPayload(nil, payload), bundle.Hop{NoAge: true})
}

// sink keeps what arrives and answers as told.
type sink struct {
	mu     sync.Mutex
	got    []Received
	waits  []func(bundle.Reason) // verdicts held back
	hold   bool
	answer func(n int, r Received) bundle.Reason // nil: OK
	up     map[string]int
	change chan struct{}
}

func newSink() *sink { return &sink{up: map[string]int{}, change: make(chan struct{}, 1)} }

func (s *sink) Receive(r Received, done func(bundle.Reason)) {
	s.mu.Lock()
	n := len(s.got)
	s.got = append(s.got, r)
	answer := bundle.OK
	if s.answer != nil {
		answer = s.answer(n, r)
	}
	hold := s.hold
	if hold {
		s.waits = append(s.waits, done)
	}
	s.mu.Unlock()
	if !hold {
		done(answer)
	}
	s.signal()
}

func (s *sink) PeerUp(p string)   { s.turn(p, 1) }
func (s *sink) PeerDown(p string) { s.turn(p, -1) }

func (s *sink) turn(p string, by int) {
	s.mu.Lock()
	s.up[p] += by
	s.mu.Unlock()
	s.signal()
}

func (s *sink) signal() {
	select {
	case s.change <- struct{}{}:
	default:
	}
}

// until waits until cond holds under the lock.
func (s *sink) until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for limit := time.After(30 * time.Second); ; {
		s.mu.Lock()
		ok := cond()
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-s.change:
		case <-time.After(20 * time.Millisecond):
		case <-limit:
			t.Fatalf("gave up waiting: %s", what)
		}
	}
}

func (s *sink) bundles() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out [][]byte
	for _, r := range s.got {
		out = append(out, r.Bundle)
	}
	return out
}

// set changes how the sink behaves.
func (s *sink) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// first returns what arrived first.
func (s *sink) first() Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[0]
}

// wantSame compares what arrived with what was sent.
func (s *sink) wantSame(t testing.TB, want ...[]byte) {
	t.Helper()
	got := s.bundles()
	if len(got) != len(want) {
		t.Fatalf("%d bundles arrived, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("bundle %d arrived as %d other bytes, want %d", i, len(got[i]), len(want[i]))
		}
	}
}

func logger(t testing.TB) *slog.Logger {
	w := io.Discard
	if os.Getenv("FARHOP_TEST_LOG") != "" {
		w = os.Stderr
	}
	return slog.New(slog.NewTextHandler(w, nil)).With("test", t.Name())
}

// start runs a door until the test ends or the returned function is called.
func start(t testing.TB, cfg Config) (*Door, func()) {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = logger(t)
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	select {
	case <-d.Ready():
	case err := <-done:
		t.Fatalf("Run: %v", err)
	}
	return d, stop
}

// end is one end of a pair of doors.
type end struct {
	*Door
	sink *sink
	stop func()
}

// pair starts two doors; a dials b, whose peer is named "a".
func pair(t testing.TB, k Kind, change func(a, b *Config)) (a, b end) {
	t.Helper()
	a.sink, b.sink = newSink(), newSink()
	bc := Config{
		Node: eid(t, "dtn://b/"), Sink: b.sink, Drain: 2 * time.Second,
		Listeners: []Listener{{Kind: k, Address: "127.0.0.1:0", TLS: TLSNone, Peer: "a"}},
	}
	if k == TCPCL {
		bc.Peers = []Peer{{Name: "a", Kind: TCPCL, Node: eid(t, "dtn://a/"), TLS: TLSNone, EIDs: []addr.Pattern{pattern(t, "dtn://a/**")}}}
	}
	ac := Config{
		Node: eid(t, "dtn://a/"), Sink: a.sink, Drain: 2 * time.Second,
		Peers: []Peer{{Name: "b", Kind: k, Address: "127.0.0.1:1", TLS: TLSNone, EIDs: []addr.Pattern{pattern(t, "dtn://b/**")}}},
	}
	if change != nil {
		change(&ac, &bc)
	}
	b.Door, b.stop = start(t, bc)
	ac.Peers[0].Address = b.Addresses()[0]
	a.Door, a.stop = start(t, ac)
	a.sink.until(t, "a's session with b", func() bool { return a.sink.up["b"] == 1 })
	if k == TCPCL {
		b.sink.until(t, "b's session with a", func() bool { return b.sink.up["a"] == 1 })
	}
	return a, b
}

// authority issues certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
	pool *x509.CertPool
	next int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool(), next: 1}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// san is an alternative name extension with bundle EIDs and DNS names.
func san(t testing.TB, ids, names []string) pkix.Extension {
	t.Helper()
	var list []byte
	add := func(v asn1.RawValue) {
		b, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b...)
	}
	for _, n := range names {
		add(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(n)})
	}
	for _, id := range ids {
		// As a URI, too, which is where drafts before the RFC had it.
		add(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(id)})
		oid, _ := asn1.Marshal(oidBundleEID)
		text, _ := asn1.Marshal(asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(id)})
		box, _ := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: text})
		add(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append(oid, box...)})
	}
	value, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: list})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidSAN, Value: value}
}

// tls makes the TLS of a node; usage nil means no extended key usage.
func (a *authority) tls(t testing.TB, ids, names []string, usage ...asn1.ObjectIdentifier) *tls.Config {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.next++
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: fmt.Sprint(ids, names)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, UnknownExtKeyUsage: usage,
	}
	if len(ids)+len(names) > 0 {
		tmpl.ExtraExtensions = []pkix.Extension{san(t, ids, names)}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, pub, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: a.pool}
}

// raw connects to a listener and speaks as told.
type raw struct {
	net.Conn
	t testing.TB
}

func dialRaw(t testing.TB, address string) raw {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return raw{c, t}
}

func (r raw) say(b []byte) {
	r.t.Helper()
	if _, err := r.Write(b); err != nil {
		r.t.Fatal(err)
	}
}
