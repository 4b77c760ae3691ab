package link

import (
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
)

// TestLinksComeUpAtAnyDistance runs two nodes in virtual time, over packets
// that take as long as light and rate have it. A link needs two round trips:
// one for the handshake and one for the Hellos.
func TestLinksComeUpAtAnyDistance(t *testing.T) {
	const ms = time.Millisecond
	for _, tc := range []struct {
		name  string
		props Properties
		light time.Duration
		rate  int64 // bit/s, 0: no limit
		most  time.Duration
	}{
		{"lan", Properties{}, 100 * time.Microsecond, 0, ms},
		{"moon", Properties{OWLT: 1300 * ms}, 1300 * ms, 50e6, 5300 * ms},
		{"moon by name", Properties{Profile: ProfileMoon}, 1300 * ms, 50e6, 5300 * ms},
		{"moon, nothing said", Properties{}, 1300 * ms, 50e6, 5300 * ms},
		{"6 s", Properties{OWLT: 3 * time.Second}, 3 * time.Second, 50e6, 12100 * ms},
		{"6 s, nothing said", Properties{}, 3 * time.Second, 50e6, 25 * time.Second}, // the first attempt is too short
		{"1 min, nothing said", Properties{}, 30 * time.Second, 1e6, 5 * time.Minute},
		{"2 x 20 min", Properties{OWLT: 20 * time.Minute}, 20 * time.Minute, 1e6, 81 * time.Minute},
		{"narrow", Properties{OWLT: 300 * ms, Rate: 9600}, 300 * ms, 9600, 30 * time.Second},
		{"narrow by name", Properties{Profile: ProfileNarrow}, 300 * ms, 9600, 30 * time.Second},
		{"narrow, nothing said", Properties{}, 300 * ms, 9600, 2 * time.Minute},
		{"2400 bit/s", Properties{OWLT: 300 * ms, Rate: 2400}, 300 * ms, 2400, 3 * time.Minute},
		{"600 bit/s", Properties{OWLT: 300 * ms, Rate: 600}, 300 * ms, 600, 15 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(noon)) // no authority begins in a year that only a broken clock has
				sky := &air{light: tc.light, rate: tc.rate, conns: map[string]*airConn{}}
				m := newMesh(t)
				b := m.start("b", func(c *Config) { c.Socket, c.Links = sky.conn("192.0.2.2:7330"), linksTo("a", tc.props) })
				began := time.Now()
				a := m.start("a", func(c *Config) {
					c.Socket = sky.conn("192.0.2.1:7330")
					c.Peers = []Peer{{Address: b.addr, Node: addr.MustNode("b"), Link: tc.props}}
				})
				s := a.next("up").s
				if took := time.Since(began); took > tc.most {
					t.Errorf("up after %v, want %v at most", took, tc.most)
				}
				s.Send(wire.Ping{Stamp: 7})
				if f := <-b.frames; f != (wire.Ping{Stamp: 7}) {
					t.Errorf("got %v", f)
				}
				time.Sleep(20 * tc.light)
				if len(a.events) > 0 {
					t.Errorf("the link flapped: %d more events", len(a.events))
				}
			})
		})
	}
}

// air carries packets between the sockets of a test, each way with its own
// rate and without loss.
type air struct {
	light time.Duration
	rate  int64
	mu    sync.Mutex
	conns map[string]*airConn
	tape  map[string][][]byte // of sockets that are recorded, all they sent
}

// record keeps what a socket sends from now on.
func (a *air) record(at string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tape = map[string][][]byte{at: nil}
}

// recorded ends a record and returns it.
func (a *air) recorded() (out [][]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.tape {
		out = t
	}
	a.tape = nil
	return out
}

// play sends packets from an address that nobody answers at.
func (a *air) play(packets [][]byte, from, to string) {
	c := a.conn(from)
	udp, _ := net.ResolveUDPAddr("udp", to)
	for _, p := range packets {
		_, _ = c.WriteTo(p, udp)
	}
}

func (a *air) conn(at string) *airConn {
	udp, _ := net.ResolveUDPAddr("udp", at)
	c := &airConn{air: a, at: udp, in: make(chan airPacket, 1<<16), wake: make(chan struct{})}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns[at] = c
	return c
}

type airPacket struct {
	data []byte
	from net.Addr
}

// airConn is one socket.
type airConn struct {
	air *air
	at  *net.UDPAddr
	in  chan airPacket

	mu       sync.Mutex
	busy     time.Time     // the way out is, until then
	deadline time.Time     // for reading
	wake     chan struct{} // closed when deadline changes
	closed   bool
}

func (c *airConn) LocalAddr() net.Addr              { return c.at }
func (c *airConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *airConn) SetWriteDeadline(time.Time) error { return nil }

func (c *airConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	close(c.wake)
	c.wake = make(chan struct{})
	return nil
}

func (c *airConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	return c.SetReadDeadline(time.Unix(1, 0))
}

func (c *airConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.air.mu.Lock()
	far := c.air.conns[to.String()]
	if tape, ok := c.air.tape[c.at.String()]; ok {
		c.air.tape[c.at.String()] = append(tape, append([]byte(nil), b...))
	}
	c.air.mu.Unlock()
	if far == nil {
		return len(b), nil
	}
	c.mu.Lock()
	now := time.Now()
	if c.busy.Before(now) {
		c.busy = now
	}
	if c.air.rate > 0 {
		c.busy = c.busy.Add(time.Duration(len(b)+28) * 8 * time.Second / time.Duration(c.air.rate))
	}
	at := c.busy.Add(c.air.light)
	c.mu.Unlock()
	p := airPacket{append([]byte(nil), b...), c.at}
	time.AfterFunc(time.Until(at), func() { far.in <- p })
	return len(b), nil
}

func (c *airConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		c.mu.Lock()
		closed, deadline, wake := c.closed, c.deadline, c.wake
		c.mu.Unlock()
		var timeout <-chan time.Time
		switch {
		case closed:
			return 0, nil, net.ErrClosed
		case deadline.IsZero():
		case !time.Now().Before(deadline):
			return 0, nil, os.ErrDeadlineExceeded
		default:
			timeout = time.After(time.Until(deadline))
		}
		select {
		case p := <-c.in:
			return copy(b, p.data), p.from, nil
		case <-wake:
		case <-timeout:
		}
	}
}
