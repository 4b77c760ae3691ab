package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/farhop/farhop/routing/interest"
)

// Table finds the route of a message or a service. Routes are tried in their
// listed order and the first that matches wins: the operator sees the
// precedence in the file, and a general route last is the default. The zero
// Table routes nothing.
type Table struct {
	routes   []Route
	topics   interest.Trie[int] // filter -> index
	services map[string]int     // name -> index of its first route
}

// NewTable checks the routes and builds their table. The error joins every
// Fault of Check.
func NewTable(routes []Route) (*Table, error) {
	if faults := Check(routes); len(faults) > 0 {
		errs := make([]error, len(faults))
		for i, f := range faults {
			errs[i] = f
		}
		return nil, errors.Join(errs...)
	}
	t := &Table{routes: make([]Route, len(routes)), services: make(map[string]int)}
	for i, r := range routes {
		r.To = slices.Clone(r.To)
		t.routes[i] = r
		if r.Topic != "" {
			t.topics.Add(r.Topic, i)
		} else if _, have := t.services[r.Service]; !have {
			t.services[r.Service] = i
		}
	}
	return t, nil
}

// Routes returns a copy of the list the table was built from.
func (t *Table) Routes() []Route { return slices.Clone(t.routes) }

// ForTopic returns the first listed route whose filter matches a valid topic.
// Topics that start with '$' have none: they are the node's own. The To of
// the result is shared, not to be changed. It allocates nothing.
func (t *Table) ForTopic(topic string) (Route, bool) {
	if topic == "" || topic[0] == '$' {
		return Route{}, false
	}
	first := len(t.routes)
	t.topics.Match(topic, func(i int) { first = min(first, i) })
	if first == len(t.routes) {
		return Route{}, false
	}
	return t.routes[first], true
}

// ForService returns the first listed route of a service, by its name.
func (t *Table) ForService(name string) (Route, bool) {
	i, ok := t.services[name]
	if !ok {
		return Route{}, false
	}
	return t.routes[i], true
}

// Explain tells, one line each, which route a topic takes and which others
// match but come too late.
func (t *Table) Explain(topic string) []string {
	if err := interest.ValidTopic(topic); err != nil {
		return []string{err.Error()}
	}
	if topic[0] == '$' {
		return []string{"topics that start with '$' are the node's own and never routed"}
	}
	var hits []int
	t.topics.Match(topic, func(i int) { hits = append(hits, i) })
	if len(hits) == 0 {
		return []string{"no route matches: it goes to its subscribers, with the class and lifetime it came with"}
	}
	slices.Sort(hits)
	lines := []string{"route " + t.routes[hits[0]].String()}
	for _, i := range hits[1:] {
		lines = append(lines, fmt.Sprintf("route %s matches too, but %s is listed first", t.routes[i].Name, t.routes[hits[0]].Name))
	}
	return lines
}

// Analyze tells, one line each, which routes can never be taken because an
// earlier one matches all that they match.
func (t *Table) Analyze() []string {
	var lines []string
	for i, r := range t.routes {
		for _, earlier := range t.routes[:i] {
			covered := r.Service != "" && r.Service == earlier.Service ||
				r.Topic != "" && interest.Covers(earlier.Topic, r.Topic)
			if covered {
				lines = append(lines, fmt.Sprintf("route %s is never taken: %s, listed before it, matches all it matches; move it up or remove it", r.Name, earlier.Name))
				break
			}
		}
	}
	return lines
}
