package mqtt

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/farhop/farhop/sim/bench/mqtt/load"
)

// Limits of a run.
const (
	maxIdle   = 1_000_000     // connections; what a system allows is less
	maxQueued = 1_000_000_000 // messages, and retained ones
	maxWindow = 8_000         // messages on their way to one subscriber: a node queues 8,192 for a client
	maxSize   = 16 << 10
	maxRounds = 101
	maxRate   = 1_000_000
	maxTime   = time.Hour
)

// Config says what is measured. The zero value of each field but Dir and
// Farhop means its default; which fields count is said at Run, Idle and Moon.
type Config struct {
	Dir      string        `json:"-"` // where brokers keep their files
	Farhop   string        `json:"-"` // the program of the node
	Peer     string        `json:"-"` // the program of Mosquitto, "" to measure without it
	Rounds   int           `json:"rounds"`
	Size     int           `json:"size"` // bytes of a payload; default 64
	Window   int           `json:"-"`    // messages of one publisher under way; default by workload
	Time     time.Duration `json:"-"`    // that is measured
	Warm     time.Duration `json:"-"`    // before it, with load
	Settle   time.Duration `json:"-"`    // of an idle broker, before its memory is read
	Idle     int           `json:"-"`    // connections
	Queued   int           `json:"-"`    // messages that wait in one session
	Retained int           `json:"-"`    // retained messages
	light    time.Duration // one way over the moon's link; tests shorten it
	Loss     float64       `json:"-"` // of packets on the moon's link; without the bridge then, whose TCP the emulator spares
	// Only names workloads; nil is all of them.
	Only []string `json:"-"`
	// Attacks names those of Hostile; nil is all of them. Rate is that of the
	// well-behaved clients, in messages a second; default 1,000.
	Attacks []string `json:"-"`
	Rate    int      `json:"-"`
}

// Validate reports every fault of the configuration, by the names of the flags.
func (c Config) Validate() error {
	var errs []error
	check := func(name string, v, low, high int) {
		if v != 0 && (v < low || v > high) {
			errs = append(errs, fmt.Errorf("%s: %d, want %d to %d", name, v, low, high))
		}
	}
	check("rounds", c.Rounds, 1, maxRounds)
	check("size", c.Size, load.MinPayload, maxSize)
	check("window", c.Window, 1, maxWindow)
	check("idle", c.Idle, 1, maxIdle)
	check("queued", c.Queued, 1, maxQueued)
	check("retained", c.Retained, 1, maxQueued)
	for name, d := range map[string]time.Duration{"time": c.Time, "warm": c.Warm, "settle": c.Settle} {
		if d < 0 || d > maxTime {
			errs = append(errs, fmt.Errorf("%s: %v, want at most %v", name, d, maxTime))
		}
	}
	for _, name := range c.Only {
		if !slices.ContainsFunc(shapes(), func(s shape) bool { return s.name == name }) {
			errs = append(errs, fmt.Errorf("workload: %q, want one of %v", name, Workloads()))
		}
	}
	for _, name := range c.Attacks {
		if !slices.Contains(Attacks(), name) {
			errs = append(errs, fmt.Errorf("attacks: %q, want some of %v", name, Attacks()))
		}
	}
	check("rate", c.Rate, durablePart, maxRate)
	if c.Dir == "" {
		errs = append(errs, errors.New("dir: missing"))
	}
	if c.Farhop == "" {
		errs = append(errs, errors.New("the program of the node: missing"))
	}
	return errors.Join(errs...)
}

// begin fills in defaults, which differ by what is measured, and makes a
// folder for the run. done removes it.
func (c Config) begin(defaults Config) (_ Config, done func() error, err error) {
	if err := c.Validate(); err != nil {
		return c, nil, err
	}
	c.Rounds = cmp.Or(c.Rounds, defaults.Rounds, 3)
	c.Size = cmp.Or(c.Size, 64)
	c.Time = cmp.Or(c.Time, defaults.Time)
	c.Warm = cmp.Or(c.Warm, defaults.Warm)
	c.Settle = cmp.Or(c.Settle, defaults.Settle)
	if _, err := load.AllowDescriptors(); err != nil {
		return c, nil, err
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return c, nil, err
	}
	if c.Dir, err = os.MkdirTemp(c.Dir, "farhop-bench-"); err != nil {
		return c, nil, err
	}
	return c, func() error { return os.RemoveAll(c.Dir) }, nil
}

// Machine is what the figures depend on beside the code.
type Machine struct {
	CPUs        int    `json:"cpus"`
	OS          string `json:"os"`
	Arch        string `json:"arch"`
	Go          string `json:"go"`
	Peer        string `json:"peer,omitempty"`
	PeerVersion string `json:"peer_version,omitempty"`
}

func machine(peerVersion string) Machine {
	m := Machine{CPUs: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version()}
	if peerVersion != "" {
		m.Peer, m.PeerVersion = "mosquitto", peerVersion
	}
	return m
}

// median is the mean of the two in the middle when they are even, 0 of none.
func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(all))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
