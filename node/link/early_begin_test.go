package link

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
)

// hasty is a member that says Begin before it knows whether anybody is there.
type hasty struct {
	f    *far
	node addr.Node
	tr   *quic.Transport
	to   net.Addr
	tls  *tls.Config // with the ticket of its last connection
}

func newHasty(f *far, name string) *hasty {
	to, err := net.ResolveUDPAddr("udp", "192.0.2.2:7330")
	if err != nil {
		f.t.Fatal(err)
	}
	h := &hasty{f: f, node: addr.MustNode(name), to: to}
	h.tr = &quic.Transport{Conn: f.sky.conn("192.0.2.1:7330")}
	f.t.Cleanup(func() { _ = h.tr.Close(); _ = h.tr.Conn.Close() })
	h.tls = pki.ClientConfig(f.material(h.node), time.Now, addr.Node{})
	h.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	return h
}

// dial says Hello and what follows it, and returns the epoch it is answered
// with. early has all of that go with the first flight.
func (h *hasty) dial(epoch uint64, early bool, then ...wire.Frame) (conn *quic.Conn, answer uint64) {
	t := h.f.t
	t.Helper()
	// Kept alive, so that b forgets the handshake's ids and a flight played again
	// is a new connection.
	conn, err := h.tr.DialEarly(t.Context(), h.to, h.tls, h.f.props.dialConfig(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if !early {
		<-conn.HandshakeComplete()
	}
	st, err := conn.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	out := wire.Append(nil, wire.Hello{Version: wire.Version, Node: h.node, Region: earth, Boot: 1, MaxFrame: wire.MaxFrame, Early: early, Epoch: epoch})
	for _, f := range then {
		out = wire.Append(out, f)
	}
	if _, err := st.Write(out); err != nil {
		t.Fatal(err)
	}
	hello, err := readHello(newReader(st))
	if err != nil {
		t.Fatal(err)
	}
	<-conn.HandshakeComplete()
	if used := conn.ConnectionState().Used0RTT; used != early {
		t.Fatalf("data went with the first flight: %t, want %t", used, early)
	}
	return conn, hello.Epoch
}

// TestBeginInTheFirstFlight: a peer may say Begin before the handshake is done,
// and then all that it takes to make a session can be recorded. A session comes
// of the true flight alone, and when its handshake is done; played again it makes
// none and ends none, whichever end decides for the pair.
func TestBeginInTheFirstFlight(t *testing.T) {
	for name, who := range map[string]string{"a": "the dialler decides", "c": "the listener decides"} {
		t.Run(who, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFar(t, 100*time.Millisecond, 50e6)
				f.startB()
				h := newHasty(f, name)
				conn, epoch := h.dial(0, false)
				f.b.next("up")
				time.Sleep(4 * f.sky.light) // the ticket
				_ = conn.CloseWithError(0, "")
				f.b.next("down")

				f.sky.record("192.0.2.1:7330")
				began := time.Now()
				_, next := h.dial(epoch, true, f.out.offer[0], wire.Begin{})
				live := f.b.next("up").s
				if took := live.Since().Sub(began); took < 3*f.sky.light {
					t.Errorf("a session came up %v after a flight of %v, before its handshake was done", took, f.sky.light)
				}
				if next == epoch || next == 0 {
					t.Errorf("epoch %d came after %d", next, epoch)
				}
				time.Sleep(time.Hour)
				flight := f.sky.recorded()
				play := func(when string) {
					t.Helper()
					heard := counted(t, f.counts, "farhop_link_early_total", "received")
					f.sky.play(flight, "192.0.2.9:1", "192.0.2.2:7330")
					time.Sleep(time.Hour)
					if got := counted(t, f.counts, "farhop_link_early_total", "received"); got != heard+1 {
						t.Fatalf("%s: %v flights were heard, want 1", when, got-heard)
					}
					if len(f.b.events) > 0 {
						t.Fatalf("%s: link %s by a flight that was played again", when, (<-f.b.events).what)
					}
				}
				play("while the session stands")
				if f.b.Session(h.node) != live {
					t.Error("the session is another one")
				}
				live.Close("over")
				f.b.next("down")
				play("when it is over")
				if took, _ := f.in.taken(); len(took) != 1 {
					t.Errorf("%d bundles came early, want 1", len(took))
				}
				if n := f.b.pending.Load(); n != 0 {
					t.Errorf("%d connections are still pending", n)
				}
			})
		})
	}
}
