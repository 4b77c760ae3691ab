package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// verdict is what came of a campaign.
type verdict struct {
	Seed         uint64            `json:"seed"`
	Mishaps      int               `json:"mishaps"` // pieces of trouble played
	Kinds        map[string]int    `json:"kinds"`   // of these
	Published    int               `json:"published"`
	Acknowledged int               `json:"acknowledged"`
	Refused      int               `json:"refused"`
	Delivered    int               `json:"delivered"` // at every reader
	Lost         int               `json:"lost"`
	Duplicated   int               `json:"duplicated"`
	Links        int               `json:"links"`    // that were looked at, 0 if none were
	LinksUp      int               `json:"links_up"` // at both ends, when last looked
	Carried      map[string]uint64 `json:"carried"`  // bytes offered to each link with a name
	SlowestUpMS  int64             `json:"slowest_up_ms"`
	Seconds      float64           `json:"seconds"`
	Faults       []string          `json:"faults"`
	Missing      []string          `json:"missing"`      // the first of what is lost
	OnTheirWay   int               `json:"on_their_way"` // messages, where another fault ended the campaign
}

// mostMissing bounds the list.
const mostMissing = 30

// verdict judges what the ledger has. Messages that are missing are lost if the
// mesh was given the time to deliver them.
func (c *campaign) verdict(missing []string, took time.Duration) *verdict {
	v := &verdict{
		Seed: c.seed, Kinds: c.counts, Lost: c.ledger.count("lost"), Duplicated: c.ledger.count("duplicated"),
		LinksUp: c.linksUp, SlowestUpMS: c.slowLink.Milliseconds(), Seconds: took.Seconds(),
		Faults: append([]string{}, c.ledger.list()...), Missing: []string{},
	}
	v.Published, v.Acknowledged, v.Refused, v.Delivered = c.ledger.totals()
	for _, n := range c.counts {
		v.Mishaps += n
	}
	if c.looked {
		v.Links, v.Carried = c.mesh.links(), c.mesh.carried()
	}
	if c.ledger.count("stuck") > 0 {
		v.Lost += len(missing)
		v.Missing = append(v.Missing, missing[:min(len(missing), mostMissing)]...)
	} else {
		v.OnTheirWay = len(missing)
	}
	return v
}

// print writes it for people; n of unit should have been played.
func (v *verdict) print(out io.Writer, n int, unit string) {
	fmt.Fprintf(out, "%d published, %d acknowledged, %d refused, %d delivered in %s\n",
		v.Published, v.Acknowledged, v.Refused, v.Delivered, time.Duration(v.Seconds*float64(time.Second)).Round(time.Second))
	var kinds []string
	for _, k := range slices.Sorted(maps.Keys(v.Kinds)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, v.Kinds[k]))
	}
	fmt.Fprintf(out, "trouble: %s\n", strings.Join(kinds, ", "))
	for _, f := range v.Faults {
		fmt.Fprintf(out, "FAULT: %s\n", f)
	}
	if v.OnTheirWay > 0 {
		fmt.Fprintf(out, "%d messages were still on their way\n", v.OnTheirWay)
	}
	for _, m := range v.Missing {
		fmt.Fprintf(out, "MISSING: %s\n", m)
	}
	if v.Links > 0 {
		fmt.Fprintf(out, "%d of %d links up; at the slowest after %s\n", v.LinksUp, v.Links, time.Duration(v.SlowestUpMS)*ms)
	}
	for _, name := range slices.Sorted(maps.Keys(v.Carried)) {
		fmt.Fprintf(out, "link %s: %.1f MB\n", name, float64(v.Carried[name])/1e6)
	}
	if v.Mishaps < n {
		fmt.Fprintf(out, "ended early, after %d of %d %s\n", v.Mishaps, n, unit)
	}
	fmt.Fprintf(out, "%d %s, %d lost, %d duplicated\n", v.Mishaps, unit, v.Lost, v.Duplicated)
}
