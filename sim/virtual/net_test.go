package virtual_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farhop/farhop/sim/virtual"
)

// pair is a network with hosts 1 and 2.
func pair(t *testing.T, w virtual.Way) (n *virtual.Net, a, b *virtual.Socket) {
	t.Helper()
	n, err := virtual.New(virtual.Config{Seed: 3, Way: w})
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, net: n}
	return n, m.listen(1), m.listen(2)
}

func write(t *testing.T, s *virtual.Socket, text string, to netip.AddrPort) {
	t.Helper()
	if n, err := s.WriteTo([]byte(text), net.UDPAddrFromAddrPort(to)); n != len(text) || err != nil {
		t.Fatalf("wrote %d bytes: %v", n, err)
	}
}

// read returns what arrives within d, "" for nothing, and where it came from.
func read(t *testing.T, s *virtual.Socket, d time.Duration) (string, netip.AddrPort) {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2048)
	n, from, err := s.ReadFrom(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", netip.AddrPort{}
	}
	udp, ok := from.(*net.UDPAddr)
	if err != nil || !ok {
		t.Fatalf("read from %v: %v", from, err)
	}
	return string(b[:n]), udp.AddrPort()
}

func TestDelayAndRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, virtual.Way{Delay: time.Hour, Rate: 8 * (4 + virtual.Overhead)})
		began := time.Now()
		write(t, a, "one.", b.Home())
		write(t, a, "two.", b.Home())
		for i, want := range []string{"one.", "two."} {
			got, from := read(t, b, 2*time.Hour)
			if after := time.Since(began); got != want || from != a.Home() || after != time.Hour+time.Duration(i+1)*time.Second {
				t.Errorf("%q of %v after %v", got, from, after)
			}
		}
		if got, _ := read(t, b, time.Minute); got != "" {
			t.Errorf("more: %q", got)
		}
	})
}

func TestQueueAndLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, virtual.Way{Rate: 8 * (4 + virtual.Overhead), Queue: 10 * time.Second})
		for range 100 {
			write(t, a, "text", b.Home())
		}
		if st := n.Stats(); st.Queue != 89 {
			t.Errorf("%d dropped at a queue of 10 packets, and the one in it", st.Queue)
		}
		if err := n.Set(b.Home(), a.Home(), virtual.Way{Loss: 0.1}); err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			write(t, b, "text", a.Home())
		}
		if st := n.Stats(); st.Lost < 70 || st.Lost > 130 {
			t.Errorf("%d of 1000 lost at 10 %%", st.Lost)
		}
	})
}

func TestCutOneDirection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, virtual.Way{Delay: time.Second})
		write(t, a, "under way", b.Home())
		n.Cut(a.Home(), b.Home(), true)
		write(t, a, "lost", b.Home())
		write(t, b, "back", a.Home())
		if got, _ := read(t, b, 2*time.Second); got != "" {
			t.Errorf("%q came through the cut", got)
		}
		if got, _ := read(t, a, time.Second); got != "back" {
			t.Errorf("got %q on the way that was not cut", got)
		}
		n.Cut(a.Home(), b.Home(), false)
		write(t, a, "again", b.Home())
		if got, _ := read(t, b, 2*time.Second); got != "again" {
			t.Errorf("got %q after the cut", got)
		}
		if st := n.Stats(); st != (virtual.Stats{Sent: 4, Delivered: 2, Cut: 2}) {
			t.Errorf("counted %+v", st)
		}
	})
}

func TestRebind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, virtual.Way{Delay: time.Second})
		first, second := n.Rebind(a.Home()), n.Rebind(a.Home())
		write(t, a, "who", b.Home())
		if got, from := read(t, b, 2*time.Second); got != "who" || from != second || second == first || first == a.Home() {
			t.Errorf("%q from %v; bound to %v, then %v", got, from, first, second)
		}
		for _, to := range []netip.AddrPort{first, second, a.Home()} {
			write(t, b, to.String(), to)
		}
		for _, want := range []netip.AddrPort{second, a.Home()} {
			if got, _ := read(t, a, 2*time.Second); got != want.String() {
				t.Errorf("got %q, want %v", got, want)
			}
		}
	})
}

func TestRestartKeepsTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, virtual.Way{Delay: time.Second})
		if _, err := n.Listen(a.Home()); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("listened twice: %v", err)
		}
		seen := n.Rebind(a.Home())
		write(t, b, "to the old program", seen)
		_ = a.Close()
		if _, _, err := a.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read from a closed socket: %v", err)
		}
		if _, err := a.WriteTo(nil, b.LocalAddr()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("wrote to a closed socket: %v", err)
		}
		write(t, b, "to nobody", seen)
		again, err := n.Listen(a.Home())
		if err != nil {
			t.Fatal(err)
		}
		write(t, b, "to the new program", seen)
		if got, _ := read(t, again, 2*time.Second); got != "to the new program" {
			t.Errorf("got %q", got)
		}
	})
}

func TestValidate(t *testing.T) {
	for want, w := range map[string]virtual.Way{
		"loss: 1 is not":       {Loss: 1},
		"must not be negative": {Delay: -1},
	} {
		if _, err := virtual.New(virtual.Config{Way: w}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", w, err, want)
		}
	}
}
