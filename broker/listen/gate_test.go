package listen

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
)

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	cert, key, names := a.device()
	l := start(t, Config{URL: "tls://127.0.0.1:0", TLS: a.server(false)})
	for _, tt := range []struct {
		name  string
		conf  *tls.Config
		names []string
	}{
		{"without certificate", a.client("", ""), nil},
		{"with certificate", a.client(cert, key), names},
		{"TLS 1.2", func() *tls.Config { c := a.client(cert, key); c.MaxVersion = tls.VersionTLS12; return c }(), names},
		{"some protocol of its own", func() *tls.Config { c := a.client("", ""); c.NextProtos = []string{"x-amzn-mqtt-ca"}; return c }(), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := dial(t, l)
			c := tls.Client(raw, tt.conf)
			go func() { _ = c.Handshake() }()
			s := accepted(t, l)
			if p := peerOf(t, s); !slices.Equal(p.Names, tt.names) || p.Transport != TLS || p.Remote.String() != raw.LocalAddr().String() {
				t.Errorf("peer %+v, want names %q from %v", p, tt.names, raw.LocalAddr())
			}
			pass(t, c, s, "to the broker")
			pass(t, s, c, "to the device")
		})
	}
}

// TestTLSResumed wants the names of a session that was resumed.
func TestTLSResumed(t *testing.T) {
	a := newAuthority(t)
	cert, key, names := a.device()
	l := start(t, Config{URL: "tls://127.0.0.1:0", TLS: a.server(true)})
	conf := a.client(cert, key)
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		c := tls.Client(dial(t, l), conf)
		go func() { _ = c.Handshake() }()
		s := accepted(t, l)
		pass(t, s, c, "so that the ticket is read")
		if c.ConnectionState().DidResume != (i > 0) {
			t.Errorf("connection %d: resumed %v", i, c.ConnectionState().DidResume)
		}
		if got := peerOf(t, s).Names; !slices.Equal(got, names) {
			t.Errorf("connection %d: names %q, want %q", i, got, names)
		}
	}
}

// TestRefused sends what is no handshake, or half of one.
func TestRefused(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	wrongCert, wrongKey, _ := other.device()
	reg := prometheus.NewRegistry()
	patient := start(t, Config{URL: "tls://127.0.0.1:0", TLS: a.server(true), Registerer: reg})
	strict := start(t, Config{URL: "tls://127.0.0.1:0", TLS: a.server(true), HandshakeTimeout: 100 * time.Millisecond, Registerer: reg})
	shake := func(conf *tls.Config) func(net.Conn) {
		return func(c net.Conn) {
			s := tls.Client(c, conf)
			_ = s.Handshake()
			_, _ = io.Copy(io.Discard, s)
		}
	}
	old := a.client("", "")
	old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
	for _, tt := range []struct {
		name, cause string
		do          func(net.Conn)
	}{
		{"plain MQTT", causeTLS, func(c net.Conn) { _, _ = c.Write([]byte("\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")) }},
		{"no certificate", causeTLS, shake(a.client("", ""))},
		{"another's certificate", causeClientCert, shake(a.client(wrongCert, wrongKey))},
		{"TLS 1.1", causeTLS, shake(old)},
		{"half open", causeTimeout, func(net.Conn) {}},
		{"stops half way", causeTimeout, func(c net.Conn) { _, _ = c.Write([]byte{22, 3, 1, 2, 0, 1}) }},
		{"goes away", causeGone, func(c net.Conn) { _ = c.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := patient
			if tt.cause == causeTimeout {
				l = strict
			}
			before := refusals(t, reg, tt.cause)
			c := dial(t, l)
			tt.do(c)
			until(t, "refused for "+tt.cause, func() bool { return refusals(t, reg, tt.cause) == before+1 })
			if tt.cause != causeGone {
				ended(t, c)
			}
		})
	}
	if n := metric(t, reg, "farhop_mqtt_listener_handshakes", ""); n != 0 {
		t.Errorf("%v handshakes are still counted", n)
	}
}

