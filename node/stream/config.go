package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/routing/addr"
)

// Conn is a byte stream to a neighbour. Reset ends both directions with an
// error at the far end; bytes not yet delivered may be lost.
type Conn interface {
	io.Reader
	io.Writer
	CloseWrite() error
	Reset(code uint64)
}

// Codes of Conn.Reset.
const (
	ResetAborted uint64 = 2 // the other end of the service connection broke
	ResetRefused uint64 = 3 // answered with a StreamReply that says no
	ResetStopped uint64 = 4 // the node stops, or the service was removed
)

// Mesh is what the node knows and this package does not.
type Mesh interface {
	// Resolve picks the node whose endpoint of service gets a new connection,
	// this node included, but none of tried. It answers from memory. An error
	// that is an *UnreachableError says whether to wait.
	Resolve(service string, tried []addr.Node) (addr.Node, error)
	// Reachable reports whether the whole way to a node is up. It answers from
	// memory; PathsChanged tells when to ask again.
	Reachable(node addr.Node) bool
	// Open opens a stream to the next hop towards dest.
	Open(ctx context.Context, dest addr.Node) (Conn, error)
}

// UnreachableError says that no endpoint can be reached now.
type UnreachableError struct {
	Service string
	Store   bool // the connection shall wait for a path; else it is closed
}

// Error implements error.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("service %s: no endpoint can be reached", e.Service)
}

// Service is one TCP service as this node takes part in it.
type Service struct {
	Name      string
	Listen    []string // local HOST:PORT that clients connect to
	Endpoints []string // HOST:PORT of endpoints this node connects to, in turn

	MaxConns       int           // at once, each way; default 2048
	ConnectTimeout time.Duration // to an endpoint; default 5 s, it is nearby
	ProbeEvery     time.Duration // health check of endpoints; default 2 s, negative: none
}

func (s Service) withDefaults() Service {
	if s.MaxConns == 0 {
		s.MaxConns = 2048
	}
	if s.ConnectTimeout == 0 {
		s.ConnectTimeout = 5 * time.Second
	}
	if s.ProbeEvery == 0 {
		s.ProbeEvery = 2 * time.Second
	}
	return s
}

// validate reports every fault of a set of services.
func validate(services []Service) error {
	var errs []error
	names, listens := map[string]bool{}, map[string]string{}
	for i, s := range services {
		at := fmt.Sprintf("services[%d] %s", i, s.Name)
		switch {
		case s.Name == "" || len(s.Name) > maxName:
			errs = append(errs, fmt.Errorf("%s: name must have 1 to %d bytes", at, maxName))
		case names[s.Name]:
			errs = append(errs, fmt.Errorf("%s: name is used twice", at))
		}
		names[s.Name] = true
		if s.MaxConns < 0 || s.ConnectTimeout < 0 {
			errs = append(errs, fmt.Errorf("%s: limits must not be negative", at))
		}
		for _, a := range append(slices.Clip(s.Listen), s.Endpoints...) {
			if _, _, err := net.SplitHostPort(a); err != nil {
				errs = append(errs, fmt.Errorf("%s: %q is not HOST:PORT", at, a))
			}
		}
		for _, a := range s.Listen {
			if other, taken := listens[a]; taken && !anyPort(a) {
				errs = append(errs, fmt.Errorf("%s: listen %s is used by %s too", at, a, other))
			}
			listens[a] = s.Name
		}
	}
	return errors.Join(errs...)
}

func anyPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port == "0"
}

// Limits that hold for the whole server unless Config says otherwise.
const (
	maxName      = 63        // bytes of a service name
	maxReply     = 1024      // bytes of a StreamReply frame
	maxDrain     = 1 << 20   // bytes read and dropped after a refusal
	copyBuffer   = 63 << 10  // bytes, per direction and connection; with its headers a batch of package mux, so that none trails behind
	firstEarly   = 4 << 10   // early bytes every connection may keep
	earlyLimit   = 256 << 10 // early bytes one connection may keep
	earlyBudget  = 64 << 20  // early bytes of all connections
	waitingLimit = 512       // connections that wait for a path
	maxHops      = 32        // relays between ingress and egress
	relayLimit   = 4096      // connections relayed for others
)

// Config is what a Server needs.
type Config struct {
	Node   addr.Node // this node
	Mesh   Mesh
	Health func(service string, up bool) // may be nil; called on every change, one call at a time per service

	Early      int // early bytes kept per connection; default 256 KiB
	Waiting    int // connections that may wait for a path; default 512
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: not exported
}

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.Node.IsZero() {
		errs = append(errs, errors.New("node: is empty"))
	}
	if c.Mesh == nil {
		errs = append(errs, errors.New("mesh: is missing"))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("log: is missing"))
	}
	if c.Early < 0 || c.Waiting < 0 {
		errs = append(errs, errors.New("early, waiting: must not be negative"))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Early == 0 {
		c.Early = earlyLimit
	}
	if c.Waiting == 0 {
		c.Waiting = waitingLimit
	}
	return c
}
