package bench

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"

	farhop "github.com/farhop/farhop/node"
	"github.com/farhop/farhop/sim/bench/proc"
)

// profiles is where TestProfile leaves its profiles.
var profiles = flag.String("profiles", "", "folder in which TestProfile leaves load.pprof, drain.pprof and allocs.pprof")

// TestProfile loads a node within this process and profiles it: a daemon has
// no profiler. Load and node share the profile; the load is package bench.
//
//	go test ./sim/bench -run Profile -args -profiles DIR
//	go tool pprof -top -focus=node DIR/load.pprof
func TestProfile(t *testing.T) {
	if *profiles == "" {
		t.Skip("run with -args -profiles DIR")
	}
	dir := t.TempDir()
	mqtt := freePort(t)
	if _, err := farhop.Init(t.Context(), farhop.InitOptions{Dir: dir, Region: "bench", Name: "bench", MQTT: mqtt, Mesh: freePort(t), Admin: freePort(t)}); err != nil {
		t.Fatal(err)
	}
	n, err := farhop.Open(dir, farhop.Options{Log: slog.New(slog.DiscardHandler), Version: "bench"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := prepareSession(ctx, mqtt)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	profileLoad(t, mqtt)
}

func profileLoad(t *testing.T, addr string) {
	t.Helper()
	c := Config{Messages: 300_000, Limit: patience}.withDefaults()
	l, err := connectLoad(t.Context(), c, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	profiled(t, "load", c.Messages, func() { err = l.run(t.Context(), c.Limit, 0, nil) })
	if err != nil {
		t.Fatal(err)
	}
	var d Drain
	profiled(t, "drain", c.Messages, func() { d, err = drain(t.Context(), addr, l) })
	if err != nil || d.Lost+d.Repeated+d.OutOfOrder > 0 {
		t.Errorf("drain %+v: %v", d, err)
	}
	f := create(t, "allocs.pprof")
	defer f.Close()
	if err := pprof.Lookup("allocs").WriteTo(f, 0); err != nil {
		t.Error(err)
	}
}

// profiled runs do, which handles n messages, under the profiler.
func profiled(t *testing.T, name string, n int, do func()) {
	t.Helper()
	cpu := create(t, name+".pprof")
	defer cpu.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := pprof.StartCPUProfile(cpu); err != nil {
		t.Fatal(err)
	}
	begin, used := time.Now(), proc.OwnCPU()
	do()
	wall, busy, of := time.Since(begin).Seconds(), proc.OwnCPU()-used, float64(n)
	pprof.StopCPUProfile()
	runtime.ReadMemStats(&after)
	t.Logf("%s: %.0f messages/s, %.1f µs CPU, %.0f B and %.1f allocations a message, both sides together", name, of/wall,
		perMessage(busy, of), float64(after.TotalAlloc-before.TotalAlloc)/of, float64(after.Mallocs-before.Mallocs)/of)
}

func create(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(*profiles, name))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func freePort(t *testing.T) string {
	t.Helper()
	a, err := proc.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return a
}
