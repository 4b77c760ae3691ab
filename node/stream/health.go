package stream

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// health is what is known of a service's endpoints here.
type health struct {
	mu    sync.Mutex // held during the callback, so that calls keep their order
	known atomic.Bool
	up    atomic.Bool
}

func (h *health) get() (up, known bool) { return h.up.Load(), h.known.Load() }

// set notes a result and tells tell when it is a change.
func (h *health) set(up bool, tell func(up bool)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known.Load() && h.up.Load() == up {
		return
	}
	h.up.Store(up)
	h.known.Store(true)
	tell(up)
}

func (s *Server) report(svc *service, up bool) {
	svc.shared.health.set(up, func(up bool) {
		s.cfg.Log.Info("service endpoint changed", "service", svc.Name, "up", up)
		if s.cfg.Health != nil {
			s.cfg.Health(svc.Name, up)
		}
	})
}

// probe connects to the endpoints in turn, again and again, until ctx ends.
// The service is up while one of them takes connections.
func (s *Server) probe(ctx context.Context, svc *service) {
	tick := time.NewTicker(svc.ProbeEvery)
	defer tick.Stop()
	for {
		c, err := s.dialEndpoint(ctx, svc)
		if err == nil {
			_ = c.Close()
		}
		if ctx.Err() != nil {
			return
		}
		s.report(svc, err == nil)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// dialEndpoint connects to one of the endpoints, each tried once, starting
// with the next in turn.
func (s *Server) dialEndpoint(ctx context.Context, svc *service) (*net.TCPConn, error) {
	var err error = errNoEndpoint
	first := svc.shared.turn.Add(1)
	for i := range uint64(len(svc.Endpoints)) {
		d := net.Dialer{Timeout: svc.ConnectTimeout}
		var c net.Conn
		c, err = d.DialContext(ctx, "tcp", svc.Endpoints[(first+i)%uint64(len(svc.Endpoints))])
		if err != nil {
			continue
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			return tcp, nil
		}
	}
	return nil, err
}
