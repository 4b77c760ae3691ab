package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// cellar keeps tickets as a disk does: over restarts.
type cellar struct {
	mu      sync.Mutex
	tickets map[string][]byte
}

func (c *cellar) Ticket(address string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tickets[address], nil
}

func (c *cellar) Keep(address string, ticket []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tickets == nil {
		c.tickets = map[string][]byte{}
	}
	c.tickets[address] = ticket
	return nil
}

func (c *cellar) any() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.tickets {
		if len(t) > 0 {
			return true
		}
	}
	return false
}

// forerun offers some bundles, and notes what came and when.
type forerun struct {
	offer []wire.Early
	mu    sync.Mutex
	took  []wire.Early
	at    []time.Time
}

func (f *forerun) Offer(_ context.Context, _ addr.Node, _ time.Duration, _ []bundle.Class, most int) []wire.Early {
	var out []wire.Early
	for _, e := range f.offer {
		if most -= len(e.Bundle); most >= 0 {
			out = append(out, e)
		}
	}
	return out
}

func (f *forerun) Take(_ addr.Node, _ time.Duration, frames []wire.Early) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range frames {
		f.took, f.at = append(f.took, e), append(f.at, time.Now())
	}
}

func (f *forerun) taken() ([]wire.Early, []time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.took), slices.Clone(f.at)
}

// far is two nodes in virtual time: a dials b.
type far struct {
	*mesh
	t        *testing.T
	sky      *air
	props    Properties
	secret   [32]byte             // of b's tickets
	cellar   cellar               // of a
	epochs   cellar               // of b
	counts   *prometheus.Registry // of b
	out, in  forerun              // of a, of b
	starts   uint64
	a, b     *testNode
	dialling string
	streams  func(context.Context, *Session, wire.StreamOpen, *Stream) // of b
}

func newFar(t *testing.T, light time.Duration, rate int64) *far {
	time.Sleep(time.Until(noon))
	f := &far{
		mesh: newMesh(t), t: t, sky: &air{light: light, rate: rate, conns: map[string]*airConn{}},
		props: Properties{OWLT: light, Rate: rate, Layer: LayerQUIC}, secret: [32]byte{9}, dialling: "192.0.2.2:7330",
	}
	f.out.offer = []wire.Early{{Class: bundle.Alarm, Bundle: []byte("fire")}, {Class: bundle.Telemetry, Bundle: make([]byte, 2000)}}
	return f
}

func (f *far) startB() {
	f.starts++
	f.counts = prometheus.NewRegistry()
	f.b = f.start("b", func(c *Config) {
		c.Registerer = f.counts
		c.Socket, c.Links, c.Early, c.Tickets = f.sky.conn("192.0.2.2:7330"), linksTo("a", f.props), &f.in, &f.epochs
		c.Hello.Boot, c.Streams = f.starts, f.streams
		mat := f.material(c.Node)
		c.TLSServer = pki.ListenerConfig(pki.Serving{Material: func() *pki.Material { return mat }, Resume: f.secret, Now: time.Now, Log: c.Log})
	})
}

func (f *far) startA() {
	f.starts++
	f.a = f.start("a", func(c *Config) {
		c.Socket, c.Early, c.Tickets = f.sky.conn("192.0.2.1:7330"), &f.out, &f.cellar
		c.Hello.Boot = f.starts
		c.Peers = []Peer{{Address: f.dialling, Link: f.props}}
	})
}

// restart ends both nodes, and starts them with what their disks kept.
func (f *far) restart() {
	f.a.end()
	f.b.end()
	time.Sleep(time.Minute)
	f.startB()
	f.startA()
}

// meet starts both for the first time and waits until the ticket is kept.
func (f *far) meet() {
	f.startB()
	f.startA()
	f.a.next("up")
	f.b.next("up")
	time.Sleep(4 * f.sky.light)
	if !f.cellar.any() {
		f.t.Fatal("no ticket was kept")
	}
	if took, _ := f.in.taken(); len(took) > 0 {
		f.t.Fatal("something came early to a peer that was not known")
	}
}

// TestFirstFlight: to a known peer bundles take one light time, and the link is
// up after a round trip, though both have restarted.
func TestFirstFlight(t *testing.T) {
	for _, light := range []time.Duration{time.Millisecond, 1300 * time.Millisecond, 3 * time.Second, 20 * time.Minute} {
		t.Run(fmt.Sprint(light), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFar(t, light, 50e6)
				f.meet()
				for round := 1; round <= 3; round++ {
					f.restart()
					began := time.Now()
					s := f.a.next("up").s
					if took := time.Since(began); took > 21*light/10+2*time.Millisecond {
						t.Errorf("round %d: up after %v, %.2f round trips", round, took, float64(took)/float64(2*light))
					}
					took, at := f.in.taken()
					if len(took) != 2*round || string(took[2*round-2].Bundle) != "fire" || len(took[2*round-1].Bundle) != 2000 {
						t.Fatalf("round %d: %d bundles came early: %.80v", round, len(took), took)
					}
					for _, at := range at[2*round-2:] {
						if took := at.Sub(began); took > light+light/20+time.Millisecond {
							t.Errorf("round %d: a bundle took %v, %.3f light times", round, took, float64(took)/float64(light))
						}
					}
					if up := f.b.next("up").s; up.Dialed() || time.Since(began) > 31*light/10+3*time.Millisecond {
						t.Errorf("round %d: b is up after %v", round, time.Since(began))
					}
					s.Send(wire.Ping{Stamp: uint64(round)})
					if got := <-f.b.frames; got != (wire.Ping{Stamp: uint64(round)}) {
						t.Errorf("got %v", got)
					}
					time.Sleep(4 * light) // the next ticket
					if len(f.a.events)+len(f.b.events) > 0 {
						t.Errorf("round %d: the link flapped", round)
					}
				}
			})
		})
	}
}

