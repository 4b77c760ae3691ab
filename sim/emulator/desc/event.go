package desc

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// MaxEvents bounds the events of a description.
const MaxEvents = 1000

// Action is what is done to a link beside its profiles.
type Action string

// Actions.
const (
	Cut       Action = "cut"       // nothing enters; what is under way arrives
	Blackhole Action = "blackhole" // nothing arrives, and nobody is told
	HalfOpen  Action = "half-open" // one direction is cut, the other open
	Rebind    Action = "rebind"    // a NAT forgets its ports
	Heal      Action = "heal"      // both directions are open
)

// Event does something to a link at a time.
type Event struct {
	At        time.Duration // since the opening of the link
	Every     time.Duration // again and again; 0 is once
	For       time.Duration // until it is healed; 0 is for good
	Do        Action
	Direction Direction // which one HalfOpen cuts
}

// Validate says what is wrong with e, by its key.
func (e Event) Validate() error {
	lasts := e.Do == Cut || e.Do == Blackhole || e.Do == HalfOpen
	switch {
	case !lasts && e.Do != Rebind && e.Do != Heal:
		return fmt.Errorf("do: %q is not cut, blackhole, half-open, rebind or heal", clip(string(e.Do)))
	case e.At < 0 || e.Every < 0 || e.For < 0:
		return errors.New("at, every and for must not be negative")
	case e.For > 0 && !lasts:
		return fmt.Errorf("for: %s does not last", e.Do)
	case e.Every > 0 && e.Every < minInterval:
		return fmt.Errorf("every: %v is less than %v", e.Every, minInterval)
	case e.Every > 0 && e.For >= e.Every:
		return fmt.Errorf("for: %v would not end before it begins again after %v", e.For, e.Every)
	}
	return nil
}

// MarshalJSON writes the keys of a file.
func (e Event) MarshalJSON() ([]byte, error) {
	out := map[string]string{"at": shortDuration(e.At), "do": string(e.Do)}
	if e.Every > 0 {
		out["every"] = shortDuration(e.Every)
	}
	if e.For > 0 {
		out["for"] = shortDuration(e.For)
	}
	if e.Do == HalfOpen {
		out["direction"] = e.Direction.String()
	}
	return json.Marshal(out)
}

// Step is one thing to do now.
type Step struct {
	Do        Action
	Direction Direction
}

// NextStep returns when something is to be done next, strictly after a time
// since the opening of the link, and what, in order: ends come first. It
// returns nothing to do when there is nothing any more.
func NextStep(events []Event, after time.Duration) (at time.Duration, todo []Step) {
	add := func(first, every time.Duration, s Step) {
		t, ok := nextTime(first, every, after)
		switch {
		case !ok || (len(todo) > 0 && t > at):
			return
		case len(todo) == 0 || t < at:
			at, todo = t, nil
		}
		todo = append(todo, s)
	}
	for _, e := range events {
		if e.For > 0 {
			add(e.At+e.For, e.Every, Step{Do: Heal})
		}
	}
	for _, e := range events {
		add(e.At, e.Every, Step{e.Do, e.Direction})
	}
	return at, todo
}

// nextTime is the first of first, first+every, ... after a time.
func nextTime(first, every, after time.Duration) (time.Duration, bool) {
	switch {
	case first > after:
		return first, true
	case every <= 0:
		return 0, false
	}
	return first + ((after-first)/every+1)*every, true
}

// events reads a list of events.
func (r *reader) events(at entry) []Event {
	n := at.value
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) > MaxEvents {
		r.fault(at, fmt.Errorf("not a list of at most %d; write for example [{at: 30s, for: 10s, do: cut}]", MaxEvents))
		return nil
	}
	var out []Event
	for i, v := range n.Content {
		here := entry{path: fmt.Sprintf("events[%d]", i), line: v.Line}
		before := len(r.faults)
		e, keys := r.event(here.path+".", v)
		if len(r.faults) > before {
			continue
		}
		err := e.Validate()
		if said := slices.Contains(keys, "direction"); err == nil && said != (e.Do == HalfOpen) {
			err = errors.New("direction: half-open needs one, up or down, and nothing else has one")
		}
		if err != nil {
			r.fault(here, err)
		}
		out = append(out, e)
	}
	return out
}

// event reads one event and says which keys it has.
func (r *reader) event(path string, n *yaml.Node) (e Event, keys []string) {
	for _, x := range r.entries(path, n) {
		var err error
		var text string
		switch x.name {
		case "at":
			e.At, err = duration(x.value)
		case "every":
			e.Every, err = duration(x.value)
		case "for":
			e.For, err = duration(x.value)
		case "do":
			text, err = scalar(x.value)
			e.Do = Action(text)
		case "direction":
			if text, err = scalar(x.value); err == nil {
				e.Direction, err = ParseDirection(text)
			}
		default:
			r.unknown(x, []string{"at", "every", "for", "do", "direction"})
		}
		if err != nil {
			r.fault(x, err)
		}
		keys = append(keys, x.name)
	}
	return e, keys
}
