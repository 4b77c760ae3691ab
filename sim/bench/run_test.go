package bench

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// TestRun measures a real node, kills it, and leaves nothing behind.
func TestRun(t *testing.T) {
	c := testConfig(t)
	r, err := Run(t.Context(), c, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]float64{
		"syncs": r.Floor.SyncsPerSecond, "grouped": r.Floor.Grouped, "natural": r.Floor.Natural, "served": r.Floor.Served,
	} {
		if v <= 0 {
			t.Errorf("floor %s is %v", name, v)
		}
	}
	if len(r.Servers) != 1 || len(r.Servers[0].Rounds) != 1 || len(r.Servers[0].Kills) != 1 {
		t.Fatalf("servers %+v, want one with one round and one kill", r.Servers)
	}
	s := r.Servers[0]
	l, d, k := s.Rounds[0], s.Rounds[0].Drain, s.Kills[0]
	if l.Acked != c.Messages || l.PerSecond <= 0 || l.P99 < l.P50 || l.Peak < l.Before || l.Files == 0 || s.IdleMin == 0 {
		t.Errorf("load %+v, idle %d", l, s.IdleMin)
	}
	if !d.Present || d.Acked != c.Messages || d.Arrived != c.Messages || d.Lost+d.Repeated+d.OutOfOrder > 0 {
		t.Errorf("drain %+v, want all %d once and in order", d, c.Messages)
	}
	if !k.Present || k.Acked < c.KillAfter || k.Lost+k.OutOfOrder > 0 {
		t.Errorf("kill %+v, want at least %d acknowledged and none lost", k, c.KillAfter)
	}
	if s.OfServed <= 0 || s.OfNode != 1 {
		t.Errorf("ratios %v, %v", s.OfServed, s.OfNode)
	}
	left, err := os.ReadDir(c.Dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestMosquitto measures a Mosquitto that keeps everything in memory: what it
// acknowledged must be counted as lost after a kill.
func TestMosquitto(t *testing.T) {
	program := proc.FindMosquitto()
	if program == "" {
		if os.Getenv("FARHOP_E2E") == "require" {
			t.Fatal("mosquitto is not installed: there is no peer to measure beside")
		}
		t.Skip("install mosquitto to run this test")
	}
	if proc.MosquittoVersion(t.Context(), program) == "" {
		t.Errorf("%s does not say its version", program)
	}
	c := testConfig(t).withDefaults()
	c.Mosquitto = program
	servers := c.servers()
	if len(servers) != 3 {
		t.Fatalf("%d servers, want 3", len(servers))
	}
	out := Server{}
	if err := round(t.Context(), c, c.Dir, servers[2], &out); err != nil {
		t.Fatal(err)
	}
	if d := out.Rounds[0].Drain; d.Arrived != c.Messages || d.Lost+d.Repeated+d.OutOfOrder > 0 {
		t.Errorf("drain %+v, want all %d once and in order", d, c.Messages)
	}
	if k := out.Kills[0]; k.Acked < c.KillAfter || k.Lost != k.Acked {
		t.Errorf("kill %+v, want all lost: the database is written every 30 minutes", k)
	}
}

func TestRunStops(t *testing.T) {
	c := testConfig(t)
	ctx, cancel := context.WithCancel(t.Context())
	c.Settle = time.Hour
	_, err := Run(ctx, c, func(string, ...any) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was canceled", err)
	}
}

func TestServerFaults(t *testing.T) {
	program, err := exec.LookPath("false")
	if err != nil {
		t.Skip("install coreutils to run this test")
	}
	ends := server{name: "ends", program: program, prepare: func(context.Context, string, string) ([]string, error) { return nil, nil }}
	missing := server{name: "missing", program: filepath.Join(t.TempDir(), "none"), prepare: ends.prepare}
	for _, c := range []struct {
		name string
		s    server
		want string
	}{
		{"it ends at once", ends, "it does not take clients"},
		{"there is none", missing, "start missing"},
		{"it cannot be made", node(program), "init"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := launch(t.Context(), c.s, dir)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	good := Config{Dir: "d", Farhop: "farhop"}
	if err := good.Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no folder", func(c *Config) { c.Dir = "" }, "dir: missing"},
		{"no program", func(c *Config) { c.Farhop = "" }, "program of the node: missing"},
		{"window", func(c *Config) { c.Window = 1025 }, "window: 1025, want 1 to 1024"},
		{"clients", func(c *Config) { c.Clients = -1 }, "clients: -1"},
		{"size", func(c *Config) { c.Size = 15 }, "size: 15, want 16 to"},
		{"fewer messages than clients", func(c *Config) { c.Messages = 15 }, "messages: 15, want 16 to"},
		{"bytes", func(c *Config) { c.Size, c.Messages = 64<<10, 100_000 }, "fewer messages, or smaller ones"},
		{"rounds", func(c *Config) { c.Rounds = -1 }, "rounds: -1"},
		{"time", func(c *Config) { c.Limit = -1 }, "negative"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := good
			c.change(&bad)
			if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
