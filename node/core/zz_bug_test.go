package core_test

import (
	"strings"
	"testing"
)

// A store that is full of what came early still takes what is due: that is
// what lets the rest go.
func TestFullOfHeldBackTakesWhatIsDue(t *testing.T) {
	e := newEnv()
	e.script(strings.Replace(stuckAtR, "node b", "node b count=5", 1))
	e.script("publish a plant/1 m0\n stabilize\n publish a plant/1 m1" + detain)
	e.script("publish a plant/1 x n=8\n tick 3s\n up r b\n tick 10s")
	if out := e.do("view b") + e.do("view r") + e.do("view a"); strings.Contains(out, "order a/1") {
		t.Errorf("b has no room for the message that all others wait for:\n%s", out)
	}
}
