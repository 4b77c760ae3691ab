package core

import (
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
)

// HeldLegs returns how many legs the core watches for gaps.
func (c *Core) HeldLegs() int { return len(c.held) }

// Seeking returns the filters of all sessions that messages wait for, as Sought
// has to have them.
func (c *Core) Seeking() []string {
	var all []string
	for _, s := range c.sessions {
		for _, sub := range s.subs {
			if s.durable() || s.lent {
				all = append(all, sub.matches())
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// WatchWaits has each comparison told of what waits for sessions that move.
func (c *Core) WatchWaits(compared func()) {
	c.roam.waits.compared, c.roam.arriving.compared = compared, compared
}

// Waits returns how many CONNECTs, and how many sessions for their queues, wait.
func (c *Core) Waits() (connects, arriving int) {
	return len(c.roam.waiters), c.roam.arriving.Len()
}

// Queues returns how many queues the core knows.
func (c *Core) Queues() (n int) {
	c.m.Queues(func(*storeforward.Queue) { n++ })
	return n
}

// EncodeReports is the way back from ParseReports.
func EncodeReports(r Reports) []byte {
	body, _ := encodeReports(r.Region, r.list)
	return body
}

// SomeReports has one of each kind.
func SomeReports() Reports {
	nodes := []addr.Node{addr.MustNode("a"), addr.MustNode("b")}
	region := addr.MustRegion("earth/eu")
	return Reports{Region: region, list: []Report{
		{seq: 5, kind: reportEnd, reason: bundle.Expired, share: wholeShare, count: 3},
		{seq: 6, kind: reportMoved, once: true, share: 7, nodes: nodes},
		{seq: 7, kind: reportEntered, region: region, nodes: nodes},
		{seq: 8, kind: reportHint, reason: bundle.Purged, region: region},
	}}
}
