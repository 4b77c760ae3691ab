package listen

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
)

func isDeadline(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// kind is a way to listen and a client for it.
type kind struct {
	name string
	cfg  Config
	dial func(*testing.T, net.Listener) net.Conn
}

// kinds are all listeners that are no bare socket.
func kinds(t *testing.T, a *authority) []kind {
	conf := a.client("", "")
	return []kind{
		{"tls", Config{URL: "tls://127.0.0.1:0", TLS: a.server(false)}, func(t *testing.T, l net.Listener) net.Conn {
			c := tls.Client(dial(t, l), conf)
			go func() { _ = c.Handshake() }()
			return c
		}},
		{"ws", Config{URL: "ws://127.0.0.1:0/mqtt"}, func(t *testing.T, l net.Listener) net.Conn {
			return stream{dialWS(t, "ws://"+l.Addr().String()+"/mqtt", nil, nil)}
		}},
		{"wss", Config{URL: "wss://127.0.0.1:0/mqtt", TLS: a.server(false)}, func(t *testing.T, l net.Listener) net.Conn {
			return stream{dialWS(t, "wss://"+l.Addr().String()+"/mqtt", conf, nil)}
		}},
		{"quic", Config{URL: "quic://127.0.0.1:0", TLS: a.server(false)}, func(t *testing.T, l net.Listener) net.Conn {
			return dialQUIC(t, l, conf)
		}},
		{"proxied tcp", Config{URL: "tcp://127.0.0.1:0", Proxy: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, func(t *testing.T, l net.Listener) net.Conn {
			c := dial(t, l)
			_, _ = c.Write(header(1, 0x11, v4))
			return c
		}},
	}
}

// stream is a client's WebSocket as a stream.
type stream struct{ *websocket.Conn }

func (b stream) Write(p []byte) (int, error) {
	return len(p), b.WriteMessage(websocket.BinaryMessage, p)
}

func (b stream) Read(p []byte) (int, error) {
	_, r, err := b.NextReader() // what is left of a message is dropped
	if err != nil {
		return 0, err
	}
	return r.Read(p)
}
func (b stream) SetDeadline(t time.Time) error { return b.SetReadDeadline(t) }

func dialWS(t *testing.T, url string, conf *tls.Config, header http.Header) *websocket.Conn {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: conf}
	c, resp, err := d.DialContext(t.Context(), url, header)
	if err != nil {
		t.Fatalf("%v: %+v", err, resp)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestWebSocket(t *testing.T) {
	a := newAuthority(t)
	cert, key, names := a.device()
	l := start(t, Config{URL: "wss://127.0.0.1:0/mqtt", TLS: a.server(true)})
	c := dialWS(t, "wss://"+l.Addr().String()+"/mqtt", a.client(cert, key), nil)
	s := accepted(t, l)
	if c.Subprotocol() != "mqtt" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	if p := peerOf(t, s); !slices.Equal(p.Names, names) || p.Transport != WSS {
		t.Errorf("peer %+v", p)
	}
	// A packet spans messages, a message holds several, and one is empty.
	for _, m := range []string{"one pac", "ket", "", "two packets, three packets"} {
		if err := c.WriteMessage(websocket.BinaryMessage, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	want := "one packettwo packets, three packets"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s, got); err != nil || string(got) != want {
		t.Errorf("read %q, %v", got, err)
	}
	// Larger than any buffer on the way.
	big := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	go func() { _, _ = s.Write(big) }()
	kind, m, err := c.ReadMessage()
	if err != nil || kind != websocket.BinaryMessage || !bytes.Equal(m, big) {
		t.Errorf("the device read %d bytes of kind %d, %v", len(m), kind, err)
	}
	go func() { _ = c.WriteMessage(websocket.BinaryMessage, big) }()
	got = make([]byte, len(big))
	if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, big) {
		t.Errorf("read %v", err)
	}
}

// TestWebSocketRefused wants the right status for each request that is none.
func TestWebSocketRefused(t *testing.T) {
	reg := prometheus.NewRegistry()
	patient := start(t, Config{URL: "ws://127.0.0.1:0/mqtt", Registerer: reg})
	strict := start(t, Config{URL: "ws://127.0.0.1:0/mqtt", HandshakeTimeout: 100 * time.Millisecond, Registerer: reg})
	host := patient.Addr().String()
	req := func(path string, lines ...string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" +
			strings.Join(append(lines, "", ""), "\r\n")
	}
	const (
		key   = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
		v13   = "Sec-WebSocket-Version: 13"
		proto = "Sec-WebSocket-Protocol: mqtt"
	)
	for _, tt := range []struct{ name, in, status, cause string }{
		{"other path", req("/", key, v13, proto), "404", causePath},
		{"no subprotocol", req("/mqtt", key, v13), "400", causeProtocol},
		{"other subprotocol", req("/mqtt", key, v13, "Sec-WebSocket-Protocol: amqp, MQTT"), "400", causeProtocol},
		{"no key", req("/mqtt", v13, proto), "400", causeHTTP},
		{"version 8", req("/mqtt", key, "Sec-WebSocket-Version: 8", proto), "400", causeHTTP},
		{"other origin", req("/mqtt", key, v13, proto, "Origin: https://evil.example"), "403", causeOrigin},
		{"origin that is no URL", req("/mqtt", key, v13, proto, "Origin: null"), "403", causeOrigin},
		{"a page", "GET /mqtt HTTP/1.1\r\nHost: " + host + "\r\n\r\n", "426", causeHTTP},
		{"no HTTP", "\x10\x0c\x00\x04MQTT\r\n\r\n", "400", causeHTTP},
		{"much too long", req("/mqtt", key, v13, proto, "X: "+strings.Repeat("x", 2*maxRequest)), "431", causeHTTP},
		{"data before the answer", req("/mqtt", key, v13, proto) + "\x82\x80", "", causeHTTP},
		{"never ends", req("/mqtt", key)[:60], "", causeTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := patient
			if tt.cause == causeTimeout {
				l = strict
			}
			before := refusals(t, reg, tt.cause)
			c := dial(t, l)
			if _, err := io.WriteString(c, tt.in); err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(c)
			if tt.status != "" && !strings.HasPrefix(string(got), "HTTP/1.1 "+tt.status+" ") {
				t.Errorf("answer %q, want status %s", got, tt.status)
			}
			until(t, "refused for "+tt.cause, func() bool { return refusals(t, reg, tt.cause) == before+1 })
		})
	}
}

func TestWebSocketOrigins(t *testing.T) {
	for _, tt := range []struct {
		name    string
		origins []string
		origin  string
		ok      bool
	}{
		{"none sent", nil, "", true},
		{"same host", nil, "http://HOST", true},
		{"other host", nil, "http://panel.example", false},
		{"listed", []string{"https://panel.example"}, "https://PANEL.example", true},
		{"listed with another scheme", []string{"https://panel.example"}, "http://panel.example", false},
		{"not listed", []string{"https://panel.example"}, "http://HOST", false},
		{"all", []string{"*"}, "http://anything.example", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := start(t, Config{URL: "ws://127.0.0.1:0/mqtt", Origins: tt.origins})
			h := http.Header{}
			if tt.origin != "" {
				h.Set("Origin", strings.ReplaceAll(tt.origin, "HOST", l.Addr().String()))
			}
			d := websocket.Dialer{Subprotocols: []string{"mqttv3.1", "mqtt"}}
			c, _, err := d.DialContext(t.Context(), "ws://"+l.Addr().String()+"/mqtt?from=panel", h)
			if err == nil {
				defer c.Close()
			}
			if (err == nil) != tt.ok {
				t.Errorf("dial: %v, want ok %v", err, tt.ok)
			}
		})
	}
}

// TestWebSocketFaults wants the close codes of RFC 6455 and an end.
func TestWebSocketFaults(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*websocket.Conn) error
		code int
	}{
		{"text", func(c *websocket.Conn) error { return c.WriteMessage(websocket.TextMessage, []byte("hello")) }, websocket.CloseUnsupportedData},
		{"too large", func(c *websocket.Conn) error { return c.WriteMessage(websocket.BinaryMessage, make([]byte, 2000)) }, websocket.CloseMessageTooBig},
		{"compressed", func(c *websocket.Conn) error { _, err := c.NetConn().Write([]byte{0xC2, 0x80, 0, 0, 0, 0}); return err }, websocket.CloseProtocolError},
		{"not masked", func(c *websocket.Conn) error { _, err := c.NetConn().Write([]byte{0x82, 1, 0}); return err }, websocket.CloseProtocolError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := start(t, Config{URL: "ws://127.0.0.1:0/mqtt", MaxMessage: minMessage})
			c := dialWS(t, "ws://"+l.Addr().String()+"/mqtt", nil, nil)
			s := accepted(t, l)
			if err := tt.do(c); err != nil {
				t.Fatal(err)
			}
			first := ""
			for i := range 2000 { // reading on must stay harmless
				_, err := s.Read(make([]byte, 4096))
				if err == nil {
					t.Fatal("what was sent was read")
				}
				if i == 0 {
					first = err.Error()
				} else if err.Error() != first {
					t.Fatalf("first %q, then %q", first, err)
				}
			}
			_, _, err := c.ReadMessage()
			if !websocket.IsCloseError(err, tt.code) {
				t.Errorf("the device read %v, want code %d", err, tt.code)
			}
		})
	}
}

