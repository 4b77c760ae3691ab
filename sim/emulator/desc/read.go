package desc

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// reader walks the nodes of one description and collects faults.
type reader struct {
	file   string
	files  Files
	prefix string // of paths, in a file with several links
	live   bool   // the link is open
	faults []error
	lines  map[string]int // of keys by path
}

// entry is one key of a mapping.
type entry struct {
	path, name string
	line       int
	value      *yaml.Node
}

func (r *reader) fault(e entry, err error) {
	if r.file == "" {
		e.line = 0 // of a body or a flag, nobody counts lines
	}
	r.faults = append(r.faults, &Fault{File: r.file, Line: e.line, Key: strings.TrimSuffix(r.prefix+e.path, "."), Err: err})
}

func (r *reader) unknown(e entry, known []string) {
	r.fault(e, fmt.Errorf("there is no such key; there are %s", strings.Join(known, ", ")))
}

// exclusive are keys of which one mapping gives one at most.
func exclusive() [][2]string { return [][2]string{{"rate", "trace"}, {"delay", "delays"}} }

// entries returns the keys of a mapping at a path, each once.
func (r *reader) entries(path string, n *yaml.Node) []entry {
	if n.Kind != yaml.MappingNode {
		r.fault(entry{path: strings.TrimSuffix(path, "."), line: n.Line}, errors.New("not a mapping of keys and values; write for example delay: 1.28s"))
		return nil
	}
	var out []entry
	seen := map[string]bool{} // whether not null
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		e := entry{path: path + clip(k.Value), name: k.Value, line: k.Line, value: v}
		switch _, twice := seen[e.name]; {
		case k.Kind != yaml.ScalarNode || v.Kind == yaml.AliasNode:
			r.fault(e, errors.New("aliases and keys that are no words are not read here"))
			continue
		case twice:
			r.fault(e, errors.New("it is given twice"))
			continue
		}
		seen[e.name] = !isNull(v)
		for _, pair := range exclusive() {
			if (e.name == pair[0] || e.name == pair[1]) && seen[pair[0]] && seen[pair[1]] {
				r.fault(e, fmt.Errorf("give %s or %s, not both", pair[0], pair[1]))
			}
		}
		if r.lines == nil {
			r.lines = map[string]int{}
		}
		r.lines[e.path] = e.line
		out = append(out, e)
	}
	return out
}

// profileKey reads the i-th key of a direction.
func (r *reader) profileKey(e entry, i int, p *Profile) {
	k := profileKeys()[i]
	if isNull(e.value) {
		normal := New()
		k.copy(p, &normal.Up)
		return
	}
	if err := k.read(r, p, e.value); err != nil {
		r.fault(e, err)
	}
}

// check validates the finished profiles and names their faults by key. What the
// way back has from the other one is told once.
func (r *reader) check(l *Link) {
	keys, told := profileKeys(), map[string]bool{}
	tell := func(path string, p *Profile) {
		for _, f := range p.faults() {
			name := keys[slices.IndexFunc(keys, func(k key) bool { return k.field == f.field })].name
			if id := name + f.err.Error(); !told[id] {
				told[id] = true
				r.fault(entry{path: path + name, line: r.lines[path+name]}, f.err)
			}
		}
	}
	tell("", &l.Up)
	tell("return.", &l.Down)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// scalar returns the text of a value as it was written.
func scalar(n *yaml.Node) (string, error) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		return "", errors.New("not a single value")
	}
	return n.Value, nil
}

func network(n *yaml.Node) (string, error) {
	s, err := scalar(n)
	if err == nil && s != "udp" && s != "tcp" && s != "both" {
		err = fmt.Errorf("%q is not udp, tcp or both", clip(s))
	}
	return s, err
}

func seed(n *yaml.Node) (uint64, error) {
	s, err := scalar(n)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number of at most 20 digits", clip(s))
	}
	return v, nil
}

// duration reads 1.28s, 20m, 0.
func duration(n *yaml.Node) (time.Duration, error) {
	s, err := scalar(n)
	if err != nil {
		return 0, err
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration; write a number with its unit, such as 1.28s or 20m", clip(s))
	}
	return d, nil
}

// minInterval keeps what is repeated from taking all time.
const minInterval = 10 * time.Millisecond

// interval reads how often something comes; null is never.
func interval(n *yaml.Node) (time.Duration, error) {
	if isNull(n) {
		return 0, nil
	}
	d, err := duration(n)
	if err == nil && d != 0 && d < minInterval {
		err = fmt.Errorf("%v is less than %v", d, minInterval)
	}
	return d, err
}

// whole reads a number of bytes without a unit.
func whole(n *yaml.Node) (int, error) {
	s, err := scalar(n)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number of bytes; write for example 1500", clip(s))
	}
	return int(v), nil
}

// mean reads a plain number such as 10 or 2.5.
func mean(n *yaml.Node) (float64, error) {
	s, err := scalar(n)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || strings.Trim(s, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is not a number; write for example 10", clip(s))
	}
	return v, nil
}

func share(n *yaml.Node) (float64, error) {
	s, err := scalar(n)
	if err != nil {
		return 0, err
	}
	return ParseLoss(s)
}
