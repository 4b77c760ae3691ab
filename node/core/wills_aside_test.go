package core_test

import (
	"strings"
	"testing"
)

// TestWillsAsideOutliveTheNode: wills that wait for a session which hoards, while
// their device is back, fire after a restart, too.
func TestWillsAsideOutliveTheNode(t *testing.T) {
	e := newEnv()
	e.script(`
		node a count=100
		connect a deaf
		subscribe a deaf will/#
		tick 1s
		disconnect a deaf expiry=1000000
		publish a will/x m n=200
		tick 1s
		connect a dev expiry=0 will=one topic=will/1
		tick 1s
		disconnect a dev expiry=0
		tick 1s
		connect a dev expiry=0 will=two topic=will/2
		tick 1s
		disconnect a dev expiry=0
		tick 1s
		connect a dev expiry=0
		tick 1s
	`)
	if out := e.do("why a one") + e.do("why a two"); strings.Contains(out, "session deaf") {
		t.Fatalf("they wait for nothing:\n%s", out)
	}
	e.script(`
		crash a
		connect a deaf auto
	`)
	out := e.do("tick 1m")
	for _, want := range []string{"one", "two"} {
		if n := strings.Count(out, "delivers "+want+" to deaf"); n != 1 {
			t.Errorf("%s came %d times, want once:\n%s", want, n, out)
		}
	}
}
