package listen

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
)

const maxNames = 32 // of one certificate; a CA that puts more into one means something else by them

// Peer is who is at the other end of a connection, as far as its transport
// tells.
type Peer struct {
	// Remote is the client's address, the one the proxy gave if there is one.
	// It is the zero value for a client on a unix socket.
	Remote netip.AddrPort
	// Transport is one of TCP, TLS, WS, WSS, Unix and QUIC, as the listener
	// was asked for.
	Transport string
	// Names are those of the client's verified certificate: its SPIFFE URIs
	// first, then its DNS names, then its common name. A trusted proxy that
	// verified a certificate passes on the common name alone. Empty without
	// a certificate.
	Names []string
}

// String is for logs: TRANSPORT://ADDRESS.
func (p Peer) String() string {
	if !p.Remote.IsValid() {
		return p.Transport
	}
	return p.Transport + "://" + p.Remote.String()
}

// Peered is implemented by every connection that Listen's listeners accept,
// but for the bare ones of the standard library.
type Peered interface {
	Peer() Peer
}

// conn is a connection over TCP or a unix socket, with or without TLS.
type conn struct {
	net.Conn
	peer Peer
}

func (c *conn) Peer() Peer { return c.peer }

// NetConn is the connection below.
func (c *conn) NetConn() net.Conn { return c.Conn }

// RemoteAddr is the client's address, not that of the proxy before it.
func (c *conn) RemoteAddr() net.Addr {
	if c.peer.Remote.IsValid() {
		return net.TCPAddrFromAddrPort(c.peer.Remote)
	}
	return c.Conn.RemoteAddr()
}

// CloseWrite says that nothing more comes from here, and leaves reading open.
func (c *conn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

// addrPort is the address and port of a, the zero value for unix sockets.
// Addresses are unmapped: 10.0.0.1 is written one way.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// names lists what the client's certificate says it is called, if it was
// verified.
func names(s tls.ConnectionState) []string {
	if len(s.VerifiedChains) == 0 || len(s.PeerCertificates) == 0 {
		return nil
	}
	leaf := s.PeerCertificates[0]
	var out []string
	for _, u := range leaf.URIs {
		if u.Scheme == "spiffe" {
			out = append(out, u.String())
		}
	}
	out = append(out, leaf.DNSNames...)
	if leaf.Subject.CommonName != "" {
		out = append(out, leaf.Subject.CommonName)
	}
	return out[:min(len(out), maxNames)]
}
