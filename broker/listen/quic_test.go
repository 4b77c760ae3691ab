package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"
)

// client is a stream of a connection, as a device has it.
type client struct {
	*quic.Stream
	qc *quic.Conn
}

func (c client) LocalAddr() net.Addr  { return c.qc.LocalAddr() }
func (c client) RemoteAddr() net.Addr { return c.qc.RemoteAddr() }

func connectQUIC(t *testing.T, l net.Listener, conf *tls.Config) (*quic.Conn, error) {
	t.Helper()
	conf = conf.Clone()
	if conf.NextProtos == nil {
		conf.NextProtos = []string{"mqtt"}
	}
	qc, err := quic.DialAddr(t.Context(), l.Addr().String(), conf, nil)
	if err == nil {
		t.Cleanup(func() { _ = qc.CloseWithError(0, "") })
	}
	return qc, err
}

func dialQUIC(t *testing.T, l net.Listener, conf *tls.Config) client {
	t.Helper()
	qc, err := connectQUIC(t, l, conf)
	if err != nil {
		t.Fatal(err)
	}
	s, err := qc.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return client{s, qc} // the server learns of it with its first bytes
}

func TestQUIC(t *testing.T) {
	a := newAuthority(t)
	cert, key, names := a.device()
	l := start(t, Config{URL: "quic://127.0.0.1:0", TLS: a.server(true)})
	c := dialQUIC(t, l, a.client(cert, key))
	if got := c.qc.ConnectionState().TLS.CurveID; got != tls.X25519MLKEM768 {
		t.Errorf("key exchange %v", got)
	}
	go func() { _, _ = io.WriteString(c, "CONNECT") }()
	s := accepted(t, l)
	if p := peerOf(t, s); !slices.Equal(p.Names, names) || p.Transport != QUIC || p.Remote.Port() != uint16(c.LocalAddr().(*net.UDPAddr).Port) {
		t.Errorf("peer %+v", p)
	}
	got := make([]byte, 7)
	if _, err := io.ReadFull(s, got); err != nil || string(got) != "CONNECT" {
		t.Fatalf("read %q, %v", got, err)
	}
	pass(t, s, c, "CONNACK")

	// The last word arrives, although Close follows at once.
	if _, err := s.Write([]byte("DISCONNECT")); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if last, err := io.ReadAll(c); err != nil || string(last) != "DISCONNECT" {
		t.Errorf("the last word is %q, %v", last, err)
	}
	<-c.qc.Context().Done()
	var app *quic.ApplicationError
	if err := context.Cause(c.qc.Context()); !errors.As(err, &app) || app.ErrorCode != quicDone {
		t.Errorf("closed with %v", err)
	}
}

// TestQUICClassic serves a device that has no post-quantum key exchange.
func TestQUICClassic(t *testing.T) {
	a := newAuthority(t)
	l := start(t, Config{URL: "quic://127.0.0.1:0", TLS: a.server(false)})
	conf := a.client("", "")
	conf.CurvePreferences = []tls.CurveID{tls.CurveP256}
	c := dialQUIC(t, l, conf)
	go func() { _, _ = io.WriteString(c, "x") }()
	s := accepted(t, l)
	if got := s.(*quicConn).qc.ConnectionState().TLS.CurveID; got != tls.CurveP256 {
		t.Errorf("key exchange %v", got)
	}
}

// TestQUICEarly wants nothing of a client taken before the handshake is over.
func TestQUICEarly(t *testing.T) {
	a := newAuthority(t)
	l := start(t, Config{URL: "quic://127.0.0.1:0", TLS: a.server(false)})
	conf := a.client("", "")
	conf.NextProtos, conf.ClientSessionCache = []string{"mqtt"}, tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		qc, err := quic.DialAddrEarly(t.Context(), l.Addr().String(), conf, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := qc.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-qc.HandshakeComplete()
		go func() { _, _ = io.WriteString(s, "x") }()
		pass(t, accepted(t, l), s, "so that the ticket is read")
		if st := qc.ConnectionState(); st.Used0RTT || st.TLS.DidResume != (i > 0) {
			t.Errorf("connection %d: 0-RTT %v, resumed %v", i, st.Used0RTT, st.TLS.DidResume)
		}
		_ = qc.CloseWithError(0, "")
	}
}

// TestQUICRefused wants causes for clients that do it wrong.
func TestQUICRefused(t *testing.T) {
	a := newAuthority(t)
	reg := prometheus.NewRegistry()
	l := start(t, Config{URL: "quic://127.0.0.1:0", TLS: a.server(false), HandshakeTimeout: 1500 * time.Millisecond, Registerer: reg})

	conf := a.client("", "")
	conf.NextProtos = []string{"h3"}
	if _, err := connectQUIC(t, l, conf); err == nil {
		t.Error("a client of another protocol was let in")
	}
	until(t, "counted", func() bool { return refusals(t, reg, causeTLS) == 1 })
	qc, err := connectQUIC(t, l, a.client("", ""))
	if err != nil {
		t.Fatal(err)
	}
	<-qc.Context().Done() // it opens no stream
	var app *quic.ApplicationError
	if err := context.Cause(qc.Context()); !errors.As(err, &app) || app.ErrorCode != quicNoStream {
		t.Errorf("closed with %v", err)
	}
	until(t, "counted", func() bool { return refusals(t, reg, causeStream) == 1 })
	until(t, "no handshake under way", func() bool { return metric(t, reg, "farhop_mqtt_listener_handshakes", "") == 0 })
	udp, err := net.Dial("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, b := range [][]byte{{}, {0xC0}, make([]byte, 1200), slices.Repeat([]byte{0xFF}, 1200)} {
		_, _ = udp.Write(b)
	}
	c := dialQUIC(t, l, a.client("", ""))
	go func() { _, _ = io.WriteString(c, "in spite of garbage") }()
	pass(t, io.Discard, accepted(t, l), "in spite of garbage")
}

