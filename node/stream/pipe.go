package stream

import (
	"errors"
	"io"
	"net"
	"sync"
)

// tcpConn is a TCP connection as a Conn.
type tcpConn struct{ *net.TCPConn }

// Reset sends a RST, so that the far end does not take it for the end of data.
func (c tcpConn) Reset(uint64) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// buffers is a pool of copy buffers.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, copyBuffer)
	return &p
}

func (b *buffers) put(p *[]byte) { b.pool.Put(p) }

// pourer is a source that writes its own buffers, where ok.
type pourer interface {
	Pour(w io.Writer) (ok bool, err error)
}

// copy moves bytes until src ends, and passes the end on.
func (b *buffers) copy(dst Conn, src io.Reader) error {
	if p, can := src.(pourer); can {
		if ok, err := p.Pour(dst); ok {
			if err != nil {
				return err
			}
			return ignoreClosed(dst.CloseWrite())
		}
	}
	p := b.get()
	defer b.put(p)
	// The wrappers hide ReadFrom and WriteTo, which would bring buffers of
	// their own that are not pooled.
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, *p)
	if err != nil {
		return err
	}
	return ignoreClosed(dst.CloseWrite())
}

// ignoreClosed: the far end may have gone after it had all it wanted.
func ignoreClosed(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "close" {
		return nil
	}
	return err
}

// both runs the two directions of a connection and ends both ways when one
// fails. abort must unblock either; it is called at most once.
func both(up, down func() error, abort func()) error {
	var (
		once  sync.Once
		first error
		wg    sync.WaitGroup
		guard = func(f func() error) {
			if err := f(); err != nil {
				once.Do(func() {
					first = err
					abort()
				})
			}
		}
	)
	wg.Go(func() { guard(up) })
	guard(down)
	wg.Wait()
	return first
}
