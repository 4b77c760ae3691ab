package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

const (
	readBuffer = 1 << 20 // of a loop, for the bytes of one read
	eventsAt   = 512     // events of one turn
	maxUnsent  = 8 << 20 // bytes of one connection the broker does not take
	// lookEvery is the least time between two turns, about what a packet takes
	// through a switch and back. A load that looks at once is woken for every
	// acknowledgement by itself, and the broker pays for waking it: Mosquitto,
	// which writes each packet apart, up to twice as much for a message.
	lookEvery = 200 * time.Microsecond
)

// Loop serves connections from one goroutine. It is not safe for use by
// several; its methods are called in the goroutine that turns it.
type Loop struct {
	epoll  int
	conns  []*Conn // by descriptor
	open   int
	ended  int // connections that the broker ended
	events []syscall.EpollEvent
	buf    []byte
	looked time.Time // end of the last turn
}

// NewLoop makes a loop without connections. Close ends it.
func NewLoop() (*Loop, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &Loop{epoll: fd, events: make([]syscall.EpollEvent, eventsAt), buf: make([]byte, readBuffer)}, nil
}

// Conn is a connection of a loop.
type Conn struct {
	loop    *Loop
	handler Handler // nil ignores what comes
	name    string
	fd      int
	rest    []byte // the beginning of a packet
	out     []byte // written by Send, not taken by the socket
	waits   bool   // for the socket to take more
}

// Dial connects a client to the broker at addr, and waits until it has its
// subscription. The handler, which may be nil, gets what comes from then on.
func (l *Loop) Dial(ctx context.Context, addr string, who Client, h Handler) (*Conn, error) {
	conn, rest, err := who.greet(ctx, addr)
	if err != nil {
		return nil, err
	}
	return l.add(greeted{who.Name, conn, rest}, h)
}

// DialMany connects n clients as Dial does, several at a time, and in no order.
// who says which, and who handles what comes to them; it is called by several
// goroutines.
func (l *Loop) DialMany(ctx context.Context, addr string, n int, who func(i int) (Client, Handler)) error {
	g, failed := greetMany(ctx, addr, n, func(i int) Client { c, _ := who(i); return c })
	var err error
	for x := range g {
		if err != nil {
			err = errors.Join(err, x.conn.Close())
			continue
		}
		_, h := who(x.number)
		_, err = l.add(x.greeted, h)
	}
	return errors.Join(err, failed())
}

// add takes the connection of a client that has its subscription.
func (l *Loop) add(g greeted, h Handler) (_ *Conn, err error) {
	defer g.conn.Close() // the loop has its own descriptor
	c := &Conn{loop: l, handler: h, name: g.name, rest: slices.Clip(g.rest)}
	if c.fd, err = duplicate(g.conn); err != nil {
		return nil, fmt.Errorf("connect %s: %w", g.name, err)
	}
	e := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(c.fd)}
	if err := syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, c.fd, &e); err != nil {
		return nil, errors.Join(os.NewSyscallError("epoll_ctl", err), syscall.Close(c.fd))
	}
	if c.fd >= len(l.conns) {
		l.conns = append(l.conns, make([]*Conn, c.fd+64-len(l.conns))...)
	}
	l.conns[c.fd] = c
	l.open++
	return c, nil
}

// duplicate takes the socket out of the runtime's poller, which would be woken
// by every packet too. The copy does not block, as the original.
func duplicate(conn net.Conn) (fd int, err error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("%T has no descriptor", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(old uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, failed = syscall.Dup(int(old)); failed == nil {
			syscall.CloseOnExec(fd)
		}
	})
	return fd, errors.Join(err, os.NewSyscallError("dup", failed))
}

// Open returns how many connections are open.
func (l *Loop) Open() int { return l.open }

// Ended returns how many connections ended that the loop did not close. Turn
// fails at such an end unless the connection has no handler.
func (l *Loop) Ended() int { return l.ended }

