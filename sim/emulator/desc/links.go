package desc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxLinks bounds the links of one file.
const MaxLinks = 1000

// Named is one of the links that a file describes, and whom it joins. Link.Up
// is the way from the first to the second.
type Named struct {
	Between [2]string
	Link
	at     reader // of its keys, to say where something is
	turned bool   // the file has the other end first
}

// Several reports whether a file describes links by whom they join, and not one
// without saying so.
func Several(data []byte) bool {
	var doc map[string]yaml.Node
	return yaml.Unmarshal(data, &doc) == nil && doc["links"].Kind != 0
}

// ParseLinks reads a file with the one key links, a list of descriptions, each
// with one key more: between, the names of the two ends. It reports all that is
// wrong as *Fault, joined.
func ParseLinks(name string, data []byte, files Files) ([]Named, error) {
	whole := func(err error) error { return &Fault{File: name, Err: err} }
	if len(data) > MaxFile {
		return nil, whole(fmt.Errorf("more than %d bytes", MaxFile))
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, whole(errors.New("it is empty; write for example links: [{between: [luna, relay], delay: 1.28s}]"))
	case err != nil:
		return nil, whole(err)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, whole(errors.New("a second YAML document; all links are in one"))
	}
	r := &reader{file: name}
	var out []Named
	for _, e := range r.entries("", doc.Content[0]) {
		switch {
		case e.name != "links":
			r.fault(e, errors.New("this file is of links between names: write links: [{between: [luna, relay], delay: 1.28s}]"))
		case e.value.Kind != yaml.SequenceNode || len(e.value.Content) == 0 || len(e.value.Content) > MaxLinks:
			r.fault(e, fmt.Errorf("not a list of 1 to %d links; write for example [{between: [luna, relay], delay: 1.28s}]", MaxLinks))
		default:
			out = r.named(e.value, files)
		}
	}
	return out, errors.Join(r.faults...)
}

// named reads the links of a list.
func (r *reader) named(list *yaml.Node, files Files) (out []Named) {
	seen := map[[2]string]int{}
	for i, v := range list.Content {
		at := reader{file: r.file, files: files, prefix: fmt.Sprintf("links[%d].", i)}
		n := Named{Link: New()}
		rest := *v
		if v.Kind == yaml.MappingNode {
			rest.Content = n.between(&at, v)
		}
		link, err := n.apply(&at, &rest)
		if n.Link = link; err == nil && n.Between[0] == "" && len(at.faults) == 0 {
			at.fault(entry{path: "between", line: v.Line}, errors.New("is missing: say whom the link joins, such as [luna, relay]"))
		}
		if first, twice := seen[n.pair()]; twice && n.Between[0] != "" {
			at.fault(entry{path: "between", line: at.lines["between"]}, fmt.Errorf("links[%d] joins the same two", first))
		}
		seen[n.pair()] = i
		r.faults = append(r.faults, at.faults...)
		at.faults = nil
		n.at = at
		out = append(out, n)
	}
	return out
}

// between reads whom a link joins, and returns the other keys.
func (n *Named) between(r *reader, v *yaml.Node) (rest []*yaml.Node) {
	for i := 0; i+1 < len(v.Content); i += 2 {
		k, ends := v.Content[i], v.Content[i+1]
		if k.Value != "between" {
			rest = append(rest, k, ends)
			continue
		}
		e := entry{path: "between", line: k.Line}
		r.lines = map[string]int{"between": k.Line}
		two := ends.Kind == yaml.SequenceNode && len(ends.Content) == 2
		switch {
		case n.Between[0] != "":
			r.fault(e, errors.New("it is given twice"))
		case !two || ends.Content[0].Value == "" || ends.Content[0].Value == ends.Content[1].Value || ends.Content[1].Value == "":
			r.fault(e, errors.New("want two names, such as [luna, relay]"))
		default:
			n.Between = [2]string{ends.Content[0].Value, ends.Content[1].Value}
		}
	}
	return rest
}

// pair is Between in one order.
func (n *Named) pair() [2]string {
	if n.Between[0] > n.Between[1] {
		return [2]string{n.Between[1], n.Between[0]}
	}
	return n.Between
}

// Turned returns the link as seen from its other end, with the ways and the
// directions of events exchanged.
func (n Named) Turned() Named {
	n.Between[0], n.Between[1] = n.Between[1], n.Between[0]
	n.Up, n.Down, n.turned = n.Down, n.Up, !n.turned
	n.Events = slices.Clone(n.Events)
	for i := range n.Events {
		n.Events[i].Direction ^= Up ^ Down
	}
	return n
}

// Fault says what is wrong with a key of the link for who reads it, and where it
// is: in its place in the file, or in that of the link.
func (n Named) Fault(key string, err error) error { return n.fault(n.path(key), err) }

func (n Named) fault(path string, err error) error {
	line := n.at.lines[path]
	if line == 0 {
		line = n.at.lines["between"]
	}
	return &Fault{File: n.at.file, Line: line, Key: n.at.prefix + path, Err: err}
}

// path is where a key is in the file: of a link that was turned the way back is
// what the file has first.
func (n Named) path(key string) string {
	if !n.turned {
		return key
	}
	if there, back := strings.CutPrefix(key, "return."); back {
		return there
	}
	if back := "return." + key; n.at.lines[back] > 0 {
		return back
	}
	return key
}

// Gives reports whether the file gives a key for the link, such as loss or
// return.loss.
func (n Named) Gives(key string) bool { return n.at.lines[n.path(key)] > 0 }

// Refuse reports the keys that the file gives for the link and that who reads it
// cannot honour: why has the reason by key, of both directions.
func (n Named) Refuse(why map[string]string) error {
	var given []string
	for path := range n.at.lines {
		if _, ok := why[strings.TrimPrefix(path, "return.")]; ok {
			given = append(given, path)
		}
	}
	slices.SortFunc(given, func(a, b string) int { return n.at.lines[a] - n.at.lines[b] })
	errs := make([]error, len(given))
	for i, path := range given {
		errs[i] = n.fault(path, errors.New(why[strings.TrimPrefix(path, "return.")]))
	}
	return errors.Join(errs...)
}
