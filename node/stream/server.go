package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
)

// Server runs the TCP services of one node.
type Server struct {
	cfg    Config
	met    *metrics
	bufs   buffers
	early  budget
	ids    atomic.Uint64
	relays atomic.Int64

	mu        sync.Mutex
	ctx       context.Context // of Run; nil before
	stopped   bool
	services  map[string]*service
	listeners map[*listener]struct{}
	paths     chan struct{} // closed and replaced by PathsChanged
	waiting   int

	wg sync.WaitGroup // everything started under ctx
}

// service is one configured service at run time. It is replaced as a whole
// when its configuration changes; live connections keep the old one.
type service struct {
	Service
	ctx    context.Context // ends when the service is removed or Run ends
	cancel context.CancelFunc
	probes context.CancelFunc // ends this version's health checks
	shared *shared
}

// shared outlives changes of a service's configuration.
type shared struct {
	ingress, egress atomic.Int64 // connections now
	turn            atomic.Uint64
	health          health
}

type listener struct {
	address string // as configured
	tcp     *net.TCPListener
	svc     atomic.Pointer[service]
}

// New checks the configuration; it binds nothing.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("stream: %w", err)
	}
	met, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("stream: register metrics: %w", err)
	}
	return &Server{
		cfg: cfg.withDefaults(), met: met, early: budget{left: earlyBudget},
		services: map[string]*service{}, listeners: map[*listener]struct{}{}, paths: make(chan struct{}),
	}, nil
}

// Run serves until ctx ends, then cuts what is left and returns when all of
// its goroutines have. Configure may be called before and while it runs.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.ctx != nil {
		s.mu.Unlock()
		return errors.New("stream: Run called twice")
	}
	s.ctx = ctx
	for _, svc := range s.services {
		s.start(svc)
	}
	for l := range s.listeners {
		s.wg.Go(func() { s.accept(l) })
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.stopped = true
	for l := range s.listeners {
		_ = l.tcp.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

// start gives a service its life; mu is held and ctx is set.
func (s *Server) start(svc *service) {
	if svc.ctx == nil {
		svc.ctx, svc.cancel = context.WithCancel(s.ctx)
	}
	if len(svc.Endpoints) > 0 && svc.ProbeEvery > 0 {
		ctx, cancel := context.WithCancel(svc.ctx)
		svc.probes = cancel
		s.wg.Go(func() { s.probe(ctx, svc) })
	}
}

// Configure replaces the set of services. All new listeners bind first: on an
// error nothing has changed. A service that is removed loses its connections;
// one that changes keeps them.
func (s *Server) Configure(ctx context.Context, services []Service) error {
	if err := validate(services); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("services: the node stops")
	}
	kept, fresh, err := s.bind(ctx, services)
	if err != nil {
		return err
	}
	s.apply(services, kept, fresh)
	return nil
}

// bind finds or opens a listener for every address; mu is held.
func (s *Server) bind(ctx context.Context, services []Service) (kept, fresh map[*listener]string, err error) {
	kept, fresh = map[*listener]string{}, map[*listener]string{}
	for _, svc := range services {
		for _, a := range svc.Listen {
			if l := s.listening(a, svc.Name, kept); l != nil {
				kept[l] = svc.Name
				continue
			}
			l, err := listen(ctx, a, svc.Name)
			if err != nil {
				for l := range fresh {
					_ = l.tcp.Close()
				}
				return nil, nil, err
			}
			fresh[l] = svc.Name
		}
	}
	return kept, fresh, nil
}

// listening finds an open listener for an address that is not in use yet. A
// port chosen by the system belongs to the service it was chosen for.
func (s *Server) listening(address, name string, used map[*listener]string) *listener {
	for l := range s.listeners {
		if _, taken := used[l]; l.address == address && !taken && (!anyPort(address) || l.svc.Load().Name == name) {
			return l
		}
	}
	return nil
}

func listen(ctx context.Context, address, name string) (*listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("service %s: listen on %s: the port is taken by another program; stop it or change the service's listen address: %w", name, address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("service %s: listen on %s: %w", name, address, err)
	}
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("service %s: listen on %s: not TCP", name, address), ln.Close())
	}
	return &listener{address: address, tcp: tcp}, nil
}

// apply switches over to services; nothing can fail any more. mu is held.
func (s *Server) apply(services []Service, kept, fresh map[*listener]string) {
	old := s.services
	s.services = map[string]*service{}
	for _, c := range services {
		svc := &service{Service: c.withDefaults(), shared: &shared{}}
		if was := old[c.Name]; was != nil {
			svc.ctx, svc.cancel, svc.shared = was.ctx, was.cancel, was.shared
			was.stopProbes()
			delete(old, c.Name)
		}
		s.services[c.Name] = svc
		if s.ctx != nil {
			s.start(svc)
		}
	}
	for l := range s.listeners {
		if name, ok := kept[l]; ok {
			l.svc.Store(s.services[name])
			continue
		}
		_ = l.tcp.Close()
		delete(s.listeners, l)
	}
	for l, name := range fresh {
		l.svc.Store(s.services[name])
		s.listeners[l] = struct{}{}
		if s.ctx != nil {
			s.wg.Go(func() { s.accept(l) })
		}
	}
	for _, gone := range old {
		if gone.stopProbes(); gone.cancel != nil {
			gone.cancel()
		}
	}
}

func (v *service) stopProbes() {
	if v.probes != nil {
		v.probes()
	}
}

// lookup returns the service of a name, nil when it is not configured here.
func (s *Server) lookup(name string) *service {
	s.mu.Lock()
	defer s.mu.Unlock()
	if svc := s.services[name]; svc != nil && svc.ctx != nil {
		return svc
	}
	return nil
}

// Addrs returns the bound addresses of a service's listeners, sorted.
func (s *Server) Addrs(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for l := range s.listeners {
		if l.svc.Load().Name == name {
			out = append(out, l.tcp.Addr().String())
		}
	}
	slices.Sort(out)
	return out
}

// PathsChanged makes the connections that wait for a path look again. The
// node calls it when links or adverts changed; it does not block.
func (s *Server) PathsChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.paths)
	s.paths = make(chan struct{})
}

// State is what an operator sees of one service.
type State struct {
	Name    string
	Listen  []string // bound addresses
	Ingress int      // connections that came in here
	Egress  int      // connections to endpoints here
	Known   bool     // Up has been found out
	Up      bool     // an endpoint here took the last connection attempt
}

// States returns the services by name, and how many connections wait.
func (s *Server) States() (states []State, waiting int) {
	s.mu.Lock()
	for _, svc := range s.services {
		st := State{Name: svc.Name, Ingress: int(svc.shared.ingress.Load()), Egress: int(svc.shared.egress.Load())}
		st.Up, st.Known = svc.shared.health.get()
		states = append(states, st)
	}
	waiting = s.waiting
	s.mu.Unlock()
	for i := range states {
		states[i].Listen = s.Addrs(states[i].Name)
	}
	slices.SortFunc(states, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	return states, waiting
}

// track counts a connection and reports false when there are too many.
func (s *Server) track(n *atomic.Int64, limit int, side string) (done func(result string), ok bool) {
	if int(n.Add(1)) > limit {
		n.Add(-1)
		s.met.conns.With(prometheus.Labels{"side": side, "result": resultLimit}).Inc()
		return nil, false
	}
	s.met.active.WithLabelValues(side).Inc()
	return func(result string) {
		n.Add(-1)
		s.met.active.WithLabelValues(side).Dec()
		s.met.conns.WithLabelValues(side, result).Inc()
	}, true
}
