package sim

import "testing"

// crashy is a small mesh with slow disks, in which somebody is always about to
// lose power: what a promise was not backed by then shows.
const crashy = "{name: crashy, duration: 2m, sync: 300ms, grid: {nodes: 5, degree: 3, regions: 2, delay: 40ms}, " +
	"random: {publishers: 30, crashes: 100, cuts: 40}}"

// TestCrashyMeshLosesNothing exists because bugs that were planted on purpose
// went unnoticed in kinder worlds (make mutants).
func TestCrashyMeshLosesNothing(t *testing.T) {
	for seed := range uint64(3) {
		r := run(t, []byte(crashy), seed)
		for _, v := range r.Violations() {
			t.Errorf("seed %d: %s", seed, v)
		}
		if r.Acknowledged < 100 || r.Crashes < 50 || r.WireDuplicates == 0 || r.HeldBack == 0 || r.Redelivered == 0 {
			t.Errorf("seed %d: nothing happens in this world: %+v", seed, r)
		}
	}
}
