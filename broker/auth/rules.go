package auth

import (
	"fmt"
	"sync"

	"github.com/farhop/farhop/routing/policy"
)

// Limits of the sets of rules that are kept compiled. Clients for whom the same
// rules are share one.
const (
	maxGrantSets  = 4096
	maxGrantRules = 1 << 18 // in all sets
)

// Rules decides what those who came in may do, by the rules of the
// configuration, those of the ACL file, and those of the client's own token.
// It is safe for concurrent use.
type Rules struct {
	file    *watched[ruleset] // nil if there is none
	fixed   *ruleset          // in force without a file
	metrics *metrics
}

// ruleset is one state of the rules.
type ruleset struct {
	access *policy.Access

	mu     sync.Mutex
	grants map[string]*policy.Grants // by the rules in it, guarded by mu
	held   int                       // rules in all of grants, guarded by mu
}

// bound is what the rules say about one identity.
type bound struct {
	rules  *ruleset // they were taken from
	grants *policy.Grants
}

func newRuleset(rules []policy.AccessRule) (*ruleset, error) {
	a, err := policy.NewAccess(rules)
	if err != nil {
		return nil, err
	}
	return &ruleset{access: a, grants: make(map[string]*policy.Grants)}, nil
}

func (r *Rules) current() *ruleset {
	if r.file == nil {
		return r.fixed
	}
	return r.file.value.Load()
}

// Generation returns a value that changes when other rules are in force. What
// was allowed before may have to be asked again then.
func (r *Rules) Generation() any { return r.current() }

// Len returns the number of rules in force, those of tokens not counted.
func (r *Rules) Len() int { return r.current().access.Len() }

// Allow decides on a topic (publish) or a filter (subscribe, $share/GROUP/ or
// not). It is cheap enough to be called for every PUBLISH, and sees new rules
// at once. A filter that matches some topic that is denied is refused; see
// Subscribe for another choice.
func (r *Rules) Allow(id *Identity, topic string, publish bool) bool {
	if !publish {
		return r.Subscribe(id, topic).Allowed()
	}
	w := id.who()
	v := r.bind(id, &w).Publish(&w, topic)
	if v.Shadow != "" {
		r.metrics.shadowed.Inc()
	}
	if v.Allowed() {
		return true
	}
	r.metrics.publishRefused.Inc()
	return false
}

// Subscribe decides on a filter and says by which rule. A caller that asks
// Receive before it hands over a message may let in a filter that is allowed
// in part (Action is policy.Allow and Partly is set).
func (r *Rules) Subscribe(id *Identity, filter string) policy.Verdict {
	w := id.who()
	v := r.bind(id, &w).Subscribe(&w, filter)
	if v.Shadow != "" {
		r.metrics.shadowed.Inc()
	}
	if !v.Allowed() && !v.Partly {
		r.metrics.subscribeRefused.Inc()
	}
	return v
}

// Receive decides whether a message of a topic may be handed to a client that
// is subscribed to a filter which is allowed in part.
func (r *Rules) Receive(id *Identity, topic string) bool {
	w := id.who()
	return r.bind(id, &w).Receive(&w, topic).Allowed()
}

// Explain tells, in one line, what the rules say about a topic or a filter.
func (r *Rules) Explain(id *Identity, topic string, publish bool) string {
	w := id.who()
	g := r.bind(id, &w)
	v := g.Subscribe(&w, topic)
	if publish {
		v = g.Publish(&w, topic)
	}
	s := "refused: no rule allows it"
	switch {
	case v.Partly:
		s = fmt.Sprintf("allowed by %s, but it matches topics that are denied", v.Rule)
	case v.Action == policy.Deny:
		s = "denied by " + v.Rule
	case v.Action == policy.Allow:
		s = "allowed by " + v.Rule
	case v.Open:
		s = "allowed: there are no rules"
	}
	if v.Shadow != "" {
		s += "; shadow " + v.Shadow + " matches"
	}
	return s
}

func (id *Identity) who() policy.Who {
	return policy.Who{Client: id.Client, User: id.User, Names: id.Names, Attributes: id.Attributes}
}

// bind returns what the rules say about an identity, computed once for each
// state of the rules.
func (r *Rules) bind(id *Identity, w *policy.Who) *policy.Grants {
	rules := r.current()
	if b := id.bound.Load(); b != nil && b.rules == rules {
		return b.grants
	}
	g := rules.of(w)
	if id.Rules != nil {
		g = g.With(id.Rules.Grants(id.Rules.Select(w)))
	}
	id.bound.Store(&bound{rules, g})
	return g
}

// of returns the grants that are shared by all for whom the same rules are.
func (s *ruleset) of(w *policy.Who) *policy.Grants {
	selected := s.access.Select(w)
	key := make([]byte, 0, 4*len(selected))
	for _, i := range selected {
		key = append(key, byte(i), byte(i>>8), byte(i>>16), byte(i>>24))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.grants[string(key)]
	if !ok {
		if len(s.grants) >= maxGrantSets || s.held+len(selected) > maxGrantRules {
			clear(s.grants) // those in use stay with their identities
			s.held = 0
		}
		g = s.access.Grants(selected)
		s.held += len(selected)
		s.grants[string(key)] = g
	}
	return g
}
