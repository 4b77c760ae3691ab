package listen

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

// Of the two libraries that are in wide use, coder/websocket is released more
// often, and gorilla/websocket is the one here: it leaves deadlines to the
// connection below it, so that a reader can be called off while the last
// packet is still written, and lets us answer pings. The other closes the
// whole connection when a read is called off, and when a pong cannot be
// written for five seconds, which a large message on a slow link makes true of
// any client that pings. Both are small and need nothing else.

const (
	maxRequest  = 8 << 10 // bytes of the HTTP request
	wsReadSize  = 2 << 10 // bytes per connection; longer reads go past the buffer
	wsWriteSize = 4 << 10 // bytes, held while writing
)

// upgrader turns connections into WebSockets (RFC 6455, MQTT 5 section 6).
type upgrader struct {
	path       string
	origins    []string
	maxMessage int64
	pong       pongTimeout
	lib        websocket.Upgrader
}

func newUpgrader(cfg Config, at place) *upgrader {
	u := &upgrader{path: at.path, origins: cfg.Origins, maxMessage: cfg.MaxMessage, pong: pongTimeout(cfg.HandshakeTimeout)}
	u.lib = websocket.Upgrader{
		WriteBufferSize: wsWriteSize,
		WriteBufferPool: new(sync.Pool),
		// In the order of our preference; the second is what MQTT 3.1 used.
		Subprotocols: []string{"mqtt", "mqttv3.1"},
		CheckOrigin:  func(*http.Request) bool { return true }, // check did, with a cause
		Error:        func(http.ResponseWriter, *http.Request, int, error) {},
	}
	return u
}

// upgrade reads one request and answers it. There is no HTTP server: a second
// request, a body or a page is nothing that belongs here.
func (u *upgrader) upgrade(c *conn) (net.Conn, error) {
	limited := &io.LimitedReader{R: c, N: maxRequest}
	br := bufio.NewReaderSize(limited, wsReadSize)
	req, err := http.ReadRequest(br)
	var timeout net.Error
	switch {
	case err == nil:
	case limited.N <= 0:
		return nil, u.deny(c, http.StatusRequestHeaderFieldsTooLarge, refusef(causeHTTP, "a request of more than %d bytes", maxRequest))
	case asTimeout(err, &timeout), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isReset(err):
		return nil, err
	default:
		return nil, u.deny(c, http.StatusBadRequest, refuse(causeHTTP, err))
	}
	if status, err := u.check(req); err != nil {
		return nil, u.deny(c, status, err)
	}
	w := &hijack{wire: &wire{Conn: c}, br: br}
	ws, err := u.lib.Upgrade(w, req, nil)
	if err != nil {
		if w.taken {
			return nil, refuse(causeHTTP, err)
		}
		return nil, u.deny(c, http.StatusBadRequest, refuse(causeHTTP, err))
	}
	ws.SetReadLimit(u.maxMessage)
	return newWSConn(ws, w.wire, c.peer, u.pong), nil
}

// check says with which HTTP status a request is refused, and why.
func (u *upgrader) check(req *http.Request) (int, error) {
	switch {
	case req.URL.Path != u.path:
		return http.StatusNotFound, refusef(causePath, "path %.100q, want %s", req.URL.Path, u.path)
	case !websocket.IsWebSocketUpgrade(req):
		return http.StatusUpgradeRequired, refusef(causeHTTP, "no request for a WebSocket")
	case !u.allowed(req):
		return http.StatusForbidden, refusef(causeOrigin, "origin %.100q; allow it with origins", req.Header.Get("Origin"))
	}
	// The client must offer one of ours (MQTT-6.0.0-3). Without one both ends
	// would speak of different things.
	offered := websocket.Subprotocols(req)
	if !slices.ContainsFunc(u.lib.Subprotocols, func(p string) bool { return slices.Contains(offered, p) }) {
		return http.StatusBadRequest, refusef(causeProtocol, "subprotocols %.100q, want mqtt", offered)
	}
	return 0, nil
}

// allowed judges the Origin header. A browser sets it truly; others can send
// what they like, so none at all is as good as any.
func (u *upgrader) allowed(req *http.Request) bool {
	origin := req.Header.Get("Origin")
	if origin == "" || slices.Contains(u.origins, "*") {
		return true
	}
	if slices.ContainsFunc(u.origins, func(o string) bool { return strings.EqualFold(o, origin) }) {
		return true
	}
	got, err := url.Parse(origin)
	return err == nil && len(u.origins) == 0 && strings.EqualFold(got.Host, req.Host)
}

// deny answers with a status and returns the reason.
func (u *upgrader) deny(c net.Conn, status int, err error) error {
	text := http.StatusText(status)
	_, _ = fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nConnection: close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s\n", status, text, len(text)+1, text)
	return err
}

// hijack is the part of an HTTP server that the library asks for.
type hijack struct {
	wire  *wire
	br    *bufio.Reader
	taken bool
}

func (h *hijack) Header() http.Header         { return http.Header{} }
func (h *hijack) Write(p []byte) (int, error) { return len(p), nil } // refusals are deny's
func (h *hijack) WriteHeader(int)             {}

// Hijack implements http.Hijacker.
func (h *hijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.taken = true
	// The library takes over the reader, pointed at the connection itself, and
	// the writer's buffer for its answer.
	return h.wire, bufio.NewReadWriter(h.br, bufio.NewWriterSize(h.wire, 256)), nil
}
