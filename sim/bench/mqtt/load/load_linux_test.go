package load

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// relay is the least broker: each PUBLISH goes to every subscriber, and every
// handshake is answered. Faults are planted into what it forwards.
type relay struct {
	t    *testing.T
	ln   net.Listener
	mu   sync.Mutex
	subs []net.Conn
	n    int
	// spoil returns what is forwarded of the n-th message, from 1 on.
	spoil func(n int, packet []byte) [][]byte
}

func newRelay(t *testing.T, spoil func(int, []byte) [][]byte) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if spoil == nil {
		spoil = func(_ int, b []byte) [][]byte { return [][]byte{b} }
	}
	r := &relay{t: t, ln: ln, spoil: spoil}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return r
}

func (r *relay) serve(conn net.Conn) {
	defer conn.Close()
	var have []byte
	buf := make([]byte, 4096)
	for {
		first, body, n, err := Next(have)
		if err != nil {
			return
		}
		if n == 0 {
			if n, err = conn.Read(buf); err != nil {
				return
			}
			have = append(have, buf[:n]...)
			continue
		}
		r.take(conn, first, append([]byte(nil), body...), append([]byte(nil), have[:n]...))
		have = have[n:]
	}
}

func (r *relay) take(conn net.Conn, first byte, body, whole []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := func(b ...byte) { _, _ = conn.Write(b) }
	switch first & 0xF0 {
	case Connect:
		answer(Connack, 2, 0, 0)
	case Subscribe & 0xF0:
		r.subs = append(r.subs, conn)
		answer(Suback, 3, body[0], body[1], body[len(body)-1])
	case Publish:
		at := 2 + int(body[0])<<8 + int(body[1])
		switch first >> 1 & 3 {
		case 1:
			answer(Puback, 2, body[at], body[at+1])
		case 2:
			answer(Pubrec, 2, body[at], body[at+1])
		}
		r.n++
		for _, b := range r.spoil(r.n, whole) {
			for _, s := range r.subs {
				_, _ = s.Write(b)
			}
		}
	case Pubrel & 0xF0:
		answer(Pubcomp, 2, body[0], body[1])
	case Pubrec:
		answer(Pubrel, 2, body[0], body[1])
	}
}

// TestLoad drives the least broker in every shape and counts everything.
func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		each uint64 // arrivals per message
	}{
		{"fan-in QoS 0", Config{Publishers: 3, Subscribers: 1}, 1},
		{"fan-out QoS 1", Config{Publishers: 1, Subscribers: 4, QoS: 1}, 4},
		{"one to one QoS 2", Config{Publishers: 1, Subscribers: 1, QoS: 2}, 1},
		{"unacknowledged apart", Config{Publishers: 1, Subscribers: 1, QoS: 1, Unacked: 4}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRelay(t, nil)
			c.cfg.Publish, c.cfg.Size, c.cfg.Window = r.ln.Addr().String(), 32, 16
			l, err := Open(t.Context(), c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if c.cfg.Publishers == 1 {
				if err := l.Reach(t.Context(), time.Second, patience); err != nil {
					t.Fatal(err)
				}
			}
			res, err := l.Run(t.Context(), Plan{Warm: time.Millisecond, Time: 50 * time.Millisecond, Stall: patience, Drain: patience})
			if err != nil {
				t.Fatal(err)
			}
			if l.Sent() == 0 || l.Arrived() != c.each*l.Sent() || res.Missing+res.Wrong+res.Undrained > 0 || res.Stalled {
				t.Errorf("%d sent, %d arrived, %+v; want %d of each, and no fault", l.Sent(), l.Arrived(), res, c.each)
			}
		})
	}
}

