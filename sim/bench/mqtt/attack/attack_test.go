package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/bench/mqtt/load"
)

// victim is the least broker: it answers handshakes and forgets the rest.
func victim(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

func serve(conn net.Conn) {
	defer conn.Close()
	var have []byte
	buf := make([]byte, 64<<10)
	for {
		first, body, n, err := load.Next(have)
		if err == nil && n == 0 {
			if n, err = conn.Read(buf); err == nil {
				have = append(have, buf[:n]...)
				continue
			}
		}
		if err != nil {
			return
		}
		have = have[n:]
		var back []byte
		switch first & 0xF0 {
		case load.Connect:
			back = []byte{load.Connack, 2, 0, 0}
			if body[6] == 5 {
				back = []byte{load.Connack, 3, 0, 0, 0}
			}
		case load.Subscribe & 0xF0:
			back = []byte{load.Suback, 3, body[0], body[1], 0x80}
		case 0xA0:
			back = []byte{0xB0, 2, body[0], body[1]}
		case load.Publish:
			if first&6 == 2 {
				at := 2 + int(body[0])<<8 + int(body[1])
				back = []byte{load.Puback, 2, body[at], body[at+1]}
			}
		}
		if _, err := conn.Write(back); err != nil {
			return
		}
	}
}

// until stops an attack at the first counts that say that it began.
type until struct {
	stop context.CancelFunc
	last Counts
}

func (u *until) Write(line []byte) (int, error) {
	if err := json.Unmarshal(line, &u.last); err != nil {
		return 0, err
	}
	if u.last.Connects+u.last.Packets > 0 {
		u.stop()
	}
	return len(line), nil
}

// TestKinds runs each attack until it has done something, and checks that it
// ends when it is told to.
func TestKinds(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			u := &until{stop: cancel}
			if err := Run(ctx, name, victim(t), u); err != nil {
				t.Fatal(err)
			}
			if u.last.Connects+u.last.Packets == 0 {
				t.Errorf("it did nothing: %+v", u.last)
			}
		})
	}
}

// TestRefused: a broker that is not there is counted, not hammered.
func TestRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*tellEvery)
	defer cancel()
	var out bytes.Buffer
	if err := Run(ctx, "reconnects", addr, &out); err != nil {
		t.Fatal(err)
	}
	var c Counts
	if err := json.NewDecoder(&out).Decode(&c); err != nil || c.Refused == 0 || c.Connects > 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestRun(t *testing.T) {
	if err := Run(t.Context(), "nothing", "", io.Discard); err == nil || !strings.Contains(err.Error(), `attack: "nothing", want one of [slow-readers `) {
		t.Errorf("error %v", err)
	}
	if names := slices.Sorted(slices.Values(Names())); len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("a name is there twice: %v", names)
	}
	broken := errors.New("nobody reads")
	if err := Run(t.Context(), "half-open", victim(t), failing{broken}); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestConnect holds the hand-made CONNECT against the standard (MQTT 5, 3.1).
func TestConnect(t *testing.T) {
	for _, c := range []struct {
		h    hello
		want string
	}{
		{hello{id: "a"}, "\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"},
		{hello{id: "a", persistent: true, v5: true, expiry: 9}, "\x10\x13\x00\x04MQTT\x05\x00\x00\x3c\x05\x11\x00\x00\x00\x09\x00\x01a"},
		{hello{id: "a", will: "w"}, "\x10\x16\x00\x04MQTT\x04\x0e\x00\x3c\x00\x01a\x00\x01w\x00\x04gone"},
	} {
		if got := string(connect(c.h)); got != c.want {
			t.Errorf("%+v: % x, want % x", c.h, got, c.want)
		}
	}
}
