package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// dataDir makes a data directory whose admin.listen is listen.
func dataDir(t *testing.T, listen config.HostPort) string {
	t.Helper()
	dir := t.TempDir()
	c := config.Default()
	c.Node = config.Node{Name: addr.MustNode("luna-1"), Region: addr.MustRegion("luna")}
	c.Admin.Listen = listen
	if err := config.Save(filepath.Join(dir, config.FileName), c); err != nil {
		t.Fatal(err)
	}
	return dir
}

// start runs a server over a fake on a free port.
func start(t *testing.T) (dir string, f *fake) {
	t.Helper()
	dir, f = dataDir(t, "127.0.0.1:0"), &fake{}
	s, err := New(Config{Listen: "127.0.0.1:0", Dir: dir, Backend: f, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return dir, f
}

// Every method of the client returns what the backend said.
func TestClientReadsWhatTheServerWrites(t *testing.T) {
	dir, f := start(t)
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	id, err := bundle.ParseID("luna-1.9f3a2.t57")
	if err != nil {
		t.Fatal(err)
	}
	invite := InviteRequest{Region: addr.MustRegion("luna"), Advertise: []config.HostPort{"192.0.2.1:7330"}, Life: config.Duration(2 * time.Hour)}
	push := FleetPushRequest{File: "f.yaml", Data: []byte("routes: []\n")}
	same := func(what string) func(got any, err error) func(want any, err2 error) {
		return func(got any, err error) func(any, error) {
			return func(want any, err2 error) {
				t.Helper()
				if err = errors.Join(err, err2); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %v\n got %+v\nwant %+v", what, err, got, want)
				}
			}
		}
	}
	same("status")(c.Status(ctx))(f.Status(ctx))
	same("nodes")(c.Nodes(ctx))(f.Nodes(ctx))
	same("routes")(c.Routes(ctx))(f.Routes(ctx))
	same("why")(c.Why(ctx, id))(f.Why(ctx, id))
	same("queues")(c.Queues(ctx))(f.Queues(ctx))
	peek := PeekRequest{Queue: "session plc 7", Class: "bulk", After: 7, Limit: 5, Payload: true}
	same("peek")(c.Peek(ctx, peek))(f.Peek(ctx, peek))
	same("retry")(c.Retry(ctx))(f.Retry(ctx))
	purge := PurgeRequest{All: true, Class: "bulk", Older: config.Duration(time.Hour), Origin: addr.MustNode("luna-1"), Message: id.String(), DryRun: true}
	same("purge")(c.Purge(ctx, purge))(f.Purge(ctx, purge))
	replay := ReplayRequest{Session: "plc-7", Again: true, Messages: []ReplayMessage{{Publication{Message: id.String(), Topic: "a", Payload: []byte{0, 255}}, "bulk", noon()}}}
	same("replay")(c.Replay(ctx, replay))(f.Replay(ctx, replay))
	if f.peeked != peek || f.purged != purge || !reflect.DeepEqual(f.again, replay) {
		t.Errorf("the backend got %+v, %+v, %+v", f.peeked, f.purged, f.again)
	}
	sessions := SessionsRequest{Client: "plc-*", After: "a", Limit: 5, Subscriptions: true}
	same("sessions")(c.Sessions(ctx, sessions))(f.Sessions(ctx, sessions))
	one := SessionRequest{Client: "plc-7", DryRun: true}
	same("kick")(c.KickSession(ctx, one))(f.KickSession(ctx, one))
	same("end")(c.EndSession(ctx, one))(f.EndSession(ctx, one))
	kept := RetainedRequest{Filter: "#", After: "a", Limit: 5, Values: true, Marks: true}
	same("retained")(c.Retained(ctx, kept))(f.Retained(ctx, kept))
	same("remove")(c.RemoveRetained(ctx, kept))(f.RemoveRetained(ctx, kept))
	same("invite")(c.Invite(ctx, invite))(f.Invite(ctx, invite))
	same("push")(c.FleetPush(ctx, push))(f.FleetPush(ctx, push))
	same("fleet")(c.FleetStatus(ctx))(f.FleetStatus(ctx))
	same("config")(c.Config(ctx))(f.Config(ctx))
	if !reflect.DeepEqual(f.asked, invite) || !reflect.DeepEqual(f.pushed, push) {
		t.Errorf("the backend got %+v, %+v", f.asked, f.pushed)
	}
}

func TestClientReturnsTheServersError(t *testing.T) {
	dir, f := start(t)
	f.fail(NotHere("ask earth-1", "this node holds no authority"))
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Invite(t.Context(), InviteRequest{Region: addr.MustRegion("luna")})
	var e *Error
	if !errors.As(err, &e) || *e != (Error{Code: 409, What: "this node holds no authority", Hint: "ask earth-1"}) {
		t.Errorf("%#v", err)
	}
}

func TestDialWithoutDaemon(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := ln.Addr().String()
	ln.Close()
	dir := dataDir(t, config.HostPort(free))
	want := fmt.Sprintf("no farhop runs in %s (address %s): start it with: farhop run --dir %s", dir, free, dir)
	isNotRunning := func(err error) bool { var e *NotRunning; return errors.As(err, &e) }
	if _, err := Dial(dir); !isNotRunning(err) || err.Error() != want {
		t.Errorf("never started: %v", err)
	}
	if _, err := readOrMakeToken(dir); err != nil {
		t.Fatal(err)
	}
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); !isNotRunning(err) || err.Error() != want {
		t.Errorf("stopped: %v", err)
	}
	if _, err := Dial(t.TempDir()); !errors.Is(err, fs.ErrNotExist) || isNotRunning(err) {
		t.Errorf("no configuration: %v", err)
	}
}

func TestToken(t *testing.T) {
	dir := t.TempDir()
	first, err := readOrMakeToken(dir)
	if err != nil || len(first) != 2*tokenBytes {
		t.Fatalf("%q, %v", first, err)
	}
	path := filepath.Join(dir, TokenFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if again, err := readOrMakeToken(dir); again != first || err != nil {
		t.Errorf("not kept: %v", err)
	}
	if err := os.WriteFile(path, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readOrMakeToken(dir); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a short token is taken: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readOrMakeToken(dir); err == nil {
		t.Error("a token that others can read is taken")
	}
}

func TestPortTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s, _ := newServer(t)
	s.cfg.Listen = ln.Addr().String()
	if err := s.Run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "admin.listen: "+ln.Addr().String()+" is taken") {
		t.Errorf("%v", err)
	}
}

func TestConfigNamesAllFaults(t *testing.T) {
	err := Config{Listen: "7331"}.Validate()
	for _, want := range []string{"admin.listen", "Dir", "Backend", "Gatherer", "Log"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named: %v", want, err)
		}
	}
}

// A client on the same machine reaches what listens on all addresses.
func TestTarget(t *testing.T) {
	for listen, want := range map[config.HostPort]string{
		"127.0.0.1:7331":   "127.0.0.1:7331",
		":7331":            "127.0.0.1:7331",
		"0.0.0.0:7331":     "127.0.0.1:7331",
		"[::]:7331":        "[::1]:7331",
		"gateway.lan:7331": "gateway.lan:7331",
	} {
		if got := target(t.TempDir(), listen); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}