// TestTicketRefused: a listener that lost its secret has the dialler begin as
// with a stranger, on the same connection, and nothing came early.
func TestTicketRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, 1300*time.Millisecond, 50e6)
		f.meet()
		f.secret = [32]byte{8}
		f.restart()
		began := time.Now()
		f.a.next("up")
		if took := time.Since(began); took > 45*f.sky.light/10 {
			t.Errorf("up after %v", took)
		}
		f.b.next("up")
		if took, _ := f.in.taken(); len(took) > 0 {
			t.Errorf("%d bundles were read with the wrong key", len(took))
		}
		time.Sleep(4 * f.sky.light)
		f.restart() // and the new ticket is good
		f.a.next("up")
		if took, _ := f.in.taken(); len(took) != 2 {
			t.Errorf("%d bundles came early, want 2", len(took))
		}
	})
}

// TestTicketIsForgotten: a ticket that an attempt failed with is not tried again,
// but where nobody answered, or another session was there first.
func TestTicketIsForgotten(t *testing.T) {
	for _, c := range []struct {
		err    error
		forget bool
	}{
		{&quic.TransportError{Remote: true, ErrorCode: alertAccessDenied}, true},
		{Down{Cause: Refused, Remote: true}, true},
		{Down{Cause: Redundant, Err: errRedundant}, false},
		{&quic.IdleTimeoutError{}, false},
		{&quic.HandshakeTimeoutError{}, false},
		{context.Canceled, false},
		{&sourceError{"wwan0", syscall.ENODEV}, false},
	} {
		kept := []byte("it")
		p := &pass{state: &tls.ClientSessionState{}, keep: func(b []byte) { kept = b }}
		p.failed(c.err)
		if forgot := kept == nil && p.state == nil; forgot != c.forget {
			t.Errorf("after %v it is forgotten: %t", c.err, forgot)
		}
	}
}

// TestTicketOutlivesAnOutage: attempts that nobody answers do not cost the
// ticket, so what waits when a link comes back goes with the first flight.
func TestTicketOutlivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, 100*time.Millisecond, 50e6)
		f.meet()
		f.b.end()
		f.a.next("down")
		until(func() bool { return f.a.Peers()[0].Attempts >= 2*plainEvery })
		f.startB()
		f.a.next("up")
		if took, _ := f.in.taken(); len(took) == 0 {
			t.Error("nothing came early after the outage")
		}
	})
}

// TestTicketOfAStranger: at the address another node answers now.
func TestTicketOfAStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, 100*time.Millisecond, 50e6)
		f.meet()
		f.a.end()
		f.b.end()
		time.Sleep(time.Minute)
		c := f.start("c", func(c *Config) {
			c.Socket, c.Early, c.Tickets = f.sky.conn("192.0.2.2:7330"), &f.in, &f.epochs
		})
		f.startA()
		if s := f.a.next("up").s; s.Node() != c.cfg.Node {
			t.Errorf("up with %s", s.Node())
		}
		if took, _ := f.in.taken(); len(took) > 0 {
			t.Error("c could read what was for b")
		}
	})
}

// TestReplayedFlight plays a first flight again an hour later: while the link is
// up, and while the dialler is gone. It has no effect at all.
func TestReplayedFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, 100*time.Millisecond, 50e6)
		f.meet()
		f.sky.record("192.0.2.1:7330")
		f.restart()
		f.a.next("up")
		live := f.b.next("up").s
		flight := f.sky.recorded()
		played := 0
		play := func() {
			t.Helper()
			time.Sleep(time.Hour) // and what was played before gives up
			f.sky.play(flight, "192.0.2.9:1", "192.0.2.2:7330")
			time.Sleep(time.Minute)
			played++
			if got := counted(t, f.counts, "farhop_link_early_total", "stale"); got != float64(played) {
				t.Errorf("%v flights were heard and not taken, want %d", got, played)
			}
			if took, _ := f.in.taken(); len(took) != len(f.out.offer) {
				t.Errorf("%d bundles came early", len(took))
			}
			if len(f.b.events) > 0 {
				t.Error("a flight that was played again ended or made a session")
			}
		}
		play()
		if f.b.Session(f.a.cfg.Node) != live {
			t.Error("the session is gone")
		}
		f.a.end()
		f.b.next("down")
		play()
		f.startA() // the real one is served meanwhile
		f.a.next("up")
		f.b.next("up")
		time.Sleep(time.Hour)
		if n := f.b.pending.Load(); n != 0 {
			t.Errorf("%d connections are still pending", n)
		}
	})
}

// FuzzTicket: whatever a disk gives back is a ticket that can be used, or none.
func FuzzTicket(f *testing.F) {
	log := slog.New(slog.DiscardHandler)
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		p := newPass(b, func([]byte) { t.Error("a ticket that nobody gave is kept") }, log)
		state, ok := p.Get("")
		if ok != (state != nil) {
			t.Fatalf("Get: %v, %v", state, ok)
		}
		if ok && len(p.peer.PeerCertificates) == 0 {
			t.Fatal("a ticket of nobody")
		}
	})
}
