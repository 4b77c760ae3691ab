package emulator

import (
	"context"
	"net"
	"testing"
)

// TestOverrunCountsWhatTheKernelDropped offers more than the socket holds to a
// link that does not read yet. Every datagram is in one of the counts.
func TestOverrunCountsWhatTheKernelDropped(t *testing.T) {
	l, err := Open(Config{Listen: "127.0.0.1:0", To: listenUDP(t).LocalAddr().String(), InFlight: 1 << 30, Up: Profile{Loss: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	src := newSocket(dialUDP(t, l.Addr()))
	out, ps, failed := newOutbox(), make([]*packet, batch), make([]bool, batch)
	for i := range ps {
		ps[i] = sized(8000) // takes 16 kB of the kernel's
	}
	const rounds = 100
	for range rounds {
		out.send(src, ps, func(*packet) *net.UDPAddr { return nil }, failed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	sent := uint64(rounds * batch)
	eventually(t, "every datagram counted", func() bool {
		mustWrite(t, src, []byte("tell me")) // the count comes with the next datagram
		sent++
		s := l.Stats().Up
		return s.Overrun > 0 && s.Offered+s.Overrun+1 >= sent
	})
	eventually(t, "every datagram counted once", func() bool {
		s := l.Stats().Up
		return s.Offered+s.Overrun == sent
	})
}
