package near

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Limits of a Config.
const (
	minTime   = 10 * time.Millisecond
	maxTime   = 10 * time.Minute
	maxRounds = 100
)

// Config describes a run.
type Config struct {
	Farhop string        // the program
	Part   []string      // a command that calls Part with the words added to it
	Dir    string        // where everybody's files are
	Time   time.Duration // of each measurement: round trips, then bulk
	Rounds int           // of everybody in turn
	Layers []string      // of the links of our nodes; nil is tls and quic
	Nginx  string        // program to measure beside, with its stream module; "" for none
	Nebula string        // likewise, with nebula-cert in the same folder; it needs Linux and root
}

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.Farhop == "" || len(c.Part) == 0 || c.Dir == "" {
		errs = append(errs, errors.New("a program, a command for its parts and a folder are needed"))
	}
	if c.Time < minTime || c.Time > maxTime {
		errs = append(errs, fmt.Errorf("time: %v is not between %v and %v", c.Time, minTime, maxTime))
	}
	if c.Rounds < 1 || c.Rounds > maxRounds {
		errs = append(errs, fmt.Errorf("rounds: %d is not between 1 and %d", c.Rounds, maxRounds))
	}
	for _, l := range c.Layers {
		if l != layerTLS && l != layerQUIC {
			errs = append(errs, fmt.Errorf("layers: %q is neither %s nor %s", l, layerTLS, layerQUIC))
		}
	}
	return errors.Join(errs...)
}

// Names of those that are measured.
const (
	layerTLS   = "tls"
	layerQUIC  = "quic"
	nameDirect = "direct"
	nameBare   = "quic-go"
	nameNginx  = "nginx"
	nameNebula = "nebula"
)

func (c Config) layers() []string {
	if c.Layers == nil {
		return []string{layerTLS, layerQUIC}
	}
	return c.Layers
}

// Report is what Run found: medians of all rounds.
type Report struct {
	Links   []Link  `json:"links"`
	Peers   []Peer  `json:"peers"`
	Ratios  Ratios  `json:"ratios"`
	Rounds  int     `json:"rounds"`
	Time    float64 `json:"time_s"` // of each measurement
	CPUs    int     `json:"cpus"`
	Seconds float64 `json:"seconds"`
}

// Figures are what was measured of a pair.
type Figures struct {
	RTT     RTT     `json:"rtt_us"` // of 64 bytes there and back, one at a time
	Goodput float64 `json:"goodput_mbit"`
	CPU     float64 `json:"cpu_s_per_gib"` // of both processes of the pair; nothing for direct
}

// RTT is the spread of round trips, in µs.
type RTT struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Link is two nodes of ours.
type Link struct {
	Layer string `json:"layer"`
	Figures
}

// Peer is somebody else.
type Peer struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Figures
	Skipped string `json:"skipped,omitempty"` // why it was not measured
}

// Ratios are medians of what the rounds' ratios were; 0 of what was not
// measured.
type Ratios struct {
	TLSRTT      float64 `json:"tls_rtt_of_nginx,omitempty"` // of the p50
	QUICRTT     float64 `json:"quic_rtt_of_nginx,omitempty"`
	BareRTT     float64 `json:"quic_go_rtt_of_nginx,omitempty"`
	QUICOfBare  float64 `json:"quic_rtt_of_quic_go,omitempty"`
	TLSGoodput  float64 `json:"tls_goodput_of_nginx,omitempty"`
	QUICGoodput float64 `json:"quic_goodput_of_quic_go,omitempty"`
	OfNebula    float64 `json:"quic_goodput_of_nebula,omitempty"`
}

// report gathers what all rounds found.
func (c Config) report(all []*pair) (r Report) {
	r = Report{Rounds: c.Rounds, Time: c.Time.Seconds(), Links: []Link{}, Peers: []Peer{}}
	named := map[string]*pair{}
	for _, p := range all {
		named[p.name] = p
		f := Figures{
			RTT: RTT{p.median(rttP50), p.median(rttP99)}, Goodput: p.median(goodput), CPU: p.median(cpuPerGiB),
		}
		if slices.Contains(c.layers(), p.name) {
			r.Links = append(r.Links, Link{p.name, f})
		} else {
			r.Peers = append(r.Peers, Peer{p.name, p.version, f, p.skipped})
		}
	}
	ratio := func(of, by string, f func(Figures) float64) float64 { return ratio(named[of], named[by], f) }
	r.Ratios = Ratios{
		TLSRTT: ratio(layerTLS, nameNginx, rttP50), QUICRTT: ratio(layerQUIC, nameNginx, rttP50),
		BareRTT: ratio(nameBare, nameNginx, rttP50), QUICOfBare: ratio(layerQUIC, nameBare, rttP50),
		TLSGoodput: ratio(layerTLS, nameNginx, goodput), QUICGoodput: ratio(layerQUIC, nameBare, goodput),
		OfNebula: ratio(layerQUIC, nameNebula, goodput),
	}
	return r
}

func rttP50(f Figures) float64    { return f.RTT.P50 }
func rttP99(f Figures) float64    { return f.RTT.P99 }
func goodput(f Figures) float64   { return f.Goodput }
func cpuPerGiB(f Figures) float64 { return f.CPU }

// ratio is the median of one's figure over another's, round by round; 0 when
// either was not measured.
func ratio(of, by *pair, f func(Figures) float64) float64 {
	if of == nil || by == nil {
		return 0
	}
	var all []float64
	for i := range min(len(of.rounds), len(by.rounds)) {
		if d := f(by.rounds[i]); d > 0 {
			all = append(all, f(of.rounds[i])/d)
		}
	}
	return rounded(median(all))
}

// rounded is to a thousandth: more would say nothing.
func rounded(v float64) float64 { return math.Round(v*1000) / 1000 }

// median is that of the middle two where their number is even; 0 of none.
func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// String implements fmt.Stringer.
func (r Report) String() string {
	var b strings.Builder
	line := func(name string, f Figures) {
		fmt.Fprintf(&b, "%-24s %7.1f µs (p99 %.1f) %8.0f Mbit/s %6.2f CPU s/GiB\n", name, f.RTT.P50, f.RTT.P99, f.Goodput, f.CPU)
	}
	for _, l := range r.Links {
		line("farhop, link of "+l.Layer, l.Figures)
	}
	for _, p := range r.Peers {
		if p.Skipped != "" {
			fmt.Fprintf(&b, "%s: not measured: %s\n", p.Name, p.Skipped)
			continue
		}
		line(strings.TrimSpace(p.Name+" "+p.Version), p.Figures)
	}
	q := r.Ratios
	fmt.Fprintf(&b, "round trip by nginx: tls %.2f, quic %.2f, quic-go alone %.2f; goodput: tls by nginx %.2f, quic by quic-go %.2f, by nebula %.2f",
		q.TLSRTT, q.QUICRTT, q.BareRTT, q.TLSGoodput, q.QUICGoodput, q.OfNebula)
	return b.String()
}
