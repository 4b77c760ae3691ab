package admin

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/farhop/farhop/crypto/identity"
)

// Limits of the server. Its clients are on the same machine, so times can be
// fixed; they only have to be longer than a busy node needs for an answer.
const (
	maxConns      = 256
	maxHeader     = 16 << 10 // bytes
	headerTimeout = 5 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = time.Minute
	idleTimeout   = 2 * time.Minute
	drainTimeout  = 5 * time.Second
)

//go:embed page
var pageFiles embed.FS

// Config is what a Server needs; every field is.
type Config struct {
	Listen   string // host:port of admin.listen; port 0 takes a free one
	Dir      string // data directory, for TokenFile and AddrFile
	Backend  Backend
	Gatherer prometheus.Gatherer // what /metrics shows
	Log      *slog.Logger
}

// Validate reports all faults of c.
func (c Config) Validate() error {
	var errs []error
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		errs = append(errs, fmt.Errorf("admin.listen: %w", err))
	}
	missing := func(name string, is bool) {
		if is {
			errs = append(errs, fmt.Errorf("admin server: %s is missing", name))
		}
	}
	missing("Dir", c.Dir == "")
	missing("Backend", c.Backend == nil)
	missing("Gatherer", c.Gatherer == nil)
	missing("Log", c.Log == nil)
	return errors.Join(errs...)
}

// Server serves the API.
type Server struct {
	cfg   Config
	log   *slog.Logger
	token string
	prom  http.Handler
	ln    net.Listener
	ends  chan struct{} // closed when Run ends: taps do not outlive it
}

// New makes a server, and the token file if there is none. It binds nothing.
func New(c Config) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	token, err := readOrMakeToken(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("admin token: %w", err)
	}
	prom := promhttp.HandlerFor(c.Gatherer, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn)})
	return &Server{cfg: c, log: c.Log, token: token, prom: prom, ends: make(chan struct{})}, nil
}

// Listen binds the address, so that a taken port is known before a node starts
// its other parts. Run calls it if nobody has.
func (s *Server) Listen() (net.Addr, error) {
	ln, err := net.Listen("tcp", s.cfg.Listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("admin.listen: %s is taken by another program, perhaps another farhop; set another port there", s.cfg.Listen)
	case err != nil:
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	if err := identity.WriteFile(filepath.Join(s.cfg.Dir, AddrFile), []byte(ln.Addr().String()+"\n")); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", AddrFile, err), ln.Close())
	}
	s.ln = ln
	return ln.Addr(), nil
}

// Close gives the address back when Run will not be called after Listen.
func (s *Server) Close() error {
	if s.ln == nil {
		return nil
	}
	return s.ln.Close()
}

// Run serves until ctx ends, then lets requests end that were being answered.
// It may be called once.
func (s *Server) Run(ctx context.Context) error {
	if s.ln == nil {
		if _, err := s.Listen(); err != nil {
			return err
		}
	}
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(netutil.LimitListener(s.ln, maxConns)) }()
	select {
	case err := <-ended:
		return fmt.Errorf("admin server: %w", err)
	case <-ctx.Done():
		close(s.ends)
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := srv.Shutdown(drain); err != nil {
		_ = srv.Close() // a request hangs; ending it is all that is left
	}
	<-ended
	return nil
}

// Handler returns the whole API without a listener.
func (s *Server) Handler() http.Handler { return s.guard(s.mux()) }

// page serves one embedded file.
func page(name, kind string) func(*Server, http.ResponseWriter, *http.Request) {
	return func(s *Server, w http.ResponseWriter, req *http.Request) {
		data, err := pageFiles.ReadFile("page/" + name)
		if err != nil {
			s.fail(w, req, err)
			return
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(data) // a client that left needs no answer
	}
}
