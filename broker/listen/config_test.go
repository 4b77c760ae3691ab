package listen

import (
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	with := &tls.Config{Certificates: []tls.Certificate{{}}}
	prefix := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	for _, tt := range []struct {
		name string
		cfg  Config
		err  string // "" = none
	}{
		{"tcp", Config{URL: "tcp://127.0.0.1:1883"}, ""},
		{"tcp on all", Config{URL: "tcp://:1883"}, ""},
		{"tcp, IPv6", Config{URL: "tcp://[::1]:1883", Proxy: prefix("10.0.0.0/8")}, ""},
		{"tls", Config{URL: "tls://0.0.0.0:8883", TLS: with}, ""},
		{"ws", Config{URL: "ws://localhost:8083/mqtt", Origins: []string{"https://panel.example", "http://localhost:3000", "*"}}, ""},
		{"wss", Config{URL: "wss://0.0.0.0:8084/a/b", TLS: with}, ""},
		{"unix", Config{URL: "unix:///run/mqtt.sock", Mode: 0o600}, ""},
		{"quic", Config{URL: "quic://0.0.0.0:14567", TLS: with}, ""},

		{"nothing", Config{}, "want tcp://HOST:PORT"},
		{"no scheme", Config{URL: "127.0.0.1:1883"}, "want tcp://HOST:PORT"},
		{"other scheme", Config{URL: "mqtt://127.0.0.1:1883"}, "want tcp://HOST:PORT"},
		{"no port", Config{URL: "tcp://127.0.0.1"}, "want HOST:PORT"},
		{"port too large", Config{URL: "tcp://127.0.0.1:65536"}, "want 0 to 65535"},
		{"port by name", Config{URL: "tcp://127.0.0.1:mqtt"}, "want tcp://HOST:PORT"},
		{"path for tcp", Config{URL: "tcp://127.0.0.1:1883/mqtt"}, "takes no path"},
		{"user", Config{URL: "tcp://u:p@127.0.0.1:1883"}, "takes no user"},
		{"query", Config{URL: "ws://127.0.0.1:80/mqtt?x=1"}, "takes no user, query"},
		{"ws without path", Config{URL: "ws://127.0.0.1:80"}, "has no path"},
		{"unix, relative", Config{URL: "unix://run/mqtt.sock"}, "absolute path"},
		{"unix, folder", Config{URL: "unix:///run/"}, "absolute path"},
		{"unix, long", Config{URL: "unix:///" + strings.Repeat("x", 107)}, "108 bytes"},
		{"tcp with TLS", Config{URL: "tcp://127.0.0.1:1883", TLS: with}, "tls: tcp has no TLS; write tls"},
		{"ws with TLS", Config{URL: "ws://127.0.0.1:1883/mqtt", TLS: with}, "write wss"},
		{"tls without", Config{URL: "tls://127.0.0.1:8883"}, "tls: tls needs a certificate"},
		{"tls, empty", Config{URL: "tls://127.0.0.1:8883", TLS: &tls.Config{}}, "holds no certificate"},
		{"proxies everywhere", Config{URL: "tcp://127.0.0.1:1883", Proxy: prefix("0.0.0.0/0")}, "proxy: 0.0.0.0/0 lets everybody"},
		{"proxy, mapped", Config{URL: "tcp://127.0.0.1:1883", Proxy: prefix("::ffff:10.0.0.0/104")}, "IPv4 prefix"},
		{"proxy, none", Config{URL: "tcp://127.0.0.1:1883", Proxy: []netip.Prefix{{}}}, "proxy: not a prefix"},
		{"proxy before quic", Config{URL: "quic://127.0.0.1:1883", TLS: with, Proxy: prefix("10.0.0.0/8")}, "no PROXY header for QUIC"},
		{"origins for tcp", Config{URL: "tcp://127.0.0.1:1883", Origins: []string{"*"}}, "origins: only browsers"},
		{"origin with path", Config{URL: "ws://127.0.0.1:80/mqtt", Origins: []string{"https://a.example/"}}, "is no origin"},
		{"origin without scheme", Config{URL: "ws://127.0.0.1:80/mqtt", Origins: []string{"a.example"}}, "is no origin"},
		{"mode", Config{URL: "unix:///run/x", Mode: os.ModeSetuid | 0o600}, "permissions alone"},
		{"timeout", Config{URL: "tcp://127.0.0.1:1883", HandshakeTimeout: -1}, "handshake_timeout"},
		{"handshakes", Config{URL: "tcp://127.0.0.1:1883", MaxHandshakes: -1}, "max_handshakes"},
		{"message", Config{URL: "tcp://127.0.0.1:1883", MaxMessage: 1}, "max_message"},
		{"idle", Config{URL: "tcp://127.0.0.1:1883", IdleTimeout: -1}, "idle_timeout"},
		{"window", Config{URL: "tcp://127.0.0.1:1883", MaxWindow: 1}, "max_window"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cfg.Validate()
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
			if tt.err != "" {
				if _, err := Listen(t.Context(), tt.cfg); err == nil {
					t.Error("Listen takes it")
				}
			}
		})
	}
}