// TestFaults: what a broker does wrong is counted.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name           string
		spoil          func() func(n int, b []byte) [][]byte
		missing, wrong uint64
		stalled        bool
	}{
		{"lost", func() func(int, []byte) [][]byte {
			return func(n int, b []byte) [][]byte {
				if n == 5 {
					return nil
				}
				return [][]byte{b}
			}
		}, 1, 0, false},
		{"repeated", func() func(int, []byte) [][]byte {
			return func(n int, b []byte) [][]byte {
				if n == 5 {
					return [][]byte{b, b}
				}
				return [][]byte{b}
			}
		}, 0, 1, false},
		{"exchanged", func() func(int, []byte) [][]byte {
			var held []byte
			return func(n int, b []byte) [][]byte {
				if n == 5 {
					held = b
					return nil
				}
				if n == 6 {
					return [][]byte{b, held}
				}
				return [][]byte{b}
			}
		}, 1, 1, false},
		{"stops", func() func(int, []byte) [][]byte {
			return func(n int, b []byte) [][]byte {
				if n > 20 {
					return nil
				}
				return [][]byte{b}
			}
		}, 0, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRelay(t, c.spoil())
			l, err := Open(t.Context(), Config{Publish: r.ln.Addr().String(), Publishers: 1, Subscribers: 1, QoS: 1, Size: 16, Window: 8})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			p := Plan{Time: 100 * time.Millisecond, Stall: patience, Drain: patience}
			if c.stalled {
				p.Time, p.Stall = time.Hour, 200*time.Millisecond
			}
			res, err := l.Run(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if res.Missing != c.missing || res.Wrong != c.wrong || res.Stalled != c.stalled {
				t.Errorf("got %+v, want %d missing, %d wrong, stalled %t", res, c.missing, c.wrong, c.stalled)
			}
			if c.stalled && res.After != 20 {
				t.Errorf("stalled after %d, want 20", res.After)
			}
		})
	}
}

// TestEnded: a broker that goes is an error, and so is one that refuses.
func TestEnded(t *testing.T) {
	for _, c := range []struct{ name, answer, want string }{
		{"refused", "\x20\x02\x00\x05", "connection refused: CONNACK 00 05"},
		{"another packet", "\xd0\x00", "packet 0xd0 came, want 0x20"},
		{"gone", "", "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			go func() { // ends with the connection
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 256))
				_, _ = io.WriteString(conn, c.answer)
			}()
			_, err = Open(t.Context(), Config{Publish: ln.Addr().String(), Publishers: 1, Subscribers: 1, Size: 16, Window: 8})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestStops(t *testing.T) {
	r := newRelay(t, nil)
	l, err := Open(t.Context(), Config{Publish: r.ln.Addr().String(), Publishers: 1, Subscribers: 1, Size: 16, Window: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Run(ctx, Plan{Time: time.Hour, Stall: time.Hour, Drain: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was canceled", err)
	}
}

// TestDialMany connects many, and notices those that the broker ends.
func TestDialMany(t *testing.T) {
	r := newRelay(t, nil)
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	who := func(int) (Client, Handler) { return Client{Name: "many", Filter: "a"}, nil }
	if err := l.DialMany(t.Context(), r.ln.Addr().String(), 100, who); err != nil {
		t.Fatal(err)
	}
	if l.Open() != 100 {
		t.Errorf("%d open, want 100", l.Open())
	}
	r.mu.Lock()
	for _, s := range r.subs[:7] {
		_ = s.Close()
	}
	r.mu.Unlock()
	for end := time.Now().Add(patience); l.Ended() < 7 && time.Now().Before(end); {
		if err := l.Turn(turnWait); err != nil {
			t.Fatal(err)
		}
	}
	if l.Ended() != 7 || l.Open() != 93 {
		t.Errorf("%d ended and %d open, want 7 and 93", l.Ended(), l.Open())
	}
	_ = r.ln.Close()
	if err := l.DialMany(t.Context(), r.ln.Addr().String(), 10, who); err == nil {
		t.Error("connected to a broker that is not there")
	}
}

func TestConfig(t *testing.T) {
	good := Config{Publish: "a:1", Publishers: 2, Subscribers: 2, QoS: 1, Size: 64, Window: 10}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"pairs", func(c *Config) { c.Pairs, c.Publishers = true, 3 }, "pairs: 3 publishers and 2 subscribers"},
		{"size", func(c *Config) { c.Size = 15 }, "size: 15, want 16 to"},
		{"more than there are ids", func(c *Config) { c.Window = 40_000 }, "window: 40000, want 1 to 32767"},
		{"unacked", func(c *Config) { c.Unacked = 40_000 }, "unacked: 40000"},
		{"qos", func(c *Config) { c.QoS = 3 }, "qos: 3, want 0 to 2"},
		{"nobody", func(c *Config) { c.Publishers = 0 }, "publishers: 0, want 1 to"},
		{"no address", func(c *Config) { c.Publish = "" }, "the address of the broker: missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := good
			c.change(&bad)
			if _, err := Open(t.Context(), bad); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
