package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/farhop/farhop/routing/interest"
)

// Access is a list of access rules. It does not change once it is built and
// may be read by many goroutines.
type Access struct {
	rules   []compiled
	byUser  map[string][]int32 // rules that are for single users only
	general []int32            // all others
	open    bool
}

// compiled is one rule.
type compiled struct {
	name               string
	action             Action
	from               []from
	publish, subscribe []template
}

// NewAccess checks the rules and compiles them. The error joins every
// AccessFault of CheckAccess.
func NewAccess(rules []AccessRule) (*Access, error) {
	if faults := CheckAccess(rules); len(faults) > 0 {
		errs := make([]error, len(faults))
		for i, f := range faults {
			errs[i] = f
		}
		return nil, errors.Join(errs...)
	}
	a := &Access{rules: make([]compiled, len(rules)), byUser: make(map[string][]int32), open: true}
	for i, r := range rules {
		c := compiled{name: r.Name, action: r.Action}
		if c.name == "" {
			c.name = fmt.Sprintf("rule %d", i+1)
		}
		for _, s := range r.From {
			f, _ := parseFrom(s) // checked
			c.from = append(c.from, f)
		}
		c.publish, c.subscribe = templates(r.Publish), templates(r.Subscribe)
		a.rules[i] = c
		a.open = a.open && r.Action == Shadow
		a.index(int32(i), c.from)
	}
	return a, nil
}

func templates(filters []string) []template {
	var out []template
	for _, s := range filters {
		t, _ := parseTemplate(s) // checked
		out = append(out, t)
	}
	return out
}

// index notes for whom a rule is, so that a list with a section per user need
// not be walked for each of them.
func (a *Access) index(i int32, list []from) {
	for k := range list {
		if _, one := list[k].user(); !one {
			a.general = append(a.general, i)
			return
		}
	}
	for k := range list {
		u, _ := list[k].user()
		if have := a.byUser[u]; len(have) == 0 || have[len(have)-1] != i {
			a.byUser[u] = append(have, i)
		}
	}
}

// Len returns the number of rules.
func (a *Access) Len() int { return len(a.rules) }

// Select returns the positions of the rules that are for a client, ascending.
// Clients for whom it is the same share one Grants.
func (a *Access) Select(w *Who) []int32 {
	out := slices.Clone(a.byUser[w.User])
	for _, i := range a.general {
		if slices.ContainsFunc(a.rules[i].from, func(f from) bool { return f.fits(w) }) {
			out = append(out, i)
		}
	}
	slices.Sort(out)
	return out
}

// Grants compiles what Select returned.
func (a *Access) Grants(selected []int32) *Grants {
	g := &Grants{open: a.open}
	for _, i := range selected {
		r := &a.rules[i]
		g.publish.add(r, r.publish)
		g.subscribe.add(r, r.subscribe)
	}
	return g
}

// Grants is what the rules of one list that are for a client say about topics.
// It holds no value of the client, so that many share it, and may be read by
// many goroutines.
//
// What any Deny rule matches is denied. Of the rest, what any Allow rule
// matches is allowed. What no rule matches is denied, unless the list has no
// rule but Shadow ones, which change nothing.
//
// A rule does not match where the client has no value for one of its
// variables, or a value with a '/', a wildcard or a '$' in front of a topic:
// nobody gets more by the choice of a name. A Deny rule must not be evaded by
// such a name either: it matches all topics up to the variable instead.
type Grants struct {
	publish, subscribe side
	open               bool
	more               *Grants
}

// side is one direction.
type side struct {
	entries []entry
	topics  interest.Trie[int32] // filter -> position in entries
}

// entry is one filter of one rule.
type entry struct {
	rule *compiled
	t    *template
	wide bool // stands in for t where a hostile value would evade a denial
}

