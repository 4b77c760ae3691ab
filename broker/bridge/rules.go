package bridge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/farhop/farhop/routing/interest"
)

// side is one of the two brokers.
type side int

const (
	local side = iota
	remote
)

func (s side) String() string { return [...]string{"local", "remote"}[s] }

func (s side) other() side { return 1 - s }

// goes reports whether the rule carries messages that come from s.
func (r Rule) goes(s side) bool {
	return r.Direction == Both || r.Direction == [...]string{local: Out, remote: In}[s]
}

// prefix is what stands before the rule's topics at s.
func (r Rule) prefix(s side) string { return [...]string{r.LocalPrefix, r.RemotePrefix}[s] }

// filter is the rule's filter as written at s.
func (r Rule) filter(s side) string { return r.prefix(s) + r.Filter }

func (r Rule) qos() byte {
	if r.QoS == nil {
		return 2
	}
	return byte(*r.QoS)
}

// mapTopic gives a topic from s its name on the other side and the rule's
// QoS. Rules of one direction do not overlap, so there is one or none.
func mapTopic(rules []Rule, s side, topic string) (mapped string, qos byte, ok bool) {
	for _, r := range rules {
		if r.goes(s) && interest.Match(r.filter(s), topic) {
			return r.prefix(s.other()) + topic[len(r.prefix(s)):], r.qos(), true
		}
	}
	return "", 0, false
}

// mapResponse renames the response topic of a message that leaves s: the
// answer is published on the other side, so it takes a rule that comes back.
// A topic that no rule brings back stays as it is.
func mapResponse(rules []Rule, s side, topic string) string {
	for _, r := range rules {
		if topic != "" && r.goes(s.other()) && interest.Match(r.filter(s), topic) {
			return r.prefix(s.other()) + topic[len(r.prefix(s)):]
		}
	}
	return topic
}

// returns gives the QoS with which a topic of s is carried to the other side,
// and whether it is at all.
func returns(rules []Rule, s side, topic string) (byte, bool) {
	_, q, ok := mapTopic(rules, s, topic)
	return q, ok
}

// checkRules finds rules that are wrong alone, that carry a message twice, and
// that would rename it each time it comes round.
func checkRules(rules []Rule) []error {
	if len(rules) == 0 {
		return []error{fmt.Errorf("rules: none; name at least one, such as {direction: both, filter: \"#\"}")}
	}
	var errs []error
	for i, r := range rules {
		if err := r.check(); err != nil {
			errs = append(errs, fmt.Errorf("rules[%d].%w", i, err))
		}
	}
	if errs != nil {
		return errs
	}
	for i, a := range rules {
		for j, b := range rules[:i] {
			for _, s := range []side{local, remote} {
				if a.goes(s) && b.goes(s) && overlap(a.filter(s), b.filter(s)) {
					errs = append(errs, fmt.Errorf("rules[%d] and rules[%d]: filters %q and %q share topics, which would be carried twice", j, i, b.filter(s), a.filter(s)))
				}
			}
			if (a.goes(local) && b.goes(remote) || a.goes(remote) && b.goes(local)) && circles(a, b) {
				errs = append(errs, fmt.Errorf("rules[%d] and rules[%d]: what one carries over, the other brings back under another topic: give them the same prefixes, or filters that share no topic", j, i))
			}
		}
	}
	return errs
}

// circles reports whether a message may go over by one rule, come back by the
// other, and bear another name then.
func circles(a, b Rule) bool {
	return (overlap(a.filter(local), b.filter(local)) || overlap(a.filter(remote), b.filter(remote))) && a.shift() != b.shift()
}

// shift is what the rule does to a topic: the prefixes without what they end
// with in common.
func (r Rule) shift() [2]string {
	l, m := r.LocalPrefix, r.RemotePrefix
	for l != "" && m != "" && l[len(l)-1] == m[len(m)-1] {
		l, m = l[:len(l)-1], m[:len(m)-1]
	}
	return [2]string{l, m}
}

func (r Rule) check() error {
	if !slices.Contains([]string{Out, In, Both}, r.Direction) {
		return fmt.Errorf("direction %q: want in, out or both", r.Direction)
	}
	if r.QoS != nil && (*r.QoS < 0 || *r.QoS > 2) {
		return fmt.Errorf("qos %d: want 0 to 2", *r.QoS)
	}
	if err := interest.ValidFilter(r.Filter); err != nil {
		return fmt.Errorf("filter %q: %w", r.Filter, err)
	}
	if strings.HasPrefix(r.Filter, "$share/") {
		return fmt.Errorf("filter %q: name the group in share", r.Filter)
	}
	for _, p := range []struct{ name, value string }{{"local_prefix", r.LocalPrefix}, {"remote_prefix", r.RemotePrefix}} {
		if p.value == "" {
			continue
		}
		if strings.ContainsAny(p.value, "+#\x00") || !strings.HasSuffix(p.value, "/") {
			return fmt.Errorf("%s %q: want levels without wildcards that end with a slash", p.name, p.value)
		}
		if err := interest.ValidFilter(p.value + r.Filter); err != nil {
			return fmt.Errorf("%s %q: %w", p.name, p.value, err)
		}
	}
	return nil
}

// overlap reports whether some topic matches both filters.
func overlap(a, b string) bool {
	if strings.HasPrefix(a, "$") != strings.HasPrefix(b, "$") {
		return false // wildcards at the start leave out $-topics (MQTT 5, 4.7.2)
	}
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	for i := 0; ; i++ {
		switch {
		case i < len(as) && as[i] == "#" || i < len(bs) && bs[i] == "#":
			return true
		case i == len(as) || i == len(bs):
			// "a/#" matches "a" too.
			rest := append(as[min(i, len(as)):], bs[min(i, len(bs)):]...)
			return len(rest) == 0 || len(rest) == 1 && rest[0] == "#"
		case as[i] != bs[i] && as[i] != "+" && bs[i] != "+":
			return false
		}
	}
}

// overlapping reports whether some message may go over and come back.
func overlapping(rules []Rule) bool {
	return slices.ContainsFunc(rules, func(a Rule) bool {
		return a.goes(local) && slices.ContainsFunc(rules, func(b Rule) bool {
			return b.goes(remote) && overlap(a.filter(remote), b.filter(remote))
		})
	})
}
