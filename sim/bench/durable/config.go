package durable

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Config says what Run and RunBacklog measure. The zero value of each field
// but Dir means its default.
type Config struct {
	Dir       string        // on the disk to be measured; folders in it are made and removed
	Engine    string        // one of Engines; default DefaultEngine
	Size      int           // bytes of a bundle, its payload and all other blocks together; default 1,024
	Producers int           // default 64
	Messages  int           // most bundles of one part of a round; default 1,000,000, and never more than 1 GiB
	Limit     time.Duration // most time of one part; default 1 s
	Rounds    int           // default 9

	// Of RunBacklog alone.
	Backlog int // bundles that wait; default 10,000,000
	// DrainLimit is the most time of the drain; a slower store is measured by
	// what it did until then, and not as an empty one. Default 5 min.
	DrainLimit time.Duration
	Return     time.Duration // how long a drained store has to give its disk back; default 10 s
	// Filler is the program, with its first arguments, that fills the store in a
	// process of its own and is killed then: it calls Fill with the Config that
	// follows as one argument of JSON. Without it this process fills and closes
	// the store: its memory is that of both, and no kill is measured.
	Filler []string `json:"-"`
}

// Limits of a run.
const (
	maxMessages  = 20_000_000
	maxPartBytes = 1 << 30
	maxRounds    = 101
	maxBacklog   = 200_000_000
)

func (c Config) withDefaults() Config {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&c.Size, 1024)
	set(&c.Producers, 64)
	set(&c.Messages, max(min(1_000_000, maxPartBytes/max(c.Size, 1)), c.Producers))
	set(&c.Rounds, 9)
	set(&c.Backlog, 10_000_000)
	if c.Limit == 0 {
		c.Limit = time.Second
	}
	if c.Return == 0 {
		c.Return = 10 * time.Second
	}
	if c.DrainLimit == 0 {
		c.DrainLimit = 5 * time.Minute
	}
	if c.Engine == "" {
		c.Engine = DefaultEngine
	}
	return c
}

// Validate reports every fault of the configuration, by the names of the flags.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	check := func(name string, v, low, high int) {
		if v < low || v > high {
			errs = append(errs, fmt.Errorf("%s: %d, want %d to %d", name, v, low, high))
		}
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("dir: missing"))
	}
	if !slices.Contains(Engines(), c.Engine) {
		errs = append(errs, unknown(c.Engine))
	}
	check("size", c.Size, minSize, maxSize)
	check("producers", c.Producers, 1, maxProducers)
	check("messages", c.Messages, c.Producers, maxMessages)
	check("rounds", c.Rounds, 1, maxRounds)
	check("backlog", c.Backlog, 1, maxBacklog)
	if c.Limit < 0 || c.Return < 0 || c.DrainLimit < 0 {
		errs = append(errs, errors.New("limit: a negative time"))
	}
	return errors.Join(errs...)
}
