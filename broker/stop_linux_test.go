package broker

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A client that still sends when its connection is ended reads all that was
// written to it and then the end, not a reset: what it sent meanwhile is read,
// since closing a socket with unread input resets it. There are clients that
// lose a message when the PUBCOMP for it cannot be written: libmosquitto 2.0
// takes it for delivered then (handle__pubrel), and to us, too, it is.
func TestEndedWhileSending(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c := w.connect("c", 5, nil)
	wait := make(chan struct{})
	w.node.mu.Lock()
	w.node.subscribe = wait
	w.node.mu.Unlock()
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 9, Filters: packets.Subscriptions{{Filter: "a"}},
	})
	ours := w.connOf("c")
	eventually(t, "SUBSCRIBE under way", func() bool { return ours.holds.Load() > 0 })
	ours.disconnect(codeShuttingDown, cause(codeShuttingDown))
	c.send(publish("a", "x", 0, 0))
	w.turn(ours) // the loop was told of it
	close(wait)
	if last := c.next(packets.Disconnect); last.ReasonCode != codeShuttingDown {
		t.Errorf("got DISCONNECT %#x, want %#x", last.ReasonCode, codeShuttingDown)
	}
	if _, err := c.read(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection ended with %v, want EOF", err)
	}
}

// A connection that is ended before its loop has looked at it ends nevertheless:
// a broker that stops waits for all it has accepted.
func TestEndedBeforeServed(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	l, err := newPoller(w.b) // the test takes its turns
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	m := new(memory)
	if !w.b.serveSocket(l, func(p *polled) socket { m.p = p; return (*memorySocket)(m) }) {
		t.Fatal("not accepted")
	}
	m.p.c.disconnect(codeShuttingDown, cause(codeShuttingDown))
	l.doWork()
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	if len(w.b.all) > 0 || m.p.phase != phaseClosed {
		t.Errorf("%d connections stay, phase %d, want it closed", len(w.b.all), m.p.phase)
		delete(w.b.all, m.p.c)
	}
}

// A client far away has time to read our last packet and to answer our end.
func TestLingerFor(t *testing.T) {
	for _, c := range []struct{ rtt, rto, want time.Duration }{
		{0, 0, lingerTimeout},
		{time.Millisecond, 200 * time.Millisecond, lingerTimeout},
		{2600 * time.Millisecond, 3 * time.Second, 8200 * time.Millisecond},
		{time.Minute, 2 * time.Minute, maxLinger},
	} {
		if got := lingerFor(c.rtt, c.rto); got != c.want {
			t.Errorf("round trip %s: %s, want %s", c.rtt, got, c.want)
		}
	}
}

// The kernel knows the path of a TCP connection, and of no other.
func TestPathOf(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.connect("c", 5, nil)
	ours := w.connOf("c")
	p, ok := ours.driver.(*polled)
	if !ok {
		t.Fatalf("a TCP connection is served by a %T", ours.driver)
	}
	if rtt, rto := pathOf(p.sock); rtt <= 0 || rto < rtt {
		t.Errorf("round trip %s, retransmission after %s", rtt, rto)
	}
	if rtt, rto := pathOf((*memorySocket)(nil)); rtt != 0 || rto != 0 {
		t.Errorf("a pipe of this process has a path of %s", rtt+rto)
	}
}

// connOf returns the broker's end of a client.
func (w *world) connOf(id string) *conn {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	return w.b.sessions[id]
}

// turn returns when the loop of c has handled what the kernel has for it: a
// client of the same loop had an answer.
func (w *world) turn(c *conn) {
	w.t.Helper()
	p, ok := c.driver.(*polled)
	if !ok {
		return
	}
	for i := range 1000 {
		id := fmt.Sprint("other-", i)
		other := w.connect(id, 5, nil)
		if o, ok := w.connOf(id).driver.(*polled); ok && o.l == p.l {
			other.quiet()
			return
		}
	}
	w.t.Fatal("no client comes to the same loop")
}
