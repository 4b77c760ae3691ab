package policy

import (
	"fmt"
	"strings"

	"github.com/farhop/farhop/routing/interest"
)

// variable is what a text in ${} stands for.
type variable struct {
	kind varKind
	key  string // of an attribute
}

type varKind uint8

const (
	varClient varKind = iota
	varUser
	varName
	varAttr
)

// maxKeyName bounds the NAME of ${attr.NAME}, in bytes.
const maxKeyName = 64

func parseVariable(s string) (variable, error) {
	switch s {
	case "client.id":
		return variable{kind: varClient}, nil
	case "user":
		return variable{kind: varUser}, nil
	case "name":
		return variable{kind: varName}, nil
	}
	if key, ok := strings.CutPrefix(s, "attr."); ok && key != "" && len(key) <= maxKeyName {
		return variable{varAttr, key}, nil
	}
	return variable{}, fmt.Errorf("unknown variable ${%.80s}; write ${client.id}, ${user}, ${name} or ${attr.NAME}", s)
}

// of returns the client's value, "" if it has none.
func (v variable) of(w *Who) string {
	switch v.kind {
	case varClient:
		return w.Client
	case varUser:
		return w.User
	case varName:
		return w.Name()
	case varAttr:
		return w.Attributes[v.key]
	}
	return ""
}

// template is a compiled filter of an access rule.
type template struct {
	source string
	filter string  // the filter with '+' for each level that has a variable
	levels []level // nil if there is no variable
}

// level is one level of a template: pieces, then text.
type level struct {
	pieces []piece
	text   string
}

// piece is a text and the variable behind it.
type piece struct {
	text string
	v    variable
}

func parseTemplate(s string) (template, error) {
	t := template{source: s, filter: s}
	if strings.Contains(s, "${") {
		parts := strings.Split(s, "/")
		shape := make([]string, len(parts))
		for i, part := range parts {
			l, err := parseLevel(part)
			if err != nil {
				return t, fmt.Errorf("filter %.80q: %w: %w", s, interest.ErrSyntax, err)
			}
			t.levels = append(t.levels, l)
			if shape[i] = part; len(l.pieces) > 0 {
				shape[i] = "+"
			}
		}
		if first := t.levels[0]; len(first.pieces) > 0 && strings.HasPrefix(first.pieces[0].text, "$") {
			return t, fmt.Errorf("filter %.80q: %w: a first level that starts with '$' cannot have a variable; write it out", s, interest.ErrSyntax)
		}
		t.filter = strings.Join(shape, "/")
	}
	if err := shareless(t.filter); err != nil {
		return t, err
	}
	return t, interest.ValidFilter(t.filter)
}

func parseLevel(s string) (level, error) {
	var l level
	for {
		text, rest, ok := strings.Cut(s, "${")
		if !ok {
			l.text = s
			break
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			return l, fmt.Errorf("%.80q has no closing '}' in its level", s)
		}
		v, err := parseVariable(name)
		if err != nil {
			return l, err
		}
		l.pieces = append(l.pieces, piece{text, v})
		s = after
	}
	if len(l.pieces) > 0 {
		for _, text := range append(textsOf(l), l.text) {
			if strings.ContainsAny(text, "+#") {
				return l, fmt.Errorf("a wildcard must be alone in its level, not beside a variable")
			}
		}
	}
	return l, nil
}

func textsOf(l level) []string {
	var texts []string
	for _, p := range l.pieces {
		texts = append(texts, p.text)
	}
	return texts
}

// standing says whether a client's values can stand in a template.
type standing uint8

const (
	good    standing = iota
	absent           // the client has no such value
	hostile          // a value would bring levels or wildcards
)

// standing looks at every value of the client in t.
func (t *template) standing(w *Who) standing {
	s := good
	for i := range t.levels {
		s = max(s, t.levels[i].standing(w, i == 0))
	}
	return s
}

func (l *level) standing(w *Who, first bool) standing {
	s := good
	for i := range l.pieces {
		switch v := l.pieces[i].v.of(w); {
		case v == "":
			s = max(s, absent)
		case !inert(v), first && i == 0 && l.pieces[0].text == "" && v[0] == '$':
			return hostile // '$' in front: topics that only the node may name
		}
	}
	return s
}

// inert reports whether a value is nothing but a part of one level.
func inert(v string) bool {
	for i := range len(v) {
		switch v[i] {
		case '/', '+', '#', 0:
			return false
		}
	}
	return true
}

// expand returns the filter for a client whose values can stand in t.
func (t *template) expand(w *Who) string {
	if t.levels == nil {
		return t.filter
	}
	var b strings.Builder
	for i := range t.levels {
		if i > 0 {
			b.WriteByte('/')
		}
		for _, p := range t.levels[i].pieces {
			b.WriteString(p.text)
			b.WriteString(p.v.of(w))
		}
		b.WriteString(t.levels[i].text)
	}
	return b.String()
}

// cut returns the filter that matches whatever t could mean: it ends at the
// first level with a variable.
func (t *template) cut() string {
	n := 0
	for n < len(t.levels) && len(t.levels[n].pieces) == 0 {
		n++
	}
	parts := strings.SplitN(t.filter, "/", n+1)
	parts[n] = "#"
	return strings.Join(parts, "/")
}

// agrees reports whether the levels of a topic that t.filter matches are those
// of the client. It allocates nothing: it is asked for every PUBLISH.
func (t *template) agrees(w *Who, topic string) bool {
	for i := range t.levels {
		l := &t.levels[i]
		var part string
		part, topic, _ = strings.Cut(topic, "/")
		if len(l.pieces) > 0 && !l.agrees(w, part) {
			return false
		}
	}
	return true
}

func (l *level) agrees(w *Who, part string) bool {
	for i := range l.pieces {
		p := &l.pieces[i]
		v := p.v.of(w)
		if v == "" || !inert(v) {
			return false
		}
		var ok bool
		if part, ok = strings.CutPrefix(part, p.text); !ok {
			return false
		}
		if part, ok = strings.CutPrefix(part, v); !ok {
			return false
		}
	}
	return part == l.text
}
