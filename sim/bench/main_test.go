package bench

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"

	farhop "github.com/farhop/farhop/node"
)

// asNode makes the test binary act as the program of a node, so that the tests
// kill real processes and build nothing.
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

// nodeMain does "init" and "run" as cmd/farhop does.
func nodeMain(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("want init or run")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o farhop.InitOptions
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.StringVar(&o.Dir, "dir", "", "")
	f.StringVar(&o.Region, "region", "", "")
	f.StringVar(&o.Name, "name", "", "")
	f.StringVar(&o.MQTT, "mqtt", "", "")
	f.StringVar(&o.Mesh, "mesh", "", "")
	f.StringVar(&o.Admin, "admin", "", "")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "init" {
		_, err := farhop.Init(ctx, o)
		return err
	}
	n, err := farhop.Open(o.Dir, farhop.Options{Log: slog.New(slog.DiscardHandler), Version: "bench"})
	if err != nil {
		return err
	}
	return n.Run(ctx)
}

// testConfig is a small run against this binary.
func testConfig(t *testing.T) Config {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asNode, "1")
	return Config{Dir: t.TempDir(), Farhop: program, Clients: 3, Window: 8, Size: 64, Messages: 601, Rounds: 1, KillAfter: 100, Settle: 1}
}