func (s *side) add(r *compiled, list []template) {
	for i := range list {
		t := &list[i]
		s.topics.Add(t.filter, int32(len(s.entries)))
		s.entries = append(s.entries, entry{r, t, false})
		if r.action == Deny && t.levels != nil {
			s.topics.Add(t.cut(), int32(len(s.entries)))
			s.entries = append(s.entries, entry{r, t, true})
		}
	}
}

// With returns grants that hold together with those of another list: what
// either denies is denied. The default is to deny unless both lists are open.
func (g *Grants) With(more *Grants) *Grants {
	c := *g
	c.more = more
	return &c
}

// Verdict is an answer of the rules.
type Verdict struct {
	Action Action // Allow or Deny; 0 if no rule matches
	Rule   string // the name of the first listed rule that decided
	Shadow string // the name of the first listed Shadow rule that matches, "" for none
	Open   bool   // no rule of the list decides anything: all is allowed
	// Partly is set for a subscription that is allowed, but that can also match
	// topics which are denied.
	Partly bool
}

// Allowed reports whether the client may. A subscription that is allowed in
// part is not: ask Receive for every message before you let it in.
func (v Verdict) Allowed() bool {
	return (v.Action == Allow || v.Action == 0 && v.Open) && !v.Partly
}

// take notes what one entry says.
func (v *Verdict) take(r *compiled) {
	switch {
	case r.action == Shadow:
		if v.Shadow == "" {
			v.Shadow = r.name
		}
	case v.Action == 0 || v.Action == Allow && r.action == Deny:
		v.Action, v.Rule = r.action, r.name
	}
}

// Publish decides about a valid topic. It allocates nothing, and its time
// follows the levels of the topic and the rules that match, not their number.
func (g *Grants) Publish(w *Who, topic string) Verdict {
	v := Verdict{Open: true}
	for ; g != nil; g = g.more {
		g.publish.decide(&v, w, topic)
		v.Open = v.Open && g.open
	}
	return v
}

// Receive decides whether a message of a valid topic may be given to the
// client, as Publish does by the rules for subscribing.
func (g *Grants) Receive(w *Who, topic string) Verdict {
	v := Verdict{Open: true}
	for ; g != nil; g = g.more {
		g.subscribe.decide(&v, w, topic)
		v.Open = v.Open && g.open
	}
	return v
}

func (s *side) decide(v *Verdict, w *Who, topic string) {
	if len(s.entries) == 0 {
		return
	}
	first := [Shadow + 1]int32{-1, -1, -1, -1} // by action: the trie knows no order
	s.topics.Match(topic, func(i int32) {
		e := &s.entries[i]
		at := &first[e.rule.action]
		if *at >= 0 && *at < i {
			return
		}
		if e.wide && e.t.standing(w) != hostile || !e.wide && !e.t.agrees(w, topic) {
			return
		}
		*at = i
	})
	for _, i := range first {
		if i >= 0 {
			v.take(s.entries[i].rule)
		}
	}
}

// Subscribe decides about a filter; $share/GROUP/ is taken off. One rule has
// to allow every topic the filter can match. Partly is set if a Deny rule
// matches some of them; if it matches all, the filter is denied.
func (g *Grants) Subscribe(w *Who, filter string) Verdict {
	if _, rest, ok := interest.ParseShare(filter); ok {
		filter = rest
	}
	v := Verdict{Open: true}
	for ; g != nil; g = g.more {
		for i := range g.subscribe.entries {
			g.subscribe.entries[i].subscribe(&v, w, filter)
		}
		v.Open = v.Open && g.open
	}
	v.Partly = v.Partly && v.Action == Allow
	return v
}

func (e *entry) subscribe(v *Verdict, w *Who, filter string) {
	var own string
	switch s := e.t.standing(w); {
	case e.wide && s == hostile:
		own = e.t.cut()
	case !e.wide && s == good:
		own = e.t.expand(w)
	default:
		return
	}
	switch {
	case interest.Covers(own, filter):
		v.take(e.rule)
	case e.rule.action == Deny && overlaps(own, filter):
		v.Partly = true
	}
}
