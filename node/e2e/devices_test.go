//go:build linux

package e2e

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// connect is an MQTT 3.1.1 CONNECT of client "rogue" (MQTT 3.1.1, 3.1).
const connect = "\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05rogue"

// TestRogueDevices sends what no device may. Each is cut off; a well-behaved
// one beside them notices nothing.
func TestRogueDevices(t *testing.T) {
	d := newDaemon(t, "earth-1")
	d.init("earth")
	d.run()
	sub := subscribe(d, "historian", "plant/#", 1)
	for _, c := range []struct {
		name  string
		login bool // log in first
		bytes string
		more  int64 // zeros that follow
	}{
		{"garbage", false, "GET / HTTP/1.1\r\n\r\n", 0},
		{"no connect first", false, "\x30\x05\x00\x01ahi", 0},
		{"endless length", false, "\x10\xff\xff\xff\xff\xff\xff", 0},
		{"unknown packet", true, "\x00\x00", 0},
		{"two connects", true, connect, 0},
		{"wildcard in topic", true, "\x30\x05\x00\x01#hi", 0},
		{"invalid UTF-8", true, "\x30\x06\x00\x02\xc3\x28hi", 0},
		{"200 MB message", true, "\x30\x80\x84\xaf\x5f\x00\x07plant/x", 200_000_000},
		{"endless topic", true, "\x30\x80\x80\x04\xff\xfe" + strings.Repeat("a/", 32767), 0},
		{"subscribe to nothing", true, "\x82\x02\x00\x01", 0},
	} {
		t.Run(c.name, func(t *testing.T) { rogue(t, d.mqtt, c.login, c.bytes, c.more) })
	}
	sent := numbered("m", 50)
	publish(d, "plant/1/temp", 1, sent...)
	sub.once(sent)
	if kb := d.memory(t); kb > 150_000 {
		t.Errorf("the daemon takes %d kB", kb)
	}
	if d.logged("panic") {
		t.Errorf("a panic:\n%s", tail(d.logs, 40))
	}
}

// rogue sends bytes and checks that the connection is ended.
func rogue(t *testing.T, address string, login bool, first string, more int64) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if login {
		ack := make([]byte, 4)
		if _, err := io.WriteString(conn, connect); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, ack); err != nil || string(ack) != "\x20\x02\x00\x00" {
			t.Fatalf("CONNACK % x, %v", ack, err)
		}
	}
	go func() {
		if _, err := io.WriteString(conn, first); err == nil {
			_, _ = io.CopyN(conn, zeros{}, more) // fails once the connection is cut
		}
	}()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is not ended")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
