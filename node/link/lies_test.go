package link

import (
	"context"
	"io"
	"math"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/salvo"
	"github.com/farhop/farhop/node/salvo/packet"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// liar is a member that says of salvo what it likes. Its packets come from the
// socket of its connection, as those of a node do.
type liar struct {
	conn  *quic.Conn
	ctrl  *quic.Stream
	tr    *quic.Transport
	to    *net.UDPAddr
	heard chan []byte // packets that are not QUIC's
}

func newLiar(t *testing.T, m *mesh, to string, says wire.Salvo) *liar {
	t.Helper()
	sock, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{tr: &quic.Transport{Conn: sock}, heard: make(chan []byte, 1<<16)}
	if l.to, err = net.ResolveUDPAddr("udp", to); err != nil {
		t.Fatal(err)
	}
	node := addr.MustNode("z")
	if l.conn, err = l.tr.Dial(t.Context(), l.to, pki.ClientConfig(m.material(node), time.Now, addr.Node{}), nil); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 2048); ; {
			n, _, err := l.tr.ReadNonQUICPacket(t.Context(), buf)
			if err != nil {
				return
			}
			select {
			case l.heard <- append([]byte(nil), buf[:n]...):
			default:
			}
		}
	}()
	t.Cleanup(func() {
		_ = l.conn.CloseWithError(0, "")
		_ = l.tr.Close()
		_ = sock.Close()
		<-done
	})
	if l.ctrl, err = l.conn.OpenStreamSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := wire.Hello{Version: wire.Version, Node: node, Region: earth, Boot: 1, MaxFrame: wire.MaxFrame, Salvo: says}
	if _, err := l.ctrl.Write(wire.Append(nil, h)); err != nil {
		t.Fatal(err)
	}
	return l
}

// keys are those of salvo, as the liar's end derives them.
func (l *liar) keys(t *testing.T) salvo.Keys {
	t.Helper()
	state := l.conn.ConnectionState().TLS
	secret, err := state.ExportKeyingMaterial(exporterLabel, nil, packet.SecretLen+4)
	if err != nil {
		t.Fatal(err)
	}
	s := secret[packet.SecretLen:]
	return salvo.Keys{
		Secret: secret[:packet.SecretLen], Direction: packet.Forward,
		Association: uint32(s[0])<<24 | uint32(s[1])<<16 | uint32(s[2])<<8 | uint32(s[3]),
	}
}

// TestSalvoOffers: what a peer says of its way is judged. With sense in it the
// session comes up; without, it is refused, and the log says what was wrong.
func TestSalvoOffers(t *testing.T) {
	good := wire.Salvo{Version: wire.SalvoVersion, Rate: 1e6, ReturnRate: 1e6, OWLT: time.Millisecond, Loss: 0.01, Burst: 1, MTU: 1280}
	for _, tc := range []struct {
		name  string
		lie   func(s *wire.Salvo)
		log   []string // nil: it is taken
		layer bool     // salvo is used
	}{
		{"honest", func(*wire.Salvo) {}, nil, true},
		{"no rate", func(s *wire.Salvo) { s.Rate = 0 }, nil, false},
		{"endless rates", func(s *wire.Salvo) { s.Rate, s.ReturnRate, s.OWLT = math.MaxInt64, math.MaxInt64, time.Microsecond }, nil, true},
		{"one bit a second", func(s *wire.Salvo) { s.Rate, s.ReturnRate = 1, 1 }, nil, true},
		{"a day away", func(s *wire.Salvo) { s.OWLT = 24 * time.Hour }, nil, true},
		{"all is lost", func(s *wire.Salvo) { s.Loss = 1 }, []string{"link down", "loss 1: from 0 to"}, false},
		{"endless bursts", func(s *wire.Salvo) { s.Burst = 1000.001 }, nil, true}, // as far as the wire has it
		{"tiny packets", func(s *wire.Salvo) { s.MTU = 20 }, []string{"link down", "MTU 20"}, false},
		{"huge packets", func(s *wire.Salvo) { s.MTU = math.MaxUint16 }, []string{"link down", "MTU 65535"}, false},
		{"other version", func(s *wire.Salvo) { s.Version = 2 }, []string{"salvo is not used", "version=2", "want=1"}, false},
		{"last version", func(s *wire.Salvo) { s.Version = 255 }, []string{"salvo is not used", "version=255"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMesh(t)
			log := &pages{}
			a := m.start("a", func(c *Config) { c.Log = log.logger() })
			keep := m.start("b", dials(a.addr))
			a.next("up")
			s := keep.next("up").s
			says := good
			tc.lie(&says)
			newLiar(t, m, a.addr, says)
			z := a.next("up").s
			if used := z.salvo != nil; used != tc.layer {
				t.Errorf("salvo is used: %t", used)
			}
			if tc.log != nil {
				log.await(t, tc.log...)
			}
			others(t, s, a)
		})
	}
}