// TestSlowloris fills every place with clients that never finish, and wants
// another one served all the same.
func TestSlowloris(t *testing.T) {
	a := newAuthority(t)
	reg := prometheus.NewRegistry()
	l := start(t, Config{URL: "tls://127.0.0.1:0", TLS: a.server(false), MaxHandshakes: 4, HandshakeTimeout: 4 * time.Second, Registerer: reg})
	for range 4 {
		c := dial(t, l)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { // a byte now and then, as if it were alive
			for _, b := range slices.Repeat([]byte{22, 3, 1, 16, 0, 1}, 1000) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
		defer wg.Wait()
		defer close(stop)
	}
	until(t, "every place taken", func() bool { return metric(t, reg, "farhop_mqtt_listener_handshakes", "") == 4 })
	c := tls.Client(dial(t, l), a.client("", ""))
	go func() { _ = c.Handshake() }()
	pass(t, c, accepted(t, l), "in spite of them")
	if refusals(t, reg, causeCrowded) == 0 || metric(t, reg, "farhop_mqtt_listener_full_total", "") == 0 {
		t.Error("none was cut for the sake of the others, or nobody counted it")
	}
}

// TestThousandAtOnce lets 1,000 clients come at once through 16 places, and
// 100 with TLS, which is the same but for the arithmetic.
func TestThousandAtOnce(t *testing.T) {
	a := newAuthority(t)
	conf := a.client("", "")
	// The clients share the processor with the listener, so none is slow by
	// its own fault.
	ws := Config{URL: "ws://127.0.0.1:0/mqtt", MaxHandshakes: 16, HandshakeTimeout: time.Hour}
	tcp := Config{URL: "tls://127.0.0.1:0", TLS: a.server(false), MaxHandshakes: 16, HandshakeTimeout: time.Hour}
	t.Run("ws", func(t *testing.T) {
		d := websocket.Dialer{Subprotocols: []string{"mqtt"}}
		rush(t, ws, 1000, func(addr string) (io.ReadWriteCloser, error) {
			c, _, err := d.Dial("ws://"+addr+"/mqtt", nil)
			return stream{c}, err
		})
	})
	t.Run("tls", func(t *testing.T) {
		rush(t, tcp, 100, func(addr string) (io.ReadWriteCloser, error) { return tls.Dial("tcp", addr, conf) })
	})
}

// rush has clients come at once, each of which wants a byte back.
func rush(t *testing.T, cfg Config, clients int, dial func(addr string) (io.ReadWriteCloser, error)) {
	reg := prometheus.NewRegistry()
	cfg.Registerer = reg
	l := start(t, cfg)
	var wg sync.WaitGroup
	defer wg.Wait()
	for range clients {
		wg.Go(func() {
			c, err := dial(l.Addr().String())
			if err == nil {
				defer c.Close()
				if _, err = c.Write([]byte("x")); err == nil {
					_, err = io.ReadFull(c, make([]byte, 1))
				}
			}
			if err != nil {
				t.Error(err)
				_ = l.Close() // one is missing: nobody need wait for it
			}
		})
	}
	most := 0.0
	for n := range clients {
		if n%10 == 0 {
			most = max(most, metric(t, reg, "farhop_mqtt_listener_handshakes", ""))
		}
		c, err := l.Accept()
		if err != nil {
			t.Errorf("%d came: %v", n, err)
			return
		}
		wg.Go(func() {
			defer c.Close()
			if _, err := io.CopyN(c, c, 1); err != nil {
				t.Error(err)
			}
		})
	}
	if most > float64(cfg.MaxHandshakes) || metric(t, reg, "farhop_mqtt_listener_full_total", "") == 0 {
		t.Errorf("%v handshakes at once, at most %d; or nobody had to wait", most, cfg.MaxHandshakes)
	}
	until(t, "all counted", func() bool { return metric(t, reg, "farhop_mqtt_listener_accepted_total", "") == float64(clients) })
}

// TestClose ends handshakes and Accept, and leaves alone who is in.
func TestClose(t *testing.T) {
	a := newAuthority(t)
	for _, tt := range []struct{ name, url string }{
		{"tls", "tls://127.0.0.1:0"},
		{"wss", "wss://127.0.0.1:0/mqtt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			l := start(t, Config{URL: tt.url, TLS: a.server(false), Registerer: reg})
			half := dial(t, l)
			until(t, "a handshake under way", func() bool { return metric(t, reg, "farhop_mqtt_listener_handshakes", "") == 1 })
			waits := make(chan error)
			go func() {
				_, err := l.Accept()
				waits <- err
			}()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if err := <-waits; !errors.Is(err, net.ErrClosed) {
				t.Errorf("accept: %v", err)
			}
			ended(t, half)
		})
	}
}

