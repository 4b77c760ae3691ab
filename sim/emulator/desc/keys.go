package desc

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// key is one key of a direction in a description.
type key struct {
	name  string
	field string // of Profile
	group string // keys with which it is one decision
	read  func(r *reader, p *Profile, n *yaml.Node) error
	show  func(p *Profile) any // nil: another key of the group says it
	copy  func(to, from *Profile)
}

// profileKeys lists the keys of a direction. It is a function because the
// package keeps no mutable state.
func profileKeys() []key {
	return slices.Concat(pathKeys(), mishapKeys(), neckKeys())
}

// pathKeys are about when something arrives.
func pathKeys() []key {
	return []key{
		{
			"delay", "Delay", "path",
			func(_ *reader, p *Profile, n *yaml.Node) (err error) {
				p.Delays = Delays{}
				p.Delay, err = duration(n)
				return err
			},
			func(p *Profile) any {
				if len(p.Delays.Points) > 0 {
					return nil
				}
				return shortDuration(p.Delay)
			},
			func(to, from *Profile) { to.Delay = from.Delay },
		},
		{
			"delays", "Delays", "path",
			func(r *reader, p *Profile, n *yaml.Node) (err error) {
				p.Delay = 0
				p.Delays.Points, err = r.points(n)
				return err
			},
			func(p *Profile) any { return showPoints(p.Delays.Points) },
			func(to, from *Profile) { to.Delays.Points = from.Delays.Points },
		},
		{
			"delays_repeat", "Repeat", "path",
			func(_ *reader, p *Profile, n *yaml.Node) (err error) {
				p.Delays.Repeat, err = yes(n)
				return err
			},
			func(p *Profile) any {
				if len(p.Delays.Points) == 0 {
					return nil
				}
				return p.Delays.Repeat
			},
			func(to, from *Profile) { to.Delays.Repeat = from.Delays.Repeat },
		},
		{
			"jitter", "Jitter", "jitter",
			func(_ *reader, p *Profile, n *yaml.Node) (err error) { p.Jitter, err = duration(n); return err },
			func(p *Profile) any { return shortDuration(p.Jitter) },
			func(to, from *Profile) { to.Jitter = from.Jitter },
		},
		{
			"contacts", "Contacts", "contacts",
			func(r *reader, p *Profile, n *yaml.Node) (err error) { p.Contacts, err = r.contacts(n); return err },
			func(p *Profile) any { return p.Contacts.String() },
			func(to, from *Profile) { to.Contacts = from.Contacts },
		},
	}
}

// mishapKeys are about what befalls single datagrams.
func mishapKeys() []key {
	return []key{
		shareKey("loss", "Loss", "loss", func(p *Profile) *float64 { return &p.Loss }),
		{
			"burst", "Burst", "burst",
			func(_ *reader, p *Profile, n *yaml.Node) (err error) { p.Burst, err = mean(n); return err },
			func(p *Profile) any { return p.Burst },
			func(to, from *Profile) { to.Burst = from.Burst },
		},
		shareKey("reorder", "Reorder", "reorder", func(p *Profile) *float64 { return &p.Reorder }),
		{
			"reorder_by", "ReorderBy", "reorder_by",
			func(_ *reader, p *Profile, n *yaml.Node) (err error) { p.ReorderBy, err = duration(n); return err },
			func(p *Profile) any { return shortDuration(p.ReorderBy) },
			func(to, from *Profile) { to.ReorderBy = from.ReorderBy },
		},
		shareKey("duplicate", "Duplicate", "duplicate", func(p *Profile) *float64 { return &p.Duplicate }),
		shareKey("corrupt", "Corrupt", "corrupt", func(p *Profile) *float64 { return &p.Corrupt }),
	}
}

// neckKeys are about the bottleneck.
func neckKeys() []key {
	return []key{
		{
			"rate", "Rate", "neck",
			func(_ *reader, p *Profile, n *yaml.Node) error {
				s, err := scalar(n)
				if err == nil {
					p.Trace = nil
					p.Rate, err = ParseRate(s)
				}
				return err
			},
			func(p *Profile) any {
				if p.Trace != nil {
					return nil
				}
				return FormatRate(p.Rate)
			},
			func(to, from *Profile) { to.Rate = from.Rate },
		},
		{
			"trace", "Trace", "neck",
			func(r *reader, p *Profile, n *yaml.Node) (err error) {
				p.Rate = 0
				p.Trace, err = r.trace(n)
				return err
			},
			func(p *Profile) any {
				if p.Trace == nil {
					return nil
				}
				return p.Trace.String()
			},
			func(to, from *Profile) { to.Trace = from.Trace },
		},
		{
			"queue", "Queue", "queue",
			func(_ *reader, p *Profile, n *yaml.Node) error {
				s, err := scalar(n)
				if err == nil {
					p.Queue, err = ParseSize(s)
				}
				return err
			},
			func(p *Profile) any { return FormatSize(p.Queue) },
			func(to, from *Profile) { to.Queue = from.Queue },
		},
		{
			"overhead", "Overhead", "overhead",
			func(_ *reader, p *Profile, n *yaml.Node) (err error) { p.Overhead, err = whole(n); return err },
			func(p *Profile) any { return p.Overhead },
			func(to, from *Profile) { to.Overhead = from.Overhead },
		},
		{
			"mtu", "MTU", "mtu",
			func(_ *reader, p *Profile, n *yaml.Node) (err error) { p.MTU, err = whole(n); return err },
			func(p *Profile) any { return p.MTU },
			func(to, from *Profile) { to.MTU = from.MTU },
		},
	}
}

