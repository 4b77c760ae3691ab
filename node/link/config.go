package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// The application protocols (ALPN, RFC 7301) of the mesh port.
const (
	ALPN     = "farhop/1"      // between enrolled nodes
	ALPNJoin = "farhop-join/1" // a newcomer redeeming a ticket

	ALPNCheck = "farhop-check/1" // between enrolled nodes, to see what passes
)

// Limits that are not configurable.
const (
	maxPending   = 512  // inbound connections whose handshake or Hello is not done
	retryPending = 32   // above this many, source addresses are validated first (Retry)
	maxJoins     = 16   // newcomers served at the same time
	maxChecks    = 16   // checks served at the same time
	maxTCP       = 2048 // TCP service streams a peer may have open: each costs 8 KiB before it has said anything
	maxLanes     = 16   // unidirectional streams a peer may have open
	maxOpenFrame = 4096 // largest StreamOpen, bytes
	openBuffer   = 512  // bytes that are read of one at once
	maxHello     = 4096 // largest Hello, bytes

	maxOddFrame = 64 << 10 // largest frame on a stream beyond one for each lane, bytes
)

// Sink receives what happens on sessions. For one session the calls never
// overlap: LinkUp comes first, LinkDown last. LinkDown of a replaced session
// comes before LinkUp of the session that replaces it. A Frames call that
// blocks stops reading that session: QUIC's flow control then holds the peer.
type Sink interface {
	LinkUp(s *Session)
	LinkDown(s *Session, why Down)
	// Frames passes what was waiting on one stream, in its order. The slice
	// is reused after the call, the frames are the sink's to keep.
	Frames(s *Session, frames []wire.Frame)
}

// Peer is a node to dial.
type Peer struct {
	Address string    // HOST:PORT
	Node    addr.Node // if set, only this node is accepted there
	From    string    // an address of this machine or, on Linux, an interface that packets leave by; "": as routes say
	Link    Properties
}

// way names what leads to the peer, for what is kept of it.
func (p Peer) way() string {
	if p.From == "" {
		return p.Address
	}
	return p.Address + " from " + p.From
}

// Identity is what a certificate says about the far end.
type Identity struct {
	Node   addr.Node
	Region addr.Region
	Kex    string // the key exchange negotiated, such as X25519MLKEM768
}

// Config is what a Manager needs. Zero fields with a default say so.
type Config struct {
	Listen string         // HOST:PORT of the UDP socket, and of TCP
	Socket net.PacketConn // used instead of Listen when set (simulated networks); there is no TCP then

	// Node and Region are our own names; Hello is sent on every session.
	Node   addr.Node
	Region addr.Region
	Hello  wire.Hello

	// TLSServer is the listener's configuration: ALPN and, when Join is set,
	// ALPNJoin. TLSClient returns the configuration to dial with; pin is zero
	// when any node of the mesh will do.
	TLSServer *tls.Config
	TLSClient func(pin addr.Node) *tls.Config
	// Identify judges a finished handshake (chain, revocation, key exchange).
	// No stream is served before it returned without error.
	Identify func(tls.ConnectionState) (Identity, error)

	// The keys are persisted by the node, so that peers notice its restart at
	// once instead of after an idle timeout (RFC 9000, section 10.3).
	StatelessResetKey [32]byte
	TokenKey          [32]byte

	Peers []Peer
	Links map[addr.Node]Properties // of nodes that dial us; default: as in Peers
	More  []Peer                   // the same of links with names, by Node and Link.Uplink; no addresses

	Events Sink
	// Parts keeps the beginnings of large bundles over the ends of sessions. Nil
	// takes all of them whole.
	Parts PartStore
	// Early is what a node gives and takes in the first flight to a peer that it
	// knows, and Tickets is by what peers know each other. Nil: nothing is sent
	// before the handshake is done.
	Early   Early
	Tickets Tickets
	// Streams serves one TCP service stream of a peer and owns it. Nil
	// refuses all of them.
	Streams func(ctx context.Context, s *Session, open wire.StreamOpen, st *Stream)
	// Join serves one newcomer, who has shown no certificate. Nil refuses all.
	Join func(ctx context.Context, st *Stream, remote net.Addr, state tls.ConnectionState)

	SendBudget int      // bytes waiting per session; default 32 MiB
	Seed       [32]byte // of the redial jitter
	// SpoolDir is where what arrives over far links waits for what was before it,
	// once it is too much for memory. "": then the session ends.
	SpoolDir string

	Log        *slog.Logger          // required
	Registerer prometheus.Registerer // nil: not exported
}

