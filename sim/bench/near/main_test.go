package near

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	farhop "github.com/farhop/farhop/node"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
)

// asProgram makes the test binary act as the program, so that the tests measure
// real processes and build nothing.
const asProgram = "FARHOP_BENCH_NEAR"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	if err := programMain(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// programMain does "init", "invite", "join", "run" and "part" as cmd/farhop does.
func programMain(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("want init, invite, join, run or part")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if args[0] == "part" {
		return Part(ctx, args[1:], os.Stdout)
	}
	var o farhop.InitOptions
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.StringVar(&o.Dir, "dir", "", "")
	f.StringVar(&o.Region, "region", "", "")
	f.StringVar(&o.Name, "name", "", "")
	f.StringVar(&o.MQTT, "mqtt", "", "")
	f.StringVar(&o.Mesh, "mesh", "", "")
	f.StringVar(&o.Admin, "admin", "", "")
	f.String("log-format", "", "")
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
	n, err := farhop.Open(o.Dir, farhop.Options{Log: slog.New(slog.NewJSONHandler(os.Stderr, nil)), Version: "bench"})
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
	client, err := admin.Dial(o.Dir)
	if err != nil {
		return err
	}
	ticket, err := client.Invite(ctx, req)
	if err != nil {
		return err
	}
	_, err = fmt.Println(ticket.Ticket)
	return err
}