// TestWebSocketPing wants pings answered, also while a message is written that
// the client does not read yet.
func TestWebSocketPing(t *testing.T) {
	l := start(t, Config{URL: "ws://127.0.0.1:0/mqtt"})
	c := dialWS(t, "ws://"+l.Addr().String()+"/mqtt", nil, nil)
	s := accepted(t, l)
	pongs := make(chan string, 4)
	c.SetPongHandler(func(p string) error { pongs <- p; return nil })
	ping := func(text string) {
		if err := c.WriteControl(websocket.PingMessage, []byte(text), time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	wrote := make(chan error)
	big := make([]byte, 32<<20) // more than any socket buffer holds
	go func() {
		_, err := s.Write(big)
		wrote <- err
	}()
	// The frame has begun when its first byte is here; the rest is stuck.
	_, r, err := c.NextReader()
	if err != nil {
		t.Fatal(err)
	}
	ping("first")
	ping("second")
	pass(t, stream{c}, s, "read on, past both pings")
	if n, err := io.Copy(io.Discard, r); err != nil || n != int64(len(big)) {
		t.Fatalf("the device read %d bytes, %v", n, err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	go func() { _, _, _ = c.ReadMessage() }() // pongs come to a reader
	if got := <-pongs; got != "second" {
		t.Errorf("pong %q, want that of the last ping", got)
	}
}

// TestWebSocketClose wants both ends' close frames seen.
func TestWebSocketClose(t *testing.T) {
	l := start(t, Config{URL: "ws://127.0.0.1:0/mqtt"})
	c := dialWS(t, "ws://"+l.Addr().String()+"/mqtt", nil, nil)
	s := accepted(t, l)
	if err := c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read %v, want the end", err)
	}
	c = dialWS(t, "ws://"+l.Addr().String()+"/mqtt", nil, nil)
	s = accepted(t, l)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("the device read %v", err)
	}
}

// TestWebSocketNode is a client that shares no line with ours: the WebSocket
// of Node.js, the one of browsers.
func TestWebSocketNode(t *testing.T) {
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no browser's WebSocket came in: install Node.js 20.10 or later (Debian 12 has 18, so continuous integration skips this; TestWebSocket has another client)")
	}
	if exec.Command(path, "--experimental-websocket", "-e", "process.exit(typeof WebSocket === 'function' ? 0 : 1)").Run() != nil {
		t.Skip("no browser's WebSocket came in: this Node.js has none, install 20.10 or later (Debian 12 has 18, so continuous integration skips this; TestWebSocket has another client)")
	}
	l := start(t, Config{URL: "ws://127.0.0.1:0/mqtt"})
	const script = `const ws = new WebSocket(process.argv[1], ['mqtt']); ws.binaryType = 'arraybuffer';
ws.onopen = () => { ws.send(new Uint8Array([0x10, 12, 0, 4, 77, 81, 84, 84])); ws.send(new Uint8Array([4, 2, 0, 60, 0, 0])) };
ws.onmessage = m => { process.stdout.write(ws.protocol + ' ' + Buffer.from(m.data).toString('hex')); ws.close(1000) };
ws.onerror = e => { console.error(e.message); process.exit(1) };`
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--experimental-websocket", "-e", script, "ws://"+l.Addr().String()+"/mqtt")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := accepted(t, l)
	connect := make([]byte, 14)
	if _, err := io.ReadFull(s, connect); err != nil || connect[0] != 0x10 {
		t.Errorf("read %x, %v", connect, err)
	}
	if _, err := s.Write([]byte{0x20, 2, 0, 0}); err != nil {
		t.Error(err)
	}
	if _, err := s.Read(connect); !errors.Is(err, io.EOF) {
		t.Errorf("read %v, want the end", err)
	}
	_ = s.Close()
	if err := cmd.Wait(); err != nil || out.String() != "mqtt 20020000" {
		t.Errorf("node: %v: %q %s", err, out.String(), errs.String())
	}
}
