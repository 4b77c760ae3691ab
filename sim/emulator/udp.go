package emulator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// socketBuffer is asked of the kernel for every UDP socket, so that a burst
// waits there and not in the sender's luck; the kernel may grant less
// (net.core.rmem_max). A datagram of 1200 bytes takes 2.3 kB of it.
const socketBuffer = 16 << 20

// maxDatagram is the largest UDP payload.
const maxDatagram = 65535

// batch is how many datagrams are read or written with one system call, and how
// many due ones are taken between two looks at the clock.
const batch = 64

// udpSide is the datagram half of a link: one socket to all clients, one
// socket per client to the receiver, and a lane per direction.
type udpSide struct {
	log      *slog.Logger
	maxFlows int
	sock     *socket
	to       *net.UDPAddr
	up, down *lane
	pool     sync.Pool // of *packet
	ticks    atomic.Uint64
	warned   atomic.Bool // a full memory was reported

	mu      sync.Mutex // guards below
	flows   map[netip.AddrPort]*flow
	readers *errgroup.Group // of run; nil before it
	evicted uint64
	rebound uint64
	closed  bool
}

func openUDP(c Config, listen string) (*udpSide, error) {
	to, err := net.ResolveUDPAddr("udp", c.To)
	if err != nil {
		return nil, fmt.Errorf("resolve receiver %s: %w", c.To, err)
	}
	at, err := net.ResolveUDPAddr("udp", listen)
	if err != nil {
		return nil, fmt.Errorf("resolve listen address %s: %w", listen, err)
	}
	sock, err := net.ListenUDP("udp", at)
	if err != nil {
		return nil, fmt.Errorf("listen on udp %s: %w", listen, err)
	}
	u := &udpSide{log: c.Log, maxFlows: c.MaxFlows, sock: newSocket(sock), to: to, flows: map[netip.AddrPort]*flow{}}
	u.pool.New = func() any { return new(packet) }
	if u.up, err = newLane(c, c.Up, up); err != nil {
		sock.Close()
		return nil, err
	}
	if u.down, err = newLane(c, c.Down, down); err != nil {
		sock.Close()
		u.up.alarm.close()
		return nil, err
	}
	u.up.send, u.down.send = u.sendUp(), u.sendDown()
	return u, nil
}

// sendUp returns what writes to the receiver: packets of one flow in a row go
// out together.
func (u *udpSide) sendUp() func([]*packet, []bool) {
	out := newOutbox()
	connected := func(*packet) *net.UDPAddr { return nil }
	return func(ps []*packet, failed []bool) {
		for len(ps) > 0 {
			n := 1
			for n < len(ps) && ps[n].flow == ps[0].flow {
				n++
			}
			out.send(ps[0].flow.out.Load().sock, ps[:n], connected, failed[:n])
			ps, failed = ps[n:], failed[n:]
		}
	}
}

// sendDown returns what writes to the clients.
func (u *udpSide) sendDown() func([]*packet, []bool) {
	out := newOutbox()
	client := func(p *packet) *net.UDPAddr { return p.flow.addr }
	return func(ps []*packet, failed []bool) { out.send(u.sock, ps, client, failed) }
}

func (u *udpSide) addr() net.Addr { return u.sock.LocalAddr() }

// close closes all sockets and alarms, which ends every goroutine of run.
func (u *udpSide) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil
	}
	u.closed = true
	for _, f := range u.flows {
		f.close()
	}
	u.up.alarm.close()
	u.down.alarm.close()
	return u.sock.Close()
}

// run owns all goroutines of the UDP half: one reader of clients, one reader
// per upstream socket, one deliverer per lane. They end with close; the first
// that fails closes the rest.
func (u *udpSide) run() error {
	g, ctx := errgroup.WithContext(context.Background())
	defer context.AfterFunc(ctx, func() { _ = u.close() })()
	u.mu.Lock()
	u.readers = g
	u.mu.Unlock()
	settled := func(ps []*packet) {
		for _, p := range ps {
			p.flow.last.Store(u.ticks.Add(1))
			u.release(p)
		}
	}
	g.Go(u.readClients)
	g.Go(func() error { u.up.deliver(settled); return nil })
	g.Go(func() error { u.down.deliver(settled); return nil })
	return g.Wait()
}

// readClients takes datagrams from clients until the socket closes.
func (u *udpSide) readClients() error {
	return u.read(u.sock, func(ps []*packet, missed uint32) error {
		var last *flow
		for _, p := range ps {
			if last == nil || last.client != p.from {
				f, err := u.flowOf(p.from)
				if err != nil {
					return err
				}
				last = f
			}
			p.flow = last
		}
		u.offer(u.up, ps, missed)
		return nil
	})
}

// read hands what arrives at a socket to take until the socket closes or take
// fails. take leaves nil for each packet that it keeps.
func (u *udpSide) read(s *socket, take func(ps []*packet, missed uint32) error) error {
	in := newInbox(s)
	ps := []*packet{nil} // grows when there is more to read at once
	for {
		for i := range ps {
			if ps[i] == nil {
				ps[i] = u.pool.Get().(*packet)
			}
		}
		n, missed, err := in.read(ps)
		if err == nil {
			err = take(ps[:n], missed)
		}
		switch {
		case err == nil && n == len(ps) && n < batch:
			ps = append(ps, make([]*packet, n)...)
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil && !passing(err):
			return fmt.Errorf("read at %s: %w", s.LocalAddr(), err)
		}
	}
}

// offer puts datagrams into the lane and leaves nil for those under way.
func (u *udpSide) offer(ln *lane, ps []*packet, missed uint32) {
	for _, p := range ps {
		p.flow.last.Store(u.ticks.Add(1))
	}
	if ln.offer(time.Now(), ps, missed) && !u.warned.Swap(true) {
		u.log.Warn("link emulator is out of memory for packets under way and drops them; raise InFlight", "to", u.to.String())
	}
}

func (u *udpSide) release(p *packet) {
	p.data, p.flow, p.fate = nil, nil, fate{}
	u.pool.Put(p)
}

func (u *udpSide) change(now time.Time, ln *lane, f func(*shaper) []*packet) {
	for _, p := range ln.change(now, f) {
		u.release(p)
	}
}

func (u *udpSide) setState(now time.Time, up, down State) {
	u.change(now, u.up, func(s *shaper) []*packet { return s.setState(now, up) })
	u.change(now, u.down, func(s *shaper) []*packet { return s.setState(now, down) })
}

func (u *udpSide) setProfile(now time.Time, up, down Profile) {
	u.change(now, u.up, func(s *shaper) []*packet { return s.setProfile(now, up) })
	u.change(now, u.down, func(s *shaper) []*packet { return s.setProfile(now, down) })
}

func (u *udpSide) addStats(now time.Time, s *Stats) {
	u.up.addStats(now, &s.Up)
	u.down.addStats(now, &s.Down)
	u.mu.Lock()
	defer u.mu.Unlock()
	s.Flows, s.Evicted, s.Rebound = len(u.flows), u.evicted, u.rebound
}

// passing reports errors of a UDP socket that concern one datagram and not the
// socket: an ICMP answer to something sent before.
func passing(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EMSGSIZE)
}
