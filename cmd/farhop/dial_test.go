package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
)

// writeCert makes a certificate for 127.0.0.1 that signed itself, and its key.
func writeCert(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	as := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pump-7"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, as, as, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// pub and sub speak with every listener of a node that has a stream.
func TestPubSubOverTLS(t *testing.T) {
	dir := t.TempDir()
	must(t, "", "init", "--region", "earth", "--dir", dir, "--mqtt", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--mesh", "127.0.0.1:0")
	cert, key := writeCert(t, dir)
	file := filepath.Join(dir, config.FileName)
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MQTT.Listeners = []config.Listener{
		{URL: "tls://127.0.0.1:0", Cert: cert, Key: key, ClientCA: cert, RequireClientCert: true},
		{URL: "wss://127.0.0.1:0/mqtt", Cert: cert, Key: key},
		{URL: "ws://127.0.0.1:0/mqtt"},
	}
	if err := config.Save(file, cfg); err != nil {
		t.Fatal(err)
	}
	runDaemon(t, dir)
	var ways []string
	for i, at := range fromJSON[admin.Status](t, must(t, "", "status", "--json", "--dir", dir)).MQTT.Listeners {
		way := "--broker " + strings.Replace(at, "tls://", "mqtts://", 1)
		ways = append(ways, way+[]string{" --ca " + cert + " --cert " + cert + " --key " + key, " --ca " + cert, ""}[i])
	}
	if len(ways) != 3 {
		t.Fatalf("listeners %q", ways)
	}
	for i, way := range ways {
		must(t, "", strings.Fields("pub -t a -m "+strings.Repeat("x", 10_000)+" --retain "+way)...)
		if out := must(t, "", strings.Fields("sub -t a -n 1 --payload --wait 30s "+ways[(i+1)%3])...); len(out) != 10_001 {
			t.Errorf("%s: %d bytes", way, len(out))
		}
	}
	stranger := strings.Fields("pub -t a -m x " + strings.Fields(ways[0])[0] + " " + strings.Fields(ways[0])[1])
	if code, _, stderr := call(t.Context(), "", stranger...); code != exitFailed || !strings.Contains(stderr, "TLS: 127.0.0.1:") {
		t.Errorf("a broker nobody vouches for: %d %s", code, stderr)
	}
	without := append(stranger, "--ca", cert)
	if code, _, stderr := call(t.Context(), "", without...); code == 0 {
		t.Errorf("without a certificate: %d %s", code, stderr)
	}
}
