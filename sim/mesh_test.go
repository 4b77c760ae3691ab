package sim

import (
	"flag"
	"testing"
)

var soak = flag.Int("soak", 4, "number of seeded meshes to play")

func TestMeshLosesNothing(t *testing.T) {
	data, _ := Builtin("mesh")
	var sum Report
	for seed := range uint64(*soak) {
		r := run(t, data, seed)
		for _, v := range r.Violations() {
			t.Errorf("seed %d: %s", seed, v)
		}
		if r.Pending > 0 {
			t.Errorf("seed %d: %d messages are still on their way", seed, r.Pending)
		}
		sum.Acknowledged += r.Acknowledged
		sum.WireDuplicates += r.WireDuplicates
		sum.HeldBack += r.HeldBack
		sum.Crashes += r.Crashes
	}
	if sum.WireDuplicates == 0 || sum.HeldBack == 0 || sum.Crashes == 0 {
		t.Errorf("the worlds are too kind to test dedup, order and recovery: %+v", sum)
	}
}

// TestMeshHash plays one world of thirty nodes 100 times: one seed, one run.
func TestMeshHash(t *testing.T) {
	data := []byte("{name: mesh, duration: 20s, grid: {nodes: 30, degree: 3, regions: 5, delay: 10ms}, " +
		"random: {publishers: 20, crashes: 10, cuts: 10}}")
	first := run(t, data, 1)
	if first.Acknowledged == 0 || first.Crashes == 0 {
		t.Fatalf("nothing happens in this world: %+v", first)
	}
	for i := range 99 {
		if r := run(t, data, 1); r.LogHash != first.LogHash {
			t.Fatalf("run %d has hash %s, the first had %s", i+2, r.LogHash, first.LogHash)
		}
	}
}

// TestClassesTakeTheirWays: most chords of these meshes do not carry all
// classes, so that each class has a mesh of its own, and each loses nothing.
func TestClassesTakeTheirWays(t *testing.T) {
	data := []byte("{name: classes, duration: 3m, sync: 8ms, grid: {nodes: 16, degree: 4, regions: 4, delay: 20ms, choosy: 20}, " +
		"random: {publishers: 24, crashes: 10, cuts: 30}}")
	for seed := range uint64(*soak) {
		r := run(t, data, seed)
		for _, v := range r.Violations() {
			t.Errorf("seed %d: %s", seed, v)
		}
		if r.Pending > 0 || r.Acknowledged == 0 {
			t.Errorf("seed %d: of %d messages %d are still on their way", seed, r.Acknowledged, r.Pending)
		}
	}
}
