package broker

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const memoryBuffer = 64 << 10 // bytes under way in one direction

// Connect opens a connection to the broker within this process. It is served
// like a socket: it costs no goroutine, and no buffer while it is idle. It is
// for clients that live here, such as a bridge. Run must have been called.
func (b *Broker) Connect() (net.Conn, error) {
	l := b.loops.any()
	if l == nil {
		ours, theirs := net.Pipe()
		b.work.Go(func() { b.ServeConn(theirs) }) // drain ends it
		return ours, nil
	}
	m := new(memory)
	if !b.serveSocket(l, func(p *polled) socket { m.p = p; return (*memorySocket)(m) }) {
		return nil, errTooMany
	}
	return m, nil
}

var errTooMany = errors.New("the broker has as many connections as it may have, or ends")

// memory is a connection within the process: the client's end, a net.Conn. The
// broker's end is memorySocket.
type memory struct {
	p *polled

	mu       sync.Mutex // guards what follows
	changed  *sync.Cond // made when the client waits
	up, down []byte     // to the broker, to the client
	wants    uint32     // events the loop waits for
	left     bool       // the client closed
	over     bool       // the broker will write no more
	gone     bool       // the broker closed
	limits   [2]memoryDeadline
}

type memoryDeadline struct {
	at    time.Time
	timer *time.Timer
}

const (
	readLimit = iota
	writeLimit
)

// Read implements net.Conn.
func (m *memory) Read(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		switch {
		case m.left:
			return 0, net.ErrClosed
		case len(m.down) > 0:
			n := copy(p, m.down)
			if m.down = m.down[n:]; len(m.down) == 0 {
				m.down = nil
			}
			m.tell(unix.EPOLLOUT)
			return n, nil
		case m.over || m.gone:
			return 0, io.EOF
		}
		if err := m.wait(readLimit); err != nil {
			return 0, err
		}
	}
}

// Write implements net.Conn.
func (m *memory) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for len(p) > 0 {
		switch room := memoryBuffer - len(m.up); {
		case m.left:
			return n, net.ErrClosed
		case m.gone:
			return n, io.ErrClosedPipe
		case room > 0:
			k := min(room, len(p))
			m.up = append(m.up, p[:k]...)
			n, p = n+k, p[k:]
			m.tell(unix.EPOLLIN)
			continue
		}
		if err := m.wait(writeLimit); err != nil {
			return n, err
		}
	}
	return n, nil
}

// wait returns when something changed, or the deadline passed. The caller
// holds mu.
func (m *memory) wait(limit int) error {
	if at := m.limits[limit].at; !at.IsZero() && !time.Now().Before(at) {
		return os.ErrDeadlineExceeded
	}
	if m.changed == nil {
		m.changed = sync.NewCond(&m.mu)
	}
	m.changed.Wait()
	return nil
}

// tell lets the loop know, if it waits for that. The caller holds mu.
func (m *memory) tell(event uint32) {
	if m.wants&event != 0 {
		m.p.mark()
	}
}

// wakeClient has waiting calls look again. The caller holds mu.
func (m *memory) wakeClient() {
	if m.changed != nil {
		m.changed.Broadcast()
	}
}

// Close implements net.Conn.
func (m *memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left {
		return net.ErrClosed
	}
	m.left = true
	for i := range m.limits {
		if t := m.limits[i].timer; t != nil {
			t.Stop()
		}
	}
	m.wakeClient()
	m.p.mark()
	return nil
}

// SetDeadline implements net.Conn.
func (m *memory) SetDeadline(t time.Time) error {
	return errors.Join(m.SetReadDeadline(t), m.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (m *memory) SetReadDeadline(t time.Time) error { return m.limit(readLimit, t) }

// SetWriteDeadline implements net.Conn.
func (m *memory) SetWriteDeadline(t time.Time) error { return m.limit(writeLimit, t) }

func (m *memory) limit(which int, t time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left {
		return net.ErrClosed
	}
	d := &m.limits[which]
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.wakeClient()
		})
	}
	m.wakeClient()
	return nil
}

// LocalAddr implements net.Conn.
func (m *memory) LocalAddr() net.Addr { return memoryAddr{} }

// RemoteAddr implements net.Conn.
func (m *memory) RemoteAddr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "this process" }

// memorySocket is the broker's end.
type memorySocket memory

func (s *memorySocket) read(p []byte) (int, error) {
	m := (*memory)(s)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case len(m.up) > 0:
		n := copy(p, m.up)
		if m.up = m.up[n:]; len(m.up) == 0 {
			m.up = nil
		}
		m.wakeClient()
		return n, nil
	case m.left:
		return 0, io.EOF
	}
	return 0, unix.EAGAIN
}

func (s *memorySocket) write(p []byte) (int, error) {
	m := (*memory)(s)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left {
		return 0, io.ErrClosedPipe
	}
	n := min(memoryBuffer-len(m.down), len(p))
	if n <= 0 {
		return 0, unix.EAGAIN
	}
	m.down = append(m.down, p[:n]...)
	m.wakeClient()
	return n, nil
}

func (s *memorySocket) watch(_ *poller, events uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wants = events
	return nil
}

func (s *memorySocket) unwatch(*poller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wants = 0
}

// again is what epoll would report at its next look.
func (s *memorySocket) again(events uint32) (ready uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.up) > 0 || s.left {
		ready |= unix.EPOLLIN
	}
	if len(s.down) < memoryBuffer {
		ready |= unix.EPOLLOUT
	}
	return ready & events
}

func (s *memorySocket) shut() error {
	m := (*memory)(s)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = true
	m.wakeClient()
	return nil
}

func (s *memorySocket) close() {
	m := (*memory)(s)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone, m.wants, m.up = true, 0, nil
	m.wakeClient()
}

func (s *memorySocket) transport() string { return memoryAddr{}.Network() }

func (s *memorySocket) remote() string { return memoryAddr{}.String() }
