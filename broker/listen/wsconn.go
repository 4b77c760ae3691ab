package listen

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

const byeTimeout = 100 * time.Millisecond // to put a close frame into a local socket buffer, not for the link

// pongTimeout is how long a pong may wait for the client to read.
type pongTimeout time.Duration

// wsConn is a WebSocket as a stream of bytes: packets may span messages and
// messages may hold several (MQTT-6.0.0-1, -2).
type wsConn struct {
	ws   *websocket.Conn
	wire *wire
	peer Peer
	pong pongTimeout

	r    io.Reader // the message being read; the reader's
	rerr error     // why reading is over; the reader's

	writing sync.Mutex             // one writer at a time
	owed    atomic.Pointer[string] // payload of the pong that is due; the last ping's counts (RFC 6455, 5.5.3)
	last    atomic.Pointer[[]byte] // payload of the close frame that is due
	bye     atomic.Bool            // it is due, or was sent
}

func newWSConn(ws *websocket.Conn, w *wire, p Peer, pong pongTimeout) *wsConn {
	c := &wsConn{ws: ws, wire: w, peer: p, pong: pong}
	ws.SetPingHandler(func(payload string) error {
		c.owed.Store(&payload)
		c.settle()
		return nil
	})
	return c
}

func (c *wsConn) Peer() Peer           { return c.peer }
func (c *wsConn) NetConn() net.Conn    { return c.wire.Conn }
func (c *wsConn) LocalAddr() net.Addr  { return c.wire.LocalAddr() }
func (c *wsConn) RemoteAddr() net.Addr { return c.wire.RemoteAddr() }

// Read reads on in the current message or begins the next.
func (c *wsConn) Read(p []byte) (int, error) {
	if c.rerr != nil {
		return 0, c.rerr // the library panics when a failed connection is read on and on
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if c.r == nil {
			kind, r, err := c.ws.NextReader()
			if err != nil {
				return 0, c.failRead(err)
			}
			if kind != websocket.BinaryMessage { // MQTT-6.0.0-1
				c.sayBye(websocket.CloseUnsupportedData, "MQTT is binary")
				return 0, c.failRead(errors.New("websocket: a text message; MQTT is binary"))
			}
			c.r = r
		}
		n, err := c.r.Read(p)
		if errors.Is(err, io.EOF) {
			c.r, err = nil, nil
		}
		if err != nil {
			return n, c.failRead(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// failRead ends reading for good, as after a failed frame header nobody knows
// where the next frame begins.
func (c *wsConn) failRead(err error) error {
	var closed *websocket.CloseError
	switch {
	case errors.As(err, &closed) && (closed.Code == websocket.CloseNormalClosure || closed.Code == websocket.CloseGoingAway || closed.Code == websocket.CloseNoStatusReceived):
		err = io.EOF
	default:
		err = asDeadline(err)
	}
	c.rerr = err
	return err
}

// Write sends p as one message.
func (c *wsConn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.writing.Lock()
	err := c.ws.WriteMessage(websocket.BinaryMessage, p)
	c.writing.Unlock()
	c.settle()
	if err != nil {
		return 0, asDeadline(err)
	}
	return len(p), nil
}

// settle sends the pong and the close frame that are due, unless something is
// being written; then the writer does it afterwards. So a ping never waits for
// a slow message, and reading goes on.
func (c *wsConn) settle() {
	for (c.owed.Load() != nil || c.last.Load() != nil) && c.writing.TryLock() {
		if payload := c.owed.Swap(nil); payload != nil {
			_ = c.ws.WriteControl(websocket.PongMessage, []byte(*payload), time.Now().Add(time.Duration(c.pong)))
		}
		if payload := c.last.Swap(nil); payload != nil {
			_ = c.ws.WriteControl(websocket.CloseMessage, *payload, time.Now().Add(byeTimeout))
		}
		c.writing.Unlock()
	}
}

// sayBye sends a close frame, once.
func (c *wsConn) sayBye(code int, text string) {
	if !c.bye.Swap(true) {
		payload := websocket.FormatCloseMessage(code, text)
		c.last.Store(&payload)
		c.settle()
	}
}

// CloseWrite says that nothing more comes from here. The client answers in
// kind, which Read gives as io.EOF.
func (c *wsConn) CloseWrite() error {
	c.sayBye(websocket.CloseNormalClosure, "")
	return nil
}

// Close closes the connection.
func (c *wsConn) Close() error {
	c.sayBye(websocket.CloseNormalClosure, "")
	return c.wire.Close()
}

// SetDeadline sets both deadlines.
func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline also ends a read that waits. One that was ended is not taken
// up again.
func (c *wsConn) SetReadDeadline(t time.Time) error { return c.wire.Conn.SetReadDeadline(t) }

// SetWriteDeadline also holds for a write under way.
func (c *wsConn) SetWriteDeadline(t time.Time) error { return c.wire.limitWrite(t) }

// wire is the connection as the library sees it. The library sets deadlines of
// its own before every frame; they may shorten ours, never lift them.
type wire struct {
	net.Conn

	mu   sync.Mutex
	ours time.Time // guarded by mu; zero = none
}

func (w *wire) SetDeadline(time.Time) error     { return nil }
func (w *wire) SetReadDeadline(time.Time) error { return nil }

func (w *wire) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.IsZero() || !w.ours.IsZero() && w.ours.Before(t) {
		t = w.ours
	}
	return w.Conn.SetWriteDeadline(t)
}

func (w *wire) limitWrite(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ours = t
	return w.Conn.SetWriteDeadline(t)
}

// asDeadline gives a timeout the name the standard library has for it, which
// the library below took away.
func asDeadline(err error) error {
	var timeout net.Error
	if asTimeout(err, &timeout) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err)
	}
	return err
}

func asTimeout(err error, e *net.Error) bool { return errors.As(err, e) && (*e).Timeout() }
