package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/bench/durable"
)

// TestEngines puts a little into each, and removes it where that is measured.
func TestEngines(t *testing.T) {
	for _, engine := range engines() {
		for _, mode := range []string{"put", "cycle"} {
			if mode == "cycle" && !cycles(engine) {
				continue
			}
			t.Run(engine+" "+mode, func(t *testing.T) {
				var out, notes bytes.Buffer
				err := run(t.Context(), []string{
					"one", "-engine", engine, "-mode", mode, "-dir", filepath.Join(t.TempDir(), "new"),
					"-size", "200", "-producers", "5", "-messages", "100", "-limit", "1m",
				}, &out, &notes)
				if err != nil {
					t.Fatalf("%v\n%s", err, notes.String())
				}
				var s Sample
				if err := json.Unmarshal(out.Bytes(), &s); err != nil {
					t.Fatal(err)
				}
				if s.Engine != engine || s.Mode != mode || s.Durable != 100 || s.PerSecond <= 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// TestRemoved checks that a cycle leaves nothing in the peers that count.
func TestRemoved(t *testing.T) {
	l, err := durable.NewLoad(100)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSQLite(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := durable.Drive(t.Context(), s, l, durable.Part{Producers: 1, Messages: 50, Cycle: true}); err != nil {
		t.Fatal(err)
	}
	var rows int
	// The last bundle has no put after it that would remove it.
	if err := s.(sqliteSink).db.QueryRow("SELECT count(*) FROM queue").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("%d rows are left, want 1: %v", rows, err)
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"now", `what is "now"?`},
		{"-producers 1,x", `-producers: "x" is no number`},
		{"-engines redis", `engine: "redis", want some of`},
		{"-profiles ram", `profile: "ram", want native`},
		{"one -engine redis -size 100 -producers 1", `engine: "redis"`},
		{"one -engine floor -size 1", "size: 1"},
		{"one -cgroup /nowhere", "join the cgroup"},
		{"slowread", "say which command"},
		{"slowread no-such-command", "no-such-command"},
	} {
		t.Run(c.args, func(t *testing.T) {
			args := append(strings.Fields(c.args), "-dir", t.TempDir())
			if c.args == "now" || c.args == "slowread" {
				args = args[:1]
			}
			err := run(t.Context(), args, &bytes.Buffer{}, &bytes.Buffer{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestFigures checks medians, and that shares are those of the rounds.
func TestFigures(t *testing.T) {
	c := cell{native, "put", 256, 32}
	at := func(engine string, round int, rate float64, failed string) Sample {
		return Sample{Profile: native, Mode: "put", Size: 256, Producers: 32, Engine: engine, Round: round, PerSecond: rate, WA: 2, Failed: failed}
	}
	r := &runner{o: options{producers: []int{32, 99}, engines: []string{durable.Floor, durable.Bolt, natsDefault}}}
	r.all = []Sample{
		at(durable.Floor, 1, 100, ""), at(durable.Floor, 2, 200, ""), at(durable.Floor, 3, 1000, ""),
		at(durable.Bolt, 1, 50, ""), at(durable.Bolt, 2, 80, ""), at(durable.Bolt, 3, 300, ""), at(natsDefault, 1, 9, "it broke"),
	}
	f, ok := r.figures(c, durable.Bolt)
	if !ok || f.rate != 80 || f.share != 0.4 || f.wa != 2 {
		t.Errorf("%+v, want 80, 0.4 and 2", f)
	}
	if _, ok := r.figures(c, natsDefault); ok {
		t.Error("a failure has figures")
	}
	var out bytes.Buffer
	if err := r.print(&out, native, "put", 256); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| engine | 32 producers | 99 producers |", "| bbolt | 80.0 (40 %; 2.00) | |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), natsDefault) {
		t.Errorf("a row without figures:\n%s", out.String())
	}
}

// TestCells checks who takes part where, and for how long.
func TestCells(t *testing.T) {
	big := cell{write10, "put", 65536, 1024}
	if !big.takesPart(durable.Floor) || !big.takesPart(durable.Bolt) || big.takesPart(pebbleEach) {
		t.Error("where a group takes seconds only the floor and our engines are measured")
	}
	if (cell{native, "cycle", 256, 1}).takesPart(natsAlways) || (cell{native, "put", 256, 1}).takesPart(natsStreams) {
		t.Error("JetStream has no cycle, and one producer no use for many streams")
	}
	if d := limitOf(write10, 65536*256); d < 5*time.Second {
		t.Errorf("%v hold no three groups of 16 MB at 10 MB/s", d)
	}
}
