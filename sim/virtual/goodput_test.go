package virtual_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/virtual"
	"github.com/farhop/farhop/storeforward/bundle"
)

// full makes the tests of this package as long as the figures in
// docs/benchmarks.md want it.
var full = flag.Bool("full", false, "play the runs of make bench-link and make soak in full")

const (
	moon  = 1280 * time.Millisecond
	rate  = 50_000_000
	frame = 64 << 10 // bytes of one transfer
)

// run is how long a number of bytes took, from the first sent to the last
// delivered.
type run struct {
	bytes int
	took  time.Duration
	light time.Duration
}

func (r run) mbit() float64 { return float64(r.bytes) * 8 / r.took.Seconds() / 1e6 }

// share is what part of the link was used while bytes could arrive.
func (r run) share() float64 {
	return float64(r.bytes) * 8 / rate / (r.took - r.light).Seconds()
}

// TestRatioToStockQUIC moves bytes over a link to the Moon with 1 % loss, with
// stock quic-go and with two nodes, each alone on the same virtual path.
func TestRatioToStockQUIC(t *testing.T) {
	stockBytes, ourBytes, seeds, least := 4<<20, 16<<20, 1, 100.0 // short: quic-go gains from its slow start
	if *full {
		stockBytes, ourBytes, seeds, least = 64<<20, 64<<20, 5, 500
	}
	for seed := range uint64(seeds) {
		c := virtual.Config{Seed: seed + 1, Way: virtual.Way{Delay: moon, Rate: rate, Loss: 0.01}}
		var stock, ours run
		synctest.Test(t, func(t *testing.T) { stock = moveStock(t, c, stockBytes) })
		synctest.Test(t, func(t *testing.T) { ours = moveLink(t, c, ourBytes) })
		ratio := ours.mbit() / stock.mbit()
		t.Logf("seed %d: stock quic-go %d MiB in %.0f s, %.4f Mbit/s, %.5f of the link; farhop %d MiB in %.2f s, %.2f Mbit/s, %.4f of the link; ratio %.0f",
			c.Seed, stock.bytes>>20, stock.took.Seconds(), stock.mbit(), stock.share(), ours.bytes>>20, ours.took.Seconds(), ours.mbit(), ours.share(), ratio)
		if ratio < least {
			t.Errorf("seed %d: %.0f times the goodput of stock quic-go, want %.0f", c.Seed, ratio, least)
		}
		if ours.share() < 0.9 {
			t.Errorf("seed %d: %.4f of the link, want 0.9", c.Seed, ours.share())
		}
	}
}

// moveStock is one stream of stock quic-go between two endpoints. Windows and
// timeouts are as large as it takes for a link that long; congestion control is
// what there is.
func moveStock(t *testing.T, c virtual.Config, n int) (r run) {
	m := newMesh(t, c)
	conf := &quic.Config{
		InitialStreamReceiveWindow: 128 << 20, MaxStreamReceiveWindow: 128 << 20,
		InitialConnectionReceiveWindow: 128 << 20, MaxConnectionReceiveWindow: 128 << 20,
		HandshakeIdleTimeout: 5 * time.Minute, MaxIdleTimeout: time.Hour,
	}
	server, _ := m.tls("b")
	_, client := m.tls("a")
	tb, ta := &quic.Transport{Conn: m.listen(2)}, &quic.Transport{Conn: m.listen(1)}
	defer tb.Close()
	defer ta.Close()
	ln, err := tb.Listen(server, conf)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	type end struct {
		at  time.Time
		sum []byte
		err error
	}
	arrived := make(chan end, 1)
	go func() {
		conn, err := ln.Accept(t.Context())
		if err != nil {
			arrived <- end{err: err}
			return
		}
		st, err := conn.AcceptStream(t.Context())
		sum := sha256.New()
		if err == nil {
			_, err = io.CopyN(sum, st, int64(n))
		}
		arrived <- end{time.Now(), sum.Sum(nil), err}
	}()
	conn, err := ta.Dial(t.Context(), net.UDPAddrFromAddrPort(home(2)), client(addr.MustNode("b")), conf)
	if err != nil {
		t.Fatal(err)
	}
	st, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	began, sum := time.Now(), sha256.New()
	if _, err := io.CopyN(io.MultiWriter(st, sum), noise(), int64(n)); err != nil {
		t.Fatal(err)
	}
	e := <-arrived
	if e.err != nil || !bytes.Equal(e.sum, sum.Sum(nil)) {
		t.Errorf("arrived: %v, the same bytes: %v", e.err, bytes.Equal(e.sum, sum.Sum(nil)))
	}
	_ = conn.CloseWithError(0, "")
	return run{n, e.at.Sub(began), c.Way.Delay}
}

func noise() io.Reader { return rand.NewChaCha8([32]byte{5}) }

// taker is a Sink that hears n bytes of transfers. Frames belongs to its session.
type taker struct {
	ups   chan *link.Session
	downs chan link.Down
	left  int
	sum   hash.Hash
	done  chan time.Time
}

func newTaker(n int) *taker {
	return &taker{ups: make(chan *link.Session, 64), downs: make(chan link.Down, 64), left: n, sum: sha256.New(), done: make(chan time.Time, 1)}
}

// LinkUp implements link.Sink.
func (k *taker) LinkUp(s *link.Session) { k.ups <- s }

// LinkDown implements link.Sink.
func (k *taker) LinkDown(_ *link.Session, why link.Down) { k.downs <- why }

// Frames implements link.Sink.
func (k *taker) Frames(_ *link.Session, frames []wire.Frame) {
	for _, f := range frames {
		if b, ok := f.(wire.Transfer); ok {
			k.sum.Write(b.Bundle)
			if k.left -= len(b.Bundle); k.left == 0 {
				k.done <- time.Now()
			}
		}
	}
}

// moveLink is a session of two link managers that know the link.
func moveLink(t *testing.T, c virtual.Config, n int) (r run) {
	m := newMesh(t, c)
	props := link.Properties{OWLT: c.Way.Delay, Rate: c.Way.Rate, Loss: c.Way.Loss}
	far, near := newTaker(n), newTaker(0)
	cb := m.config(2, "b", 1, far)
	cb.Links = map[addr.Node]link.Properties{addr.MustNode("a"): props}
	_, stop := m.run(cb)
	defer stop()
	ca := m.config(1, "a", 1, near)
	ca.Peers = []link.Peer{{Address: home(2).String(), Link: props}}
	_, stop = m.run(ca)
	defer stop()
	s := <-near.ups
	if s.Layer() != link.LayerSalvo {
		t.Errorf("layer %s", s.Layer())
	}
	began, sum, src := time.Now(), sha256.New(), noise()
	for xid, left := uint64(1), n; left > 0; xid++ {
		for s.Stats().Queued > 8<<20 {
			time.Sleep(time.Millisecond)
		}
		b := make([]byte, min(left, frame))
		_, _ = io.ReadFull(src, b) // never fails
		sum.Write(b)
		if !s.Send(wire.Transfer{Class: bundle.Bulk, XID: xid, Bundle: b}) {
			t.Fatal("the session ended")
		}
		left -= len(b)
	}
	at := <-far.done
	if !bytes.Equal(far.sum.Sum(nil), sum.Sum(nil)) {
		t.Error("what arrived differs from what was sent")
	}
	return run{n, at.Sub(began), c.Way.Delay}
}
