package listen

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// authority makes certificates for tests, as files.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	ca   string // file
	next int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), next: 1}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.key, a.ca = key, a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// issue writes NAME.pem and NAME.key and returns their paths.
func (a *authority) issue(name string, edit func(*x509.Certificate)) (cert, key string) {
	a.t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.next++
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if edit != nil {
		edit(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &priv.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	kd, err := x509.MarshalECPrivateKey(priv)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", "CERTIFICATE", der), a.write(name+".key", "EC PRIVATE KEY", kd)
}

// server is a TLS configuration whose clients may show a certificate.
func (a *authority) server(require bool) *tls.Config {
	a.t.Helper()
	cert, key := a.issue("server", nil)
	conf, err := ServerTLS(cert, key, a.ca, require)
	if err != nil {
		a.t.Fatal(err)
	}
	return conf
}

// client trusts the authority, and shows a certificate if one is given.
func (a *authority) client(cert, key string) *tls.Config {
	a.t.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}
	c.RootCAs.AddCert(a.cert)
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			a.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// device issues a certificate with all three kinds of name.
func (a *authority) device() (cert, key string, names []string) {
	cert, key = a.issue("pump-7", func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "https", Host: "not.this"}, {Scheme: "spiffe", Host: "plant", Path: "/pump/7"}}
		c.DNSNames = []string{"pump7.plant.example"}
	})
	return cert, key, []string{"spiffe://plant/pump/7", "pump7.plant.example", "pump-7"}
}

// start listens until the test ends.
func start(t *testing.T, cfg Config) net.Listener {
	t.Helper()
	l, err := Listen(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

// accepted returns the next connection and closes it with the test.
func accepted(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func peerOf(t *testing.T, c net.Conn) Peer {
	t.Helper()
	p, ok := c.(Peered)
	if !ok {
		t.Fatalf("%T does not say who its peer is", c)
	}
	return p.Peer()
}

// pass writes text at one end and wants it at the other.
func pass(t *testing.T, from io.Writer, to io.Reader, text string) {
	t.Helper()
	go func() { _, _ = io.WriteString(from, text) }()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v; want %q", got, err, text)
	}
}

// refusals counts the refused by cause.
func refusals(t *testing.T, reg *prometheus.Registry, cause string) float64 {
	t.Helper()
	return metric(t, reg, "farhop_mqtt_listener_refused_total", cause)
}

func metric(t *testing.T, reg *prometheus.Registry, name, cause string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (cause == "" || labelled(m, "cause", cause)) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func labelled(m *dto.Metric, name, value string) bool {
	for _, l := range m.GetLabel() {
		if l.GetName() == name && l.GetValue() == value {
			return true
		}
	}
	return false
}

// until waits for a condition that another goroutine brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-t.Context().Done():
			t.Fatal("not reached: " + what)
		case <-time.After(time.Millisecond):
		}
	}
}

// ended wants the client's connection ended by the other side.
func ended(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection is still open: %v", err)
	}
}

// serveMQTT plays a broker to one client of QoS 0: it answers CONNECT, and
// returns the packets after it up to the end.
func serveMQTT(c net.Conn) ([]byte, error) {
	buf := make([]byte, 1024)
	if _, err := c.Read(buf); err != nil {
		return nil, err
	}
	if _, err := c.Write([]byte{0x20, 2, 0, 0}); err != nil {
		return nil, err
	}
	var all bytes.Buffer
	_, err := io.Copy(&all, c)
	return all.Bytes(), err
}
