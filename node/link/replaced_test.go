package link

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/routing/addr"
)

// TestReplacedIsNotDialled: a dialler whose session is replaced by one that the
// peer dialled stays with that, and does not begin a handshake beside it.
func TestReplacedIsNotDialled(t *testing.T) {
	for _, name := range []string{"b", "0"} { // a decides, and the peer
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(noon))
				sky := &air{light: 10 * time.Millisecond, conns: map[string]*airConn{}}
				m, counts := newMesh(t), prometheus.NewRegistry()
				m.start(name, func(c *Config) { c.Socket = sky.conn("192.0.2.2:7330") })
				a := m.start("a", func(c *Config) {
					c.Socket, c.Registerer = sky.conn("192.0.2.1:7330"), counts
					dials("192.0.2.2:7330")(c)
				})
				a.next("up")
				for n := range 20 {
					time.Sleep(time.Minute) // it has shown to last
					rival := m.start(name, func(c *Config) {
						c.Socket, c.Hello.Boot = sky.conn("192.0.2.3:7330"), uint64(n+2)
						dials("192.0.2.1:7330")(c)
					})
					if e := a.next("down"); e.why.Cause != Replaced {
						t.Fatalf("round %d: down for %v", n, e.why)
					}
					if s := a.next("up").s; s.Dialed() {
						t.Fatalf("round %d: the session is not the peer's", n)
					}
					time.Sleep(time.Minute)
					rival.end()
					a.next("down")
					if s := a.next("up").s; !s.Dialed() {
						t.Fatalf("round %d: the session is not ours again", n)
					}
				}
				if n := counted(t, counts, "farhop_link_dials_total", string(Redundant)); n > 0 {
					t.Errorf("%v handshakes for nothing", n)
				}
			})
		})
	}
}

// TestManyReplaceOne: of sessions that come at the same time one stays, and at no
// moment is there none.
func TestManyReplaceOne(t *testing.T) {
	r, at := newRegistry(addr.MustNode("a")), peering{node: addr.MustNode("b")}
	const many = 8
	var wg sync.WaitGroup
	installed := make(chan struct{}, many)
	serve := func(s *Session) {
		r.install(s)
		installed <- struct{}{}
		<-s.ctx.Done()
		r.remove(s)
		close(s.down)
	}
	coming := func() *Session {
		s := fakeSession(1)
		s.peer.Node, s.conn, s.down = at.node, nowhere{}, make(chan struct{})
		s.ctx, s.cancel = context.WithCancelCause(t.Context())
		return s
	}
	wg.Go(func() { serve(coming()) })
	<-installed
	for range many {
		wg.Go(func() { serve(coming()) })
	}
	for range many {
		for waits := true; waits; {
			select {
			case <-installed:
				waits = false
			default:
				if r.current(at) == nil {
					t.Error("there was no session")
					waits = false
				}
			}
		}
	}
	last := r.current(at)
	if n := len(r.sessions()); n != 1 || last.cause.Load() != nil {
		t.Errorf("%d sessions, the one that stays ended for %v", n, last.cause.Load())
	}
	last.end(down(Closed, "over"))
	wg.Wait()
	if r.current(at) != nil {
		t.Error("a session that is over has its place")
	}
}

// nowhere is a connection of which only the far end's address is asked.
type nowhere struct{ carrier }

func (nowhere) RemoteAddr() net.Addr { return &net.UDPAddr{} }
