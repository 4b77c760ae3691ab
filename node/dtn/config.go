package dtn

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Kind is a convergence layer.
type Kind string

// The convergence layers.
const (
	TCPCL Kind = "tcpcl" // TCPCLv4, RFC 9174
	STCP  Kind = "stcp"  // four bytes of length before each bundle, one direction
	MTCP  Kind = "mtcp"  // each bundle a CBOR byte string, one direction
)

// Policy says what TLS is to a TCPCLv4 session. It becomes the CAN_TLS flag of
// the contact header and what is demanded of the outcome (RFC 9174, 4.4).
type Policy string

// The policies. The zero Policy is TLSRequired.
const (
	TLSRequired Policy = "required"
	TLSOptional Policy = "optional" // encrypted when the peer can, open to downgrade
	TLSNone     Policy = "none"
)

// Auth says what the certificate of a peer has to prove (RFC 9174, 4.4.3). An
// identity in it that contradicts the peer always ends the session.
type Auth string

// What is to be proved. The zero Auth is AuthNode.
const (
	AuthNode  Auth = "node"  // the NODE-ID of its SESS_INIT
	AuthHost  Auth = "host"  // the DNS name dialled, or the address it has
	AuthChain Auth = "chain" // any certificate of the configured roots
	AuthNone  Auth = "none"  // encryption alone; needs Insecure
)

// Listener is an address where other stacks connect to us.
type Listener struct {
	Kind    Kind
	Address string // HOST:PORT; port 0 picks one
	TLS     Policy
	Auth    Auth // of strangers; that of a known peer is the peer's
	// Peer is the name under which bundles of STCP and MTCP arrive, because
	// neither says who sends. It need not be among Config.Peers.
	Peer string
	// Strangers admits nodes that no configured peer matches: they may hand
	// over bundles and are sent none.
	Strangers bool
	// Insecure allows what is not authenticated away from loopback.
	Insecure bool
}

// Peer is another node we know.
type Peer struct {
	Name    string // unique; the argument of Send
	Kind    Kind
	Address string         // HOST:PORT to dial; empty: the peer dials us
	Node    addr.EID       // its node id, dtn://NODE/ or ipn:N.0; zero: any, when we dial
	EIDs    []addr.Pattern // the endpoints reached through it
	TLS     Policy
	Auth    Auth
	// ServerName is the DNS name its certificate should have; default: the
	// host of Address.
	ServerName string
	// OneSegment sends every transfer as a single segment, for peers that
	// misread others. Larger bundles than the peer's segment MRU are then too
	// large; fragment them.
	OneSegment bool
	Insecure   bool // allows what is not authenticated away from loopback
}

// Limits bound what peers can make us hold. Zero fields take the default.
type Limits struct {
	TransferMRU uint64 // largest bundle accepted, bytes; default 64 MiB
	SegmentMRU  uint64 // largest segment accepted, bytes; default TransferMRU
	Segment     int    // largest segment sent, bytes; default 64 KiB
	Sessions    int    // at the same time, handshakes included; default 64
	InFlight    int    // transfers per session and direction; default 64
	Buffer      int64  // received bytes held in all; default 4 times TransferMRU
}

// Received is one bundle that arrived, whole.
type Received struct {
	Peer          string   // the configured peer, "" for a stranger
	Node          addr.EID // the node id it announced; zero on STCP and MTCP
	Authenticated bool     // a certificate proved Node
	Kind          Kind
	Remote        string // its address
	Bundle        []byte // the Sink's to keep
}

// Sink takes what arrives. Its methods may be called by several sessions at
// once and should not block: a blocked call stops the reading of that session.
type Sink interface {
	// Receive takes one bundle; within a session calls are in the order of
	// arrival. done is called once, from any goroutine, when the verdict is
	// final: OK once the bundle is durable, Duplicate when it was already,
	// else why it is refused. Only then the peer is answered.
	Receive(r Received, done func(bundle.Reason))
	// PeerUp and PeerDown report when a configured peer can and can no longer
	// be sent to. They do not overlap for one peer.
	PeerUp(peer string)
	PeerDown(peer string)
}

// Config is what a Door needs. Zero fields with a default say so.
type Config struct {
	Node      addr.EID // our node id, dtn://NODE/ or ipn:N.0
	Listeners []Listener
	Peers     []Peer
	// TLS holds our Certificates, and RootCAs that certificates of peers are
	// verified against. Versions and verification are set by this package.
	TLS    *tls.Config
	Limits Limits
	// Want is asked with the first segment of a transfer that has more of
	// them. Another answer than OK refuses it before the rest is sent:
	// Duplicate as "completed". Some stacks take any refusal for a failure
	// and repeat. Nil wants all.
	Want func(r Received) bundle.Reason

	Keepalive time.Duration // offered, in whole seconds up to 18 h; default 30 s, negative none
	Idle      time.Duration // a session without transfers ends after; 0 never
	Drain     time.Duration // how long sessions may finish when Run ends; default 5 s and 4 round trips

	Sink Sink         // required
	Seed uint64       // of the jitter before redialling
	Log  *slog.Logger // required
}

func (c Config) withDefaults() Config {
	l := &c.Limits
	l.TransferMRU = cmp.Or(l.TransferMRU, 64<<20)
	l.SegmentMRU = cmp.Or(l.SegmentMRU, l.TransferMRU)
	l.Segment = cmp.Or(l.Segment, 64<<10)
	l.Sessions = cmp.Or(l.Sessions, 64)
	l.InFlight = cmp.Or(l.InFlight, 64)
	l.Buffer = cmp.Or(l.Buffer, 4*int64(l.TransferMRU))
	c.Keepalive = max(cmp.Or(c.Keepalive, 30*time.Second), 0)
	return c
}

