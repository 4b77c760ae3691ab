package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
)

// sourceError says that packets cannot leave from where the file wants it: the
// uplink is not there now.
type sourceError struct {
	from string
	err  error
}

// Error implements error.
func (e *sourceError) Error() string {
	switch {
	case errors.Is(e.err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("from %s: this machine has no such address now; it is dialled again later, correct the peer's from if it never will have", e.from)
	case errors.Is(e.err, syscall.ENODEV):
		return fmt.Sprintf("from %s: this machine has no such interface now; it is dialled again later, correct the peer's from if it never will have", e.from)
	case errors.Is(e.err, syscall.EPERM):
		return fmt.Sprintf("from %s: the system does not let this process choose an interface: it takes Linux 5.7, or CAP_NET_RAW; or write an address", e.from)
	}
	return fmt.Sprintf("from %s: %v", e.from, e.err)
}

// Unwrap returns what the system said.
func (e *sourceError) Unwrap() error { return e.err }

// source is where packets to a peer leave from: an address of this machine, the
// name of an interface, or "", which leaves it to the machine's routes.
type source string

// addr returns the address; ok is false for an interface, and for none.
func (s source) addr() (ip netip.Addr, ok bool) {
	ip, err := netip.ParseAddr(string(s))
	return ip.Unmap(), err == nil
}

// reaches reports whether packets for an address can leave from there.
func (s source) reaches(to netip.Addr) bool {
	ip, ok := s.addr()
	return !ok || ip.Is4() == to.Is4()
}

// control binds a socket to an interface before it is used; nil where there is
// nothing to do.
func (s source) control() func(network, address string, c syscall.RawConn) error {
	if _, ok := s.addr(); ok || s == "" {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = bindTo(fd, string(s)) }), err)
	}
}

// dialer makes a connection over TCP leave from there.
func (s source) dialer(d net.Dialer) net.Dialer {
	if ip, ok := s.addr(); ok {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
	} else if s != "" {
		d.LocalAddr, d.Control = nil, s.control()
	}
	return d
}

// fault marks an error of a connection that could not even begin there.
func (s source) fault(err error) error {
	_, fixed := s.addr() // then EPERM is a firewall's
	if s != "" && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.ENODEV) || !fixed && errors.Is(err, syscall.EPERM)) {
		return &sourceError{string(s), err}
	}
	return err
}

// listen opens a UDP socket there, at any port.
func (s source) listen(ctx context.Context) (*net.UDPConn, error) {
	at := ":0"
	if ip, ok := s.addr(); ok {
		at = netip.AddrPortFrom(ip, 0).String()
	}
	lc := net.ListenConfig{Control: s.control()}
	conn, err := lc.ListenPacket(ctx, "udp", at)
	if err != nil {
		return nil, &sourceError{string(s), err}
	}
	return conn.(*net.UDPConn), nil // by the network's name
}

// outlet returns the transport that packets leave by, and what frees it: the one
// that all share, or where the file says what packets leave from one over a
// socket of its own for each connection, for an address that went and came back,
// or an interface, is nothing an old one knows.
func (s source) outlet(ctx context.Context, shared *quic.Transport, over func(net.PacketConn) *quic.Transport) (tr *quic.Transport, free func(), err error) {
	if s == "" {
		return shared, func() {}, nil
	}
	conn, err := s.listen(ctx)
	if err != nil {
		return nil, nil, err
	}
	tr = over(conn)
	return tr, func() { _, _ = tr.Close(), conn.Close() }, nil
}

// connect begins a connection to the peer, with a first flight where a ticket
// allows it.
func (d *dialer) connect(ctx context.Context, to net.Addr, tc *tls.Config, conf *quic.Config) (c quicCarrier, err error) {
	tr, free, err := source(d.peer.From).outlet(ctx, d.m.tr, d.m.transport)
	if err != nil {
		return c, err
	}
	conn, err := tr.DialEarly(ctx, to, tc, conf)
	if err != nil {
		free()
		return c, err
	}
	if d.peer.From != "" {
		d.m.wg.Go(func() { defer free(); d.rest(quicCarrier{conn, tr}) })
	}
	return quicCarrier{conn, tr}, nil
}

// rest returns when the socket of a connection may go. After one that ended here
// it stays for a while, the last of each peer alone: a peer that did not hear of
// the end is told when it sends something. In the first three timeouts QUIC says
// it once more, later it is a stateless reset, to packets of more than 42 bytes.
func (d *dialer) rest(conn quicCarrier) {
	<-conn.Context().Done()
	if !isDone(conn.conn.HandshakeComplete()) || downOf(context.Cause(conn.Context())).Remote {
		return
	}
	next := make(chan struct{})
	d.mark(func() {
		if d.resting != nil {
			close(d.resting)
		}
		d.resting = next
	})
	t := time.NewTimer(d.peer.Link.rest(conn.Stats().RTT))
	defer t.Stop()
	select {
	case <-t.C:
	case <-next:
	case <-d.m.stopping:
	}
}
