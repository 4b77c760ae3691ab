package emulator

import (
	"testing"
	"time"
)

func TestTCPBlackholeHoldsWhatIsUnderWay(t *testing.T) {
	l, client, server := tcpPair(t, Config{Up: Profile{Delay: time.Second}}) // far more than the hole takes to open
	mustWrite(t, client, []byte("before"))
	if got := string(mustRead(t, server)); got != "before" {
		t.Fatalf("got %q", got)
	}
	mustWrite(t, client, []byte("under way"))
	l.SetState(StateBlackhole, StateBlackhole)
	if err := server.SetReadDeadline(time.Now().Add(1500 * ms)); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(make([]byte, 10)); err == nil {
		t.Fatalf("%d bytes came out of a black hole", n)
	}
	guard(t, server)
	if s := l.Stats(); s.Up.State != StateBlackhole || s.Up.Open || s.Conns != 1 {
		t.Errorf("%+v", s)
	}
	l.SetState(StateOpen, StateOpen)
	if got := string(mustRead(t, server)); got != "under way" {
		t.Errorf("got %q", got)
	}
}

func TestTCPHalfOpen(t *testing.T) {
	l, client, server := tcpPair(t, Config{})
	mustWrite(t, client, []byte("connected")) // the SYN-ACK is through
	mustRead(t, server)
	l.SetState(StateOpen, StateCut)
	mustWrite(t, client, []byte("there"))
	if got := string(mustRead(t, server)); got != "there" {
		t.Errorf("got %q", got)
	}
	mustWrite(t, server, []byte("and back"))
	if err := client.SetReadDeadline(time.Now().Add(50 * ms)); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(make([]byte, 10)); err == nil {
		t.Fatalf("%d bytes came through a cut", n)
	}
	guard(t, client)
	l.SetState(StateOpen, StateOpen)
	if got := string(mustRead(t, client)); got != "and back" {
		t.Errorf("got %q", got)
	}
}

func TestTCPThroughATrace(t *testing.T) {
	// 1500 bytes every 2 ms: 150 kB of stream and 5 % of headers take 210 ms.
	p := Profile{Trace: trace(t, "2\n"), Overhead: 28}
	_, client, server := tcpPair(t, Config{Up: p})
	sent := randomBytes(150_000)
	start := time.Now()
	go func() {
		_, _ = client.Write(sent)
		_ = client.CloseWrite()
	}()
	if got := readAll(t, server); len(got) != len(sent) {
		t.Errorf("%d bytes", len(got))
	}
	if took := time.Since(start); took < 200*ms {
		t.Errorf("took %v: faster than the trace", took)
	}
}
