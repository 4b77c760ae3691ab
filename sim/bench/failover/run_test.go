package failover

import (
	"os"
	"testing"
	"time"
)

// TestRun cuts a few times: everything must arrive. How fast is not judged
// here, for other tests run beside this one: a machine that stalls may have
// messages go the long way before a cut, which then nobody notices.
func TestRun(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asNode, "1")
	r, err := Run(t.Context(), Config{Farhop: program, Dir: t.TempDir(), Cuts: 2, Down: 1500 * time.Millisecond, Every: 10 * time.Millisecond, Seed: 1}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r)
	if r.Cuts != 2 || r.Lost > 0 || r.Sent < 200 || r.Detect.P50 <= 0 && r.Unnoticed < r.Cuts || r.Switch.P50 <= 0 || r.Probes <= 0 {
		t.Errorf("%+v", r)
	}
}

// TestCalm saturates the links for a moment: all arrives.
func TestCalm(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asNode, "1")
	r, err := Run(t.Context(), Config{Farhop: program, Dir: t.TempDir(), Time: time.Second, Every: 10 * time.Millisecond}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r)
	if r.Cuts != 0 || r.Lost > 0 || r.Sent < 300 || r.Rate <= 0 {
		t.Errorf("%+v", r)
	}
}

func TestConfig(t *testing.T) {
	good := Config{Farhop: "farhop", Dir: "/tmp", Cuts: 1, Down: time.Second, Every: 5 * time.Millisecond}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no program":        func(c *Config) { c.Farhop = "" },
		"no cuts":           func(c *Config) { c.Cuts = 0 },
		"cuts in the calm":  func(c *Config) { c.Time = time.Hour },
		"a week":            func(c *Config) { c.Cuts, c.Time = 0, 7*24*time.Hour },
		"short cuts":        func(c *Config) { c.Down = time.Millisecond },
		"nothing in a cut":  func(c *Config) { c.Every = time.Second },
		"too many messages": func(c *Config) { c.Every = 0 },
	} {
		c := good
		if spoil(&c); c.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSpread(t *testing.T) {
	var all []time.Duration
	for i := range 100 {
		all = append(all, time.Duration(100-i)*time.Millisecond)
	}
	if s := spread(all); s != (Spread{50, 99, 100}) {
		t.Errorf("%+v", s)
	}
	if s := spread(nil); s != (Spread{}) {
		t.Errorf("of nothing: %+v", s)
	}
}

func TestGap(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(1000 + ms)) }
	s := &stream{}
	for i, ms := range []int{0, 10, 20, 150, 160, 400} {
		s.times, s.arrivals = append(s.times, at(6*i-3)), append(s.arrivals, arrival{at(ms), uint64(i + 1)})
	}
	for _, c := range []struct{ from, to, want int }{{15, 155, 130}, {15, 30, 130}, {151, 170, 240}, {401, 450, 50}} {
		if got := s.gap(at(c.from), at(c.to)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("from %d to %d: %v, want %d ms", c.from, c.to, got, c.want)
		}
	}
	for _, c := range []struct{ from, want int }{{-5, 5}, {4, 16}, {10, 140}, {16, 144}, {25, 375}, {30, -1}} {
		got, ok := s.through(at(c.from))
		if want := time.Duration(c.want) * time.Millisecond; ok != (c.want >= 0) || ok && got != want {
			t.Errorf("through after %d: %v, %v, want %d ms", c.from, got, ok, c.want)
		}
	}
	if s.flows(at(165), 5*time.Millisecond) {
		t.Error("a pause of 130 ms in the last 100 is none")
	}
	if s.arrivals = append(s.arrivals, arrival{at(430), 6}, arrival{at(470), 6}, arrival{at(510), 6}); !s.flows(at(520), 5*time.Millisecond) {
		t.Error("pauses of 40 ms, with busy disks, are too long")
	}
}
