package bench

import (
	"errors"
	"fmt"
	"time"
)

// Config says what is measured. The zero value of each field but Dir and
// Farhop means its default.
type Config struct {
	Dir       string `json:"-"`         // where the servers keep their files, on the disk to be measured
	Farhop    string `json:"-"`         // the program of the node
	Mosquitto string `json:"-"`         // the program of Mosquitto, "" to leave it out
	Clients   int    `json:"clients"`   // publishers; default 16
	Window    int    `json:"window"`    // unacknowledged publishes of each; default 64
	Size      int    `json:"size"`      // bytes of a payload; default 256
	Messages  int    `json:"messages"`  // of all publishers together, per round; default 100,000
	Rounds    int    `json:"rounds"`    // default 3
	KillAfter int    `json:"killAfter"` // acknowledged messages after which a server is killed; default a tenth of Messages

	// Limit ends the publishing of a server that is too slow for Messages; what
	// it acknowledged until then counts. Default 20 s.
	Limit time.Duration `json:"-"`
	// Settle is how long an idle server is left alone before its memory is
	// read. Default 10 s.
	Settle time.Duration `json:"-"`
}

// Limits of a run. A node keeps at most a million messages and 1 GiB unless its
// configuration says otherwise; a run stays below that.
const (
	maxClients  = 1000
	maxWindow   = 1024
	minSize     = payloadHeader
	maxSize     = 512 << 10
	maxMessages = 900_000
	maxBytes    = 768 << 20
	maxRounds   = 101
)

func (c Config) withDefaults() Config {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&c.Clients, 16)
	set(&c.Window, 64)
	set(&c.Size, 256)
	set(&c.Messages, 100_000)
	set(&c.Rounds, 3)
	set(&c.KillAfter, max(c.Messages/10, 1))
	if c.Limit == 0 {
		c.Limit = 20 * time.Second
	}
	if c.Settle == 0 {
		c.Settle = 10 * time.Second
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
	check("clients", c.Clients, 1, maxClients)
	check("window", c.Window, 1, maxWindow)
	check("size", c.Size, minSize, maxSize)
	check("messages", c.Messages, c.Clients, maxMessages)
	check("rounds", c.Rounds, 1, maxRounds)
	check("kill after", c.KillAfter, 1, c.Messages)
	if bytes := int64(c.Messages) * int64(c.Size); bytes > maxBytes {
		errs = append(errs, fmt.Errorf("messages of this size are %d bytes, want at most %d: fewer messages, or smaller ones", bytes, maxBytes))
	}
	if c.Limit < 0 || c.Settle < 0 {
		errs = append(errs, errors.New("limit, settle: a negative time"))
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("dir: missing"))
	}
	if c.Farhop == "" {
		errs = append(errs, errors.New("the program of the node: missing"))
	}
	return errors.Join(errs...)
}
