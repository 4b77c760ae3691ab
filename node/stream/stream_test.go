package stream

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

var nodeA, nodeB, nodeC, nodeD = addr.MustNode("a"), addr.MustNode("b"), addr.MustNode("c"), addr.MustNode("d")

// chain is a -> b -> c with the service's endpoint at c.
func chain(t *testing.T, endpoint string) (w *world, a *Server) {
	w = newWorld(t, nodeC)
	w.next[[2]addr.Node{nodeA, nodeC}] = nodeB
	w.add("b", nil)
	w.add("c", nil, out(endpoint))
	return w, w.add("a", nil, in())
}

func random(t *testing.T, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if _, err := rand.Read(p); err != nil {
		t.Fatal(err)
	}
	return p
}

// exchange sends data, closes its side and returns what comes back.
func exchange(c *net.TCPConn, data []byte) ([]byte, error) {
	var wg sync.WaitGroup
	var werr error
	wg.Go(func() {
		_, err := c.Write(data)
		werr = errors.Join(err, c.CloseWrite())
	})
	got, err := io.ReadAll(c)
	wg.Wait()
	return got, errors.Join(werr, err)
}

func TestTenMegabytesThroughARelay(t *testing.T) {
	_, a := chain(t, endpoint(t, echo))
	data := random(t, 10<<20)
	got, err := exchange(dial(t, a, "db"), data)
	if err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(got) != sha256.Sum256(data) {
		t.Errorf("sent %d bytes, %d came back, hashes differ", len(data), len(got))
	}
}

func TestHalfClose(t *testing.T) {
	// The endpoint answers only after it has seen the end of the request.
	_, a := chain(t, endpoint(t, func(c *net.TCPConn) {
		req, err := io.ReadAll(c)
		if err == nil {
			fmt.Fprintf(c, "%d bytes", len(req))
		}
	}))
	got, err := exchange(dial(t, a, "db"), random(t, 300<<10))
	if want := fmt.Sprintf("%d bytes", 300<<10); err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestServerSpeaksFirstAndClosesFirst(t *testing.T) {
	_, a := chain(t, endpoint(t, func(c *net.TCPConn) {
		fmt.Fprint(c, "hello")
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}))
	c := dial(t, a, "db")
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := c.Write([]byte("still open")); err != nil {
		t.Errorf("the other direction is closed too: %v", err)
	}
}

func TestResetOfTheEndpointReachesTheClient(t *testing.T) {
	_, a := chain(t, endpoint(t, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0) // Close now sends RST
	}))
	c := dial(t, a, "db")
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}

func TestResetOfTheClientReachesTheEndpoint(t *testing.T) {
	ended := make(chan error, 1)
	_, a := chain(t, endpoint(t, func(c *net.TCPConn) {
		fmt.Fprint(c, "x")
		_, err := io.Copy(io.Discard, c)
		ended <- err
	}))
	c := dial(t, a, "db")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = c.SetLinger(0)
	_ = c.Close()
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("endpoint's read: %v, want a reset", err)
	}
}

func TestLostPathIsAReset(t *testing.T) {
	w, a := chain(t, endpoint(t, echo))
	c := dial(t, a, "db")
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	for _, o := range w.opened {
		o.Reset(0)
	}
	w.mu.Unlock()
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}

func TestFailoverReplaysEarlyBytes(t *testing.T) {
	for _, tc := range []struct {
		name string
		size int
		prep func(t *testing.T, w *world)
	}{
		{"endpoint refuses", 100 << 10, func(t *testing.T, w *world) { w.add("c", nil, out(deadPort(t))) }},
		{"no such service there", 10, func(t *testing.T, w *world) { w.add("c", nil) }},
		{"next hop gone", 100 << 10, func(*testing.T, *world) {}},
		{"more than is kept", 2 << 20, func(t *testing.T, w *world) { w.add("c", nil, out(deadPort(t))) }},
		{"path known to be down before the answer", 100 << 10, func(t *testing.T, w *world) {
			w.tap = func(_, to addr.Node, c memConn) memConn {
				if to != nodeC {
					return c
				}
				w.lost[nodeC] = true // as the link goes silent: no byte comes, and no error
				w.wg.Go(func() { w.server("a").PathsChanged() })
				c.Reset(0)
				silent, _ := memPair()
				return silent
			}
			w.add("c", nil, out(endpoint(t, echo)))
		}},
		{"path lost before the answer", 100 << 10, func(t *testing.T, w *world) {
			w.add("c", nil, out(endpoint(t, echo)))
			w.tap = func(_, to addr.Node, c memConn) memConn {
				if to == nodeC {
					c.in.end(errReset)
				}
				return c
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nodeC, nodeD)
			tc.prep(t, w)
			w.add("d", nil, out(endpoint(t, echo)))
			a := w.add("a", nil, in())
			data := random(t, tc.size)
			got, err := exchange(dial(t, a, "db"), data)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("sent %d bytes, got %d, %v", len(data), len(got), err)
			}
		})
	}
}

