package link

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/storeforward/bundle"
)

// meddler sits between two nodes and forwards what they send, with packets of
// its own between them: copies that are changed, cut, old, or sent back, and
// packets that are nobody's. Some of the true ones come late.
type meddler struct {
	in, out *net.UDPConn // towards who dials, and towards whom it dials
	client  atomic.Pointer[net.UDPAddr]
	added   atomic.Int64
}

// meddle starts one; it ends with the test.
func meddle(t *testing.T, to string) (*meddler, string) {
	t.Helper()
	far, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	m := &meddler{}
	if m.in, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	if m.out, err = net.DialUDP("udp", nil, far); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*net.UDPConn{m.in, m.out} {
		_ = c.SetReadBuffer(4 << 20)
	}
	ahead := func(b []byte) { _, _ = m.out.Write(b) }
	back := func(b []byte) {
		if to := m.client.Load(); to != nil {
			_, _ = m.in.WriteToUDP(b, to)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { m.carry(m.in, 1, ahead, back) })
	wg.Go(func() { m.carry(m.out, 2, back, ahead) })
	t.Cleanup(func() { _ = m.in.Close(); _ = m.out.Close(); wg.Wait() })
	return m, m.in.LocalAddr().String()
}

// carry forwards one direction until its socket closes.
func (m *meddler) carry(from *net.UDPConn, seed uint64, on, back func([]byte)) {
	const kept = 256
	r := rand.New(rand.NewPCG(seed, 3))
	var old, late [][]byte
	buf := make([]byte, 1<<16)
	for n := 0; ; n++ {
		size, at, err := from.ReadFromUDP(buf)
		if err != nil {
			return
		}
		if from == m.in {
			m.client.Store(at)
		}
		b := bytes.Clone(buf[:size])
		if old = append(old, b); len(old) > kept {
			old = old[1:]
		}
		if late = append(late, b); r.IntN(20) > 0 || len(late) > 8 {
			for _, i := range r.Perm(len(late)) {
				on(late[i])
			}
			late = late[:0]
		}
		if n%2 == 0 {
			m.add(r, old, on, back)
		}
	}
}

// add sends one packet that no node sent now.
func (m *meddler) add(r *rand.Rand, old [][]byte, on, back func([]byte)) {
	b := bytes.Clone(old[r.IntN(len(old))])
	m.added.Add(1)
	switch r.IntN(6) {
	case 0: // once more
		on(b)
	case 1: // changed in one bit, anywhere
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		on(b)
	case 2: // cut
		on(b[:r.IntN(len(b))])
	case 3: // with another end
		on(append(b[:len(b)/2], make([]byte, len(b)/2)...))
	case 4: // to who sent it
		back(b)
	default: // the head of a true one, and nothing that fits
		for i := min(len(b), 9); i < len(b); i++ {
			b[i] = byte(r.Uint32())
		}
		on(b)
	}
}

// TestMeddler: with somebody on the way who forges, cuts, replays, sends back
// and reorders, everything arrives once and in the order of its class, in the
// same session. What was added is dropped, and counted.
func TestMeddler(t *testing.T) {
	for _, layer := range []Layer{LayerQUIC, LayerSalvo} {
		t.Run(string(layer), func(t *testing.T) {
			m := newMesh(t)
			props := Properties{OWLT: 5 * time.Millisecond, Rate: 50e6, Layer: layer}
			counts := [2]*prometheus.Registry{prometheus.NewRegistry(), prometheus.NewRegistry()}
			b := m.start("b", func(c *Config) { c.Links, c.Registerer = linksTo("a", props), counts[0] })
			mid, at := meddle(t, b.addr)
			a := m.start("a", func(c *Config) {
				c.Peers, c.Registerer = []Peer{{Address: at, Link: props}}, counts[1]
			})
			ends := [2]*Session{a.next("up").s, b.next("up").s}
			const rounds, each = 5, 100
			classes := []bundle.Class{bundle.Alarm, bundle.Telemetry, bundle.Bulk}
			size := func(xid uint64) int { return int(xid*xid*7) % 20000 }
			for round := range uint64(rounds) {
				for xid := round*each + 1; xid <= (round+1)*each; xid++ {
					for _, c := range classes {
						for _, s := range ends {
							s.Send(wire.Transfer{Class: c, XID: xid, Bundle: filled(xid, size(xid))})
						}
					}
				}
				for _, far := range []*testNode{a, b} {
					next := map[bundle.Class]uint64{}
					for range each * len(classes) {
						f, ok := (<-far.frames).(wire.Transfer)
						next[f.Class]++
						if want := round*each + next[f.Class]; !ok || f.XID != want || string(f.Bundle) != string(filled(f.XID, size(f.XID))) {
							t.Fatalf("round %d, class %s: got %T %d of %d bytes, want %d", round, f.Class, f, f.XID, len(f.Bundle), want)
						}
					}
				}
			}
			if len(a.frames)+len(b.frames) > 0 {
				t.Errorf("%d frames more than were sent", len(a.frames)+len(b.frames))
			}
			if a.Session(b.cfg.Node) != ends[0] || b.Session(a.cfg.Node) != ends[1] {
				t.Error("the link flapped")
			}
			reasons := []string{"farhop_link_strays_total/quic"}
			if layer == LayerSalvo {
				reasons = append(reasons, "farhop_link_salvo_drops_total/forged", "farhop_link_salvo_drops_total/replayed", "farhop_link_strays_total/foreign", "farhop_link_strays_total/unknown")
			}
			for _, r := range reasons {
				name, label, _ := bytes.Cut([]byte(r), []byte("/"))
				if n := counted(t, counts[0], string(name), string(label)) + counted(t, counts[1], string(name), string(label)); n == 0 {
					t.Errorf("%s of %s: nothing was counted of %d packets that were added", name, label, mid.added.Load())
				} else {
					t.Logf("%s of %s: %v", name, label, n)
				}
			}
			t.Logf("%d packets were added", mid.added.Load())
		})
	}
}

// tampering forwards one connection over TCP after the other. Of the first it
// changes a byte, when told to.
func tampering(t *testing.T, to string) (at string, tamper func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var change atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for near, err := ln.Accept(); err == nil; near, err = ln.Accept() {
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			wg.Go(func() { _, _ = io.Copy(near, far); _ = near.Close() })
			wg.Go(func() {
				defer far.Close()
				for buf := make([]byte, 4096); ; {
					n, err := near.Read(buf)
					if n > 0 && change.CompareAndSwap(true, false) {
						buf[n-1] ^= 1
					}
					if _, werr := far.Write(buf[:n]); err != nil || werr != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String(), func() { change.Store(true) }
}

// TestTamperedTCP: a changed byte ends the session over TCP, for nothing behind
// it can be believed. Nothing of it is delivered, the log says why, and the next
// session is up.
func TestTamperedTCP(t *testing.T) {
	m := newMesh(t)
	log := &pages{}
	b := m.start("b", func(c *Config) { c.Log = log.logger() })
	at, tamper := tampering(t, b.addr)
	a := m.start("a", dialsTLS(at))
	s := a.next("up").s
	b.next("up")
	others(t, s, b)
	tamper()
	s.Send(wire.Transfer{Class: bundle.Alarm, XID: 1, Bundle: filled(1, 100)})
	b.next("down")
	a.next("down")
	log.await(t, "link down", "bad record MAC")
	s = a.next("up").s
	b.next("up")
	if n := len(b.frames); n > 0 {
		t.Errorf("%d frames of the changed bytes were delivered", n)
	}
	others(t, s, b)
}
