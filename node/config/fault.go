package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing wrong with a configuration.
type Fault struct {
	File    string // as it was named by the caller, "" if there is none
	Line    int    // from 1, 0 if not known
	Field   string // path of the field, such as peers[0].address, "" for the whole
	Problem string // what is wrong; what to do
}

// Error returns FILE:LINE: FIELD: PROBLEM, without what is not known.
func (f Fault) Error() string {
	var parts []string
	if f.File != "" && f.Line > 0 {
		parts = append(parts, fmt.Sprintf("%s:%d", f.File, f.Line))
	} else if f.File != "" {
		parts = append(parts, f.File)
	}
	if f.Field != "" {
		parts = append(parts, f.Field)
	}
	return strings.Join(append(parts, f.Problem), ": ")
}

// maxFaults bounds what is reported at once.
const maxFaults = 50

// faults collects what is wrong.
type faults struct {
	file  string
	list  []Fault
	lines map[string]int // field path -> line, filled by the decoder
	// broken holds the paths of fields that were not understood. Faults found
	// later at, above or below one of them are but its consequences.
	broken []string
}

// add notes a fault of a field, on the line of that field or of the nearest
// one around it that was in the file.
func (f *faults) add(field, format string, args ...any) {
	if slices.ContainsFunc(f.broken, func(b string) bool { return within(b, field) || within(field, b) }) {
		return
	}
	f.at(f.line(field), field, format, args...)
}

// check adds what a Check found, but for fields that have faults already, they or parts of
// them.
func (f *faults) check(found []Fault) {
	known := slices.Clone(f.list)
	for _, n := range found {
		if !slices.ContainsFunc(known, func(o Fault) bool { return within(o.Field, n.Field) }) {
			f.add(n.Field, "%s", n.Problem)
		}
	}
}

func (f *faults) at(line int, field, format string, args ...any) {
	f.list = append(f.list, Fault{f.file, line, field, fmt.Sprintf(format, args...)})
}

// misread notes a fault of a field and keeps its consequences out.
func (f *faults) misread(line int, field, format string, args ...any) {
	f.at(line, field, format, args...)
	f.broken = append(f.broken, field)
}

func (f *faults) line(field string) int {
	for field != "" {
		if n, ok := f.lines[field]; ok {
			return n
		}
		field = field[:max(strings.LastIndexAny(field, ".["), 0)]
	}
	return 0
}

// within reports whether the field inner is outer or a part of it.
func within(inner, outer string) bool {
	rest, ok := strings.CutPrefix(inner, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// err joins the faults in the order of their lines.
func (f *faults) err() error {
	slices.SortStableFunc(f.list, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	var errs []error
	for i, fault := range f.list {
		if i == maxFaults {
			errs = append(errs, fmt.Errorf("and %d more", len(f.list)-maxFaults))
			break
		}
		errs = append(errs, fault)
	}
	return errors.Join(errs...)
}

// closest returns the word that s was probably meant to be, or "".
func closest(s string, words []string) string {
	best, distance := "", min(2, len(s)/2)+1
	for _, w := range words {
		if d := editDistance(strings.ToLower(s), w); d < distance {
			best, distance = w, d
		}
	}
	return best
}

// editDistance counts the letters to insert, delete, replace or swap with
// their neighbour to turn a into b. Words far longer than a key are not
// worth the table.
func editDistance(a, b string) int {
	if len(a) > 40 {
		return len(a)
	}
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			swap := 0
			if a[i-1] != b[j-1] {
				swap = 1
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+swap)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
