package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	doorGeneration = -1 // of a listening socket's events; those of connections are positive
	acceptAtOnce   = 64 // per turn of the loop, so that those who are in are served
)

// doors are the listening sockets of a loop.
type doors struct {
	mu  sync.Mutex // held while accepting: a descriptor that was closed may be another's
	all map[int32]*door
}

// door is one listening socket. The loop accepts for all loops.
type door struct {
	b     *Broker
	l     *poller
	fd    int
	isTCP bool
	loops func() *poller
	shut  bool // accepting failed: not before the next tick
	rate  *bucket
}

// acceptRaw accepts on a socket without the runtime's poller, which would keep
// a goroutine and buffers for each. It returns when ctx ends; the listener may
// be closed then, not before.
func (b *Broker) acceptRaw(ctx context.Context, listener net.Listener, loops func() *poller) error {
	sc, ok := listener.(syscall.Conn)
	if !ok {
		return errors.ErrUnsupported
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return fmt.Errorf("poll %s: %w", listener.Addr(), err)
	}
	_, isTCP := listener.(*net.TCPListener)
	d := &door{b: b, l: loops(), isTCP: isTCP, loops: loops, rate: newBucket(b.cfg.MaxConnectRate, time.Now())}
	if err := raw.Control(func(fd uintptr) { d.fd = int(fd) }); err != nil {
		return fmt.Errorf("poll %s: %w", listener.Addr(), err)
	}
	if err := d.l.doors.add(d); err != nil {
		return err
	}
	<-ctx.Done()
	d.l.doors.remove(d)
	return nil
}

func (s *doors) add(d *door) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[int32]*door{}
	}
	s.all[int32(d.fd)] = d
	return d.control(unix.EPOLL_CTL_ADD, unix.EPOLLIN)
}

func (s *doors) remove(d *door) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, int32(d.fd))
	_ = d.control(unix.EPOLL_CTL_DEL, 0)
}

// open accepts at a socket where clients wait.
func (s *doors) open(fd int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.all[fd]; d != nil {
		d.accept()
	}
}

// tick tries again where accepting failed. Running out of descriptors or
// buffers passes; it must not end the broker.
func (s *doors) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.all {
		if d.shut {
			d.shut = false
			_ = d.control(unix.EPOLL_CTL_MOD, unix.EPOLLIN)
		}
	}
}

func (d *door) control(op int, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(d.fd), Pad: doorGeneration}
	if err := unix.EpollCtl(d.l.fd, op, d.fd, &e); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// pause has clients wait in the backlog of the system. The caller holds the
// mutex of the doors.
func (d *door) pause(wait time.Duration) {
	d.b.metrics.limit(limitConnectRate)
	_ = d.control(unix.EPOLL_CTL_MOD, 0)
	doors := &d.l.doors
	time.AfterFunc(wait, func() {
		doors.mu.Lock()
		defer doors.mu.Unlock()
		if doors.all[int32(d.fd)] == d && !d.shut {
			_ = d.control(unix.EPOLL_CTL_MOD, unix.EPOLLIN)
		}
	})
}

func (d *door) accept() {
	for range acceptAtOnce {
		fd, _, err := unix.Accept4(d.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			wait := d.rate.take(d.l.now)
			if d.isTCP {
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
				_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
			}
			d.b.serveSocket(d.loops(), newDescriptor(fd))
			if wait > 0 {
				d.pause(wait)
				return
			}
		case errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return
		default:
			d.b.cfg.Log.Warn("mqtt accept failed", "err", err)
			d.shut = true
			_ = d.control(unix.EPOLL_CTL_MOD, 0)
			return
		}
	}
}