// TestUnknownSalvoCarriesOn: two nodes whose versions of salvo differ use
// streams, and everything arrives.
func TestUnknownSalvoCarriesOn(t *testing.T) {
	m := newMesh(t)
	a := m.start("a", nil)
	l := newLiar(t, m, a.addr, wire.Salvo{Version: 2, Rate: 1e6, MTU: 1280, Burst: 1})
	a.next("up")
	st, err := l.conn.OpenUniStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := wire.Transfer{Class: bundle.Alarm, XID: 1, Bundle: []byte("as ever")}
	if _, err := st.Write(wire.Append(nil, want)); err != nil {
		t.Fatal(err)
	}
	if f, ok := (<-a.frames).(wire.Transfer); !ok || string(f.Bundle) != "as ever" {
		t.Errorf("got %T", f)
	}
}

// TestReportsOfALiar: a peer that says that its way carries endless rates and
// takes no time gets reports as often as a way of which nothing is known may
// carry, and not as often as this machine can write them.
func TestReportsOfALiar(t *testing.T) {
	m := newMesh(t)
	reg := prometheus.NewRegistry()
	a := m.start("a", func(c *Config) { c.Registerer = reg })
	good := m.start("b", dials(a.addr))
	s := a.next("up").s
	good.next("up")
	says := wire.Salvo{Version: wire.SalvoVersion, Rate: math.MaxInt64, ReturnRate: math.MaxInt64, OWLT: time.Microsecond, Burst: 1, MTU: 1280}
	l := newLiar(t, m, a.addr, says)
	z := a.next("up").s
	keys, err := packetKeys(l.keys(t))
	if err != nil {
		t.Fatal(err)
	}
	seal, err := packet.NewSealer(keys)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range uint64(1000) { // each asks for a report, and none is ever confirmed
		b := append(make([]byte, packet.HeaderLen), packet.AppendEnd(nil, packet.End{Class: 3, Next: i + 1})...)
		if b, err = seal.Seal(b); err != nil {
			t.Fatal(err)
		}
		if _, err := l.tr.WriteTo(b, l.to); err != nil {
			t.Fatal(err)
		}
	}
	for time.Since(began) < time.Second {
		others(t, s, good)
	}
	st, _ := z.Salvo()
	took := time.Since(began)
	// As many as the way back may carry, and not as this machine can write.
	const share, least = unknownRate / 8 / 16, 64 // bytes a second; of a report with its headers
	if most := int64(took.Seconds()*share/least) + 1000; st.In.Reports > most {
		t.Errorf("%d reports in %v, at most %d are allowed", st.In.Reports, took, most)
	}
	t.Logf("%d packets, %d reports of %d bytes in %v", st.In.Packets, st.In.Reports, st.In.ReportBytes, took)
	if len(a.events) > 0 {
		t.Error("a session came or went")
	}
}

func packetKeys(k salvo.Keys) (packet.Keys, error) {
	return packet.Derive(k.Secret, k.Association, k.Incarnation, k.Direction, packet.Data)
}

// TestStreamThatSaysNothing: a stream is reset that does not say what it is for,
// and the session goes on.
func TestStreamThatSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, 100*time.Millisecond, 50e6)
		served := make(chan wire.StreamOpen, 1)
		f.streams = func(_ context.Context, _ *Session, open wire.StreamOpen, st *Stream) {
			served <- open
			time.Sleep(time.Hour) // longer than one may take to say what it is for
			if b, err := io.ReadAll(st); string(b) != "late" || err != nil {
				t.Errorf("read %q, %v", b, err)
			}
			_ = st.CloseWrite()
		}
		f.meet()
		s := f.a.Session(f.b.cfg.Node)
		mute, err := s.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mute.Write([]byte{200}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := mute.Read(make([]byte, 1)); err == nil || time.Since(began) > f.props.helloWait(0)+time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		slow, err := s.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := slow.Write(wire.Append(nil, wire.StreamOpen{Service: "db", Dest: f.b.cfg.Node, Source: f.a.cfg.Node, Hops: 1})); err != nil {
			t.Fatal(err)
		}
		<-served
		if _, err := slow.Write([]byte("late")); err != nil {
			t.Fatal(err)
		}
		_ = slow.CloseWrite()
		if _, err := io.ReadAll(slow); err != nil {
			t.Error(err)
		}
		if f.a.Session(f.b.cfg.Node) != s {
			t.Error("the session is another one")
		}
	})
}

// TestOddLanes: streams beyond one for each lane take small frames alone.
func TestOddLanes(t *testing.T) {
	m := newMesh(t)
	a := m.start("a", nil)
	conn, _ := impostor(t, m, "z", a.addr)
	a.next("up")
	frame := func(size int) []byte {
		return wire.Append(nil, wire.Transfer{Class: bundle.Bulk, XID: 1, Bundle: make([]byte, size)})
	}
	for n := 1; n <= numLanes; n++ {
		st, err := conn.OpenUniStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		size := 1000
		if n < numLanes {
			size = 2 * maxOddFrame
		}
		if _, err := st.Write(frame(size)); err != nil {
			t.Fatal(err)
		}
		if f, ok := (<-a.frames).(wire.Transfer); !ok || len(f.Bundle) != size {
			t.Fatalf("stream %d: got %T", n, f)
		}
		if n == numLanes {
			_, _ = st.Write(frame(2 * maxOddFrame)) // it may end before all of it left
		}
	}
	if e := a.next("down"); e.why.Cause != Protocol || e.why.Remote {
		t.Errorf("down for %v", e.why)
	}
}
