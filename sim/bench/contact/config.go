package contact

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Limits of a Config.
const (
	minDelay  = time.Millisecond
	maxDelay  = time.Hour
	minRate   = 9600 // bit/s
	maxRate   = 10_000_000_000
	maxRounds = 1000
)

// Config describes a run.
type Config struct {
	Farhop string        // the program
	Dir    string        // where the nodes keep their data
	Delay  time.Duration // of light, one way
	Rate   int64         // bit/s, each way
	Rounds int           // contacts that are measured; one more comes before
}

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.Farhop == "" || c.Dir == "" {
		errs = append(errs, errors.New("a program and a folder are needed"))
	}
	if c.Delay < minDelay || c.Delay > maxDelay {
		errs = append(errs, fmt.Errorf("delay: %v is not between %v and %v", c.Delay, minDelay, maxDelay))
	}
	if c.Rate < minRate || c.Rate > maxRate {
		errs = append(errs, fmt.Errorf("rate: %d is not between %d and %d bit/s", c.Rate, minRate, int64(maxRate)))
	}
	if c.Rounds < 1 || c.Rounds > maxRounds {
		errs = append(errs, fmt.Errorf("rounds: %d is not between 1 and %d", c.Rounds, maxRounds))
	}
	return errors.Join(errs...)
}

// Report is what Run found. Times are from the start of a contact, in ms.
type Report struct {
	Delay     float64 `json:"delay_ms"`    // of light, one way, as configured
	Emulated  float64 `json:"emulated_ms"` // as the emulator makes it, median of a few packets
	RateMbit  float64 `json:"rate_mbit"`
	Rounds    []Round `json:"rounds"`
	FirstByte Spread  `json:"first_byte_ms"`
	FirstOWLT float64 `json:"first_byte_owlt"` // median by the delay
	LinkUp    Spread  `json:"link_up_ms"`
	LinkRTT   float64 `json:"link_up_rtt"` // median by twice the delay
	Lost      int     `json:"lost"`        // acknowledged messages that had not arrived at the end
	Repeated  int     `json:"repeated"`
	Early     int     `json:"early"` // first flights with data that the far node took
	Disk      string  `json:"disk"`  // file system of the nodes' stores
}

// Round is one contact, before which both processes were started again.
type Round struct {
	Killed    bool    `json:"killed"`        // by SIGKILL, not in order
	FirstByte float64 `json:"first_byte_ms"` // the first message is at the subscriber
	LastByte  float64 `json:"last_byte_ms"`  // the last that came in the contact
	LinkUp    float64 `json:"link_up_ms"`    // the dialler's session stands
	Late      int     `json:"late"`          // messages that did not arrive in the contact
	Early     int     `json:"early"`         // first flights with data that the far node heard
	Stale     int     `json:"stale"`         // and of these did not take
}

// Spread is the spread of times over all rounds, in ms.
type Spread struct {
	P50 float64 `json:"p50"`
	Max float64 `json:"max"`
}

func spread(all []float64) (s Spread) {
	if len(all) == 0 {
		return s
	}
	all = slices.Sorted(slices.Values(all))
	return Spread{all[(len(all)-1)/2], all[len(all)-1]}
}

// sum fills in what follows from the rounds.
func (r *Report) sum() {
	var first, up []float64
	r.Early = 0
	for _, x := range r.Rounds {
		first, up = append(first, x.FirstByte), append(up, x.LinkUp)
		r.Early += x.Early - x.Stale
	}
	r.FirstByte, r.LinkUp = spread(first), spread(up)
	r.FirstOWLT, r.LinkRTT = thousandths(r.FirstByte.P50/r.Delay), thousandths(r.LinkUp.P50/(2*r.Delay))
}

func thousandths(v float64) float64 { return math.Round(v*1000) / 1000 }

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// String implements fmt.Stringer.
func (r Report) String() string {
	return fmt.Sprintf("%d contacts, %.0f ms of light (%.1f ms as emulated), both nodes started again before each: first message after %.1f ms (most %.1f ms), %.3f light times; "+
		"link up after %.1f ms (most %.1f ms), %.3f round trips; %d first flights with data; %d lost, %d repeated",
		len(r.Rounds), r.Delay, r.Emulated, r.FirstByte.P50, r.FirstByte.Max, r.FirstOWLT, r.LinkUp.P50, r.LinkUp.Max, r.LinkRTT, r.Early, r.Lost, r.Repeated)
}
