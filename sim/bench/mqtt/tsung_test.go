package mqtt

import (
	"os/exec"
	"testing"
)

// TestTsung has the generator of others load a node: everything is answered.
func TestTsung(t *testing.T) {
	if _, err := exec.LookPath("tsung"); err != nil {
		t.Skip("no load generator of others was tried: install tsung, apt-get install tsung")
	}
	c := testConfig(t)
	r, err := Tsung(t.Context(), c, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.All) != 1 || r.CPU <= 0 || r.Answer <= 0 || r.All[0].Acknowledged != tsungUsers*tsungEach {
		t.Errorf("%+v", r)
	}
	nothingLeft(t, c.Dir)
}
