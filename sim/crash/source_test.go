package main

import (
	"net"
	"os"
	"testing"
)

// TestSockets sees what is opened and closed at one address, and no others.
func TestSockets(t *testing.T) {
	if _, err := os.Stat(socketsOf); err != nil {
		t.Skipf("the system does not tell of its sockets: %v; run on Linux", err)
	}
	at, err := newSource()
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{wires: []*wire{{from: sender, to: relay}, {from: sender, to: relay, source: at}}}
	count := func(want int) {
		t.Helper()
		open, err := sockets(at)
		if err != nil || len(open) != want {
			t.Errorf("%d sockets at %s, %v; want %d", len(open), at, err, want)
		}
		if hoards := m.hoards(); (hoards != "") != (want > 1) {
			t.Errorf("with %d sockets: %q", want, hoards)
		}
	}
	count(0)
	var opened []net.PacketConn
	for _, a := range []string{at, "127.0.0.1", at} {
		c, err := net.ListenPacket("udp", net.JoinHostPort(a, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		opened = append(opened, c)
	}
	count(2)
	_ = opened[0].Close()
	count(1)
}
