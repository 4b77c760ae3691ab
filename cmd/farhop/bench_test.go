package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/sim/bench"
)

// TestBenchUsage checks what is refused before anything is measured.
func TestBenchUsage(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--durable --clients 0x", "--clients"},
		{"--durable --clients 2000", "clients: 2000, want 1 to 1000"},
		{"--durable --size 4", "size: 4, want 16 to"},
		{"--durable --messages 8", "messages: 8, want 16 to"},
		{"--durable --window 5000 --rounds 200", "rounds: 200, want 1 to 101"},
		{"--durable --limit -1s", "negative"},
		{"now", `farhop bench mqtt takes no arguments, not "now"`},
	} {
		t.Run(c.args, func(t *testing.T) {
			var out, errs bytes.Buffer
			a := &app{in: strings.NewReader(""), out: &out, err: &errs}
			root := &cobra.Command{Use: "farhop", SilenceErrors: true, SilenceUsage: true}
			root.SetFlagErrorFunc(a.root().FlagErrorFunc())
			cmd := a.benchCmd()
			cmd.GroupID = "" // the groups are those of the real root
			root.AddCommand(cmd)
			root.SetArgs(append([]string{"bench", "mqtt", "--mosquitto", "none"}, strings.Fields(c.args)...))
			err := root.ExecuteContext(t.Context())
			if code := a.report(t.Context(), err); code != exitUsage || !strings.Contains(errs.String(), c.want) {
				t.Errorf("exit code %d, %q; want %d and %q", code, errs.String(), exitUsage, c.want)
			}
		})
	}
}

func TestBenchPrograms(t *testing.T) {
	t.Setenv("PATH", filepath.Join(t.TempDir(), "none"))
	for _, c := range []struct{ name, dir, mosquitto, wantDir, wantMosquitto string }{
		{"none", "d", "none", "d", ""},
		{"named", "", "m/mosquitto", os.TempDir(), "m/mosquitto"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bench.Config
			a := &app{err: &bytes.Buffer{}}
			if err := a.benchPrograms(&b, c.dir, c.mosquitto); err != nil {
				t.Fatal(err)
			}
			if b.Farhop == "" || b.Dir != c.wantDir || b.Mosquitto != c.wantMosquitto {
				t.Errorf("got %+v", b)
			}
		})
	}
}

// TestBenchReport holds the report for people against its golden file.
func TestBenchReport(t *testing.T) {
	r := bench.Report{
		Machine: bench.Machine{CPUs: 2, OS: "linux", Arch: "arm64"},
		Config:  bench.Config{Clients: 16, Window: 64, Size: 256, Messages: 100_000, Rounds: 3},
		Floor:   bench.Floor{SyncsPerSecond: 8000, SyncMicros: 125, Grouped: 64_000, Natural: 480_000, Served: 240_000, ServedP50: 4200, ServedP99: 9900},
		Servers: []bench.Server{{
			Name: "farhop", Setting: "defaults", Promise: "PUBACK after fdatasync", IdleMin: 15 << 20, IdleMedian: 16 << 20,
			OfNatural: 0.083, OfServed: 0.167, OfNode: 1,
			Load: bench.Load{
				PerSecond: 40_000, P50: 26_200, P99: 165_900, ServerCPU: 16.04, Written: 578, Before: 16 << 20, Peak: 40 << 20, Files: 64 << 20,
				Drain: bench.Drain{PerSecond: 45_000},
			},
			Kills: []bench.Drain{{Acked: 10_000, Arrived: 10_000}, {Acked: 10_001, Arrived: 10_001}},
		}, {
			Name: "mosquitto", Version: "2.0.11", Setting: "persistence, defaults", Promise: "PUBACK before the disk",
			Rounds: []bench.Load{{Drain: bench.Drain{Lost: 1, Repeated: 2, OutOfOrder: 3}}},
			Kills:  []bench.Drain{{Acked: 10_000, Lost: 10_000}},
		}},
	}
	var out bytes.Buffer
	if err := printBench(&out, r); err != nil {
		t.Fatal(err)
	}
	golden(t, "bench.txt", out.String())
}