func TestLocalEndpoint(t *testing.T) {
	w := newWorld(t, nodeA)
	svc := in()
	svc.Endpoints = []string{endpoint(t, echo)}
	a := w.add("a", nil, svc)
	data := random(t, 1<<20)
	got, err := exchange(dial(t, a, "db"), data)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("sent %d bytes, got %d, %v", len(data), len(got), err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Run("drop", func(t *testing.T) {
		w := newWorld(t)
		a := w.add("a", nil, in())
		if err := refused(t, a); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v, want a reset", err)
		}
	})
	t.Run("store", func(t *testing.T) {
		w := newWorld(t)
		w.store = true
		a := w.add("a", nil, in())
		w.add("c", nil, out(endpoint(t, echo)))
		data := random(t, 3<<20) // far more than is kept: TCP holds the rest back
		c := dial(t, a, "db")
		done := make(chan error, 1)
		go func() {
			got, err := exchange(c, data)
			if !bytes.Equal(got, data) {
				err = errors.Join(err, fmt.Errorf("sent %d bytes, got %d", len(data), len(got)))
			}
			done <- err
		}()
		waitFor(func() bool { _, n := a.States(); return n == 1 })
		w.mu.Lock()
		w.hosts = []addr.Node{nodeC}
		w.mu.Unlock()
		a.PathsChanged()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("too many wait", func(t *testing.T) {
		w := newWorld(t)
		w.store = true
		a := w.add("a", func(c *Config) { c.Waiting = 1 }, in())
		dial(t, a, "db")
		waitFor(func() bool { _, n := a.States(); return n == 1 })
		if err := refused(t, a); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v, want a reset", err)
		}
	})
	t.Run("a waiting client leaves", func(t *testing.T) {
		w := newWorld(t)
		w.store = true
		a := w.add("a", nil, in())
		c := dial(t, a, "db")
		waitFor(func() bool { _, n := a.States(); return n == 1 })
		_ = c.SetLinger(0)
		_ = c.Close()
		waitFor(func() bool { st, n := a.States(); return n == 0 && st[0].Ingress == 0 })
	})
}

// refused connects and returns the error that this or reading brings.
func refused(t *testing.T, s *Server) error {
	t.Helper()
	c, err := net.Dial("tcp", s.Addrs("db")[0])
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.ReadAll(c)
	return err
}

// waitFor polls; a condition that never comes is the test binary's timeout.
func waitFor(cond func() bool) {
	for !cond() {
		time.Sleep(time.Millisecond)
	}
}

func TestRoutingLoopEnds(t *testing.T) {
	w := newWorld(t, nodeC)
	w.next[[2]addr.Node{nodeA, nodeC}] = nodeB
	w.next[[2]addr.Node{nodeB, nodeC}] = nodeA
	w.add("b", nil)
	a := w.add("a", nil, in())
	if err := refused(t, a); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.opened); n != maxHops+1 {
		t.Errorf("%d streams were opened, want %d", n, maxHops+1)
	}
}

func TestConnectionLimits(t *testing.T) {
	t.Run("ingress", func(t *testing.T) {
		w := newWorld(t, nodeC)
		reg := prometheus.NewRegistry()
		w.add("c", nil, out(endpoint(t, echo)))
		svc := in()
		svc.MaxConns = 1
		a := w.add("a", func(c *Config) { c.Registerer = reg }, svc)
		first := dial(t, a, "db")
		fmt.Fprint(first, "x")
		if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if err := refused(t, a); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v, want a reset", err)
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "farhop_stream_connections_total" {
				if m := f.GetMetric(); len(m) != 1 || m[0].GetCounter().GetValue() != 1 {
					t.Errorf("counted %v, want one connection over the limit", m)
				}
				return
			}
		}
		t.Error("no connection was counted")
	})
	t.Run("egress says so", func(t *testing.T) {
		w := newWorld(t, nodeC)
		svc := out(endpoint(t, echo))
		svc.MaxConns = 1
		c := w.add("c", nil, svc)
		release, ok := c.track(&c.lookup("db").shared.egress, 1, "egress")
		if !ok {
			t.Fatal("the first connection is over the limit")
		}
		defer release(resultDone)
		near, err := meshOf{w, nodeA}.Open(t.Context(), nodeC)
		if err != nil {
			t.Fatal(err)
		}
		reply := ask(t, near)
		if reply.OK || reply.Reason != bundle.QuotaExceeded || !strings.Contains(reply.Text, "db") {
			t.Errorf("answer %+v", reply)
		}
	})
}

func ask(t *testing.T, c Conn) wire.StreamReply {
	t.Helper()
	defer c.Reset(0)
	if _, err := c.Write(wire.Append(nil, wire.StreamOpen{Service: "db", Dest: nodeC, Source: nodeA})); err != nil {
		t.Fatal(err)
	}
	f, err := nextFrame(c)
	reply, ok := f.(wire.StreamReply)
	if err != nil || !ok {
		t.Fatalf("answer %T, %v", f, err)
	}
	return reply
}

func TestManyAtOnce(t *testing.T) {
	_, a := chain(t, endpoint(t, echo))
	var wg sync.WaitGroup
	for i := range 100 {
		c, data := dial(t, a, "db"), random(t, 20_000+i*500)
		wg.Go(func() {
			got, err := exchange(c, data)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("connection %d: sent %d bytes, got %d, %v", i, len(data), len(got), err)
			}
		})
	}
	wg.Wait()
	waitFor(func() bool { st, _ := a.States(); return st[0].Ingress == 0 })
	a.early.mu.Lock()
	defer a.early.mu.Unlock()
	if a.early.left != earlyBudget {
		t.Errorf("early budget: %d of %d left after all ended", a.early.left, earlyBudget)
	}
}
