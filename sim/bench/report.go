package bench

import (
	"cmp"
	"slices"
)

// Report is everything a run found.
type Report struct {
	Machine Machine  `json:"machine"`
	Config  Config   `json:"config"`
	Floor   Floor    `json:"floor"` // medians of the rounds
	Floors  []Floor  `json:"floors"`
	Servers []Server `json:"servers"` // the node first
}

// Machine is what the figures depend on beside the code.
type Machine struct {
	CPUs     int    `json:"cpus"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	Go       string `json:"go"`
	InMemory bool   `json:"inMemory"` // the folder is in memory: a sync costs nothing there
}

// Server is one server in one setting.
type Server struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Setting string `json:"setting"`
	Promise string `json:"promise"`
	Load    Load   `json:"load"` // medians of the rounds
	// Medians of the ratios within each round, whose parts met the same machine.
	OfNatural float64 `json:"ofNatural"` // rate over Floor.Natural
	OfServed  float64 `json:"ofServed"`  // rate over Floor.Served
	OfNode    float64 `json:"ofNode"`    // rate over the node's

	IdleMin    int64 `json:"idleMinBytes"` // resident without clients, least and median of as many as rounds
	IdleMedian int64 `json:"idleMedianBytes"`

	Rounds []Load  `json:"rounds"`
	Kills  []Drain `json:"kills"` // after SIGKILL under load and a restart
}

// Load is one round of one server.
type Load struct {
	Acked     int     `json:"acked"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"` // acknowledged messages
	P50       float64 `json:"p50Micros"` // PUBLISH to PUBACK, with the window full
	P99       float64 `json:"p99Micros"`

	ServerCPU float64 `json:"serverCpuMicrosPerMessage"`
	ClientCPU float64 `json:"clientCpuMicrosPerMessage"` // of this program, on the same processors
	Written   float64 `json:"writtenBytesPerMessage"`    // to the disk, by the server
	Before    int64   `json:"beforeBytes"`               // resident, before the publishers came
	Peak      int64   `json:"peakBytes"`                 // resident, highest until after the drain
	Files     int64   `json:"fileBytes"`                 // of the server's data, before the drain

	Drain Drain `json:"drain"`
}

// Kept sums up the kills: messages acknowledged before one, and of those the
// ones that came after the restart.
func (s Server) Kept() (acked, arrived int) {
	for _, k := range s.Kills {
		acked += k.Acked
		arrived += k.Arrived
	}
	return acked, arrived
}

// Broken lists what a server did against its word that an acknowledged message
// arrives, once, and in order: without a kill, and for the node with one. A
// repeat after a kill is MQTT's contract.
func (s Server) Broken() (lost, repeated, outOfOrder int) {
	for _, r := range s.Rounds {
		lost += r.Drain.Lost
		repeated += r.Drain.Repeated
		outOfOrder += r.Drain.OutOfOrder
	}
	if s.Name == "farhop" {
		for _, k := range s.Kills {
			lost += k.Lost
			outOfOrder += k.OutOfOrder
		}
	}
	return lost, repeated, outOfOrder
}

// finish fills in medians and ratios.
func (r *Report) finish() {
	over := func(f func(Floor) float64) float64 { return median(r.Floors, f) }
	r.Floor = Floor{
		SyncsPerSecond: over(func(f Floor) float64 { return f.SyncsPerSecond }),
		SyncMicros:     over(func(f Floor) float64 { return f.SyncMicros }),
		Grouped:        over(func(f Floor) float64 { return f.Grouped }),
		Natural:        over(func(f Floor) float64 { return f.Natural }),
		Served:         over(func(f Floor) float64 { return f.Served }),
		ServedP50:      over(func(f Floor) float64 { return f.ServedP50 }),
		ServedP99:      over(func(f Floor) float64 { return f.ServedP99 }),
		ServedClient:   over(func(f Floor) float64 { return f.ServedClient }),
	}
	for i := range r.Servers {
		s := &r.Servers[i]
		s.Load = medianLoad(s.Rounds)
		s.OfNatural = paired(s.Rounds, func(i int) float64 { return r.Floors[i].Natural })
		s.OfServed = paired(s.Rounds, func(i int) float64 { return r.Floors[i].Served })
		s.OfNode = paired(s.Rounds, func(i int) float64 { return r.Servers[0].Rounds[i].PerSecond })
	}
}

func medianLoad(rounds []Load) Load {
	of := func(f func(Load) float64) float64 { return median(rounds, f) }
	return Load{
		Acked:     int(of(func(l Load) float64 { return float64(l.Acked) })),
		Seconds:   of(func(l Load) float64 { return l.Seconds }),
		PerSecond: of(func(l Load) float64 { return l.PerSecond }),
		P50:       of(func(l Load) float64 { return l.P50 }),
		P99:       of(func(l Load) float64 { return l.P99 }),
		ServerCPU: of(func(l Load) float64 { return l.ServerCPU }),
		ClientCPU: of(func(l Load) float64 { return l.ClientCPU }),
		Written:   of(func(l Load) float64 { return l.Written }),
		Before:    int64(of(func(l Load) float64 { return float64(l.Before) })),
		Peak:      int64(of(func(l Load) float64 { return float64(l.Peak) })),
		Files:     int64(of(func(l Load) float64 { return float64(l.Files) })),
		Drain: Drain{
			PerSecond: of(func(l Load) float64 { return l.Drain.PerSecond }),
			Acked:     int(of(func(l Load) float64 { return float64(l.Drain.Acked) })),
			Arrived:   int(of(func(l Load) float64 { return float64(l.Drain.Arrived) })),
			Present:   of(func(l Load) float64 { return number(l.Drain.Present) }) > 0,
		},
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// median of one figure, the mean of the two in the middle when they are even,
// 0 of none.
func median[T any](all []T, figure func(T) float64) float64 {
	if len(all) == 0 {
		return 0
	}
	var v []float64
	for _, x := range all {
		v = append(v, figure(x))
	}
	slices.SortFunc(v, cmp.Compare[float64])
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// paired is the median over rounds of a rate beside another of the same round.
func paired(rounds []Load, other func(round int) float64) float64 {
	var all []float64
	for i, l := range rounds {
		all = append(all, ratio(l.PerSecond, other(i)))
	}
	return median(all, func(v float64) float64 { return v })
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
