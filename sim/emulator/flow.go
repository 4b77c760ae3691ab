package emulator

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
)

// flow is one client.
type flow struct {
	client netip.AddrPort
	addr   *net.UDPAddr // of the client
	out    atomic.Pointer[mapping]
	old    *mapping      // before the last rebinding; guarded by udpSide.mu
	last   atomic.Uint64 // udpSide.ticks when it last carried something
}

// mapping is an upstream port of a flow: a socket connected to the receiver.
// When it is gone, its socket stays open until the next one is, so that answers
// to it end in silence as they do in a NAT, and not in an ICMP error.
type mapping struct {
	sock *socket
	gone atomic.Bool
}

// close closes the sockets of the flow. The caller holds udpSide.mu.
func (f *flow) close() {
	f.out.Load().sock.Close()
	if f.old != nil {
		f.old.sock.Close()
	}
}

// flowOf returns the client's flow, opening it if need be.
func (u *udpSide) flowOf(client netip.AddrPort) (*flow, error) {
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
	f := &flow{client: client, addr: net.UDPAddrFromAddrPort(client)}
	if err := u.bind(f); err != nil {
		return nil, err
	}
	u.flows[client] = f
	u.log.Debug("flow opened", "client", client.String(), "flows", len(u.flows))
	return f, nil
}

// bind gives f a new upstream port and reads answers to it. The caller holds mu.
func (u *udpSide) bind(f *flow) error {
	out, err := net.DialUDP("udp", nil, u.to)
	if err != nil {
		return fmt.Errorf("open socket to receiver %s: %w", u.to, err)
	}
	m := &mapping{sock: newSocket(out)}
	f.out.Store(m)
	u.readers.Go(func() error {
		return u.read(m.sock, func(ps []*packet, missed uint32) error {
			if m.gone.Load() {
				u.down.refuse(ps)
				return nil
			}
			for _, p := range ps {
				p.flow = f
			}
			u.offer(u.down, ps, missed)
			return nil
		})
	})
	return nil
}

// rebind gives every flow a new upstream port and returns how many got one.
func (u *udpSide) rebind() (n int, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return 0, nil
	}
	for _, f := range u.flows {
		was := f.out.Load()
		if e := u.bind(f); e != nil {
			err = errors.Join(err, e)
			continue
		}
		was.gone.Store(true)
		if f.old != nil {
			f.old.sock.Close()
		}
		f.old = was
		n++
	}
	u.rebound += uint64(n)
	return n, err
}

// refuse counts answers to a port that is gone.
func (ln *lane) refuse(ps []*packet) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	st := &ln.shape.stats
	for _, p := range ps {
		st.Offered++
		st.OfferedBytes += uint64(len(p.data))
		st.Dropped.Rebound++
	}
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
	oldest.close()
	u.evicted++
	u.log.Info("flow evicted", "client", oldest.client.String(), "limit", u.maxFlows)
}