// Validate reports everything that is wrong, with the field's name.
func (c Config) Validate() error {
	var errs []error
	bad := func(cond bool, format string, args ...any) {
		if cond {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	d := c.withDefaults()
	bad(!isNodeID(c.Node), "node: %q is no node id: want dtn://NODE/ or ipn:N.0", c.Node)
	bad(c.Sink == nil, "sink: is missing")
	bad(c.Log == nil, "log: is missing")
	bad(c.Idle < 0 || c.Drain < 0, "idle, drain: must not be negative")
	bad(c.Keepalive > 0 && (c.Keepalive < time.Second || c.Keepalive%time.Second != 0 || c.Keepalive > maxKeepalive),
		"keepalive: %v is not whole seconds up to %v", c.Keepalive, maxKeepalive)
	bad(d.Limits.Buffer < 0 || uint64(d.Limits.Buffer) < 2*d.Limits.TransferMRU,
		"limits.buffer: %d is less than twice the transfer MRU %d", d.Limits.Buffer, d.Limits.TransferMRU)
	bad(d.Limits.TransferMRU > maxTransfer, "limits.transferMRU: %d is above %d", d.Limits.TransferMRU, maxTransfer)
	bad(d.Limits.SegmentMRU < minSegment || d.Limits.SegmentMRU > maxTransfer,
		"limits.segmentMRU: %d is not from %d to %d", d.Limits.SegmentMRU, minSegment, maxTransfer)
	bad(d.Limits.Segment < minSegment || d.Limits.Segment > maxSegment,
		"limits.segment: %d is not from %d to %d", d.Limits.Segment, minSegment, maxSegment)
	bad(d.Limits.Sessions < 1 || d.Limits.InFlight < 1, "limits.sessions, limits.inFlight: must be positive")
	for i, l := range c.Listeners {
		if err := l.validate(c.TLS); err != nil {
			errs = append(errs, fmt.Errorf("listeners[%d]: %w", i, err))
		}
	}
	names := map[string]bool{}
	for i, p := range c.Peers {
		bad(names[p.Name], "peers[%d].name: %q is taken", i, p.Name)
		names[p.Name] = true
		if err := p.validate(c.TLS); err != nil {
			errs = append(errs, fmt.Errorf("peers[%d] (%s): %w", i, p.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (l Listener) validate(own *tls.Config) error {
	if err := checkEnd(l.Kind, l.Address, l.TLS, l.Auth, l.Insecure); err != nil {
		return err
	}
	if l.Kind == TCPCL && l.TLS != TLSNone && (own == nil || len(own.Certificates) == 0 && own.GetCertificate == nil) {
		return errors.New("tls: a listener needs a certificate; give one, or set TLS to none")
	}
	return checkRoots(own, l.Kind, l.TLS, l.Auth)
}

func (p Peer) validate(own *tls.Config) error {
	switch {
	case p.Name == "":
		return errors.New("name: is empty")
	case !p.Node.IsZero() && !isNodeID(p.Node):
		return fmt.Errorf("node: %q is no node id: want dtn://NODE/ or ipn:N.0", p.Node)
	case p.Address == "" && p.Kind != TCPCL:
		return fmt.Errorf("address: %s only ever sends where we dial; give an address", p.Kind)
	case p.Address == "" && p.Node.IsZero():
		return errors.New("node: a peer that dials us is known by its node id; give it")
	}
	if err := checkEnd(p.Kind, p.Address, p.TLS, p.Auth, p.Insecure); err != nil {
		return err
	}
	return checkRoots(own, p.Kind, p.TLS, p.Auth)
}

// checkRoots wants roots wherever a certificate has to prove something: the
// system's roots vouch for web sites, not for nodes.
func checkRoots(own *tls.Config, k Kind, t Policy, a Auth) error {
	if k == TCPCL && t != TLSNone && a != AuthNone && (own == nil || own.RootCAs == nil) {
		return errors.New("tls: no roots to verify a peer's certificate against; give RootCAs, or set auth to none")
	}
	return nil
}

func checkEnd(k Kind, address string, t Policy, a Auth, insecure bool) error {
	switch k {
	case TCPCL, STCP, MTCP:
	default:
		return fmt.Errorf("kind: %q is not tcpcl, stcp or mtcp", k)
	}
	switch t {
	case "", TLSRequired, TLSOptional, TLSNone:
	default:
		return fmt.Errorf("tls: %q is not required, optional or none", t)
	}
	switch a {
	case "", AuthNode, AuthHost, AuthChain, AuthNone:
	default:
		return fmt.Errorf("auth: %q is not node, host, chain or none", a)
	}
	host := ""
	if address != "" {
		var err error
		if host, _, err = net.SplitHostPort(address); err != nil {
			return fmt.Errorf("address: %q is not HOST:PORT", address)
		}
	}
	proved := k == TCPCL && (t == "" || t == TLSRequired) && a != AuthNone
	if !proved && !insecure && address != "" && !isLoopback(host) {
		return fmt.Errorf("address: %s is not loopback and %s would not know who is there; require TLS, or set insecure", address, k)
	}
	return nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// isNodeID reports whether e can name a node (RFC 9171, section 4.2.5.2).
func isNodeID(e addr.EID) bool {
	switch e.Scheme() {
	case addr.SchemeIPN:
		n, svc := e.Numbers()
		return n != 0 && svc == 0
	case addr.SchemeDTN:
		ssp := e.SSP()
		return len(ssp) > 3 && ssp[len(ssp)-1] == '/' && countSlash(ssp) == 3
	}
	return false
}

func countSlash(s string) (n int) {
	for i := range len(s) {
		if s[i] == '/' {
			n++
		}
	}
	return n
}