// Validate reports everything that is wrong, with the field's name.
func (c Config) Validate() error {
	var errs []error
	bad := func(cond bool, format string, args ...any) {
		if cond {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.Node.IsZero(), "node: is empty")
	bad(c.Hello.Node != c.Node, "hello: names node %q, want %q", c.Hello.Node, c.Node)
	bad(c.Hello.MaxFrame < maxHello, "hello: max frame %d is below %d", c.Hello.MaxFrame, maxHello)
	bad(c.TLSServer == nil, "tls server: is missing")
	bad(c.TLSClient == nil, "tls client: is missing")
	bad(c.Identify == nil, "identify: is missing")
	bad(c.Events == nil, "events: is missing")
	bad(c.Log == nil, "log: is missing")
	bad(c.SendBudget < 0, "send budget: %d is negative", c.SendBudget)
	if c.Socket == nil {
		_, _, err := net.SplitHostPort(c.Listen)
		bad(err != nil, "listen: %q is not HOST:PORT", c.Listen)
	}
	seen := map[string]bool{}
	for i, p := range c.Peers {
		_, _, err := net.SplitHostPort(p.Address)
		bad(err != nil, "peers[%d].address: %q is not HOST:PORT", i, p.Address)
		bad(seen[p.way()], "peers[%d].address: %s is listed twice", i, p.way())
		bad(c.Socket != nil && p.From != "", "peers[%d].from: the node has one given socket", i)
		bad(p.Node == c.Node && !p.Node.IsZero(), "peers[%d].node: %s is this node", i, p.Node)
		seen[p.way()] = true
		if err := p.Link.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("peers[%d].link: %w", i, err))
		}
	}
	for i, p := range c.Peers {
		bad(c.Socket != nil && p.Link.Layer == LayerTLS, "peers[%d].link: layer tls needs TCP, and the node has one given socket", i)
	}
	for i, p := range c.More {
		bad(p.Link.Uplink == "", "more[%d].link: has no name", i)
		if err := p.Link.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("more[%d].link: %w", i, err))
		}
	}
	for n, p := range c.Links {
		if err := p.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("links[%s]: %w", n, err))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.SendBudget == 0 {
		c.SendBudget = 32 << 20
	}
	return c
}

// Properties are what is known about a link before it is up. All may be zero:
// then timers adapt to what is found.
type Properties struct {
	Profile  Profile       // "": follows from the rest, and from what is measured
	OWLT     time.Duration // one-way light time
	Rate     int64         // bits per second
	Contacts []Window      // when the link can carry; none means always
	MaxGap   time.Duration // longest silence to survive; 0: from Contacts

	// Of one of several links with the node. The one that dials names it; the
	// other end knows it by that name.
	Uplink  string         // at most wire.MaxUplink bytes
	Cost    uint32         // the cheapest link that carries a class is used for it
	Classes []bundle.Class // that it carries; none means all

	Layer      Layer   // of bundles that we send; "" is LayerAuto
	ReturnRate int64   // bits per second towards us; 0: as Rate
	Loss       float64 // share of packets, as far as it is known
	Burst      float64 // packets lost in a row, on average; 0: 1
	MTU        int     // bytes of an IP packet that pass; 0: 1280
}

// Validate reports what cannot be meant.
func (p Properties) Validate() error {
	var errs []error
	if p.Profile != "" && !slices.Contains(Profiles(), p.Profile) {
		errs = append(errs, fmt.Errorf("profile %q: want one of %v", p.Profile, Profiles()))
	}
	if p.OWLT < 0 || p.MaxGap < 0 || p.Rate < 0 {
		errs = append(errs, errors.New("owlt, rate and gap must not be negative"))
	}
	for i, w := range p.Contacts {
		if w.For <= 0 || w.Every < 0 || w.Every > 0 && w.Every < w.For {
			errs = append(errs, fmt.Errorf("contacts[%d]: for %v every %v: want 0 < for <= every (or every 0 for a single contact)", i, w.For, w.Every))
		}
	}
	if !wire.ValidUplink(p.Uplink) {
		errs = append(errs, fmt.Errorf("link name %q: want at most %d letters, digits, and -_. after the first", p.Uplink, wire.MaxUplink))
	}
	return errors.Join(append(errs, p.validateLayer())...)
}
