package link

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
)

// answering is a program that shakes hands at an address, over both transports,
// with whatever TLS it was given.
func answering(t *testing.T, layer Layer, conf *tls.Config) string {
	t.Helper()
	if layer == LayerQUIC {
		ln, err := quic.ListenAddr("127.0.0.1:0", conf, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		return ln.Addr().String()
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
			wg.Go(func() {
				_ = c.(*tls.Conn).Handshake()
				_, _ = c.Read(make([]byte, 1))
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// negotiating answers every packet of QUIC with a version that there is not.
func negotiating(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if n < minInitial || buf[0]&0x80 == 0 {
				continue
			}
			dst := buf[6 : 6+int(buf[5])]
			src := buf[7+len(dst) : 7+len(dst)+int(buf[6+len(dst)])]
			out := append([]byte{0x80, 0, 0, 0, 0, byte(len(src))}, src...)
			out = append(append(out, byte(len(dst))), dst...)
			_, _ = c.WriteTo(append(out, 0x1a, 0x2a, 0x3a, 0x4a), from)
		}
	})
	t.Cleanup(func() { _ = c.Close(); wg.Wait() })
	return c.LocalAddr().String()
}

// TestHostileListeners: what answers at the address of a peer and is none is
// refused, with the reason in the log, and another peer notices nothing.
func TestHostileListeners(t *testing.T) {
	m := newMesh(t)
	m.ahead = pki.LeafLife + time.Hour
	now := func() time.Time { return time.Now().Add(m.ahead) }
	node := addr.MustNode("z")
	for _, tc := range []struct {
		name string
		tls  func(c *tls.Config)
		log  string
		only Layer
	}{
		{"oversized chain", func(c *tls.Config) { padded(c, 2, 40<<10) }, "CRYPTO_BUFFER_EXCEEDED", LayerQUIC},
		{"oversized chain", func(c *tls.Config) { padded(c, 2, 40<<10) }, "a handshake of more than 65536 bytes", LayerTLS},
		{"long chain", func(c *tls.Config) {
			own := c.Certificates[0].Certificate[0]
			c.Certificates[0].Certificate = [][]byte{own, own, own, own}
		}, "4 certificates sent, want 1 to 3", ""},
		{"expired", func(c *tls.Config) { showing(expired(t, m), c) }, "certificate has expired", ""},
		{"classical", func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }, "X25519MLKEM768", ""},
		{"tls 1.2", func(c *tls.Config) {
			c.MinVersion, c.MaxVersion, c.CurvePreferences = tls.VersionTLS12, tls.VersionTLS12, nil
		}, "protocol version", LayerTLS},
		{"other protocol", func(c *tls.Config) { c.NextProtos = []string{"h3"} }, "does not speak farhop/1", ""},
		{"version of QUIC", nil, "no compatible QUIC version", LayerQUIC},
	} {
		for _, layer := range []Layer{LayerQUIC, LayerTLS} {
			if tc.only != "" && tc.only != layer {
				continue
			}
			t.Run(string(layer)+"/"+tc.name, func(t *testing.T) {
				var at string
				if tc.tls == nil {
					at = negotiating(t)
				} else {
					conf := pki.ServerConfig(m.material(node), now, (&pages{}).logger())
					conf.VerifyConnection, conf.GetConfigForClient = nil, nil
					tc.tls(conf)
					at = answering(t, layer, conf)
				}
				good := m.start("b", nil)
				log := &pages{}
				a := m.start("a", func(c *Config) {
					mat := m.material(c.Node)
					c.Log = log.logger()
					c.TLSClient = func(pin addr.Node) *tls.Config { return pki.ClientConfig(mat, now, pin) }
					c.Peers = []Peer{{Address: good.addr}, {Address: at, Link: Properties{Layer: layer}}}
				})
				s := a.next("up").s
				log.await(t, "peer not reached", at, tc.log)
				s.Send(wire.Ping{Stamp: 1})
				if f := <-good.frames; f != (wire.Ping{Stamp: 1}) {
					t.Errorf("the good peer got %v", f)
				}
				if len(a.events) > 0 {
					t.Error("another session came or went")
				}
				a.end()
				good.end()
			})
		}
	}
}
