package sim

import (
	"fmt"
	"time"

	"github.com/farhop/farhop/sim/scenario"
	"github.com/farhop/farhop/storeforward/store"
)

// trigger crashes a node at the moment it does something.
type trigger struct {
	on   string
	left int
	down time.Duration
	torn bool
}

// fires reports whether a trigger crashed the node.
func (n *node) fires(on string) bool {
	for i, t := range n.triggers {
		if t.on != on {
			continue
		}
		if t.left--; t.left > 0 {
			continue
		}
		n.triggers = append(n.triggers[:i:i], n.triggers[i+1:]...)
		n.crash(t.down, t.torn)
		return true
	}
	return false
}

// arm schedules a fault.
func (w *world) arm(f *scenario.Fault) {
	w.at(time.Duration(f.At), func() {
		w.report.Faults++
		w.note('E', fmt.Sprintf("%s %s%s%s", f.Kind, f.Node, f.Link[0], f.Client), uint64(f.For), uint64(f.By), uint64(f.Nth))
		switch f.Kind {
		case scenario.Cut, scenario.Reset, scenario.Duplicate, scenario.Reorder:
			w.strikeLink(f)
		case scenario.Away, scenario.Clean:
			w.strikeDevice(f)
		default:
			w.strikeNode(f)
		}
	})
}

func (w *world) strikeNode(f *scenario.Fault) {
	n := w.byName[f.Node]
	switch f.Kind { //nolint:exhaustive // the others strike links and devices
	case scenario.Crash:
		if f.On == "" {
			n.crash(time.Duration(f.For), f.Torn)
		} else {
			n.triggers = append(n.triggers, &trigger{f.On, max(f.Nth, 1), time.Duration(f.For), f.Torn})
		}
	case scenario.Full:
		n.full++
		n.store.SetFull(true)
		w.after(time.Duration(f.For), func() {
			n.full--
			n.store.SetFull(n.full > 0)
		})
	case scenario.Fail:
		n.store.FailAt(1+n.store.Staged(), store.ErrPoisoned)
	case scenario.Slow:
		n.slow = time.Duration(f.By)
		w.after(time.Duration(f.For), func() { n.slow = 0 })
	case scenario.Damage:
		w.damage(n, f)
	case scenario.Purge:
		n.purge(f, w.stream("purge "+f.Node, int(f.At)))
	case scenario.Retry:
		if n.up {
			w.report.Retries++
			n.core.Retry(n.clock())
			n.pump()
		}
	case scenario.Clock:
		if by := time.Duration(f.By); by < 0 {
			n.stepBack -= by
		} else if n.ahead += by; n.up {
			n.core.Tick(n.clock())
			n.pump()
		}
	}
}

func (w *world) strikeLink(f *scenario.Fault) {
	for _, l := range w.links {
		if l.spec.Between != f.Link {
			continue
		}
		switch f.Kind { //nolint:exhaustive // the others strike nodes and devices
		case scenario.Cut:
			l.cutFor(time.Duration(f.For), f.Way)
		case scenario.Reset:
			if s := l.session; s != nil {
				s.down(0)
				s.down(1)
			}
		case scenario.Duplicate:
			l.double = true
		case scenario.Reorder:
			l.hold = true
		}
	}
}

func (w *world) strikeDevice(f *scenario.Fault) {
	for _, s := range w.subs {
		if s.spec.Client != f.Client {
			continue
		}
		if f.Kind == scenario.Clean {
			s.restart()
		} else {
			s.awayFor(time.Duration(f.For))
		}
	}
}
