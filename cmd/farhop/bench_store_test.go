package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/farhop/farhop/sim/bench"
	"github.com/farhop/farhop/sim/bench/durable"
)

// TestBenchMoreUsage checks what the other benches refuse.
func TestBenchMoreUsage(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"store --engine ram", `engine: "ram", want `},
		{"store --size 1", "size: 1, want 64 to"},
		{"store --producers 9999", "producers: 9999, want 1 to"},
		{"store --backlog -1", "backlog: -1, want 1 to"},
		{"store here", `farhop bench store takes no arguments, not "here"`},
		{"relay --cl pigeon", `cl: "pigeon", want one of quic, tcpclv4`},
		{"relay --messages 1", "messages: 1, want 100 to"},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, _, errs := call(t.Context(), "", append([]string{"bench"}, strings.Fields(c.args)...)...)
			if code != exitUsage || !strings.Contains(errs, c.want) {
				t.Errorf("exit code %d, %q; want %d and %q", code, errs, exitUsage, c.want)
			}
		})
	}
}

// TestBenchStore runs it, a little, and checks the keys that others read.
func TestBenchStore(t *testing.T) {
	line := []string{"bench", "store", "--json", "--dir", t.TempDir(), "--messages", "200", "--producers", "4", "--rounds", "1", "--size", "128"}
	code, out, errs := call(t.Context(), "", line...)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"fdatasync_per_s", "put_per_s", "cycle_per_s", "floor_put_per_s", "share_of_floor", "write_amplification", "rss_mb", "reopen_ms",
		"engine", "size", "producers", "messages", "rss_anon_mb", "cycle_share", "fs",
	} {
		if _, ok := got[key]; !ok {
			t.Errorf("no %s in %s", key, out)
		}
	}
	if got["producers"] != 4.0 || got["size"] != 128.0 || got["put_per_s"].(float64) <= 0 {
		t.Errorf("got %s", out)
	}
}

// TestBenchReports holds the reports for people against their golden file.
func TestBenchReports(t *testing.T) {
	var out bytes.Buffer
	for _, err := range []error{
		printBenchStore(&out, durable.Report{
			Engine: "journal", FileSystem: "ext4", CPUs: 2, OS: "linux", Arch: "arm64", Size: 1024, Producers: 64, Rounds: 9,
			Syncs: 195.5, Floor: 11_800, Put: 11_300, Cycle: 11_100, Share: 0.958, CycleShare: 0.944, WA: 1.21, PutWA: 1.2, FloorWA: 1.13, PutCPU: 5.5, CycleCPU: 6.2, FloorCPU: 3.4,
			RSS: 40, RSSAnon: 12.4, Queued: 11_310, Reopen: 3.25,
		}),
		printBenchBacklog(&out, durable.BacklogReport{
			Engine: "journal", FileSystem: "ext4", CPUs: 2, Size: 256, Producers: 256, Backlog: 10_000_000,
			Filled: durable.Filled{
				Queued: 10_400_000, Fill: 400_000, PutEmpty: 410_000, PutFull: 405_000, FullShare: 0.99, WA: 1.2, RSS: 300, RSSAnon: 90, AnonPeak: 120,
			},
			Killed: 900, Reopen: 400, Cold: 1500, ReopenedAnon: 80, Drained: 10_400_000, Drain: 300_000, Disk: 3200, DiskAfter: 16, ReturnedShare: 0.995, ReturnedMillis: 300,
			Commit: 210, CommitFresh: 208, CommitShare: 1.01, CommitBytes: 4500, CommitFreshBytes: 4400,
		}),
		printBenchRelay(&out, bench.RelayReport{
			RelayConfig: bench.RelayConfig{CL: "quic", Size: 1024, Messages: 30_000, Rounds: 3}, FileSystem: "ext4", CPUs: 2,
			PerSecond: 20_000, CPU: 33.31, MB: 20.48, SenderCPU: 18, ReceiverCPU: 21.5, Written: 1500,
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("\n")
	}
	golden(t, "bench_more.txt", out.String())
}

// TestBenchFillHidden: what is run and killed is no command for people.
func TestBenchFillHidden(t *testing.T) {
	_, out, _ := call(t.Context(), "", "bench", "--help")
	if slices.Contains(strings.Fields(out), fillCommand) {
		t.Errorf("the filler shows in the help:\n%s", out)
	}
}
