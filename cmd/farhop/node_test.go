package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/sim/bench/proc"
)

// lockedBuffer is a log that is written while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// runDaemon runs farhop run until the test ends and returns once it is ready.
func runDaemon(t *testing.T, dir string, flags ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var log lockedBuffer
	done := make(chan int, 1)
	go func() { done <- run(ctx, append([]string{"run", "--dir", dir}, flags...), nil, &log, &log) }()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("farhop run ended with %d:\n%s", code, log.String())
		}
	})
	for {
		if code, _, _ := call(t.Context(), "", "status", "--dir", dir); code == 0 && strings.Contains(log.String(), "ready") { // the API is there before MQTT is
			return
		}
		select {
		case code := <-done:
			done <- code
			t.Fatalf("farhop run ended with %d:\n%s", code, log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// must runs a command that has to succeed.
func must(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	code, out, stderr := call(t.Context(), stdin, args...)
	if code != 0 {
		t.Fatalf("farhop %s ended with %d:\n%s", strings.Join(args, " "), code, stderr)
	}
	return out
}

// freeUDP returns an address of loopback with a port that is free, and that
// nothing takes before its node does.
func freeUDP(t *testing.T) string {
	t.Helper()
	a, err := proc.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The story of the README, with real nodes: init, run, invite, join, and a
// message from one node to the other.
func TestTwoNodes(t *testing.T) {
	earth, luna := filepath.Join(t.TempDir(), "earth"), filepath.Join(t.TempDir(), "luna")
	mesh := freeUDP(t)
	ports := []string{"--mqtt", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--mesh"}
	out := must(t, "", append([]string{"init", "--region", "earth", "--name", "earth-1", "--dir", earth}, append(ports, mesh)...)...)
	if !strings.HasSuffix(out, "next: farhop run --dir "+earth+"\n") {
		t.Errorf("init: %q", out)
	}
	if code, _, stderr := call(t.Context(), "", append([]string{"init", "--region", "earth", "--dir", earth}, append(ports, mesh)...)...); code != exitFailed {
		t.Errorf("init over a node: %d %s", code, stderr)
	}
	runDaemon(t, earth)

	ticket := must(t, "", "invite", "--region", "luna", "--advertise", mesh, "--dir", earth)
	if _, err := pki.ParseTicket(strings.TrimSpace(ticket)); err != nil {
		t.Fatalf("invite: %v", err)
	}
	must(t, ticket, append([]string{"join", "-", "--name", "luna-1", "--dir", luna}, append(ports, "127.0.0.1:0")...)...)
	runDaemon(t, luna)
	for !strings.Contains(must(t, "", "nodes", "--dir", earth), "luna-1") {
		if err := pause(t.Context(), 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}

	got := make(chan string, 1)
	go func() {
		_, out, stderr := call(t.Context(), "", "sub", "-t", "plant/#", "-n", "1", "--client", "ops", "--dir", luna)
		got <- out + stderr
	}()
	for !strings.Contains(must(t, "", "nodes", "--json", "--dir", earth), `"plant/#"`) {
		if err := pause(t.Context(), 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if id := must(t, "", "pub", "-t", "plant/1", "-m", "21.5", "--dir", earth); !strings.HasPrefix(id, "earth-1.") {
		t.Errorf("pub: %q", id)
	}
	if line := <-got; line != "plant/1 21.5\n" {
		t.Errorf("sub: %q", line)
	}
}

// A node that is told to stop while it starts stops like any other.
func TestStopWhileStarting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node")
	ports := []string{"--mqtt", "127.0.0.1:0", "--admin", "127.0.0.1:0"}
	must(t, "", append([]string{"init", "--region", "earth", "--mesh", "127.0.0.1:0", "--dir", dir}, ports...)...)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for _, args := range [][]string{{"--dir", dir}, append([]string{"--standalone", "--dir", filepath.Join(t.TempDir(), "alone")}, ports...)} {
		if code, _, stderr := call(stopped, "", append([]string{"run"}, args...)...); code != 0 || !strings.Contains(stderr, "msg=stopped") {
			t.Errorf("farhop run %s: %d %s", args, code, stderr)
		}
	}
}

// What flags say of a standalone broker holds.
func TestStandaloneFlags(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "broker")
	acl := filepath.Join(t.TempDir(), "acl.txt")
	if err := os.WriteFile(acl, []byte("topic write up/#\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runDaemon(t, dir, "--standalone", "--mqtt", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--acl", acl, "--server-keepalive", "7")
	at := fromJSON[admin.Status](t, must(t, "", "status", "--json", "--dir", dir)).MQTT.Listen
	must(t, "", "pub", "-t", "up/1", "-m", "x", "--broker", at)
	if code, _, stderr := call(t.Context(), "", "pub", "-t", "down/1", "-m", "x", "--broker", at); code != exitFailed || !strings.Contains(stderr, "0x87") {
		t.Errorf("what no rule allows: %d %s", code, stderr)
	}
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ack, err := paho.NewClient(paho.ClientConfig{Conn: conn}).Connect(t.Context(), &paho.Connect{ClientID: "a", KeepAlive: 60, CleanStart: true})
	if err != nil || ack.Properties.ServerKeepAlive == nil || *ack.Properties.ServerKeepAlive != 7 {
		t.Errorf("%+v, %v; want a keep-alive of 7 s", ack, err)
	}
}
