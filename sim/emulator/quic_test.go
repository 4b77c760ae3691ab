package emulator

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// selfSigned returns TLS configurations of a server and of a client trusting it.
func selfSigned(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	alpn := []string{"emulator-test"}
	server = &tls.Config{NextProtos: alpn, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return server, &tls.Config{NextProtos: alpn, RootCAs: pool}
}

// TestQUICThroughALossyLink runs a real QUIC connection through 20 ms and 1 %
// loss each way: the data must come back whole, and no faster than light.
func TestQUICThroughALossyLink(t *testing.T) {
	serverTLS, clientTLS := selfSigned(t)
	ln, err := quic.ListenAddr("127.0.0.1:0", serverTLS, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go echoQUIC(t.Context(), ln)

	p := Profile{Delay: 20 * ms, Loss: 0.01}
	l := openLink(t, Config{To: ln.Addr().String(), Up: p, Down: p, Seed: 1})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	conn, err := quic.DialAddr(ctx, l.Addr().String(), clientTLS, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseWithError(0, "") }()
	str, err := conn.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sent := randomBytes(512 << 10)
	wrote := make(chan error, 1)
	go func() {
		_, err := str.Write(sent)
		str.Close()
		wrote <- err
	}()
	got, err := io.ReadAll(str)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Error("data damaged")
	}
	if d := time.Since(start); d < 4*p.Delay { // handshake, then there and back
		t.Errorf("done after %v: faster than light", d)
	}
	if s := l.Stats(); s.Up.Dropped.Loss == 0 || s.Down.Dropped.Loss == 0 {
		t.Errorf("the link lost nothing: %+v", s)
	}
}

// echoQUIC echoes one stream of one connection.
func echoQUIC(ctx context.Context, ln *quic.Listener) {
	conn, err := ln.Accept(ctx)
	if err != nil {
		return
	}
	str, err := conn.AcceptStream(ctx)
	if err != nil {
		return
	}
	_, _ = io.Copy(str, str)
	str.Close()
}