// TestQUICCertificates wants none but those of our authority let in.
func TestQUICCertificates(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	cert, key, _ := other.device()
	for _, tt := range []struct {
		name, cause string
		conf        *tls.Config
	}{
		{"none", causeTLS, a.client("", "")},
		{"another's", causeClientCert, a.client(cert, key)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			l := start(t, Config{URL: "quic://127.0.0.1:0", TLS: a.server(true), Registerer: reg})
			// The client's half of the handshake is over before the server has
			// seen its certificate.
			if qc, err := connectQUIC(t, l, tt.conf); err == nil {
				<-qc.Context().Done()
			}
			until(t, "refused for "+tt.cause, func() bool { return refusals(t, reg, tt.cause) == 1 })
			until(t, "its place free", func() bool { return metric(t, reg, "farhop_mqtt_listener_handshakes", "") == 0 })
		})
	}
}

// TestQUICReset wants a device told at its next packet that the listener was
// killed and knows it no more.
func TestQUICReset(t *testing.T) {
	a := newAuthority(t)
	cfg := Config{URL: "quic://127.0.0.1:0", TLS: a.server(false), ResetKey: &[32]byte{1, 2, 3}}
	l := start(t, cfg)
	c := dialQUIC(t, l, a.client("", ""))
	go func() { _, _ = io.WriteString(c, "x") }()
	pass(t, accepted(t, l), c, "the reset token came with the handshake")
	_ = l.(*quicListener).udp.Close() // as a kill does: no word to anybody
	cfg.URL = "quic://" + l.Addr().String()
	start(t, cfg)
	_, _ = c.Write([]byte("are you there? a reset must be shorter than what asks for it"))
	<-c.qc.Context().Done()
	var reset *quic.StatelessResetError
	if err := context.Cause(c.qc.Context()); !errors.As(err, &reset) {
		t.Errorf("closed with %v", err)
	}
}

// TestQUICStreams resets streams that are not the first, and ends a client
// that opens ever more.
func TestQUICStreams(t *testing.T) {
	a := newAuthority(t)
	reg := prometheus.NewRegistry()
	l := start(t, Config{URL: "quic://127.0.0.1:0", TLS: a.server(false), Registerer: reg})
	c := dialQUIC(t, l, a.client("", ""))
	go func() { _, _ = io.WriteString(c, "x") }()
	s := accepted(t, l)
	for range maxExtraStreams {
		extra, err := c.qc.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = extra.Write([]byte("a second client"))
		var reset *quic.StreamError
		if _, err := io.ReadAll(extra); !errors.As(err, &reset) || reset.ErrorCode != quicExtra {
			t.Fatalf("a further stream reads %v", err)
		}
	}
	pass(t, s, c, "the first one is as it was")
	if n := metric(t, reg, "farhop_mqtt_listener_streams_refused_total", ""); n != maxExtraStreams {
		t.Errorf("%v counted", n)
	}
	extra, err := c.qc.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = extra.Write([]byte("and another"))
	<-c.qc.Context().Done()
	var app *quic.ApplicationError
	if err := context.Cause(c.qc.Context()); !errors.As(err, &app) || app.ErrorCode != quicExtra {
		t.Errorf("closed with %v", err)
	}
}

// TestQUICBounded lets 40 come at once through 4 places: those who are
// refused know it at once and come again.
func TestQUICBounded(t *testing.T) {
	const clients, places = 40, 4
	a := newAuthority(t)
	reg := prometheus.NewRegistry()
	l := start(t, Config{URL: "quic://127.0.0.1:0", TLS: a.server(false), MaxHandshakes: places, Registerer: reg})
	conf := a.client("", "")
	conf.NextProtos = []string{"mqtt"}
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for t.Context().Err() == nil {
				qc, err := quic.DialAddr(t.Context(), l.Addr().String(), conf, nil)
				if err != nil {
					continue
				}
				s, err := qc.OpenStreamSync(t.Context())
				if err == nil {
					_, _ = s.Write([]byte("x"))
					_, err = s.Read(make([]byte, 1))
				}
				_ = qc.CloseWithError(0, "")
				if err == nil {
					return
				}
			}
		})
	}
	most := 0.0
	for range clients {
		most = max(most, metric(t, reg, "farhop_mqtt_listener_handshakes", ""))
		c := accepted(t, l)
		wg.Go(func() { _, _ = io.CopyN(c, c, 1) })
	}
	wg.Wait()
	if most > places || metric(t, reg, "farhop_mqtt_listener_full_total", "") == 0 {
		t.Errorf("%v handshakes at once, at most %d; or nobody was refused", most, places)
	}
}

// TestQUICClose wants connections that were accepted to outlive the listener,
// and the socket to be closed with the last of them.
func TestQUICClose(t *testing.T) {
	a := newAuthority(t)
	l := start(t, Config{URL: "quic://127.0.0.1:0", TLS: a.server(false)})
	c := dialQUIC(t, l, a.client("", ""))
	go func() { _, _ = io.WriteString(c, "x") }()
	s := accepted(t, l)
	half, err := connectQUIC(t, l, a.client("", ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	<-half.Context().Done()
	pass(t, s, c, "still here")
	if _, err := net.ListenPacket("udp", l.Addr().String()); err == nil {
		t.Error("the socket of a connection is closed")
	}
	_ = s.Close()
	until(t, "the socket closed", func() bool {
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			_ = u.Close()
		}
		return err == nil
	})
}
