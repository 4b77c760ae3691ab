package conformance

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

//go:embed cases
var caseFiles embed.FS

// versions are the standards by the name that case files give them.
var versions = map[string]byte{"MQTT311": 4, "MQTT5": 5}

// Case is one sequence of packets and what a server must answer, for one
// version of the protocol.
type Case struct {
	Name     string   // "file/name v5", or "file/name: row v5"
	Version  byte     // 4 (MQTT 3.1.1) or 5
	Clauses  []string // what it shows: "MQTT5 [MQTT-3.1.2-3]"
	Practice string   // why it is here though no statement asks for it, else ""
	steps    []step
}

// file is the form of a case file; see the package comment.
type file struct {
	About string
	Cases []fileCase
}

type fileCase struct {
	Name     string
	Clauses  map[string][]string
	Versions []byte
	Practice string
	Steps    []string
	Rows     []map[string]string
}

// Cases gives the cases that any server can be held against, in the order of
// their files.
func Cases() ([]Case, error) { return read("cases/*.json") }

// AuthCases gives those for a server that sees the authentication method
// farhop-conformance through: data "at-once" lets the client in, "knock" is
// answered with "who" and wants "me", which lets it in; anything else is
// refused. Who is let in reads "welcome". Without a method user conformance
// comes in with the password plain.
func AuthCases() ([]Case, error) { return read("cases/auth/*.json") }

func read(pattern string) ([]Case, error) {
	names, err := fs.Glob(caseFiles, pattern)
	if err != nil {
		return nil, err
	}
	var out []Case
	for _, name := range names {
		src, err := caseFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		cases, err := Parse(strings.TrimSuffix(path.Base(name), ".json"), src)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, cases...)
	}
	return out, nil
}

// Parse reads one case file. The name goes before those of its cases. Errors
// name the case and its line.
func Parse(name string, src []byte) ([]Case, error) {
	var f file
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, err
	}
	var out []Case
	seen := map[string]bool{}
	for _, c := range f.Cases {
		cases, err := c.expand(name)
		if err != nil {
			return nil, fmt.Errorf("case %q: %w", c.Name, err)
		}
		for _, one := range cases {
			if seen[one.Name] {
				return nil, fmt.Errorf("two cases are called %q", one.Name)
			}
			seen[one.Name] = true
		}
		out = append(out, cases...)
	}
	return out, nil
}

// expand makes a case for each version and row.
func (c fileCase) expand(file string) ([]Case, error) {
	clauses := map[byte][]string{}
	for standard, numbers := range c.Clauses {
		v, ok := versions[standard]
		if !ok {
			return nil, fmt.Errorf("no standard is called %q", standard)
		}
		for _, n := range numbers {
			clauses[v] = append(clauses[v], standard+" [MQTT-"+n+"]")
		}
	}
	list := c.Versions
	if len(list) == 0 {
		list = slices.Sorted(maps.Keys(clauses))
	}
	if c.Name == "" || len(list) == 0 || len(clauses) == 0 && c.Practice == "" {
		return nil, errors.New("it needs a name, clauses or a practice, and a version")
	}
	rows := c.Rows
	if len(rows) == 0 {
		rows = []map[string]string{{}}
	}
	var out []Case
	for _, v := range list {
		for _, row := range rows {
			if only := row["only"]; only != "" && only != fmt.Sprintf("v%d", v) {
				continue
			}
			name := file + "/" + c.Name
			if row["row"] != "" {
				name += ": " + row["row"]
			}
			steps, err := c.steps(v, row)
			if err != nil {
				return nil, err
			}
			out = append(out, Case{Name: fmt.Sprintf("%s v%d", name, v), Version: v, Clauses: clauses[v], Practice: c.Practice, steps: steps})
		}
	}
	return out, nil
}

// steps parses the lines for one version, with the words of a row in the
// place of {KEY}, and checks that every variable is bound before it is used.
func (c fileCase) steps(version byte, row map[string]string) ([]step, error) {
	var pairs []string
	for key, text := range row {
		pairs = append(pairs, "{"+key+"}", text)
	}
	words := strings.NewReplacer(pairs...)
	known := slices.Clone(builtin)
	var out []step
	for _, line := range c.Steps {
		line = words.Replace(line)
		s, err := parseStep(line)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		if s.only != 0 && s.only != version {
			continue
		}
		for _, v := range s.uses() {
			if !slices.Contains(known, v) {
				return nil, fmt.Errorf("%q: $%s is bound by no step before", line, v)
			}
		}
		known = append(known, s.bound()...)
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, errors.New("no steps")
	}
	return out, nil
}
