package durable

import (
	"cmp"
	"slices"
)

// Report is what Run found: medians over the rounds. Rates are bundles a
// second.
type Report struct {
	Engine     string `json:"engine"`
	FileSystem string `json:"fs"`
	InMemory   bool   `json:"fs_in_memory"` // a sync costs nothing there
	CPUs       int    `json:"cpus"`
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	Size       int    `json:"size"`      // bytes of a bundle
	Producers  int    `json:"producers"` // closed loop, each with one bundle under way
	Messages   int    `json:"messages"`  // most of one part of a round
	Rounds     int    `json:"rounds"`

	Syncs      float64 `json:"fdatasync_per_s"`     // one bundle appended and synced, one at a time
	Put        float64 `json:"put_per_s"`           // durable, nothing removed: a backlog grows
	Cycle      float64 `json:"cycle_per_s"`         // durable, delivered, removed
	Floor      float64 `json:"floor_put_per_s"`     // the same bytes in a plain file, see the package
	Share      float64 `json:"share_of_floor"`      // put over floor, within each round
	CycleShare float64 `json:"cycle_share"`         // cycle over floor, within each round
	WA         float64 `json:"write_amplification"` // bytes written to the disk over bytes of bundles, in the cycle
	PutWA      float64 `json:"put_write_amplification"`
	// FloorWA is the same of the floor: frames, and pages that are written
	// more than once because a group ended within them.
	FloorWA float64 `json:"floor_write_amplification"`
	// Processor time of a bundle, its producer's among it.
	PutCPU   float64 `json:"put_cpu_us"`
	CycleCPU float64 `json:"cycle_cpu_us"`
	FloorCPU float64 `json:"floor_cpu_us"`

	RSS     float64 `json:"rss_mb"`      // with all bundles of a put part waiting, load included
	RSSAnon float64 `json:"rss_anon_mb"` // of these, not pages of files
	Queued  int     `json:"queued"`      // bundles that waited then
	Reopen  float64 `json:"reopen_ms"`   // to open the store with them, and to know its queues

	All []Round `json:"all_rounds"`
}

// Round is one round of Run.
type Round struct {
	Syncs    float64 `json:"fdatasync_per_s"`
	Floor    float64 `json:"floor_put_per_s"`
	Put      float64 `json:"put_per_s"`
	Cycle    float64 `json:"cycle_per_s"`
	FloorWA  float64 `json:"floor_write_amplification"`
	PutWA    float64 `json:"put_write_amplification"`
	WA       float64 `json:"write_amplification"`
	PutCPU   float64 `json:"put_cpu_us"`
	CycleCPU float64 `json:"cycle_cpu_us"`
	FloorCPU float64 `json:"floor_cpu_us"`
	RSS      float64 `json:"rss_mb"`
	RSSAnon  float64 `json:"rss_anon_mb"`
	Queued   int     `json:"queued"`
	Reopen   float64 `json:"reopen_ms"`
}

// finish fills in the medians.
func (r *Report) finish() {
	over := func(f func(Round) float64) float64 { return Median(r.All, f) }
	r.Syncs = over(func(x Round) float64 { return x.Syncs })
	r.Floor = over(func(x Round) float64 { return x.Floor })
	r.Put = over(func(x Round) float64 { return x.Put })
	r.Cycle = over(func(x Round) float64 { return x.Cycle })
	r.Share = over(func(x Round) float64 { return Ratio(x.Put, x.Floor) })
	r.CycleShare = over(func(x Round) float64 { return Ratio(x.Cycle, x.Floor) })
	r.FloorWA = over(func(x Round) float64 { return x.FloorWA })
	r.PutWA = over(func(x Round) float64 { return x.PutWA })
	r.WA = over(func(x Round) float64 { return x.WA })
	r.PutCPU = over(func(x Round) float64 { return x.PutCPU })
	r.CycleCPU = over(func(x Round) float64 { return x.CycleCPU })
	r.FloorCPU = over(func(x Round) float64 { return x.FloorCPU })
	r.RSS = over(func(x Round) float64 { return x.RSS })
	r.RSSAnon = over(func(x Round) float64 { return x.RSSAnon })
	r.Queued = int(over(func(x Round) float64 { return float64(x.Queued) }))
	r.Reopen = over(func(x Round) float64 { return x.Reopen })
}

// Median of one figure, the mean of the two in the middle when they are even,
// 0 of none.
func Median[T any](all []T, figure func(T) float64) float64 {
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

// Ratio is a over b, 0 when b is.
func Ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