// TestCloseKeeps wants connections that were accepted to outlive the listener.
func TestCloseKeeps(t *testing.T) {
	a := newAuthority(t)
	l := start(t, Config{URL: "tls://127.0.0.1:0", TLS: a.server(false)})
	c := tls.Client(dial(t, l), a.client("", ""))
	go func() { _ = c.Handshake() }()
	s := accepted(t, l)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	pass(t, s, c, "still here")
	if err := s.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the last word the device reads %v", err)
	}
}

// TestCalledOff wants a past read deadline to end a read that waits, and
// writing to go on.
func TestCalledOff(t *testing.T) {
	a := newAuthority(t)
	for _, tt := range kinds(t, a) {
		t.Run(tt.name, func(t *testing.T) {
			l := start(t, tt.cfg)
			c := tt.dial(t, l)
			go func() { _, _ = io.WriteString(c, "x") }() // QUIC shows a stream with its first byte
			s := accepted(t, l)
			pass(t, io.Discard, s, "x")
			read := make(chan error)
			go func() {
				_, err := s.Read(make([]byte, 1))
				read <- err
			}()
			_ = s.SetReadDeadline(time.Unix(1, 0))
			var timeout net.Error
			if err := <-read; !errors.As(err, &timeout) || !timeout.Timeout() || !isDeadline(err) {
				t.Errorf("the read ended with %v", err)
			}
			pass(t, s, c, "the last word")
			if err := s.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Error(err)
			}
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("the device read more than was written")
			}
		})
	}
}

// TestStalledWrite wants a write to a client that reads nothing ended by a
// deadline that is set while it waits.
func TestStalledWrite(t *testing.T) {
	a := newAuthority(t)
	for _, tt := range kinds(t, a) {
		t.Run(tt.name, func(t *testing.T) {
			l := start(t, tt.cfg)
			c := tt.dial(t, l)
			go func() { _, _ = io.WriteString(c, "x") }()
			s := accepted(t, l)
			pass(t, io.Discard, s, "x")
			wrote := make(chan error)
			go func() {
				_, err := s.Write(make([]byte, 64<<20))
				wrote <- err
			}()
			if _, err := c.Read(make([]byte, 1)); err != nil { // it is under way
				t.Fatal(err)
			}
			_ = s.SetWriteDeadline(time.Now())
			if err := <-wrote; !isDeadline(err) {
				t.Errorf("the write ended with %v", err)
			}
		})
	}
}

// TestNetConn: below TLS and WebSockets there is the socket, whose path the
// kernel has measured.
func TestNetConn(t *testing.T) {
	for _, k := range kinds(t, newAuthority(t)) {
		if k.name == "quic" {
			continue // tells of its path itself, see farewell
		}
		t.Run(k.name, func(t *testing.T) {
			l := start(t, k.cfg)
			k.dial(t, l)
			c := accepted(t, l)
			for below, ok := c.(interface{ NetConn() net.Conn }); ok; below, ok = c.(interface{ NetConn() net.Conn }) {
				c = below.NetConn()
			}
			if _, ok := c.(*net.TCPConn); !ok {
				t.Errorf("below is a %T, want a socket", c)
			}
		})
	}
}
