package sim

import (
	"testing"
	"time"

	"github.com/farhop/farhop/sim/scenario"
)

func run(t *testing.T, data []byte, seed uint64) *Report {
	t.Helper()
	w, err := scenario.Parse("world.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(w, seed, Option{})
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	return r
}

func TestBuiltinWorldsLoseNothing(t *testing.T) {
	for _, name := range Builtins() {
		t.Run(name, func(t *testing.T) {
			data, _ := Builtin(name)
			for seed := range uint64(2) {
				r := run(t, data, seed)
				for _, v := range r.Violations() {
					t.Errorf("seed %d: %s", seed, v)
				}
				if name == "chaos" {
					continue // its own end is judged as a law
				}
				if r.Acknowledged < 100 || r.Delivered != r.Expected || r.Stored != 0 {
					t.Errorf("seed %d: %+v", seed, r)
				}
			}
		})
	}
}

func TestOneSeedIsOneRun(t *testing.T) {
	data, _ := Builtin("moon")
	a, b, c := run(t, data, 7), run(t, data, 7), run(t, data, 8)
	if a.LogHash != b.LogHash {
		t.Errorf("seed 7 ran twice with hashes %s and %s", a.LogHash, b.LogHash)
	}
	if a.LogHash == c.LogHash {
		t.Errorf("seeds 7 and 8 have the same hash %s", a.LogHash)
	}
	if a.VirtualSeconds != (6 * time.Hour).Seconds() {
		t.Errorf("the world ran for %v s", a.VirtualSeconds)
	}
}
