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
// (net.core.rmem_max).
const socketBuffer = 4 << 20

// maxDatagram is the largest UDP payload.
const maxDatagram = 65535

// batch is how many due packets are written between two looks at the clock.
const batch = 64

// udpSide is the datagram half of a link: one socket to all clients, one
// socket per client to the receiver, and a lane per direction.
type udpSide struct {
	log      *slog.Logger
	maxFlows int
	sock     *net.UDPConn
	to       *net.UDPAddr
	up, down *lane
	pool     sync.Pool // of *packet
	ticks    atomic.Uint64
	warned   atomic.Bool // a full memory was reported

	mu      sync.Mutex // guards below
	flows   map[netip.AddrPort]*flow
	evicted uint64
	closed  bool
}

// flow is one client.
type flow struct {
	client netip.AddrPort
	out    *net.UDPConn  // connected to the receiver
	last   atomic.Uint64 // udpSide.ticks when it last carried something
}

// lane is one direction: a shaper, and the goroutine that delivers for it.
type lane struct {
	deliver func(*packet) error
	alarm   *alarm // set, under mu, to the earliest arrival

	mu    sync.Mutex
	shape *shaper // guarded by mu
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
	growBuffers(sock)
	u := &udpSide{log: c.Log, maxFlows: c.MaxFlows, sock: sock, to: to, flows: map[netip.AddrPort]*flow{}}
	u.pool.New = func() any { return new(packet) }
	u.up, err = newLane(c, c.Up, up, func(p *packet) error {
		_, err := p.flow.out.Write(p.data)
		if err != nil && passing(err) {
			// The kernel reports what an earlier datagram met instead of sending
			// this one; a receiver that has come back must not miss it.
			_, err = p.flow.out.Write(p.data)
		}
		return err
	})
	if err != nil {
		sock.Close()
		return nil, err
	}
	u.down, err = newLane(c, c.Down, down, func(p *packet) error {
		_, err := sock.WriteToUDPAddrPort(p.data, p.flow.client)
		return err
	})
	if err != nil {
		sock.Close()
		u.up.alarm.close()
		return nil, err
	}
	return u, nil
}

func newLane(c Config, p Profile, d direction, deliver func(*packet) error) (*lane, error) {
	a, err := newAlarm()
	if err != nil {
		return nil, err
	}
	return &lane{deliver: deliver, alarm: a, shape: newShaper(p, c.Seed, d, c.InFlight)}, nil
}

// growBuffers asks for large kernel buffers; what the kernel grants is good
// enough, so its refusal is no error.
func growBuffers(c *net.UDPConn) {
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
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
		f.out.Close()
	}
	u.up.alarm.close()
	u.down.alarm.close()
	return u.sock.Close()
}

// run owns all goroutines of the UDP half: one reader of clients, one reader
// per flow, one deliverer per lane. They end with close; the first that fails
// closes the rest.
func (u *udpSide) run() error {
	g, ctx := errgroup.WithContext(context.Background())
	defer context.AfterFunc(ctx, func() { _ = u.close() })()
	g.Go(func() error { return u.readClients(g) })
	g.Go(func() error { return u.deliver(u.up) })
	g.Go(func() error { return u.deliver(u.down) })
	return g.Wait()
}

// readClients takes datagrams from clients until the socket closes.
func (u *udpSide) readClients(g *errgroup.Group) error {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := u.sock.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			if passing(err) {
				continue
			}
			return fmt.Errorf("read from clients at %s: %w", u.addr(), err)
		}
		f, err := u.flowOf(from, g)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		u.offer(u.up, f, buf[:n])
	}
}

// flowOf returns the client's flow, opening it if need be.
func (u *udpSide) flowOf(client netip.AddrPort, g *errgroup.Group) (*flow, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if f := u.flows[client]; f != nil {
		return f, nil
	}
	if u.closed {
		return nil, net.ErrClosed
	}
	if len(u.flows) >= u.maxFlows {
		u.evictOldest()
	}
	out, err := net.DialUDP("udp", nil, u.to)
	if err != nil {
		return nil, fmt.Errorf("open socket to receiver %s: %w", u.to, err)
	}
	growBuffers(out)
	f := &flow{client: client, out: out}
	u.flows[client] = f
	g.Go(func() error { return u.readReceiver(f) })
	u.log.Debug("flow opened", "client", client.String(), "flows", len(u.flows))
	return f, nil
}

