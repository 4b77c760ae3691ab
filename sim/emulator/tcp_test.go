package emulator

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/emulator/desc"
)

// listenTCP returns an accept function for a fresh listener.
func listenTCP(t *testing.T) (addr string, accept func() *net.TCPConn) {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	if err := ln.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return ln.Addr().String(), func() *net.TCPConn {
		t.Helper()
		c, err := ln.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		guard(t, c)
		return c
	}
}

func dialTCP(t *testing.T, to net.Addr) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	guard(t, c)
	return c.(*net.TCPConn)
}

// tcpPair opens a TCP link and one connection through it.
func tcpPair(t *testing.T, c Config) (l *Link, client, server *net.TCPConn) {
	t.Helper()
	addr, accept := listenTCP(t)
	c.Network, c.To = "tcp", addr
	l = openLink(t, c)
	client = dialTCP(t, l.Addr())
	return l, client, accept()
}

// wantRefusal connects and expects a reset. It may come so soon that connect
// itself reports it.
func wantRefusal(t *testing.T, to net.Addr) {
	t.Helper()
	c, err := net.Dial("tcp", to.String())
	if err == nil {
		guard(t, c)
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

func randomBytes(n int) []byte {
	out, r := make([]byte, n), rand.New(rand.NewPCG(1, uint64(n)))
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}

func readAll(t *testing.T, c net.Conn) []byte {
	t.Helper()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestTCPBothWaysWithHalfClose sends a request, ends it, and only then gets the
// answer: what a half close is for.
func TestTCPBothWaysWithHalfClose(t *testing.T) {
	p := Profile{Delay: 5 * ms, Jitter: ms, Rate: 400e6}
	l, client, server := tcpPair(t, Config{Up: p, Down: p})
	request, answer := randomBytes(1<<20), randomBytes(1<<20+1)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := client.Write(request); err != nil {
			t.Error(err)
		}
		if err := client.CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	if !bytes.Equal(readAll(t, server), request) {
		t.Error("request damaged")
	}
	wg.Go(func() {
		if _, err := server.Write(answer); err != nil {
			t.Error(err)
		}
		server.Close()
	})
	if !bytes.Equal(readAll(t, client), answer) {
		t.Error("answer damaged")
	}
	wg.Wait()
	eventually(t, "connection gone", func() bool { return l.Stats().Conns == 0 })
	if s := l.Stats(); s.Up.StreamBytes != 1<<20 || s.Down.StreamBytes != 1<<20+1 {
		t.Errorf("stats %+v", s)
	}
}

func TestTCPNeverEarly(t *testing.T) {
	const delay = 20 * ms
	p := Profile{Delay: delay, Rate: 8e6} // 1 MB/s
	start := time.Now()
	_, client, server := tcpPair(t, Config{Up: p, Down: p})
	if d := time.Since(start); d < delay {
		t.Errorf("receiver dialled after %v", d)
	}
	sent := randomBytes(100_000)
	go func() { _, _ = client.Write(sent) }()
	first := make([]byte, 1)
	if _, err := io.ReadFull(server, first); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 3*delay { // SYN, SYN-ACK, data
		t.Errorf("first byte after %v", d)
	}
	if _, err := io.ReadFull(server, make([]byte, len(sent)-1)); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 3*delay+100*ms {
		t.Errorf("100 kB at 1 MB/s took %v", d)
	}
}

func TestTCPResetTravels(t *testing.T) {
	wantReset := func(t *testing.T, c net.Conn) {
		t.Helper()
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read ended with %v, want a reset", err)
		}
	}
	p := Profile{Delay: 2 * ms}
	cfg := Config{Up: p, Down: p}
	t.Run("from the server", func(t *testing.T) {
		_, client, server := tcpPair(t, cfg)
		reset(server)
		wantReset(t, client)
	})
	t.Run("from the client", func(t *testing.T) {
		_, client, server := tcpPair(t, cfg)
		mustWrite(t, client, []byte("x"))
		mustRead(t, server)
		reset(client)
		wantReset(t, server)
	})
	t.Run("server closes while the client goes on", func(t *testing.T) {
		l, client, server := tcpPair(t, cfg)
		server.Close() // a FIN; only the client's next bytes find out
		if got := readAll(t, client); len(got) != 0 {
			t.Errorf("got %q", got)
		}
		eventually(t, "write fails", func() bool {
			_, err := client.Write([]byte("anyone?"))
			return err != nil
		})
		eventually(t, "connection gone", func() bool { return l.Stats().Conns == 0 })
	})
	t.Run("nobody listens", func(t *testing.T) {
		dead, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := dead.Addr().String()
		dead.Close()
		l := openLink(t, Config{Network: "tcp", To: addr, Up: p, Down: p})
		start := time.Now()
		wantRefusal(t, l.Addr())
		if d := time.Since(start); d < 2*p.Delay {
			t.Errorf("refused after %v: faster than light", d)
		}
	})
	t.Run("the link goes away", func(t *testing.T) {
		l, client, server := tcpPair(t, cfg)
		mustWrite(t, client, []byte("x"))
		mustRead(t, server)
		l.Close()
		wantReset(t, client)
		wantReset(t, server)
	})
}

func TestTCPCutStallsAndHeals(t *testing.T) {
	l, client, server := tcpPair(t, Config{})
	mustWrite(t, client, []byte("a"))
	mustRead(t, server)
	l.Cut(true)
	mustWrite(t, client, []byte("held"))
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = server.SetReadDeadline(time.Now().Add(30 * ms))
	if n, err := server.Read(make([]byte, 10)); n != 0 || err == nil {
		t.Errorf("%d bytes, %v through a cut link", n, err)
	}
	_ = server.SetReadDeadline(time.Now().Add(30 * time.Second))
	l.Cut(false)
	if got := string(readAll(t, server)); got != "held" {
		t.Errorf("got %q after healing", got)
	}
}

func TestTCPWaitsForItsContact(t *testing.T) {
	opening := time.Now().Add(100 * ms)
	_, client, server := tcpPair(t, Config{Up: Profile{Contacts: Schedule{Start: opening, Every: time.Hour, For: time.Minute}}})
	if now := time.Now(); now.Before(opening) {
		t.Errorf("connected %v before the contact", opening.Sub(now))
	}
	mustWrite(t, client, []byte("in contact"))
	if got := string(mustRead(t, server)); got != "in contact" {
		t.Errorf("got %q", got)
	}
}

func TestTCPHoldsBackInsteadOfDropping(t *testing.T) {
	_, client, server := tcpPair(t, Config{Window: 64 << 10})
	sent := bytes.Repeat(randomBytes(1<<20+1), 64) // more than all buffers on the way hold
	_ = client.SetWriteDeadline(time.Now().Add(200 * ms))
	n, err := client.Write(sent)
	if err == nil {
		t.Fatal("a receiver that does not read took 64 MiB")
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readAll(t, server), sent[:n]) {
		t.Error("bytes lost or damaged")
	}
}

func TestTCPRefusesBeyondMaxFlows(t *testing.T) {
	l, _, _ := tcpPair(t, Config{MaxFlows: 1})
	wantRefusal(t, l.Addr())
	if s := l.Stats(); s.Refused != 1 || s.Conns != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestBothNetworksShareAPort(t *testing.T) {
	dst, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	at := dst.Addr().(*net.TCPAddr)
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Port: at.Port})
	if err != nil {
		t.Skipf("port %d is free for TCP only; run with -count=1 again for another port", at.Port)
	}
	guard(t, udp)
	l := openLink(t, Config{Network: "both", To: at.String()})
	mustWrite(t, dialUDP(t, l.Addr()), []byte("datagram"))
	if got := string(mustRead(t, udp)); got != "datagram" {
		t.Errorf("got %q", got)
	}
	mustWrite(t, dialTCP(t, l.Addr()), []byte("stream"))
	c, err := dst.Accept()
	if err != nil {
		t.Fatal(err)
	}
	guard(t, c)
	if got := string(mustRead(t, c)); got != "stream" {
		t.Errorf("got %q", got)
	}
}

// TestCarrierKeepsItsRate asks late, as real timers do, and must lose no rate.
func TestCarrierKeepsItsRate(t *testing.T) {
	p := Profile{Rate: 8e6, Delay: 100 * ms}
	c := &carrier{p: p.Anchored(t0()), rng: newRand(1, up, streams)}
	now, total := t0(), 0
	var last time.Time
	for total < 1e6 {
		arrive, retry, ok := c.admit(now, c.chunk())
		switch {
		case ok:
			total += c.chunk()
			if arrive.Before(now.Add(p.Delay)) {
				t.Fatalf("early: sent %v, arrives %v", now, arrive)
			}
			last = arrive
		case retry.After(now):
			now = retry.Add(3 * ms) // late, but within what may be booked ahead
		default:
			t.Fatalf("told to retry at %v, it is %v", retry, now)
		}
	}
	if took := last.Sub(t0()); took != p.Delay+time.Second {
		t.Errorf("1 MB at 8 Mbit took %v", took)
	}
}

func TestCarrierWaits(t *testing.T) {
	p := Profile{Contacts: Schedule{Start: t0().Add(time.Second), Every: time.Hour, For: time.Minute}}
	c := &carrier{p: p.Anchored(t0()), rng: newRand(1, up, streams)}
	if _, retry, ok := c.admit(t0(), 1); ok || !retry.Equal(t0().Add(time.Second)) {
		t.Errorf("closed contact: %v, %v", retry, ok)
	}
	c.state = StateCut
	if _, retry, ok := c.admit(t0().Add(time.Second), 1); ok || !retry.IsZero() {
		t.Errorf("cut: %v, %v", retry, ok)
	}
	c.state = StateOpen
	if _, _, ok := c.admit(t0().Add(time.Second), 1); !ok {
		t.Error("healed inside a contact, still refused")
	}
}

func TestCarrierChunk(t *testing.T) {
	for _, c := range []struct {
		rate int64
		want int
	}{{0, maxChunk}, {1, 1}, {9600, 12}, {1e6, 1250}, {desc.MaxRate, maxChunk}} {
		if got := (&carrier{p: Profile{Rate: c.rate}}).chunk(); got != c.want {
			t.Errorf("rate %d: chunk %d, want %d", c.rate, got, c.want)
		}
	}
}
