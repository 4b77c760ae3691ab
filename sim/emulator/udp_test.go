package emulator

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"
)

// listenUDP opens a socket that ends with the test and never blocks it for ever.
func listenUDP(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	growBuffers(c)
	guard(t, c)
	return c
}

func guard(t *testing.T, c net.Conn) {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
}

func dialUDP(t *testing.T, to net.Addr) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, to.(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	growBuffers(c)
	guard(t, c)
	return c
}

// echoUDP answers every datagram with itself until the test ends.
func echoUDP(t *testing.T) net.Addr {
	t.Helper()
	c := listenUDP(t)
	go func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return c.LocalAddr()
}

func mustWrite(t *testing.T, c net.Conn, data []byte) {
	t.Helper()
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, c net.Conn) []byte {
	t.Helper()
	buf := make([]byte, maxDatagram)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// checkSettled asserts the law of DirStats once nothing is under way.
func checkSettled(t *testing.T, l *Link) {
	t.Helper()
	eventually(t, "all datagrams settled", func() bool {
		s := l.Stats()
		return s.Up.InFlight == 0 && s.Down.InFlight == 0
	})
	s := l.Stats()
	for _, d := range []DirStats{s.Up, s.Down} {
		if d.Offered+d.Duplicated != d.Packets+d.Dropped.Total() || d.InFlightBytes != 0 {
			t.Errorf("datagrams unaccounted for: %+v", d)
		}
	}
}

func TestUDPCarriesEverySizeNeverEarly(t *testing.T) {
	p := Profile{Delay: 10 * time.Millisecond, Jitter: time.Millisecond}
	l := openLink(t, Config{To: echoUDP(t).String(), Up: p, Down: p})
	c := dialUDP(t, l.Addr())
	for _, size := range []int{0, 1, 1200, bufferSize, bufferSize + 1, 65507} {
		want := bytes.Repeat([]byte{byte(size), 7}, size)[:size]
		sent := time.Now()
		mustWrite(t, c, want)
		if got := mustRead(t, c); !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back as %d others", size, len(got))
		}
		if rtt := time.Since(sent); rtt < 2*p.Delay {
			t.Errorf("%d bytes came back after %v: faster than light", size, rtt)
		}
	}
	checkSettled(t, l)
	if s := l.Stats(); s.Up.Packets != 6 || s.Down.Packets != 6 || s.Flows != 1 || s.Up.Bytes != s.Down.Bytes {
		t.Errorf("stats %+v", s)
	}
}

func TestUDPAnswersReachTheirClient(t *testing.T) {
	l := openLink(t, Config{To: echoUDP(t).String()})
	var clients []*net.UDPConn
	for i := range 10 {
		c := dialUDP(t, l.Addr())
		clients = append(clients, c)
		mustWrite(t, c, fmt.Append(nil, "client ", i))
	}
	for i, c := range clients {
		if got, want := string(mustRead(t, c)), fmt.Sprint("client ", i); got != want {
			t.Errorf("client %d got %q", i, got)
		}
	}
	if n := l.Stats().Flows; n != 10 {
		t.Errorf("%d flows", n)
	}
}

// TestUDPLossIsWhatTheSeedSays predicts with the pure shaper which datagrams
// die, and finds exactly the others at the receiver, in order.
func TestUDPLossIsWhatTheSeedSays(t *testing.T) {
	const n, seed = 400, 42
	p := Profile{Loss: 0.2, Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond}
	dst := listenUDP(t)
	l := openLink(t, Config{To: dst.LocalAddr().String(), Up: p, Seed: seed})
	oracle := newShaper(p.Anchored(t0()), seed, up, 1<<30)
	src := dialUDP(t, l.Addr())
	var want []uint32
	for i := range uint32(n) {
		if oracle.offer(t0(), sized(4)) == verdictSent {
			want = append(want, i)
		}
		mustWrite(t, src, binary.BigEndian.AppendUint32(nil, i))
	}
	for _, w := range want {
		if got := binary.BigEndian.Uint32(mustRead(t, dst)); got != w {
			t.Fatalf("got datagram %d, want %d", got, w)
		}
	}
	checkSettled(t, l)
	if lost := l.Stats().Up.Dropped; lost != (Dropped{Loss: uint64(n - len(want))}) {
		t.Errorf("dropped %+v, want %d by loss", lost, n-len(want))
	}
}

