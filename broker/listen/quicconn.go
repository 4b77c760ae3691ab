package listen

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// quicConn is a client's stream as a net.Conn.
type quicConn struct {
	*quic.Stream
	qc   *quic.Conn
	l    *quicListener
	peer Peer

	heard   atomic.Bool // the client has said its last
	closing sync.Once
}

func (c *quicConn) Peer() Peer           { return c.peer }
func (c *quicConn) LocalAddr() net.Addr  { return c.qc.LocalAddr() }
func (c *quicConn) RemoteAddr() net.Addr { return c.qc.RemoteAddr() }

// Read reads from the stream.
func (c *quicConn) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	var app *quic.ApplicationError
	if errors.As(err, &app) && app.ErrorCode == quicDone && app.Remote {
		err = io.EOF // the client closed the connection without ending the stream
	}
	if errors.Is(err, io.EOF) {
		c.heard.Store(true)
	}
	return n, err
}

// CloseWrite ends our side of the stream once what was written is sent. It
// must not be called while a Write is under way.
func (c *quicConn) CloseWrite() error { return c.Stream.Close() }

// Close ends the connection and does not wait for it. Closing a QUIC
// connection drops what is not sent or was lost on the way, the last packet
// first of all. So the client gets three round trips to take it and close by
// itself, unless it has said its last already.
func (c *quicConn) Close() error {
	c.closing.Do(func() {
		c.Stream.CancelRead(quicDone)
		_ = c.Stream.Close()
		go c.bye() // for maxFarewell at most
	})
	return nil
}

// farewell is how long the client has after Close.
func (c *quicConn) farewell() time.Duration {
	if c.heard.Load() {
		return 0
	}
	return min(max(3*c.qc.ConnectionStats().SmoothedRTT, minFarewell), maxFarewell)
}

// bye waits for the client to close, and closes.
func (c *quicConn) bye() {
	t := time.NewTimer(c.farewell())
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.qc.Context().Done():
	}
	_ = c.qc.CloseWithError(quicDone, "")
}

// tend resets streams that are not the client's first, and lets go of the
// listener's socket when the connection has ended.
func (c *quicConn) tend() {
	for n := 1; ; n++ {
		s, err := c.qc.AcceptStream(c.qc.Context())
		if err != nil {
			break
		}
		c.l.m.streams.Inc()
		s.CancelRead(quicExtra)
		s.CancelWrite(quicExtra)
		if n > maxExtraStreams {
			c.l.cfg.Log.Debug("mqtt client cut", "remote", c.peer.String(), "cause", "one QUIC stream carries one client; it opened ever more")
			_ = c.qc.CloseWithError(quicExtra, "one stream carries one client")
			break
		}
	}
	<-c.qc.Context().Done() // what says so to the client is sent
	c.l.release()
}