// evictOldest closes the flow that has been silent longest. The caller holds mu.
func (u *udpSide) evictOldest() {
	var oldest *flow
	for _, f := range u.flows {
		if oldest == nil || f.last.Load() < oldest.last.Load() {
			oldest = f
		}
	}
	delete(u.flows, oldest.client)
	oldest.out.Close()
	u.evicted++
	u.log.Info("flow evicted", "client", oldest.client.String(), "limit", u.maxFlows)
}

// readReceiver takes the receiver's answers to one client until its flow closes.
func (u *udpSide) readReceiver(f *flow) error {
	buf := make([]byte, maxDatagram)
	for {
		n, err := f.out.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			if passing(err) {
				continue
			}
			return fmt.Errorf("read from receiver %s: %w", u.to, err)
		}
		u.offer(u.down, f, buf[:n])
	}
}

// offer copies data into the lane.
func (u *udpSide) offer(ln *lane, f *flow, data []byte) {
	f.last.Store(u.ticks.Add(1))
	p := u.pool.Get().(*packet)
	p.flow = f
	p.data = append(p.small[:0], data...) // grows away from small if it must
	now := time.Now()
	ln.mu.Lock()
	v := ln.shape.offer(now, p)
	if v == verdictSent && ln.shape.wire[0] == p {
		ln.alarm.set(p.arrive.Sub(now))
	}
	ln.mu.Unlock()
	if v == verdictSent {
		return
	}
	u.release(p)
	if v == verdictMemory && !u.warned.Swap(true) {
		u.log.Warn("link emulator is out of memory for packets under way and drops them; raise InFlight", "to", u.to.String())
	}
}

func (u *udpSide) release(p *packet) {
	p.data, p.flow = nil, nil
	u.pool.Put(p)
}

// rearm sets the alarm to the earliest arrival. The caller holds mu.
func (ln *lane) rearm(now time.Time) {
	if at, ok := ln.shape.wake(); ok {
		ln.alarm.set(at.Sub(now))
	}
}

// deliver hands arrived packets to the receiving sockets until the alarm is
// closed. It is the only timer of its lane.
func (u *udpSide) deliver(ln *lane) error {
	ready := make([]*packet, 0, batch)
	for ln.alarm.wait() {
		for {
			now := time.Now()
			ln.mu.Lock()
			ready = ln.shape.due(now, ready[:0])
			if len(ready) == 0 {
				ln.rearm(now)
			}
			ln.mu.Unlock()
			if len(ready) == 0 {
				break
			}
			u.handOver(ln, ready)
		}
	}
	return nil
}

// handOver writes packets out and settles them. A receiver that refuses one is
// a fact of the network, counted and not an error.
func (u *udpSide) handOver(ln *lane, ready []*packet) {
	var failed [batch]bool
	for i, p := range ready {
		failed[i] = ln.deliver(p) != nil
		p.flow.last.Store(u.ticks.Add(1))
	}
	ln.mu.Lock()
	for i, p := range ready {
		ln.shape.settle(p, !failed[i])
	}
	ln.mu.Unlock()
	for _, p := range ready {
		u.release(p)
	}
}

func (u *udpSide) setCut(now time.Time, cut bool) {
	for _, ln := range []*lane{u.up, u.down} {
		ln.mu.Lock()
		dropped := ln.shape.setCut(now, cut)
		ln.mu.Unlock()
		u.releaseAll(dropped)
	}
}

func (u *udpSide) setProfile(now time.Time, up, down Profile) {
	set := func(ln *lane, p Profile) {
		ln.mu.Lock()
		dropped := ln.shape.setProfile(now, p)
		ln.rearm(now)
		ln.mu.Unlock()
		u.releaseAll(dropped)
	}
	set(u.up, up)
	set(u.down, down)
}

func (u *udpSide) releaseAll(dropped []*packet) {
	for _, p := range dropped {
		u.release(p)
	}
}

func (u *udpSide) addStats(now time.Time, s *Stats) {
	read := func(ln *lane, d *DirStats) {
		ln.mu.Lock()
		defer ln.mu.Unlock()
		carried := d.StreamBytes
		*d = ln.shape.stats
		d.StreamBytes, d.Open = carried, ln.shape.open(now)
	}
	read(u.up, &s.Up)
	read(u.down, &s.Down)
	u.mu.Lock()
	defer u.mu.Unlock()
	s.Flows, s.Evicted = len(u.flows), u.evicted
}

// passing reports errors of a UDP socket that concern one datagram and not the
// socket: an ICMP answer to something sent before.
func passing(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EMSGSIZE)
}
