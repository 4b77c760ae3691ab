package emulator

import (
	"bytes"
	"math/bits"
	"net"
	"net/netip"
	"testing"
	"time"
)

// recvFrom reads a datagram and says who sent it.
func recvFrom(t *testing.T, c *net.UDPConn) (string, netip.AddrPort) {
	t.Helper()
	buf := make([]byte, maxDatagram)
	n, from, err := c.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n]), from
}

func TestUDPRebind(t *testing.T) {
	dst := listenUDP(t)
	l := openLink(t, Config{To: dst.LocalAddr().String()})
	src := dialUDP(t, l.Addr())
	ports := []netip.AddrPort{}
	for i := range 3 {
		mustWrite(t, src, []byte{byte(i)})
		_, from := recvFrom(t, dst)
		ports = append(ports, from)
		for _, old := range ports[:i] {
			if from == old {
				t.Errorf("port %v came again", from)
			}
			if _, err := dst.WriteToUDPAddrPort([]byte("too late"), old); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := dst.WriteToUDPAddrPort([]byte("welcome"), from); err != nil {
			t.Fatal(err)
		}
		if got := string(mustRead(t, src)); got != "welcome" {
			t.Errorf("got %q", got)
		}
		// The port before is swallowed in silence; older ones are closed.
		eventually(t, "late answer counted", func() bool { return l.Stats().Down.Dropped.Rebound == uint64(i) })
		if n, err := l.Rebind(); n != 1 || err != nil {
			t.Fatalf("rebind: %d, %v", n, err)
		}
	}
	if s := l.Stats(); s.Rebound != 3 || s.Flows != 1 {
		t.Errorf("%+v", s)
	}
	checkSettled(t, l)
}

func TestUDPHalfOpenAndBlackhole(t *testing.T) {
	dst := listenUDP(t)
	l := openLink(t, Config{To: dst.LocalAddr().String(), Up: Profile{Delay: 50 * ms}})
	src := dialUDP(t, l.Addr())
	mustWrite(t, src, []byte("one"))
	_, from := recvFrom(t, dst)
	l.SetState(StateOpen, StateCut)
	if _, err := dst.WriteToUDPAddrPort([]byte("nobody hears"), from); err != nil {
		t.Fatal(err)
	}
	eventually(t, "answer dropped", func() bool { return l.Stats().Down.Dropped.Cut == 1 })
	mustWrite(t, src, []byte("still here"))
	if got, _ := recvFrom(t, dst); got != "still here" {
		t.Errorf("got %q", got)
	}
	mustWrite(t, src, []byte("swallowed under way"))
	eventually(t, "datagram under way", func() bool { return l.Stats().Up.InFlight == 1 })
	l.SetState(StateBlackhole, StateBlackhole)
	mustWrite(t, src, []byte("swallowed"))
	eventually(t, "both swallowed", func() bool { return l.Stats().Up.Dropped.Blackhole == 2 })
	l.SetState(StateOpen, StateOpen)
	mustWrite(t, src, []byte("healed"))
	if got, _ := recvFrom(t, dst); got != "healed" {
		t.Errorf("got %q", got)
	}
	checkSettled(t, l)
}

func TestUDPDuplicateCorruptReorderMTU(t *testing.T) {
	dst := listenUDP(t)
	l := openLink(t, Config{To: dst.LocalAddr().String(), Up: Profile{Duplicate: 1, Corrupt: 1, Reorder: 1, ReorderBy: 5 * ms, MTU: 1228, Overhead: 28}})
	src := dialUDP(t, l.Addr())
	clean := bytes.Repeat([]byte{0x55}, 1200)
	sent := time.Now()
	mustWrite(t, src, clean)
	first, second := mustRead(t, dst), mustRead(t, dst)
	if time.Since(sent) < 5*ms {
		t.Error("a reordered datagram came at once")
	}
	if !bytes.Equal(first, second) {
		t.Error("the copy differs")
	}
	flipped := 0
	for i := range first {
		flipped += bits.OnesCount8(first[i] ^ clean[i])
	}
	if flipped != 1 {
		t.Errorf("%d bits flipped", flipped)
	}
	mustWrite(t, src, make([]byte, 1201))
	eventually(t, "too large", func() bool { return l.Stats().Up.Dropped.MTU == 1 })
	checkSettled(t, l)
	if s := l.Stats().Up; s.Packets != 2 || s.Duplicated != 1 || s.Corrupted != 1 || s.Reordered != 1 {
		t.Errorf("%+v", s)
	}
}

// TestUDPOnEveryAddress listens without a host, where clients of IPv4 and IPv6
// share one socket.
func TestUDPOnEveryAddress(t *testing.T) {
	l := openLink(t, Config{Listen: ":0", To: echoUDP(t).String()})
	port := l.Addr().(*net.UDPAddr).Port
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(host), Port: port})
		if err != nil {
			t.Logf("no %s here: %v", host, err)
			continue
		}
		guard(t, c)
		mustWrite(t, c, []byte(host))
		if got := string(mustRead(t, c)); got != host {
			t.Errorf("%s: got %q", host, got)
		}
	}
}

// TestUDPLosesNothingByItself sends many datagrams of many clients and sizes
// with at most a socket buffer's worth on the way.
func TestUDPLosesNothingByItself(t *testing.T) {
	l := openLink(t, Config{To: echoUDP(t).String(), Up: Profile{Delay: 2 * ms}, Down: Profile{Delay: ms}})
	var clients []*net.UDPConn
	for range 8 {
		clients = append(clients, dialUDP(t, l.Addr()))
	}
	const rounds, each = 20, 40
	for round := range rounds {
		for i, c := range clients {
			for n := range each {
				mustWrite(t, c, bytes.Repeat([]byte{byte(round), byte(i), byte(n)}, 20*n+1))
			}
		}
		for i, c := range clients {
			for n := range each {
				if got := mustRead(t, c); !bytes.Equal(got, bytes.Repeat([]byte{byte(round), byte(i), byte(n)}, 20*n+1)) {
					t.Fatalf("round %d, client %d, datagram %d: %d bytes that begin %v", round, i, n, len(got), got[:3])
				}
			}
		}
	}
	checkSettled(t, l)
	const all = rounds * each * 8
	if s := l.Stats(); s.Up.Packets != all || s.Down.Packets != all || s.Up.Overrun != 0 || s.Down.Overrun != 0 {
		t.Errorf("%+v", s)
	}
}

// TestUDPUndelivered evicts a client whose datagram is still under way.
func TestUDPUndelivered(t *testing.T) {
	l := openLink(t, Config{To: echoUDP(t).String(), MaxFlows: 1, Up: Profile{Delay: time.Second}}) // far more than the eviction takes
	first, second := dialUDP(t, l.Addr()), dialUDP(t, l.Addr())
	mustWrite(t, first, []byte("gone before it arrives"))
	eventually(t, "datagram under way", func() bool { return l.Stats().Up.InFlight == 1 })
	mustWrite(t, second, []byte("hello"))
	mustRead(t, second)
	checkSettled(t, l)
	if s := l.Stats(); s.Up.Dropped != (Dropped{Undelivered: 1}) || s.Evicted != 1 {
		t.Errorf("%+v", s)
	}
}
