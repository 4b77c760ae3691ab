package conformance

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// field is a word of a step: KEY=VALUE, KEY!=VALUE or !KEY.
type field struct {
	key, op, value string
}

// step is one line of a case, cut into its parts but not yet filled with the
// values of a run.
type step struct {
	text string
	only byte   // version that it is for, 0 = all
	on   string // connection, "" for sleep and need
	op   string
	args []string
	then []string // what follows "->"
}

// operations are those on a connection, and whether they take a packet's name
// first.
var operations = map[string]bool{
	"open": false, "connect": false, ">": true, "<": true, "<~": true, "<|": true, "!<": true, "raw": false,
	"sub": false, "unsub": false, "pub": false, "may": false, "recv": false, "recv~": false, "quiet": false, "ping": false,
	"kill": false, "disconnect": false, "close": false, "refused": false, "over": false, "barred": false, "tally": false,
}

var (
	word     = regexp.MustCompile(`(?:'[^']*'|[^\s'])+`)
	variable = regexp.MustCompile(`\$\$|\$([a-zA-Z][a-zA-Z0-9]*)([+-][0-9]+)?`)
	binding  = regexp.MustCompile(`\?([a-z][a-z0-9]*)`)
)

// builtin are variables that every run has.
var builtin = []string{"t", "c", "V", "P", "i"}

// parseStep cuts a line:
//
//	[v4|v5] CONNECTION OPERATION WORDS... [-> WORDS...]
//	[v4|v5] sleep DURATION
//	[v4|v5] need LEFT>RIGHT | LEFT<RIGHT | LEFT=RIGHT
func parseStep(line string) (step, error) {
	s := step{text: line}
	words := word.FindAllString(line, -1)
	if len(words) > 0 && (words[0] == "v4" || words[0] == "v5") {
		s.only = words[0][1] - '0'
		words = words[1:]
	}
	if len(words) < 2 {
		return s, errors.New("a step needs a connection and an operation")
	}
	if words[0] == "sleep" || words[0] == "need" {
		s.op, s.args = words[0], words[1:]
		return s, nil
	}
	s.on, s.op, s.args = words[0], words[1], words[2:]
	packet, ok := operations[s.op]
	if !ok {
		return s, fmt.Errorf("no operation is called %q", s.op)
	}
	if packet && (len(s.args) == 0 || typeOf(s.args[0]) == 0) {
		return s, errors.New("it needs the name of a packet")
	}
	if at := slices.Index(s.args, "->"); at >= 0 {
		s.args, s.then = s.args[:at], s.args[at+1:]
	}
	return s, nil
}

// bound lists the variables that a step binds; uses those it needs.
func (s step) bound() []string {
	var out []string
	for _, w := range slices.Concat(s.args, s.then) {
		for _, m := range binding.FindAllStringSubmatch(w, -1) {
			out = append(out, m[1])
		}
	}
	return out
}

func (s step) uses() []string {
	var out []string
	for _, w := range slices.Concat(s.args, s.then) {
		for _, m := range variable.FindAllStringSubmatch(w, -1) {
			if m[1] != "" && m[1] != "share" {
				out = append(out, m[1])
			}
		}
	}
	return out
}

// fields reads words as fields. Quotes around a value come off.
func fields(words []string) ([]field, error) {
	var out []field
	for _, w := range words {
		if key, ok := strings.CutPrefix(w, "!"); ok && !strings.Contains(key, "=") {
			out = append(out, field{key, "!", ""})
			continue
		}
		key, v, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is not KEY=VALUE", w)
		}
		op := "="
		if k, not := strings.CutSuffix(key, "!"); not {
			key, op = k, "!="
		}
		out = append(out, field{key, op, plain(v)})
	}
	return out, nil
}

// plain takes the quotes off a word that holds blanks.
func plain(w string) string { return strings.ReplaceAll(w, "'", "") }