// Turn waits until something comes, at most for the given time, and has it
// handled.
func (l *Loop) Turn(wait time.Duration) error {
	if nap := lookEvery - time.Since(l.looked); nap > 0 {
		at := syscall.NsecToTimespec(int64(nap))
		_ = syscall.Nanosleep(&at, nil) // a signal makes it shorter, which does no harm
	}
	defer func() { l.looked = time.Now() }()
	n, err := syscall.EpollWait(l.epoll, l.events, int(wait/time.Millisecond))
	if err != nil {
		if errors.Is(err, syscall.EINTR) {
			return nil
		}
		return os.NewSyscallError("epoll_wait", err)
	}
	for _, e := range l.events[:n] {
		c := l.conns[e.Fd]
		if c == nil {
			continue // closed by what came before
		}
		if e.Events&syscall.EPOLLOUT != 0 {
			err = c.flush()
		}
		if err == nil && e.Events&^syscall.EPOLLOUT != 0 {
			err = c.read()
		}
		if err == nil {
			continue
		}
		if c.handler == nil {
			l.ended++
			err = c.Close()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

var errEnded = errors.New("the broker ended the connection")

// read takes what has come, once.
func (c *Conn) read() error {
	buf := c.loop.buf
	had := copy(buf, c.rest)
	n, err := syscall.Read(c.fd, buf[had:])
	switch {
	case errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", errEnded, err)
	case n == 0:
		return errEnded
	case c.handler == nil:
		return nil
	}
	b := buf[:had+n]
	for {
		first, body, n, err := Next(b)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if err := c.handler.Packet(first, body); err != nil {
			return err
		}
		b = b[n:]
	}
	c.rest = append(c.rest[:0], b...)
	return c.handler.Turned()
}

// Send writes what was appended to the buffer of Buffer.
func (c *Conn) Send(b []byte) error {
	if len(b) > maxUnsent {
		return fmt.Errorf("the broker does not read: %d bytes wait for it", len(b))
	}
	if c.out = b; c.waits {
		return nil
	}
	return c.flush()
}

// Buffer returns what is not sent yet, to append to and give to Send.
func (c *Conn) Buffer() []byte { return c.out }

// Blocked reports whether the socket takes no more.
func (c *Conn) Blocked() bool { return c.waits }

func (c *Conn) flush() error {
	done := 0
	for done < len(c.out) {
		n, err := syscall.Write(c.fd, c.out[done:])
		switch {
		case err == nil:
			done += n
			continue
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EAGAIN):
			return fmt.Errorf("%w: %w", errEnded, err)
		}
		break
	}
	c.out = c.out[:copy(c.out, c.out[done:])]
	if waits := len(c.out) > 0; waits != c.waits {
		c.waits = waits
		e := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(c.fd)}
		if waits {
			e.Events |= syscall.EPOLLOUT
		}
		return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(c.loop.epoll, syscall.EPOLL_CTL_MOD, c.fd, &e))
	}
	return nil
}

// Close ends the connection without a word.
func (c *Conn) Close() error {
	if c.loop.conns[c.fd] != c {
		return nil
	}
	c.loop.conns[c.fd] = nil
	c.loop.open--
	return os.NewSyscallError("close", syscall.Close(c.fd))
}

// Close ends all connections.
func (l *Loop) Close() error {
	var errs []error
	for _, c := range l.conns {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(append(errs, os.NewSyscallError("close", syscall.Close(l.epoll)))...)
}

// AllowDescriptors raises the limit of open files to what this process may
// have, for itself and for the brokers it starts, and returns it.
func AllowDescriptors() (int, error) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	r.Cur = r.Max
	// Set even when it is the same: the runtime gives children the limit it
	// found at its start unless somebody sets one.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, os.NewSyscallError("setrlimit", err)
	}
	return int(min(r.Max, 1<<30)), nil
}
