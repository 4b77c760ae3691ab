package core

import (
	"maps"
	"slices"

	"github.com/farhop/farhop/routing"
)

// How often a node tells that members went away, in ms. One that comes is told
// at once. While they come and go the pace doubles; it is as before once it was
// quiet for twice as long. Until others know they may choose this node, which
// then hands the message on.
const (
	quickPace = 1000
	slowPace  = 8000
)

// pace damps what is told of groups.
type pace struct {
	wait int64 // ms
	next int64 // ms: nothing worse is told before
	late bool  // something waits for that
}

// tellGroups returns what the mesh is to know of the groups here, old being
// what it knows.
func (c *Core) tellGroups(old []routing.GroupState) []routing.GroupState {
	now := make([]routing.GroupState, 0, len(c.groups))
	for _, key := range slices.Sorted(maps.Keys(c.groups)) {
		now = append(now, routing.GroupState{Filter: key, Online: c.groups[key].online()})
	}
	now = now[:min(len(now), routing.MaxGroups)]
	p := &c.pace
	told := now
	if c.now < p.next {
		told = best(old, now)
	}
	if len(told) > routing.MaxGroups { // some are no more
		told = now
	}
	p.late = !slices.Equal(told, now)
	if slices.Equal(told, old) {
		return old
	}
	if p.wait = min(2*max(p.wait, quickPace/2), slowPace); c.now >= p.next+p.wait {
		p.wait = quickPace
	}
	p.next = c.now + p.wait
	return told
}

// best joins two lists by filter: a group is in one of them, and has a member
// that is connected in one of them.
func best(a, b []routing.GroupState) (out []routing.GroupState) {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].Filter < b[0].Filter:
			out, a = append(out, a[0]), a[1:]
		case a[0].Filter > b[0].Filter:
			out, b = append(out, b[0]), b[1:]
		default:
			out = append(out, routing.GroupState{Filter: a[0].Filter, Online: a[0].Online || b[0].Online})
			a, b = a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}

func (c *Core) tickGroups() {
	if c.pace.late && c.now >= c.pace.next {
		c.groupsDirty = true
	}
}

func (c *Core) wakeGroups(w *wake) {
	if c.pace.late {
		w.min(c.pace.next)
	}
}
