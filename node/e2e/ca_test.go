//go:build linux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
)

type status = admin.Status

// authority makes certificates for tests, as files.
type authority struct {
	t    *testing.T
	dir  string
	file string // its own certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newCA(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert = a.template("test authority")
	a.cert.IsCA, a.cert.BasicConstraintsValid, a.cert.KeyUsage = true, true, x509.KeyUsageCertSign
	a.key = a.newKey()
	a.file = a.sign("ca", a.cert, a.key)
	return a
}

func (a *authority) template(name string) *x509.Certificate {
	a.next++
	return &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

// sign writes a certificate of a key.
func (a *authority) sign(name string, c *x509.Certificate, key *ecdsa.PrivateKey) string {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", "CERTIFICATE", der)
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// issue makes a certificate for 127.0.0.1, and returns its files.
func (a *authority) issue(name string) (cert, key string) {
	a.t.Helper()
	c, k := a.template(name), a.newKey()
	c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.sign(name, c, k), a.write(name+".key", "EC PRIVATE KEY", der)
}

// client trusts the authority.
func (a *authority) client() *tls.Config {
	a.t.Helper()
	pem, err := os.ReadFile(a.file)
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}
	if err != nil || !c.RootCAs.AppendCertsFromPEM(pem) {
		a.t.Fatalf("%s: %v", a.file, err)
	}
	return c
}

// runMosquitto starts a mosquitto broker. The daemon it returns has nothing
// but its address.
func runMosquitto(t *testing.T) *daemon {
	t.Helper()
	const install = "install the broker: apt-get install mosquitto"
	path := "/usr/sbin/mosquitto" // not in everybody's path
	if _, err := os.Stat(path); err != nil {
		path = need(t, "mosquitto", install)
	}
	m := &daemon{t: t, name: "mosquitto", mqtt: freePort(t)}
	_, port, _ := net.SplitHostPort(m.mqtt)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n", port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", conf)
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it does not end by itself
		_ = cmd.Wait()
	})
	until(t, func() string { return "mosquitto to listen" }, func() bool {
		c, err := net.Dial("tcp", m.mqtt)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return m
}
