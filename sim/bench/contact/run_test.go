package contact

import (
	"os"
	"testing"
	"time"
)

// TestRun has one contact after a restart: all must arrive, and something with
// the first flight. How fast is not judged here: other tests run beside this one.
func TestRun(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asNode, "1")
	r, err := Run(t.Context(), Config{Farhop: program, Dir: t.TempDir(), Delay: 100 * time.Millisecond, Rate: 50e6, Rounds: 1}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r)
	if r.Lost > 0 || r.Early == 0 || len(r.Rounds) != 1 {
		t.Errorf("%+v", r)
	}
	// Light is as fast as it is.
	if x := r.Rounds[0]; !x.Killed || x.FirstByte < r.Delay || x.LinkUp < 2*r.Delay || x.LastByte < x.FirstByte || r.Emulated < r.Delay {
		t.Errorf("%+v", r)
	}
}

func TestConfig(t *testing.T) {
	good := Config{Farhop: "farhop", Dir: "data", Delay: time.Second, Rate: 50e6, Rounds: 1}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no program":  func(c *Config) { c.Farhop = "" },
		"no folder":   func(c *Config) { c.Dir = "" },
		"no light":    func(c *Config) { c.Delay = 0 },
		"a day":       func(c *Config) { c.Delay = 24 * time.Hour },
		"no rate":     func(c *Config) { c.Rate = 0 },
		"no contacts": func(c *Config) { c.Rounds = 0 },
	} {
		c := good
		if spoil(&c); c.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSum(t *testing.T) {
	r := Report{Delay: 100, Rounds: []Round{
		{FirstByte: 130, LinkUp: 260, Early: 1}, {FirstByte: 105, LinkUp: 210, Early: 2, Stale: 1}, {FirstByte: 110, LinkUp: 220, Early: 1, Stale: 1},
	}}
	r.sum()
	if r.FirstByte != (Spread{110, 130}) || r.LinkUp != (Spread{220, 260}) || r.FirstOWLT != 1.1 || r.LinkRTT != 1.1 || r.Early != 2 {
		t.Errorf("%+v", r)
	}
}
