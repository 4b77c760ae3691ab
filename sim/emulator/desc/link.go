package desc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// MaxFile bounds a description, in bytes.
const MaxFile = 1 << 20

// DefaultOverhead is what a description counts for each datagram beside its
// payload: headers of IPv4 and UDP.
const DefaultOverhead = 28

// Link is one link, as a file describes it. New gives the defaults. Keys that
// the section return does not give follow the other direction.
type Link struct {
	Listen  string // host:port that clients use
	To      string // host:port of the receiver
	Network string // udp, tcp or both
	Seed    uint64
	Up      Profile // to the receiver
	Down    Profile // back
	// RebindEvery is how often a NAT on the way forgets its ports; 0 is never.
	RebindEvery time.Duration
	Events      []Event

	own uint32 // keys of return, by index in profileKeys
}

// New returns a perfect link that counts rates in bytes of IP.
func New() Link {
	p := Profile{Overhead: DefaultOverhead}
	return Link{Network: "both", Seed: 1, Up: p, Down: p}
}

// Files returns the content of a file that a description names, such as a
// trace.
type Files func(path string) ([]byte, error)

// Fault is what is wrong with one key of a description.
type Fault struct {
	File string // "" if it did not come from a file
	Line int    // from 1; 0 if there is none
	Key  string // with its path, such as return.loss; "" if it is about the whole
	Err  error
}

// Error is "file:line: key: what".
func (f *Fault) Error() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File + ":")
	}
	if f.Line > 0 {
		fmt.Fprintf(&b, "%d: ", f.Line)
	} else if f.File != "" {
		b.WriteString(" ")
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	return b.String() + f.Err.Error()
}

// Unwrap returns what is wrong without where.
func (f *Fault) Unwrap() error { return f.Err }

// Parse reads a description on top of New and reports all that is wrong with
// it as *Fault, joined.
func Parse(name string, data []byte, files Files) (Link, error) {
	return New().patch(&reader{file: name, files: files}, data)
}

// Patch returns l changed by a description that holds only what is to change,
// or l and all that is wrong with it. What cannot change on an open link is
// refused. A key that is null goes back to its default, or in return to the
// other direction.
func (l Link) Patch(data []byte, files Files) (Link, error) {
	return l.patch(&reader{files: files, live: true}, data)
}

// Setting is a key with its path, and its value as text.
type Setting struct{ Key, Value string }

// Set returns l changed by settings, or l and all that is wrong with them.
func (l Link) Set(settings []Setting, files Files) (Link, error) {
	root, back := &yaml.Node{Kind: yaml.MappingNode}, &yaml.Node{Kind: yaml.MappingNode}
	text := func(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }
	for _, s := range settings {
		at := root
		key, inReturn := strings.CutPrefix(s.Key, "return.")
		if inReturn {
			at = back
		}
		at.Content = append(at.Content, text(key), text(s.Value))
	}
	if len(back.Content) > 0 {
		root.Content = append(root.Content, text("return"), back)
	}
	return l.apply(&reader{files: files}, root)
}

func (l Link) patch(r *reader, data []byte) (Link, error) {
	if len(data) > MaxFile {
		return l, &Fault{File: r.file, Err: fmt.Errorf("more than %d bytes", MaxFile)}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return l, &Fault{File: r.file, Err: errors.New("it is empty; write for example: delay: 1.28s")}
	case err != nil:
		return l, &Fault{File: r.file, Err: err}
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return l, &Fault{File: r.file, Err: errors.New("a second YAML document; one describes one link")}
	}
	return l.apply(r, doc.Content[0])
}

// apply returns l changed by a mapping.
func (l Link) apply(r *reader, n *yaml.Node) (Link, error) {
	to := l
	for _, e := range r.entries("", n) {
		switch i := keyIndex(e.name); {
		case i >= 0:
			r.profileKey(e, i, &to.Up)
		case e.name == "return":
			to.readReturn(r, e.value)
		default:
			to.readOwn(r, e)
		}
	}
	for i, k := range profileKeys() {
		if to.own&(1<<i) == 0 {
			k.copy(&to.Down, &to.Up)
		}
	}
	if len(r.faults) == 0 { // else what is told would follow from what is wrong
		r.check(&to)
	}
	if len(r.faults) > 0 {
		return l, errors.Join(r.faults...)
	}
	return to, nil
}

// readReturn reads the section return.
func (l *Link) readReturn(r *reader, n *yaml.Node) {
	if isNull(n) {
		l.own = 0
		return
	}
	entries := r.entries("return.", n)
	for _, e := range entries {
		if i := keyIndex(e.name); i >= 0 && isNull(e.value) {
			l.own &^= groupMask(i)
		}
	}
	normal := New()
	for _, e := range entries {
		i := keyIndex(e.name)
		switch {
		case i < 0:
			r.unknown(e, profileNames())
		case isNull(e.value):
		default:
			if l.own&(1<<i) == 0 { // what it shares a decision with begins anew
				l.own |= groupMask(i)
				for g, k := range profileKeys() {
					if groupMask(i)&(1<<g) != 0 {
						k.copy(&l.Down, &normal.Up)
					}
				}
			}
			r.profileKey(e, i, &l.Down)
		}
	}
}

// ownKeys are the keys of a description that are not those of a direction.
func ownKeys() []string {
	return []string{"listen", "to", "network", "seed", "rebind_every", "events", "return"}
}

// readOwn reads one of ownKeys.
func (l *Link) readOwn(r *reader, e entry) {
	if !slices.Contains(ownKeys(), e.name) {
		r.unknown(e, append(ownKeys(), profileNames()...))
		return
	}
	if r.live && e.name != "rebind_every" {
		r.fault(e, errors.New("it cannot change while the link is open"))
		return
	}
	var err error
	switch e.name {
	case "listen":
		l.Listen, err = scalar(e.value)
	case "to":
		l.To, err = scalar(e.value)
	case "network":
		l.Network, err = network(e.value)
	case "seed":
		l.Seed, err = seed(e.value)
	case "rebind_every":
		l.RebindEvery, err = interval(e.value)
	case "events":
		l.Events = r.events(e)
	}
	if err != nil {
		r.fault(e, err)
	}
}

// MarshalJSON writes the keys of a file, those left out that have their
// default.
func (l Link) MarshalJSON() ([]byte, error) {
	out := map[string]any{"listen": l.Listen, "to": l.To, "network": l.Network, "seed": l.Seed}
	back, normal := map[string]any{}, New()
	for i, k := range profileKeys() {
		if v := k.show(&l.Up); v != nil && fmt.Sprint(v) != fmt.Sprint(k.show(&normal.Up)) {
			out[k.name] = v
		}
		if v := k.show(&l.Down); v != nil && l.own&(1<<i) != 0 {
			back[k.name] = v
		}
	}
	if len(back) > 0 {
		out["return"] = back
	}
	if l.RebindEvery != 0 {
		out["rebind_every"] = shortDuration(l.RebindEvery)
	}
	if len(l.Events) > 0 {
		out["events"] = l.Events
	}
	return json.Marshal(out)
}
