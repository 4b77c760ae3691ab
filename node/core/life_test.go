package core_test

import (
	"strings"
	"testing"
	"time"
)

// TestLifeAcrossRestartsAndClocks: what is left of a message's life does not
// depend on the clocks of the nodes it passes, which are hours apart, nor on
// restarts on the way.
func TestLifeAcrossRestartsAndClocks(t *testing.T) {
	e := newEnv()
	e.script(`
		node a
		node r
		node b
		crash r skew=-9h
		crash b skew=5h
		link a r delay=10ms
		link r b delay=10ms
		subscribe b ops plant/#
		stabilize
		disconnect b ops
		down r b
		publish a plant/1 m ttl=100s
		stabilize
		tick 20s
		crash r
		tick 20s
		up a r
		up r b
		stabilize
		crash b
		tick 10s`)
	out := e.do("why b m")
	_, left, _ := strings.Cut(out, "expires in ")
	d, err := time.ParseDuration(strings.TrimSpace(left))
	if err != nil {
		t.Fatalf("m is not at b: %q, %v", out, err)
	}
	if d -= 5 * time.Hour; d > 50*time.Second || d < 45*time.Second {
		t.Errorf("m has %s left at b, of 100 s less 50 s that have passed\n%s", d, out)
	}
	if out := e.script("tick 1m\n connect b ops\n stabilize"); strings.Contains(out, "delivers m ") {
		t.Errorf("m is delivered after its life:\n%s", out)
	}
}
