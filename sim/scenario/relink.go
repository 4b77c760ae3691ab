package scenario

import (
	"errors"
	"fmt"
	"time"

	"github.com/farhop/farhop/sim/emulator/desc"
)

// unworldly are the keys of a description that a virtual world does not honour,
// with the reasons. Frames of its sessions are what packets carry, so what
// befalls single packets beyond their loss is not in it.
func unworldly() map[string]string {
	const packets = "a virtual world has sessions, whose transport hides what befalls single packets; leave it out, or use the emulator"
	return map[string]string{
		"listen": "a virtual world has no addresses; leave it out", "to": "a virtual world has no addresses; leave it out",
		"network": "a virtual world has no transport protocols; leave it out",
		"seed":    "the seed of a world is that of the whole run, --seed; leave it out",
		"trace":   "a virtual world has fixed rates; give rate", "delays": "a virtual world has fixed light times; give delay",
		"delays_repeat": "a virtual world has fixed light times; leave it out",
		"queue":         "senders in a virtual world wait for the rate, so nothing queues; leave it out",
		"overhead":      packets, "mtu": packets, "reorder": packets, "reorder_by": packets, "duplicate": packets, "corrupt": packets,
		"rebind_every": "a virtual world has no NAT; leave it out",
	}
}

// Relink puts links of a file in the place of those of the world that join the
// same nodes. What is wrong, and what a virtual world cannot honour, is reported
// with its line, and then nothing is changed.
func (w *World) Relink(links []desc.Named) error {
	var errs []error
	if w.Chaos {
		return fmt.Errorf("%s: the seed makes the links of this world; take another one", w.Name)
	}
	to := *w
	to.Links, to.Faults = append([]Link(nil), w.Links...), append([]Fault(nil), w.Faults...)
	for _, n := range links {
		at := -1
		for i := range to.Links {
			switch to.Links[i].Between {
			case n.Between:
				at = i
			case [2]string{n.Between[1], n.Between[0]}:
				at, n = i, n.Turned()
			}
		}
		if at < 0 {
			errs = append(errs, n.Fault("between", fmt.Errorf("the world %s has no link between %s and %s", w.Name, n.Between[0], n.Between[1])))
			continue
		}
		errs = append(errs, n.Refuse(unworldly()), to.relink(&to.Links[at], n))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := to.Validate(); err != nil {
		return err
	}
	*w = to
	return nil
}

// relink makes a link what a description says.
func (w *World) relink(l *Link, n desc.Named) error {
	there, back := wayOf(n.Up), wayOf(n.Down)
	*l = Link{Between: l.Between, Classes: l.Classes, Delay: there.Delay, Jitter: there.Jitter, Loss: there.Loss, Burst: there.Burst, Rate: there.Rate}
	if back != there {
		l.Return = &back
	}
	var errs []error
	switch c := n.Up.Contacts; {
	case n.Gives("return.contacts") && n.Up.Contacts != n.Down.Contacts:
		errs = append(errs, n.Fault("return.contacts", errors.New("contacts of a virtual world are for both directions; leave it out")))
	case !c.Start.IsZero():
		errs = append(errs, n.Fault("contacts", errors.New("contacts of a virtual world begin with it; leave start out")))
	case !c.Always():
		l.Contacts = &Contacts{Every: Duration(c.Every), For: Duration(c.For)}
	}
	for i, e := range n.Events {
		faults, key, err := w.events(l.Between, e)
		if err != nil {
			errs = append(errs, n.Fault(fmt.Sprintf("events[%d].%s", i, key), err))
		}
		w.Faults = append(w.Faults, faults...)
	}
	return errors.Join(errs...)
}

func wayOf(p desc.Profile) Way {
	return Way{Duration(p.Delay), Duration(p.Jitter), Percent(p.Loss), p.Burst, Rate(p.Rate)}
}

// maxEvents bounds how often one event comes in a world.
const maxEvents = 10_000

// events makes faults of an event, as often as it comes in the world, or says
// what is wrong with which key.
func (w *World) events(between [2]string, e desc.Event) (out []Fault, key string, err error) {
	f := Fault{Kind: Cut, Link: between, For: Duration(e.For)}
	switch {
	case e.Do == desc.HalfOpen && e.Direction == desc.Up:
		f.Way = There
	case e.Do == desc.HalfOpen:
		f.Way = Back
	case e.Do != desc.Cut:
		return nil, "do", fmt.Errorf("%s is not in virtual worlds, which have cut and half-open", e.Do)
	}
	if e.For == 0 {
		return nil, "do", fmt.Errorf("a %s in a virtual world needs its length", e.Do)
	}
	for at := e.At; at <= time.Duration(w.Duration); at += e.Every {
		if f.At = Duration(at); len(out) == maxEvents {
			return nil, "every", fmt.Errorf("it would come more than %d times in %v", maxEvents, time.Duration(w.Duration))
		}
		if out = append(out, f); e.Every == 0 {
			break
		}
	}
	return out, "", nil
}
