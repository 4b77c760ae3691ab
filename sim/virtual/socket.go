package virtual

import (
	"container/heap"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Socket is one end of a Net. It implements net.PacketConn.
type Socket struct {
	net  *Net
	host *host
	wake chan struct{} // capacity 1: something below changed

	mu       sync.Mutex
	queue    packets
	waiting  int       // bytes in queue
	deadline time.Time // for reading
	done     bool
}

// packet is one on its way.
type packet struct {
	data []byte
	from netip.AddrPort
	way  *way
	due  time.Time
	seq  uint64 // of packets that are due at the same time
}

// packets is a heap, by when they are due.
type packets []packet

func (q packets) Len() int      { return len(q) }
func (q packets) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q packets) Less(i, j int) bool {
	if !q[i].due.Equal(q[j].due) {
		return q[i].due.Before(q[j].due)
	}
	return q[i].seq < q[j].seq
}

// Push implements heap.Interface.
func (q *packets) Push(x any) {
	if p, ok := x.(packet); ok {
		*q = append(*q, p)
	}
}

// Pop implements heap.Interface.
func (q *packets) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = packet{}
	*q = (*q)[:last]
	return p
}

func newSocket(n *Net, h *host) *Socket {
	return &Socket{net: n, host: h, wake: make(chan struct{}, 1)}
}

// Home is the address that others dial.
func (s *Socket) Home() netip.AddrPort { return s.host.home }

// LocalAddr implements net.PacketConn: what the host takes for its address.
func (s *Socket) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(s.host.home) }

// SetDeadline implements net.PacketConn; writes never wait.
func (s *Socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn; writes never wait.
func (s *Socket) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn.
func (s *Socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	s.deadline = t
	s.mu.Unlock()
	s.poke()
	return nil
}

// Close implements net.PacketConn. What had not arrived is lost.
func (s *Socket) Close() error {
	s.mu.Lock()
	s.done, s.queue, s.waiting = true, nil, 0
	s.mu.Unlock()
	s.poke()
	s.net.closed(s)
	return nil
}

func (s *Socket) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// WriteTo implements net.PacketConn. What is lost is no error.
func (s *Socket) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("write to %v: want a UDP address", to)
	}
	s.mu.Lock()
	done := s.done
	s.mu.Unlock()
	if done {
		return 0, net.ErrClosed
	}
	at := udp.AddrPort()
	s.net.send(s.host, b, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
	return len(b), nil
}

// push adds a packet that will be due; false says that it was not taken.
func (s *Socket) push(p packet) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done || s.waiting+len(p.data) > maxWaiting {
		return false
	}
	s.waiting += len(p.data)
	heap.Push(&s.queue, p)
	if s.queue[0].seq == p.seq {
		s.poke()
	}
	return true
}

// next returns the packet that is due, or how long to wait for the next one or
// the deadline: 0 for as long as nothing changes.
func (s *Socket) next() (p packet, wait time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case s.done:
		return p, 0, net.ErrClosed
	case !s.deadline.IsZero() && !now.Before(s.deadline):
		return p, 0, os.ErrDeadlineExceeded
	case len(s.queue) > 0 && !now.Before(s.queue[0].due):
		p, _ = heap.Pop(&s.queue).(packet)
		s.waiting -= len(p.data)
		return p, 0, nil
	}
	if len(s.queue) > 0 {
		wait = s.queue[0].due.Sub(now)
	}
	if !s.deadline.IsZero() && (wait == 0 || s.deadline.Sub(now) < wait) {
		wait = s.deadline.Sub(now)
	}
	return p, wait, nil
}

// ReadFrom implements net.PacketConn. A packet longer than b is cut.
func (s *Socket) ReadFrom(b []byte) (int, net.Addr, error) {
	var t *time.Timer
	for {
		p, wait, err := s.next()
		switch {
		case err != nil:
			return 0, nil, err
		case p.way != nil && s.net.arrived(p):
			return copy(b, p.data), net.UDPAddrFromAddrPort(p.from), nil
		case p.way != nil:
			continue
		case wait == 0:
			<-s.wake
			continue
		case t == nil:
			t = time.NewTimer(wait)
			defer t.Stop()
		default:
			t.Reset(wait)
		}
		select {
		case <-s.wake:
		case <-t.C:
		}
	}
}