// shareKey is a key whose value is a share of datagrams.
func shareKey(name, field, group string, at func(*Profile) *float64) key {
	return key{
		name, field, group,
		func(_ *reader, p *Profile, n *yaml.Node) (err error) { *at(p), err = share(n); return err },
		func(p *Profile) any { return FormatLoss(*at(p)) },
		func(to, from *Profile) { *at(to) = *at(from) },
	}
}

// keyIndex is the place of a key in profileKeys, -1 if it is not one.
func keyIndex(name string) int {
	return slices.IndexFunc(profileKeys(), func(k key) bool { return k.name == name })
}

// groupMask has a bit for each key of the group of the i-th.
func groupMask(i int) (mask uint32) {
	keys := profileKeys()
	for j, k := range keys {
		if k.group == keys[i].group {
			mask |= 1 << j
		}
	}
	return mask
}

func profileNames() (out []string) {
	for _, k := range profileKeys() {
		out = append(out, k.name)
	}
	return out
}

// yes reads true or false.
func yes(n *yaml.Node) (bool, error) {
	s, err := scalar(n)
	switch {
	case err != nil:
		return false, err
	case s != "true" && s != "false":
		return false, fmt.Errorf("%q is not true or false", clip(s))
	}
	return s == "true", nil
}

// trace reads the file that a value names; "none" is no trace.
func (r *reader) trace(n *yaml.Node) (*Trace, error) {
	path, err := scalar(n)
	switch {
	case err != nil:
		return nil, err
	case path == "none":
		return nil, nil
	case r.files == nil:
		return nil, errors.New("no files are read here")
	}
	data, err := r.files(path)
	if err != nil {
		return nil, err
	}
	return ParseTrace(path, data)
}

// contacts reads "every=2h,for=40m" or a mapping with the same keys.
func (r *reader) contacts(n *yaml.Node) (Schedule, error) {
	if n.Kind == yaml.ScalarNode {
		s, err := scalar(n)
		if err != nil {
			return Schedule{}, err
		}
		return ParseSchedule(s)
	}
	var parts []string
	for _, e := range r.entries("contacts.", n) {
		s, err := scalar(e.value)
		if err != nil {
			return Schedule{}, fmt.Errorf("%s: %w", clip(e.name), err)
		}
		parts = append(parts, e.name+"="+s)
	}
	if len(parts) == 0 {
		return Schedule{}, errors.New(`say when, such as {every: 2h, for: 40m}, or "always"`)
	}
	return ParseSchedule(strings.Join(parts, ","))
}

// points reads a table of delays: a list of {at, delay}.
func (r *reader) points(n *yaml.Node) ([]DelayPoint, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, errors.New("not a list; write for example [{at: 0s, delay: 1.2s}, {at: 10m, delay: 1.3s}]")
	}
	if len(n.Content) > MaxPoints {
		return nil, fmt.Errorf("%d points; a table has at most %d", len(n.Content), MaxPoints)
	}
	out := make([]DelayPoint, len(n.Content))
	for i, v := range n.Content {
		for _, e := range r.entries(fmt.Sprintf("delays[%d].", i), v) {
			var err error
			switch e.name {
			case "at":
				out[i].At, err = duration(e.value)
			case "delay":
				out[i].Delay, err = duration(e.value)
			default:
				r.unknown(e, []string{"at", "delay"})
			}
			if err != nil {
				r.fault(e, err)
			}
		}
	}
	return out, nil
}

func showPoints(points []DelayPoint) any {
	if len(points) == 0 {
		return nil
	}
	out := make([]map[string]string, len(points))
	for i, p := range points {
		out[i] = map[string]string{"at": shortDuration(p.At), "delay": shortDuration(p.Delay)}
	}
	return out
}
