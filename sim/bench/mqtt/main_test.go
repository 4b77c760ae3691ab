package mqtt

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	farhop "github.com/farhop/farhop/node"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/bench/mqtt/attack"
)

// asNode makes the test binary act as the program of a node, so that the tests
// measure real processes and build nothing.
const asNode = "FARHOP_BENCH_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(asNode) == "" {
		os.Exit(m.Run())
	}
	if err := nodeMain(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// nodeMain does "init", "invite", "join", "run" and "bench mqtt --attack" as
// cmd/farhop does.
func nodeMain(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("want init, invite, join or run")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if args[0] == "bench" && len(args) == 6 { // bench mqtt --attack NAME --at ADDR
		return attack.Run(ctx, args[3], args[5], os.Stdout)
	}
	var o farhop.InitOptions
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.StringVar(&o.Dir, "dir", "", "")
	f.StringVar(&o.Region, "region", "", "")
	f.StringVar(&o.Name, "name", "", "")
	f.StringVar(&o.MQTT, "mqtt", "", "")
	f.StringVar(&o.Mesh, "mesh", "", "")
	f.StringVar(&o.Admin, "admin", "", "")
	advertise := f.String("advertise", "", "")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "init":
		_, err := farhop.Init(ctx, o)
		return err
	case "invite":
		return invite(ctx, o, *advertise)
	case "join":
		_, err := farhop.Join(ctx, farhop.JoinOptions{Dir: o.Dir, Ticket: f.Arg(0), Name: o.Name, MQTT: o.MQTT, Mesh: o.Mesh, Admin: o.Admin})
		return err
	}
	n, err := farhop.Open(o.Dir, farhop.Options{Log: slog.New(slog.DiscardHandler), Version: "bench"})
	if err != nil {
		return err
	}
	return n.Run(ctx)
}

// invite prints a ticket.
func invite(ctx context.Context, o farhop.InitOptions, advertise string) error {
	req := admin.InviteRequest{Life: config.Duration(time.Hour), Advertise: make([]config.HostPort, 1)}
	err := req.Advertise[0].UnmarshalText([]byte(advertise))
	if err == nil {
		req.Region, err = addr.ParseRegion(o.Region)
	}
	if err != nil {
		return err
	}
	c, err := admin.Dial(o.Dir)
	if err != nil {
		return err
	}
	got, err := c.Invite(ctx, req)
	if err == nil {
		_, err = fmt.Println(got.Ticket)
	}
	return err
}

// testConfig is a small run against this binary, without a peer.
func testConfig(t *testing.T) Config {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asNode, "1")
	return Config{
		Dir: t.TempDir(), Farhop: program, Rounds: 1, Window: 16,
		Time: 100 * time.Millisecond, Warm: time.Millisecond, Settle: time.Millisecond,
	}
}

// needMosquitto returns the program of the peer.
func needMosquitto(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("FARHOP_E2E") == "require" {
		t.Fatal("mosquitto is not installed: there is no peer to measure beside")
	}
	t.Skip("install mosquitto to run this test")
	return ""
}
