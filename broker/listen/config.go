package listen

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what one listener needs to know. The zero value of each field but
// URL means its default.
type Config struct {
	// URL says what to listen on:
	//
	//	tcp://127.0.0.1:1883       plain MQTT
	//	tls://0.0.0.0:8883         MQTT in TLS
	//	ws://HOST:PORT/mqtt        MQTT in WebSocket
	//	wss://HOST:PORT/mqtt       MQTT in WebSocket in TLS
	//	unix:///run/farhop/mqtt    plain MQTT on a unix socket
	//	quic://HOST:PORT           MQTT on the first stream of a QUIC connection
	//
	// An empty HOST is every address, port 0 any free one.
	URL string

	TLS *tls.Config // for tls, wss and quic, nil for the others; see ServerTLS

	// Proxy lists from where a PROXY protocol v2 header is required. Those are
	// believed what they say of their clients; others are served as they are.
	// A unix socket has no addresses: any entry there requires the header of
	// everybody who may open the socket.
	Proxy []netip.Prefix

	// Origins are the Origin headers allowed to a WebSocket, such as
	// https://panel.example.org, or "*" for all. Default: pages of the host
	// the request names. Programs that are no browser send none and are let in.
	Origins []string

	Mode fs.FileMode // of a unix socket; default 0660

	// HandshakeTimeout is from accept until the client can send MQTT: the
	// proxy's header, TLS and the upgrade to WebSocket together. Default 30 s,
	// as for the CONNECT that follows: ten round trips to the Moon, of which
	// these need at most four.
	HandshakeTimeout time.Duration
	MaxHandshakes    int // under way at once; default 512, some 20 MiB with TLS

	MaxMessage int64 // bytes of one WebSocket message; default 16 MiB; not less than the largest MQTT packet

	// IdleTimeout ends a QUIC connection that is silent, for clients that MQTT
	// does not end: those without keep-alive. Default 1 h; not less than the
	// longest keep-alive in use.
	IdleTimeout time.Duration
	// MaxWindow is how many bytes a QUIC client may have under way, and what it
	// costs here at most when the broker reads it no further. Its rate is at
	// most this per round trip. Default 2 MiB.
	MaxWindow int
	// ResetKey lets a QUIC listener that knows nothing of a connection say so:
	// after a restart devices come back at their next packet, not when they
	// give up. It must be secret, and the same after the restart. nil = not so.
	ResetKey *[32]byte

	Log        *slog.Logger          // nil = silent
	Registerer prometheus.Registerer // nil = not registered; listeners may share one
}

// The kinds of listener, which are also the schemes of a URL and the names in
// Peer.Transport.
const (
	TCP  = "tcp"
	TLS  = "tls"
	WS   = "ws"
	WSS  = "wss"
	Unix = "unix"
	QUIC = "quic"
)

const (
	maxUnixPath = 107      // bytes; sockaddr_un of Linux holds one more for the end
	minMessage  = 1 << 10  // bytes
	minWindow   = 32 << 10 // bytes
)

func (c Config) withDefaults() Config {
	if c.Mode == 0 {
		c.Mode = 0o660
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = 30 * time.Second
	}
	if c.MaxHandshakes == 0 {
		c.MaxHandshakes = 512
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = 16 << 20
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Hour
	}
	if c.MaxWindow == 0 {
		c.MaxWindow = 2 << 20
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault of the configuration, one line each, with the
// field it is in.
func (c Config) Validate() error {
	c = c.withDefaults()
	at, err := parseURL(c.URL)
	if err != nil {
		return err
	}
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("listen %s: %s: %s", c.URL, field, fmt.Sprintf(format, args...)))
	}
	c.checkTLS(at, fault)
	c.checkProxy(at, fault)
	c.checkOrigins(at, fault)
	if c.Mode&^fs.ModePerm != 0 {
		fault("mode", "%#o: want permissions alone, such as 0660", uint32(c.Mode))
	}
	if c.HandshakeTimeout < 0 {
		fault("handshake_timeout", "%v: want more than 0", c.HandshakeTimeout)
	}
	if c.MaxHandshakes < 1 || c.MaxHandshakes > math.MaxUint16 {
		fault("max_handshakes", "%d: want 1 to %d", c.MaxHandshakes, math.MaxUint16)
	}
	if c.MaxMessage < minMessage {
		fault("max_message", "%d: want at least %d bytes", c.MaxMessage, minMessage)
	}
	if c.IdleTimeout < 0 {
		fault("idle_timeout", "%v: want more than 0", c.IdleTimeout)
	}
	if c.MaxWindow < minWindow || c.MaxWindow > math.MaxInt32 {
		fault("max_window", "%d: want %d to %d bytes", c.MaxWindow, minWindow, math.MaxInt32)
	}
	return errors.Join(errs...)
}

