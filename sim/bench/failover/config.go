package failover

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Limits of a Config.
const (
	maxCuts = 10_000
	minDown = 200 * time.Millisecond
	maxDown = time.Minute
	maxTime = 24 * time.Hour
)

// Config describes a run.
type Config struct {
	Farhop string        // the program
	Dir    string        // where the nodes keep their data
	Cuts   int           // of the direct wire; 0 with Time
	Time   time.Duration // instead: no cut, and every wire full for so long
	Down   time.Duration // how long each lasts
	Every  time.Duration // between two messages
	Busy   bool          // every processor has something else to do as well
	NATS   string        // nats-server to measure beside; "" for none
	Seed   uint64        // of the pauses between cuts
}

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.Farhop == "" || c.Dir == "" {
		errs = append(errs, errors.New("a program and a folder are needed"))
	}
	if c.Time != 0 {
		if c.Time < 0 || c.Time > maxTime || c.Cuts != 0 {
			errs = append(errs, fmt.Errorf("time: %v with %d cuts; it is up to %v, and without cuts", c.Time, c.Cuts, maxTime))
		}
		if c.Every < time.Millisecond {
			errs = append(errs, fmt.Errorf("every: %v is below 1ms", c.Every))
		}
		return errors.Join(errs...)
	}
	if c.Cuts < 1 || c.Cuts > maxCuts {
		errs = append(errs, fmt.Errorf("cuts: %d is not between 1 and %d", c.Cuts, maxCuts))
	}
	if c.Down < minDown || c.Down > maxDown {
		errs = append(errs, fmt.Errorf("down: %v is not between %v and %v", c.Down, minDown, maxDown))
	}
	if c.Every < time.Millisecond || c.Every > c.Down/10 {
		errs = append(errs, fmt.Errorf("every: %v is not between 1ms and a tenth of a cut", c.Every))
	}
	return errors.Join(errs...)
}

// Report is what Run found.
type Report struct {
	Cuts        int     `json:"cuts"`
	Detect      Spread  `json:"detect_ms"` // from a cut until the sending node logs that the link fell silent
	Switch      Spread  `json:"switch_ms"` // from a cut until a message arrives that was published after it
	Gap         Spread  `json:"gap_ms"`    // longest time without an arrival, whatever it waited for
	Unnoticed   int     `json:"unnoticed"` // cuts that were over before the node noticed
	Lost        int     `json:"lost"`      // acknowledged messages that never arrived
	FalseAlarms int     `json:"false_alarms"`
	Sent        int     `json:"sent"` // acknowledged
	Repeated    int     `json:"repeated"`
	Every       float64 `json:"every_ms"`
	Busy        bool    `json:"busy"`
	Probes      float64 `json:"probes_per_second"`   // of the sending node, on both its links
	LateWakes   int     `json:"late_wakes"`          // of the sending node
	Rate        float64 `json:"rate_mbit,omitempty"` // arrived payload of all streams, without cuts
	Peer        *Peer   `json:"peer,omitempty"`
	Disk        string  `json:"disk"` // file system of the nodes' stores
	Seconds     float64 `json:"seconds"`
}

// Peer is what something else took to notice cuts of the same kind.
type Peer struct {
	Name   string  `json:"name"`
	Cuts   int     `json:"cuts"`
	Detect Spread  `json:"detect_ms"`
	Ratio  float64 `json:"ratio"` // of the medians, its by ours
}

// Spread is the spread of times over all cuts, in ms.
type Spread struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func spread(all []time.Duration) (s Spread) {
	if len(all) == 0 {
		return s
	}
	all = slices.Sorted(slices.Values(all))
	at := func(p float64) float64 {
		i := int(math.Ceil(p*float64(len(all)))) - 1
		return float64(all[max(i, 0)].Microseconds()) / 1000
	}
	return Spread{at(0.5), at(0.99), at(1)}
}

// String implements fmt.Stringer.
func (r Report) String() string {
	if r.Cuts == 0 {
		return fmt.Sprintf("no cut in %.0f s, %.1f Mbit/s: %d false alarms; %d messages, %d lost, %d repeated", r.Seconds, r.Rate, r.FalseAlarms, r.Sent, r.Lost, r.Repeated)
	}
	text := fmt.Sprintf("%d cuts in %.0f s: noticed after %.0f ms (p99 %.0f ms), gone around after %.0f ms (p99 %.0f ms); %d unnoticed, %d false alarms; "+
		"%d messages, %d lost, %d repeated; %.1f probes a second",
		r.Cuts, r.Seconds, r.Detect.P50, r.Detect.P99, r.Switch.P50, r.Switch.P99, r.Unnoticed, r.FalseAlarms, r.Sent, r.Lost, r.Repeated, r.Probes)
	if p := r.Peer; p != nil {
		text += fmt.Sprintf("\n%s: %d cuts noticed after %.0f ms (p99 %.0f ms), %.1f times as long", p.Name, p.Cuts, p.Detect.P50, p.Detect.P99, p.Ratio)
	}
	return text
}
