package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/farhop/farhop/sim/bench/mqtt"
	"github.com/farhop/farhop/sim/bench/mqtt/attack"
	"github.com/farhop/farhop/sim/bench/mqtt/crowd"
)

// TestBenchMQTTUsage checks what is refused before anything is measured.
func TestBenchMQTTUsage(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--rounds 200", "rounds: 200, want 1 to 101"},
		{"--size 4", "size: 4, want 16 to"},
		{"--window 9000", "window: 9000, want 1 to 8000"},
		{"--time -1s", "time: -1s, want at most 1h"},
		{"--idle 0", "--idle: want 1 or more"},
		{"--idle -1", "--idle: want 1 or more"},
		{"--queued 0", "--queued: want 1 or more"},
		{"--retained -5", "--retained: want 1 or more"},
		{"--queued 5 --retained 5", "--queued, --retained: want one of them"},
		{"--sessions 0", "--sessions: want 1 or more"},
		{"--sessions 9000000", "sessions: 9000000, want 1 to"},
		{"--idle 5 --moon", "--idle, --moon: want one of them"},
		{"--peer none --mosquitto none", "--peer, --mosquitto: want one of them"},
		{"--hostile --attacks none", `attacks: "none", want some of [`},
		{"--hostile --moon", "--moon, --hostile: want one of them"},
		{"--rate 5", "--rate says something with --hostile only"},
		{"--hostile --rate 2", "rate: 2, want 5 to"},
		{"--clients 5", "--clients says something with --durable only"},
		{"--durable --time 1s", "--time says nothing with --durable"},
		{"--peer emqx=/bin/emqx", `--peer: "emqx=/bin/emqx", want mosquitto=PROGRAM or none`},
		{"--peer /bin/mosquitto", `--peer: "/bin/mosquitto", want mosquitto=PROGRAM or none`},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, _, errs := call(t.Context(), "", append([]string{"bench", "mqtt"}, strings.Fields(c.args)...)...)
			if code != exitUsage || !strings.Contains(errs, c.want) {
				t.Errorf("exit code %d, %q; want %d and %q", code, errs, exitUsage, c.want)
			}
		})
	}
}

// TestBenchSessions runs it, a little, and checks the keys that others read.
func TestBenchSessions(t *testing.T) {
	code, out, errs := call(t.Context(), "", "bench", "mqtt", "--sessions", "100", "--settle", "1ms", "--time", "1ms", "--json")
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"sessions", "bytes_per_session", "idle_cpu"} {
		if _, ok := got[key]; !ok {
			t.Errorf("no %s in %s", key, out)
		}
	}
	if got["sessions"] != 100.0 {
		t.Errorf("got %s", out)
	}
}

// TestBenchPeer: what a flag says reaches the run.
func TestBenchPeer(t *testing.T) {
	t.Setenv("PATH", filepath.Join(t.TempDir(), "none"))
	for _, c := range []struct{ peer, want string }{{"none", noMosquitto}, {"mosquitto=a/b=c", "a/b=c"}, {"", ""}} {
		o := benchMQTTFlags{peer: c.peer}
		if err := o.check((&app{}).benchMQTTCmd()); err != nil || o.mosquitto != c.want {
			t.Errorf("%q: %q, %v; want %q", c.peer, o.mosquitto, err, c.want)
		}
	}
}

// TestBenchUnfaithful: a report with losses is printed, and the command fails.
func TestBenchUnfaithful(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out}
	lost := fmt.Errorf("x: %w", mqtt.ErrUnfaithful)
	err := a.benchReport(true, mqtt.Report{Workloads: []mqtt.Workload{{Name: "x", Lost: 3}}}, lost, nil)
	if err != lost || !strings.Contains(out.String(), `"lost": 3`) {
		t.Errorf("error %v, printed %s", err, out.String())
	}
}

// TestBenchMQTTReports holds the reports for people against their golden file.
func TestBenchMQTTReports(t *testing.T) {
	var out bytes.Buffer
	m := mqtt.Machine{CPUs: 2, OS: "linux", Arch: "arm64", Peer: "mosquitto", PeerVersion: "2.0.11"}
	for _, err := range []error{
		printBenchWorkloads(&out, mqtt.Report{
			Machine: m, Config: mqtt.Config{Rounds: 3, Size: 64}, Seconds: 3,
			Workloads: []mqtt.Workload{{
				Name: "fan-in-qos0", Rate: 947_256, CPU: 0.48, PeerRate: 221_050, PeerCPU: 2.16, RateRatio: 4.29, CPURatio: 0.22, Generator: 0.05,
			}, {
				Name: "fan-in-qos1", Rate: 109_319, CPU: 2.45, PeerStalled: 1, PeerLost: 2, Generator: 0.83, Lost: 1, Wrong: 2,
				AllPeer: []mqtt.Round{{Stalled: true, After: 150_000}},
			}},
		}),
		printBenchIdle(&out, mqtt.IdleReport{
			Machine: m, Connections: 19_000, Settle: 15, Seconds: 20, KiB: 3.4, KiBAnon: 3.3, CPU: 0.001, PeerKiB: 1.72, PeerKiBAnon: 1.71,
		}),
		printBenchMoon(&out, mqtt.MoonReport{
			Machine: m, OWLT: 1.28, Rate: 50_000_000, Size: 64, Warm: 20.48, Seconds: 10.24,
			Runs: []mqtt.MoonRun{
				{Broker: "farhop", Setting: "owlt and rate configured", QoS: 1, Rate: 21_072, CPU: 40.5, LinkMB: 61.5},
				{Broker: "mosquitto", Setting: "bridge, defaults", QoS: 2, Rate: 93.36, CPU: 74.9, LinkMB: 0.2, Lost: 4},
				{Broker: "mosquitto", Setting: "bridge, limits lifted", QoS: 2, Stalled: true},
			},
		}),
		printBenchQueued(&out, mqtt.QueuedReport{
			Machine: m, Queued: 10_000_000, Size: 64, FillRate: 60_000, Before: 21, Full: 40.5, Resumed: 35, Growth: 19.5, Peak: 80.1,
			Restart: 1.2, First: 0.05, DrainRate: 50_000, InOrder: true,
		}),
		printBenchQueued(&out, mqtt.QueuedReport{Machine: m, Queued: 10, Size: 64, Missing: 1, Wrong: 2}),
		printBenchRetained(&out, mqtt.RetainedReport{
			Machine: m, Retained: 1_000_000, Size: 64, SetRate: 40_000, BytesEach: 250, AloneRate: 100_000, StalledRate: 99_000, Share: 0.99,
			StalledHeld: 3, DrainRate: 200_000, PointMS: 0.4,
		}),
		printBenchHostile(&out, mqtt.HostileReport{
			Machine: m, Rate: 1000, Seconds: 8,
			Attacks: []mqtt.Attack{
				{Name: "reconnects", Share: 1.0004, DurableShare: 0.999, P99: 9.4, BaseP99: 3.4, DurableP99: 20.4, BaseDurable: 13.9, RSS: 1.2, CPU: 0.53, Counts: attack.Counts{Connects: 65_548, Packets: 65_548}, Over: 10},
				{Name: "half-open", Share: 0.7, Lost: 1, Wrong: 2, Fault: "victim-0001-pub: the broker ended the connection"},
			},
		}),
		printBenchSessions(&out, crowd.Report{Sessions: 1_000_000, Settle: 15, Seconds: 20, Bytes: 2723, Live: 2458, Heap: 1862, CPU: 0.0003, Connecting: 8060}),
	} {
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("\n")
	}
	golden(t, "bench_mqtt.txt", out.String())
}
