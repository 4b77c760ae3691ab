package emulator

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// openLink opens and runs a link to to, and ends it with the test.
func openLink(t *testing.T, c Config) *Link {
	t.Helper()
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return l
}

// eventually polls until ok; the guard is far beyond what any machine needs.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestConfigValidateNamesEveryFault(t *testing.T) {
	bad := Profile{Delay: -1, Jitter: -1, Loss: 1.5, Rate: -1, Queue: -1, Contacts: Schedule{Every: time.Hour}}
	err := Config{Network: "icmp", Listen: "here", To: ":7330", Up: bad, Down: bad, MaxFlows: -1, InFlight: -1, Window: -1}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"Network: ", "Listen: ", "To: ", "Up: Delay: ", "Jitter: ", "Loss: ", "Rate: ", "Queue: ", "Contacts: ",
		"Down: Delay: ", "MaxFlows: ", "InFlight: ", "Window: ",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("fault %q is missing in:\n%v", want, err)
		}
	}
	if err := (Config{Listen: "127.0.0.1:0", To: "127.0.0.1:7330"}).Validate(); err != nil {
		t.Errorf("smallest config refused: %v", err)
	}
	nan := Profile{Loss: nan()}
	if nan.Validate() == nil {
		t.Error("loss NaN accepted")
	}
}

func nan() float64 {
	zero := 0.0
	return zero / zero
}

func TestCheckAddr(t *testing.T) {
	cases := []struct {
		addr       string
		listen, ok bool
	}{
		{"127.0.0.1:7330", false, true},
		{"[::1]:7330", false, true},
		{"node.example:7330", false, true},
		{":7330", true, true},
		{"127.0.0.1:0", true, true},
		{"127.0.0.1:0", false, false},
		{":7330", false, false},
		{"127.0.0.1", true, false},
		{"", true, false},
		{"127.0.0.1:99999", true, false},
	}
	for _, c := range cases {
		if err := checkAddr(c.addr, c.listen); (err == nil) != c.ok {
			t.Errorf("checkAddr(%q, %v) = %v", c.addr, c.listen, err)
		}
	}
}

func TestOpenReportsATakenAddress(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, network := range []string{"udp", "both"} {
		_, err := Open(Config{Network: network, Listen: taken.LocalAddr().String(), To: "127.0.0.1:7330"})
		if err == nil || !strings.Contains(err.Error(), taken.LocalAddr().String()) {
			t.Errorf("%s: %v", network, err)
		}
	}
}

func TestLifecycle(t *testing.T) {
	open := func(t *testing.T) *Link {
		l, err := Open(Config{Network: "both", Listen: "127.0.0.1:0", To: "127.0.0.1:7330"})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	t.Run("close without run", func(t *testing.T) {
		l := open(t)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
		if err := l.Run(t.Context()); err != nil {
			t.Errorf("run after close: %v", err)
		}
	})
	t.Run("close ends run", func(t *testing.T) {
		l := open(t)
		done := make(chan error, 1)
		go func() { done <- l.Run(t.Context()) }()
		l.Close()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Run("ctx ends run and frees the address", func(t *testing.T) {
		l := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		again, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			t.Fatalf("address still taken: %v", err)
		}
		again.Close()
		if err := l.Run(t.Context()); err == nil {
			t.Error("second Run accepted")
		}
	})
}

func TestSetProfileIsAllOrNothing(t *testing.T) {
	l := openLink(t, Config{Network: "both", To: "127.0.0.1:7330"})
	err := l.SetProfile(Profile{Delay: time.Second}, Profile{Loss: 2})
	if err == nil || !strings.Contains(err.Error(), "Down: Loss") {
		t.Fatalf("err %v", err)
	}
	if d := l.udp.up.shape.p.Delay; d != 0 {
		t.Errorf("half of a refused change was applied: %v", d)
	}
}

func TestStatsOpenFollowsCutAndContacts(t *testing.T) {
	for _, network := range []string{"udp", "tcp", "both"} {
		l := openLink(t, Config{Network: network, To: "127.0.0.1:7330"})
		if s := l.Stats(); !s.Up.Open || !s.Down.Open {
			t.Errorf("%s: a fresh link is closed", network)
		}
		l.Cut(true)
		if s := l.Stats(); s.Up.Open || s.Down.Open {
			t.Errorf("%s: a cut link is open", network)
		}
		l.Cut(false)
		later := Schedule{Start: time.Now().Add(time.Hour), Every: time.Hour, For: time.Minute}
		if err := l.SetProfile(Profile{Contacts: later}, Profile{Contacts: Schedule{Every: 100 * time.Hour, For: 50 * time.Hour}}); err != nil {
			t.Fatal(err)
		}
		if s := l.Stats(); s.Up.Open || !s.Down.Open {
			t.Errorf("%s: up must wait for its contact, down starts inside one", network)
		}
	}
}
