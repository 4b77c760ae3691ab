package bridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/gorilla/websocket"
)

// DialError is an error about one field of a Remote.
type DialError struct {
	Field string // such as url or tls.ca
	Err   error
}

// Error implements error.
func (e *DialError) Error() string { return "remote." + e.Field + ": " + e.Err.Error() }

// Unwrap returns what is wrong with the field.
func (e *DialError) Unwrap() error { return e.Err }

// Dial opens a connection to the remote, by its URL and TLS. took is how long
// the transport below TLS needed, about one round trip of the path; names are
// looked up before.
func (r Remote) Dial(ctx context.Context) (conn net.Conn, took time.Duration, err error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, 0, &DialError{"url", err}
	}
	var conf *tls.Config
	if u.Scheme == "mqtts" || u.Scheme == "wss" {
		if conf, err = r.TLS.load(u.Hostname()); err != nil {
			return nil, 0, err
		}
	}
	dialTCP := func(ctx context.Context, network, _ string) (net.Conn, error) {
		c, d, err := dialHost(ctx, network, hostPort(u))
		took = d
		return c, err
	}
	if u.Scheme == "ws" || u.Scheme == "wss" {
		conn, err = dialWebSocket(ctx, u, conf, dialTCP)
		return conn, took, err
	}
	conn, err = dialTCP(ctx, "tcp", "")
	if err != nil || conf == nil {
		return conn, took, err
	}
	secure := tls.Client(conn, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, took, &DialError{"tls", fmt.Errorf("%s: %w", hostPort(u), err)}
	}
	return secure, took, nil
}

// dialHost tries the addresses of a host one after the other.
func dialHost(ctx context.Context, network, address string) (net.Conn, time.Duration, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, 0, err
	}
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, 0, &DialError{"url", err}
	}
	var errs []error
	for i, ip := range ips {
		one, cancel := ctx, context.CancelFunc(func() {})
		if end, ok := ctx.Deadline(); ok {
			one, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(len(ips)-i))
		}
		began := time.Now()
		c, err := new(net.Dialer).DialContext(one, network, net.JoinHostPort(ip, port))
		cancel()
		if err == nil {
			return c, time.Since(began), nil
		}
		errs = append(errs, err)
	}
	return nil, 0, errors.Join(errs...)
}

// load reads the files and makes a client's configuration for host.
func (t TLS) load(host string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, NextProtos: t.ALPN}
	if t.ServerName != "" {
		conf.ServerName = t.ServerName
	}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, &DialError{"tls.ca", err}
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &DialError{"tls.ca", fmt.Errorf("%s holds no certificate in PEM", t.CA)}
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, &DialError{"tls.cert and key", err}
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

func dialWebSocket(ctx context.Context, u *url.URL, conf *tls.Config, dial func(context.Context, string, string) (net.Conn, error)) (net.Conn, error) {
	d := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: conf, NetDialContext: dial} // MQTT 5, 6
	c, resp, err := d.DialContext(ctx, u.String(), http.Header{})
	if resp != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		return nil, &DialError{"url", fmt.Errorf("%s: %w", u.Redacted(), err)}
	}
	return &wsConn{Conn: c}, nil
}

// wsConn is a WebSocket as a stream of bytes: MQTT packets need not end with
// its messages (MQTT 5, [MQTT-6.0.0-2]).
type wsConn struct {
	*websocket.Conn
	r io.Reader
}

func (c *wsConn) Read(b []byte) (int, error) {
	for {
		if c.r == nil {
			kind, r, err := c.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errors.New("the remote sends WebSocket text; MQTT takes binary messages alone")
			}
			c.r = r
		}
		n, err := c.r.Read(b)
		if errors.Is(err, io.EOF) {
			c.r, err = nil, nil
			if n == 0 {
				continue
			}
		}
		return n, err
	}
}

func (c *wsConn) Write(b []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
