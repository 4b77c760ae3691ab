package link

import (
	"bufio"
	"io"
)

const (
	tcpUrgency = 3 // the interactive class, shared round-robin

	resetRefused = 1 // stream error code: this node serves no such stream
)

// Stream is a byte stream to a neighbour with half-close and reset.
type Stream struct {
	qs stream
	r  io.Reader // qs, or the buffer that its first frame was read with
}

func newStream(qs stream, r *bufio.Reader) *Stream {
	if r == nil {
		return &Stream{qs: qs, r: qs}
	}
	return &Stream{qs: qs, r: r}
}

// Read implements io.Reader. A reset by the far end is an error, its
// half-close is io.EOF.
func (s *Stream) Read(p []byte) (int, error) { return s.r.Read(p) }

// Pour writes what the far end sends to w until it half-closes, without a copy of
// its own. ok is false where the link's layer cannot, and nothing was read.
func (s *Stream) Pour(w io.Writer) (ok bool, err error) {
	from, ok := s.qs.(io.WriterTo)
	if !ok {
		return false, nil
	}
	if br, ok := s.r.(*bufio.Reader); ok && br.Buffered() > 0 {
		if _, err := io.CopyN(w, br, int64(br.Buffered())); err != nil {
			return true, err
		}
	}
	_, err = from.WriteTo(w)
	return true, err
}

// Write implements io.Writer. It blocks while the far end does not read.
func (s *Stream) Write(p []byte) (int, error) { return s.qs.Write(p) }

// CloseWrite says that no more bytes come; reading goes on.
func (s *Stream) CloseWrite() error { return s.qs.Close() }

// Reset ends both directions at once; the far end sees an error with code.
// After both directions ended orderly it does nothing.
func (s *Stream) Reset(code uint64) { s.qs.Reset(code) }
