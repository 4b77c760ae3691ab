package link

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"

	"github.com/quic-go/quic-go"
)

// carrier is one connection with streams in it, on which a session runs.
type carrier interface {
	// Context ends when the connection does; its cause says why, see downOf.
	Context() context.Context
	RemoteAddr() net.Addr
	TLS() tls.ConnectionState
	Stats() carrierStats

	// The streams are opened as far as the peer's limit allows; the calls wait.
	OpenStream(ctx context.Context) (stream, error)
	OpenUni(ctx context.Context) (sendStream, error)
	AcceptStream(ctx context.Context) (stream, error)
	AcceptUni(ctx context.Context) (io.Reader, error)

	// CloseWithError ends the connection and tells the peer a code and a text.
	CloseWithError(code uint64, text string) error
}

// carrierStats are counts since the connection began.
type carrierStats struct {
	RTT                          time.Duration // smoothed; 0 before the first sample
	BytesSent, BytesReceived     uint64        // as on the wire, with the carrier's overhead
	PacketsSent, PacketsReceived uint64
	PacketsLost                  uint64 // declared lost; may shrink
}

// sendStream carries bytes to the peer.
type sendStream interface {
	io.Writer
	// SetPriority sets the urgency (RFC 9218): lower goes first. Streams of one
	// urgency take turns when incremental, else the older one goes first.
	SetPriority(urgency int8, incremental bool)
}

// stream carries bytes both ways.
type stream interface {
	sendStream
	io.Reader
	io.Closer // of the way to the peer
	SetReadDeadline(t time.Time) error
	// Reset ends both ways at once; after both ended orderly it does nothing.
	Reset(code uint64)
}

// quicCarrier is a connection of QUIC, and what its packets go through.
type quicCarrier struct {
	conn *quic.Conn
	tr   *quic.Transport
}

func (c quicCarrier) Context() context.Context { return c.conn.Context() }
func (c quicCarrier) RemoteAddr() net.Addr     { return c.conn.RemoteAddr() }
func (c quicCarrier) TLS() tls.ConnectionState { return c.conn.ConnectionState().TLS }

func (c quicCarrier) Stats() carrierStats {
	st := c.conn.ConnectionStats()
	out := carrierStats{
		BytesSent: st.BytesSent, BytesReceived: st.BytesReceived,
		PacketsSent: st.PacketsSent, PacketsReceived: st.PacketsReceived, PacketsLost: st.PacketsLost,
	}
	// Without a sample quic-go says 100 ms.
	if st.MinRTT > 0 {
		out.RTT = st.SmoothedRTT
	}
	return out
}

func (c quicCarrier) OpenStream(ctx context.Context) (stream, error) {
	st, err := c.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return quicStream{st}, nil
}

func (c quicCarrier) OpenUni(ctx context.Context) (sendStream, error) {
	st, err := c.conn.OpenUniStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return st, nil
}

func (c quicCarrier) AcceptStream(ctx context.Context) (stream, error) {
	st, err := c.conn.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return quicStream{st}, nil
}

func (c quicCarrier) AcceptUni(ctx context.Context) (io.Reader, error) {
	st, err := c.conn.AcceptUniStream(ctx)
	if err != nil {
		return nil, err
	}
	return st, nil
}

func (c quicCarrier) CloseWithError(code uint64, text string) error {
	return c.conn.CloseWithError(quic.ApplicationErrorCode(code), text)
}

// quicStream is a stream of QUIC.
type quicStream struct{ *quic.Stream }

func (s quicStream) Reset(code uint64) {
	s.CancelRead(quic.StreamErrorCode(code))
	s.CancelWrite(quic.StreamErrorCode(code))
}
