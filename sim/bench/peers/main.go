package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/farhop/farhop/sim/bench/durable"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench-store:", err)
		}
		os.Exit(1)
	}
}

// run is the program.
func run(ctx context.Context, args []string, out, notes io.Writer) error {
	if len(args) > 0 && args[0] == "one" {
		return one(ctx, args[1:], out, notes)
	}
	if len(args) > 0 && args[0] == "slowread" {
		return slowRead(os.TempDir(), args[1:])
	}
	o := options{}
	f := flag.NewFlagSet("bench-store", flag.ContinueOnError)
	f.SetOutput(notes)
	f.StringVar(&o.dir, "dir", os.TempDir(), "folder on the disk to measure")
	f.BoolVar(&o.quick, "quick", false, "one round of a few cells: about three minutes")
	f.IntVar(&o.rounds, "rounds", 3, "rounds of each cell")
	f.DurationVar(&o.limit, "limit", 0, "most time of one measurement (default: 0.6 s, 0.8 s and 1.2 s by profile, more where groups take longer)")
	text := f.String("profiles", "native,sync5ms,write10mb", "profiles of the disk")
	engines := f.String("engines", "", "engines and peers (default: all)")
	producers := f.String("producers", "1,32,256,1024", "producers, by cell")
	sizes := f.String("sizes", "256,1024,65536", "bytes of a bundle, by cell")
	cycles := f.String("cycles", "1,256", "producers of the cells that measure cycles too")
	f.StringVar(&o.jsonl, "jsonl", "", "file that takes every measurement as a line of JSON (default: after the tables)")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("what is %q?", f.Arg(0))
	}
	o.profiles, o.engines = words(*text), words(*engines)
	var err error
	for _, n := range []struct {
		name, text string
		to         *[]int
	}{{"producers", *producers, &o.producers}, {"sizes", *sizes, &o.sizes}, {"cycles", *cycles, &o.cycles}} {
		if *n.to, err = numbers(n.text); err != nil {
			return fmt.Errorf("-%s: %w", n.name, err)
		}
	}
	return table(ctx, o, out, notes)
}

func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func numbers(s string) (out []int, err error) {
	for _, w := range words(s) {
		var n int
		if _, err := fmt.Sscanf(w, "%d", &n); err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no number from 1", w)
		}
		out = append(out, n)
	}
	return out, nil
}

// Sample is one measurement.
type Sample struct {
	Profile   string  `json:"profile"`
	Engine    string  `json:"engine"`
	Mode      string  `json:"mode"` // put or cycle
	Size      int     `json:"size"`
	Producers int     `json:"producers"`
	Round     int     `json:"round"`
	Durable   int     `json:"bundles"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_s"`
	WA        float64 `json:"write_amplification"`
	CPU       float64 `json:"cpu_us"` // of a bundle, its producer's among it
	Anon      float64 `json:"rss_anon_mb"`
	Failed    string  `json:"failed,omitempty"`
}

// one is a process that measures once, and prints a Sample.
func one(ctx context.Context, args []string, out, notes io.Writer) (err error) {
	var s Sample
	f := flag.NewFlagSet("one", flag.ContinueOnError)
	f.SetOutput(notes)
	dir := f.String("dir", "", "new folder")
	limit := f.Duration("limit", time.Second, "")
	cgroup := f.String("cgroup", "", "folder of the cgroup to join")
	f.StringVar(&s.Engine, "engine", "", "")
	f.StringVar(&s.Mode, "mode", "put", "")
	f.IntVar(&s.Size, "size", 0, "")
	f.IntVar(&s.Producers, "producers", 0, "")
	messages := f.Int("messages", 0, "")
	profile := f.String("cpuprofile", "", "file that takes a CPU profile of the measurement")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *cgroup != "" {
		if err := joinGroup(*cgroup); err != nil {
			return err
		}
	}
	l, err := durable.NewLoad(s.Size)
	if err != nil {
		return err
	}
	sink, err := open(s.Engine, *dir, l, s.Producers)
	if err != nil {
		return err
	}
	stop, err := profiled(*profile)
	if err != nil {
		return errors.Join(err, sink.Close())
	}
	m, err := durable.MeasureSink(ctx, sink, l, durable.Part{Producers: s.Producers, Messages: *messages, Limit: *limit, Cycle: s.Mode == "cycle"})
	if err = errors.Join(err, stop()); err != nil {
		return errors.Join(err, sink.Close())
	}
	s.Durable, s.Seconds, s.PerSecond, s.WA, s.CPU, s.Anon = m.Durable, m.Seconds, m.PerSecond, m.WA, m.CPU, durable.OwnAnonymous()
	if err := json.NewEncoder(out).Encode(s); err != nil {
		return err
	}
	return sink.Close()
}

// profiled takes a CPU profile until the function it returns is called; no name
// takes none.
func profiled(name string) (stop func() error, err error) {
	if name == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
