package stream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
)

// half is one direction of an in-memory Conn: a bounded buffer with an end.
type half struct {
	mu   sync.Mutex
	cond sync.Cond
	buf  []byte
	eof  bool
	err  error
}

func newHalf() *half {
	h := &half{}
	h.cond.L = &h.mu
	return h
}

const halfSize = 32 << 10

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.err != nil:
			return 0, h.err
		case len(h.buf) > 0:
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			h.cond.Broadcast()
			return n, nil
		case h.eof:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (h *half) write(p []byte) (total int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(p) > 0 {
		for h.err == nil && !h.eof && len(h.buf) >= halfSize {
			h.cond.Wait()
		}
		if h.err != nil {
			return total, h.err
		}
		if h.eof {
			return total, io.ErrClosedPipe
		}
		n := min(len(p), halfSize-len(h.buf))
		h.buf = append(h.buf, p[:n]...)
		p, total = p[n:], total+n
		h.cond.Broadcast()
	}
	return total, nil
}

func (h *half) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.eof = true
	} else if !(h.eof && len(h.buf) == 0) {
		h.err = err
	}
	h.cond.Broadcast()
}

// memConn is one end of an in-memory stream between two nodes.
type memConn struct{ in, out *half }

var errReset = errors.New("stream reset")

func (c memConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c memConn) Write(p []byte) (int, error) { return c.out.write(p) }
func (c memConn) CloseWrite() error           { c.out.end(nil); return nil }
func (c memConn) Reset(uint64)                { c.in.end(errReset); c.out.end(errReset) }

func memPair() (a, b memConn) {
	x, y := newHalf(), newHalf()
	return memConn{x, y}, memConn{y, x}
}

// world is a mesh of servers joined by in-memory streams.
type world struct {
	t  *testing.T
	wg sync.WaitGroup

	mu       sync.Mutex
	ctx      context.Context
	servers  map[addr.Node]*Server
	next     map[[2]addr.Node]addr.Node // (from, to) -> next hop; default: to itself
	cut      map[addr.Node]bool         // nobody can open a stream to it
	lost     map[addr.Node]bool         // the way to it is known to be down
	hosts    []addr.Node                // of the one service, in order of preference
	store    bool
	opened   []memConn
	resolved int
	tap      func(from, to addr.Node, c memConn) memConn
}

func newWorld(t *testing.T, hosts ...addr.Node) *world {
	ctx, cancel := context.WithCancel(t.Context())
	w := &world{
		t: t, ctx: ctx, hosts: hosts, servers: map[addr.Node]*Server{},
		next: map[[2]addr.Node]addr.Node{}, cut: map[addr.Node]bool{}, lost: map[addr.Node]bool{},
	}
	t.Cleanup(func() { cancel(); w.wg.Wait() })
	return w
}

func (w *world) server(name string) *Server {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.servers[addr.MustNode(name)]
}

// meshOf is the Mesh of one node of the world.
type meshOf struct {
	w    *world
	self addr.Node
}

func (m meshOf) Resolve(service string, tried []addr.Node) (addr.Node, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	m.w.resolved++
	for _, n := range m.w.hosts {
		if !slices.Contains(tried, n) {
			return n, nil
		}
	}
	return addr.Node{}, &UnreachableError{Service: service, Store: m.w.store}
}

func (m meshOf) Reachable(n addr.Node) bool {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	return !m.w.lost[n]
}

func (m meshOf) Open(_ context.Context, dest addr.Node) (Conn, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	hop, ok := m.w.next[[2]addr.Node{m.self, dest}]
	if !ok {
		hop = dest
	}
	if m.w.cut[hop] || m.w.servers[hop] == nil {
		return nil, errors.New("no link")
	}
	near, far := memPair()
	if m.w.tap != nil {
		near = m.w.tap(m.self, hop, near)
	}
	m.w.opened = append(m.w.opened, near)
	srv := m.w.servers[hop]
	m.w.wg.Go(func() {
		r := bufio.NewReader(far)
		typ, body, err := wire.ReadFrame(r, 4096, nil)
		if err != nil {
			return
		}
		f, err := wire.Parse(typ, body)
		open, ok := f.(wire.StreamOpen)
		if err != nil || !ok {
			m.w.t.Errorf("first frame %T, %v", f, err)
			return
		}
		srv.Handle(m.w.ctx, open, struct {
			io.Reader
			memHalf
		}{r, memHalf{far}})
	})
	return near, nil
}

// memHalf is a memConn without Read, to be joined with a buffered reader.
type memHalf struct{ c memConn }

func (h memHalf) Write(p []byte) (int, error) { return h.c.Write(p) }
func (h memHalf) CloseWrite() error           { return h.c.CloseWrite() }
func (h memHalf) Reset(code uint64)           { h.c.Reset(code) }

// add runs a server of the world.
func (w *world) add(name string, change func(*Config), services ...Service) *Server {
	w.t.Helper()
	node := addr.MustNode(name)
	cfg := Config{Node: node, Mesh: meshOf{w, node}, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := s.Configure(w.t.Context(), services); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.servers[node] = s
	w.mu.Unlock()
	w.wg.Go(func() {
		if err := s.Run(w.ctx); err != nil {
			w.t.Error(err)
		}
	})
	waitFor(s.running) // Handle refuses before Run
	return s
}

func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ctx != nil
}

// endpoint serves TCP connections with f until the test ends.
func endpoint(t *testing.T, f func(c *net.TCPConn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				f(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// echo sends everything back and then its own half-close.
func echo(c *net.TCPConn) {
	_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	_ = c.CloseWrite()
}

func deadPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func dial(t *testing.T, s *Server, service string) *net.TCPConn {
	t.Helper()
	addrs := s.Addrs(service)
	if len(addrs) == 0 {
		t.Fatalf("service %s has no listener", service)
	}
	c, err := net.Dial("tcp", addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

const anywhere = "127.0.0.1:0"

func in() Service { return Service{Name: "db", Listen: []string{anywhere}} }

func out(addresses ...string) Service {
	return Service{Name: "db", Endpoints: addresses, ProbeEvery: -1}
}
