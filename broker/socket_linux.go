package broker

import (
	"fmt"
	"math"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/farhop/farhop/broker/listen"
)

// descriptor is a socket of the kernel, non-blocking.
type descriptor struct {
	fd  int
	p   *polled
	gen int32 // tells a descriptor's users apart within one turn; 0: not watched yet
}

func newDescriptor(fd int) func(*polled) socket {
	return func(p *polled) socket { return &descriptor{fd: fd, p: p} }
}

func (d *descriptor) read(p []byte) (int, error)  { return unix.Read(d.fd, p) }
func (d *descriptor) write(p []byte) (int, error) { return unix.Write(d.fd, p) }
func (d *descriptor) shut() error                 { return unix.Shutdown(d.fd, unix.SHUT_WR) }
func (d *descriptor) close()                      { _ = unix.Close(d.fd) }
func (d *descriptor) again(uint32) uint32         { return 0 } // epoll is level-triggered

func (d *descriptor) watch(l *poller, events uint32) error {
	op := unix.EPOLL_CTL_MOD
	if d.gen == 0 {
		op, d.gen = unix.EPOLL_CTL_ADD, int32(d.p.c.num&math.MaxInt32)|1
		for len(l.byFD) <= d.fd {
			l.byFD = append(l.byFD, make([]*descriptor, max(64, len(l.byFD)))...)
		}
		l.byFD[d.fd] = d
	}
	e := unix.EpollEvent{Events: events, Fd: int32(d.fd), Pad: d.gen}
	if err := unix.EpollCtl(l.fd, op, d.fd, &e); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

func (d *descriptor) unwatch(l *poller) {
	if d.gen == 0 {
		return
	}
	l.byFD[d.fd] = nil
	_ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, d.fd, nil)
}

// pathOf is the round trip and the retransmission timeout that the kernel has
// measured, 0 where there is no TCP below.
func pathOf(s socket) (rtt, rto time.Duration) {
	if d, ok := s.(*descriptor); ok {
		return pathOfFD(d.fd)
	}
	return 0, 0
}

func pathOfFD(fd int) (rtt, rto time.Duration) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, 0
	}
	return time.Duration(info.Rtt) * time.Microsecond, time.Duration(info.Rto) * time.Microsecond
}

// pathOfConn looks for it below TLS and WebSockets.
func pathOfConn(c net.Conn) (rtt, rto time.Duration) {
	for {
		below, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = below.NetConn()
	}
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { rtt, rto = pathOfFD(int(fd)) })
		}
	}
	return rtt, rto
}

func (d *descriptor) transport() string {
	if d.remote() == listen.Unix {
		return listen.Unix
	}
	return listen.TCP
}

func (d *descriptor) remote() string {
	sa, err := unix.Getpeername(d.fd)
	if err != nil {
		return "unknown"
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return (&net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}).String()
	case *unix.SockaddrInet6:
		return (&net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}).String()
	}
	return listen.Unix
}
