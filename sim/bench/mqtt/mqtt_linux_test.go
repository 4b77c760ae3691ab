package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// nothingLeft checks that a run cleaned up.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestRun measures all workloads on a real node: everything arrives.
func TestRun(t *testing.T) {
	c := testConfig(t)
	r, err := Run(t.Context(), c, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Workloads) != 5 {
		t.Fatalf("%d workloads, want 5", len(r.Workloads))
	}
	for _, w := range r.Workloads {
		if w.Rate <= 0 || len(w.All) != 1 || w.All[0].In == 0 || w.Lost+w.Wrong > 0 || w.Stalled > 0 || w.PeerRate != 0 {
			t.Errorf("%+v", w)
		}
	}
	nothingLeft(t, c.Dir)
}

// TestRunPeer puts a real Mosquitto beside a node, and looks for the keys that
// others read.
func TestRunPeer(t *testing.T) {
	c := testConfig(t)
	c.Peer, c.Only = needMosquitto(t), []string{"fan-in-qos0", "pairs-qos1"}
	r, err := Run(t.Context(), c, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if r.Machine.Peer != "mosquitto" || r.Machine.PeerVersion == "" || len(r.Workloads) != 2 {
		t.Errorf("got %+v", r)
	}
	for _, w := range r.Workloads {
		if w.PeerRate <= 0 || w.RateRatio <= 0 || len(w.AllPeer) != 1 || w.PeerLost+w.PeerWrong > 0 {
			t.Errorf("%+v", w)
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"workloads", "name", "rate", "cpu_us_per_msg", "peer_rate", "peer_cpu_us_per_msg"} {
		if !strings.Contains(string(text), `"`+key+`":`) {
			t.Errorf("no %s in %s", key, text)
		}
	}
}

func TestIdle(t *testing.T) {
	c := testConfig(t)
	c.Idle = 40
	r, err := Idle(t.Context(), c, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if r.Connections != 40 || r.KiB <= 0 || r.KiBAnon <= 0 || r.PeerKiB != 0 {
		t.Errorf("got %+v", r)
	}
	nothingLeft(t, c.Dir)
	c.Idle = maxIdle
	if _, err := Idle(t.Context(), c, t.Logf); err == nil || !strings.Contains(err.Error(), "open files at each end") {
		t.Errorf("a million: %v, want that there are not as many files", err)
	}
}

// TestMoon measures two nodes and two bridges over a link of 20 ms. A busy
// machine may leave nothing of a tenth of a second to one of the runs.
func TestMoon(t *testing.T) {
	c := testConfig(t)
	c.light, c.Peer = 20*time.Millisecond, needMosquitto(t)
	r, err := Moon(t.Context(), c, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Runs) != 6 || r.QoS1+r.QoS2 <= 0 || r.PeerQoS1+r.PeerQoS2 <= 0 || r.FreeQoS1+r.FreeQoS2 <= 0 {
		t.Errorf("got %+v", r)
	}
	nothingLeft(t, c.Dir)
}

func TestStops(t *testing.T) {
	c := testConfig(t)
	ctx, cancel := context.WithCancel(t.Context())
	c.Rounds = maxRounds
	if _, err := Run(ctx, c, func(string, ...any) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was canceled", err)
	}
	nothingLeft(t, c.Dir)
}

// TestPrograms: what does not run is named.
func TestPrograms(t *testing.T) {
	program, err := exec.LookPath("false")
	if err != nil {
		t.Skip("install coreutils to run this test")
	}
	c := testConfig(t)
	c.Farhop = program
	if _, err := Run(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), "make farhop") {
		t.Errorf("error %v, want that farhop cannot be made", err)
	}
	if _, err := launch(t.Context(), mosquitto(program), c.Dir); err == nil || !strings.Contains(err.Error(), "start mosquitto: it does not take clients") {
		t.Errorf("error %v, want that mosquitto takes no clients", err)
	}
	nothingLeft(t, c.Dir)
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"rounds", func(c *Config) { c.Rounds = 200 }, "rounds: 200, want 1 to 101"},
		{"size", func(c *Config) { c.Size = 4 }, "size: 4, want 16 to"},
		{"window", func(c *Config) { c.Window = 9000 }, "window: 9000, want 1 to 8000"},
		{"time", func(c *Config) { c.Time = -1 }, "time: -1ns"},
		{"workload", func(c *Config) { c.Only = []string{"fan"} }, `workload: "fan", want one of [fan-in-qos0 `},
		{"no folder", func(c *Config) { c.Dir = "" }, "dir: missing"},
		{"no program", func(c *Config) { c.Farhop = "" }, "program of the node: missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := Config{Dir: "d", Farhop: "farhop"}
			c.change(&bad)
			if _, err := Run(t.Context(), bad, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestFinish: a stalled round has no rate, and what a node loses is an error.
func TestFinish(t *testing.T) {
	w := Workload{Name: "x"}
	for _, rate := range []float64{100, 300, 200} {
		w.add("farhop", Round{Rate: rate, CPU: 2})
		w.add("mosquitto", Round{Rate: 100, CPU: 4, Stalled: rate == 300, Lost: 1})
	}
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	got := []float64{w.Rate, w.CPU, w.PeerRate, w.RateRatio, w.CPURatio, float64(w.PeerStalled), float64(w.PeerLost)}
	if want := []float64{200, 2, 100, 1.5, 0.5, 1, 3}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []Round{{Lost: 1}, {Wrong: 1}, {Stalled: true}} {
		w := Workload{Name: "x"}
		w.add("farhop", bad)
		if err := w.finish(); !errors.Is(err, ErrUnfaithful) {
			t.Errorf("%+v: error %v, want %v", bad, err, ErrUnfaithful)
		}
	}
}