func TestUDPCutAndHeal(t *testing.T) {
	p := Profile{Delay: 50 * time.Millisecond}
	dst := listenUDP(t)
	l := openLink(t, Config{To: dst.LocalAddr().String(), Up: p})
	src := dialUDP(t, l.Addr())
	offered := func(n uint64) {
		eventually(t, "datagram offered", func() bool { return l.Stats().Up.Offered == n })
	}
	mustWrite(t, src, []byte("under way"))
	offered(1)
	l.Cut(true)
	mustWrite(t, src, []byte("into the hole"))
	offered(2)
	l.Cut(false)
	mustWrite(t, src, []byte("healed"))
	for _, want := range []string{"under way", "healed"} {
		if got := string(mustRead(t, dst)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	checkSettled(t, l)
	if d := l.Stats().Up.Dropped; d != (Dropped{Cut: 1}) {
		t.Errorf("dropped %+v", d)
	}
}

func TestUDPClosedContactDrops(t *testing.T) {
	later := Schedule{Start: time.Now().Add(time.Hour), Every: time.Hour, For: time.Minute}
	l := openLink(t, Config{To: echoUDP(t).String(), Up: Profile{Contacts: later}})
	c := dialUDP(t, l.Addr())
	mustWrite(t, c, []byte("too soon"))
	eventually(t, "drop counted", func() bool { return l.Stats().Up.Dropped.Closed == 1 })
	if err := l.SetProfile(Profile{}, Profile{}); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, c, []byte("now"))
	if got := string(mustRead(t, c)); got != "now" {
		t.Errorf("got %q", got)
	}
}

// TestUDPShorterPathWakesTheDeliverer would hang for the hour if a new earliest
// arrival did not interrupt the wait for the old one.
func TestUDPShorterPathWakesTheDeliverer(t *testing.T) {
	l := openLink(t, Config{To: echoUDP(t).String(), Up: Profile{Delay: time.Hour}})
	c := dialUDP(t, l.Addr())
	mustWrite(t, c, []byte("slow"))
	eventually(t, "datagram under way", func() bool { return l.Stats().Up.InFlight == 1 })
	if err := l.SetProfile(Profile{}, Profile{}); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, c, []byte("fast"))
	if got := string(mustRead(t, c)); got != "fast" {
		t.Errorf("got %q", got)
	}
}

func TestUDPEvictsTheClientSilentLongest(t *testing.T) {
	l := openLink(t, Config{To: echoUDP(t).String(), MaxFlows: 2})
	a, b, c := dialUDP(t, l.Addr()), dialUDP(t, l.Addr()), dialUDP(t, l.Addr())
	speak := func(who *net.UDPConn) {
		t.Helper()
		mustWrite(t, who, []byte("hello"))
		mustRead(t, who)
	}
	speak(a)
	speak(b)
	speak(a)
	speak(c) // b was silent longest
	key := b.LocalAddr().(*net.UDPAddr).AddrPort()
	l.udp.mu.Lock()
	_, there := l.udp.flows[key]
	l.udp.mu.Unlock()
	if s := l.Stats(); there || s.Flows != 2 || s.Evicted != 1 {
		t.Errorf("b still there: %v; stats %+v", there, s)
	}
	speak(b) // an evicted client simply begins anew
}

func TestUDPReceiverMayGoAndComeBack(t *testing.T) {
	dst := listenUDP(t)
	to := dst.LocalAddr().(*net.UDPAddr)
	l := openLink(t, Config{To: to.String()})
	src := dialUDP(t, l.Addr())
	mustWrite(t, src, []byte("one"))
	mustRead(t, dst)
	dst.Close()
	for i := range uint64(5) { // met by "port unreachable"
		mustWrite(t, src, []byte("nobody"))
		eventually(t, "handed over", func() bool {
			s := l.Stats().Up
			return s.Offered == i+2 && s.InFlight == 0
		})
	}
	back, err := net.ListenUDP("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	guard(t, back)
	mustWrite(t, src, []byte("welcome back"))
	if got := string(mustRead(t, back)); got != "welcome back" {
		t.Errorf("got %q", got)
	}
	checkSettled(t, l)
}

// BenchmarkUDP measures datagrams through one direction, end to end.
func BenchmarkUDP(b *testing.B) {
	dst, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer dst.Close()
	growBuffers(dst)
	l, err := Open(Config{Listen: "127.0.0.1:0", To: dst.LocalAddr().String(), Up: Profile{Delay: time.Millisecond}})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() { _ = l.Run(b.Context()) }()
	src, err := net.DialUDP("udp", nil, l.Addr().(*net.UDPAddr))
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	data, buf := make([]byte, 1200), make([]byte, maxDatagram)
	const burst = 64 // below every socket buffer, so nothing is lost
	b.SetBytes(1200)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if _, err := src.Write(data); err != nil {
			b.Fatal(err)
		}
		for range burst * b2i(n%burst == burst-1) {
			if _, err := dst.Read(buf); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