func (c Config) checkTLS(at place, fault func(field, format string, args ...any)) {
	switch {
	case !at.secure() && c.TLS != nil:
		fault("tls", "%s has no TLS; write %s, or leave the certificate out", at.kind, at.secured())
	case !at.secure():
	case c.TLS == nil:
		fault("tls", "%s needs a certificate and its key", at.kind)
	case len(c.TLS.Certificates) == 0 && c.TLS.GetCertificate == nil && c.TLS.GetConfigForClient == nil:
		fault("tls", "the configuration holds no certificate")
	}
}

func (c Config) checkProxy(at place, fault func(field, format string, args ...any)) {
	if at.kind == QUIC && len(c.Proxy) > 0 {
		fault("proxy", "there is no PROXY header for QUIC; let the balancer pass datagrams on with their addresses")
	}
	for _, p := range c.Proxy {
		switch {
		case !p.IsValid():
			fault("proxy", "not a prefix of addresses; write one such as 10.0.0.0/8 or 192.0.2.7/32")
		case p.Bits() == 0:
			fault("proxy", "%s lets everybody choose the address he seems to come from; name the proxies", p)
		case p.Addr().Is4In6():
			fault("proxy", "%s: write it as an IPv4 prefix", p)
		}
	}
}

func (c Config) checkOrigins(at place, fault func(field, format string, args ...any)) {
	if len(c.Origins) > 0 && at.kind != WS && at.kind != WSS {
		fault("origins", "only browsers on ws and wss send one")
	}
	for _, o := range c.Origins {
		if o == "*" {
			continue
		}
		u, err := url.Parse(o)
		if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
			fault("origins", "%q is no origin; write one such as https://panel.example.org or http://localhost:3000", o)
		}
	}
}

// place is a URL taken apart.
type place struct {
	kind string
	addr string // HOST:PORT, or the path of a unix socket
	path string // of ws and wss
}

func (p place) secure() bool { return p.kind == TLS || p.kind == WSS || p.kind == QUIC }

// secured names the kind with TLS that is most like p's.
func (p place) secured() string {
	if p.kind == WS {
		return WSS
	}
	return TLS
}

func parseURL(s string) (place, error) {
	fail := func(format string, args ...any) (place, error) {
		return place{}, fmt.Errorf("listen url %q: %s", s, fmt.Sprintf(format, args...))
	}
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || !slices.Contains([]string{TCP, TLS, WS, WSS, Unix, QUIC}, u.Scheme) {
		return fail("want tcp://HOST:PORT, tls://HOST:PORT, ws://HOST:PORT/mqtt, wss://HOST:PORT/mqtt, unix:///PATH or quic://HOST:PORT")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fail("takes no user, query or fragment")
	}
	p := place{kind: u.Scheme, addr: u.Host}
	switch p.kind {
	case Unix:
		p.addr = u.Path
		if u.Host != "" || !filepath.IsAbs(u.Path) || strings.HasSuffix(u.Path, "/") {
			return fail("want the absolute path of a socket with three slashes, such as unix:///run/farhop/mqtt.sock")
		}
		if len(p.addr) > maxUnixPath {
			return fail("the path has %d bytes, a unix socket's at most %d", len(p.addr), maxUnixPath)
		}
		return p, nil
	case WS, WSS:
		if p.path = u.Path; p.path == "" || p.path == "/" {
			return fail("has no path; MQTT clients use /mqtt")
		}
	default:
		if u.Path != "" {
			return fail("%s takes no path", p.kind)
		}
	}
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		return fail("want HOST:PORT: %v", err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fail("port %q: want 0 to 65535", port)
	}
	return p, nil
}