func TestBareTCP(t *testing.T) {
	l := start(t, Config{URL: "tcp://127.0.0.1:0"})
	if _, ok := l.(*net.TCPListener); !ok {
		t.Errorf("%T, want the bare listener", l)
	}
	_, err := Listen(t.Context(), Config{URL: "tcp://" + l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "address already in use: stop the program") {
		t.Errorf("a second one: %v", err)
	}
	_, err = Listen(t.Context(), Config{URL: "tcp://192.0.2.1:0"}) // of documents (RFC 5737)
	if err == nil || !strings.Contains(err.Error(), "it is no address of this machine") {
		t.Errorf("a foreign address: %v", err)
	}
}

func TestServerTLSFaults(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("server", nil)
	_, other := a.issue("other", nil)
	none := filepath.Join(a.dir, "none.pem")
	for _, tt := range []struct {
		name, cert, key, ca string
		require             bool
		err                 string
	}{
		{"no certificate", none, key, "", false, "none.pem"},
		{"no key", cert, none, "", false, "none.pem"},
		{"another's key", cert, other, "", false, "does not match"},
		{"no authority", cert, key, none, false, "authority of clients"},
		{"a key as authority", cert, key, key, false, "holds no certificate in PEM"},
		{"required of nobody", cert, key, "", true, "no authority for them is named"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ServerTLS(tt.cert, tt.key, tt.ca, tt.require); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
}

// TestReload follows the files without touching who is in.
func TestReload(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("server", nil)
	f := Files{Cert: cert, Key: key, ClientCA: a.ca}
	conf, err := f.load()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	r := &reloader{files: f.withLog(), conf: conf, stamp: f.stamp(), looked: now}
	step := func(what string, after time.Duration, change bool) {
		t.Helper()
		old := r.conf
		now = now.Add(after)
		if got := r.current(now); (got != old) != change {
			t.Errorf("%s: changed %v, want %v", what, got != old, change)
		}
	}
	renew := func(name string) { // a modification time of its own, whatever the file system's grain
		stamp := time.Now().Add(time.Duration(a.next) * time.Minute)
		if err := os.Chtimes(name, stamp, stamp); err != nil {
			t.Fatal(err)
		}
		a.next++
	}
	step("nothing happened", lookInterval, false)
	a.issue("server", nil)
	renew(cert)
	step("within a second", lookInterval/2, false)
	step("a second later", lookInterval, true)
	step("once only", lookInterval, false)
	good, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cert, good[:len(good)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	step("half a certificate", lookInterval, false)
	if err := os.WriteFile(cert, good, 0o600); err != nil {
		t.Fatal(err)
	}
	renew(cert)
	step("whole again", lookInterval, true)
	if err := os.Remove(a.ca); err != nil {
		t.Fatal(err)
	}
	step("the authority is gone", lookInterval, false)
}

// TestReloadServes changes the authority of clients under a listener: those
// who are in stay, a client of the old one is not let in again, not even with
// a session to resume.
func TestReloadServes(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	cert, key, _ := a.device()
	sc, sk := a.issue("server", nil)
	conf, err := ServerTLS(sc, sk, a.ca, true)
	if err != nil {
		t.Fatal(err)
	}
	l := start(t, Config{URL: "tls://127.0.0.1:0", TLS: conf})
	device := a.client(cert, key)
	device.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	c := tls.Client(dial(t, l), device)
	go func() { _ = c.Handshake() }()
	s := accepted(t, l)
	pass(t, s, c, "so that the ticket is read")

	pem, err := os.ReadFile(b.ca)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.ca, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("welcome"))
		}
	}()
	until(t, "the old authority refused", func() bool {
		again := tls.Client(dial(t, l), device)
		defer again.Close()
		_, err := again.Read(make([]byte, 1)) // a TLS 1.3 client learns of it when it reads
		return err != nil
	})
	pass(t, c, s, "still in")
}
