package policy

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/routing/interest"
)

// accessWorld has every topic of up to four levels over a few words. The
// filters of the test have up to three levels and do not know "q".
func accessWorld() []string {
	words := []string{"a", "b", "q"}
	var all []string
	last := append(slices.Clone(words), "$a")
	for range 4 {
		all = append(all, last...)
		var next []string
		for _, p := range last {
			for _, w := range words {
				next = append(next, p+"/"+w)
			}
		}
		last = next
	}
	return all
}

// oracleFits is From by regular expression.
func oracleFits(f string, w *Who) bool {
	fits := func(pattern, s string) bool {
		p := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`)
		return regexp.MustCompile(`(?s)^(?:` + p + `)$`).MatchString(s)
	}
	if f == "*" {
		return true
	}
	if strings.HasPrefix(f, "spiffe:") {
		return slices.ContainsFunc(w.Names, func(n string) bool { return fits(f, n) })
	}
	kind, rest, _ := strings.Cut(f, ":")
	switch kind {
	case "client":
		return fits(rest, w.Client)
	case "user":
		return (rest == "") == (w.User == "") && fits(rest, w.User)
	}
	key, value, _ := strings.Cut(rest, "=")
	got, ok := w.Attributes[key]
	return ok && fits(value, got)
}

// oracleFilters writes the values into a filter, by text. A denial whose value
// is hostile becomes everything up to its first variable.
func oracleFilter(filter string, action Action, w *Who) string {
	var bad, none bool
	for name, value := range map[string]string{"${client.id}": w.Client, "${user}": w.User, "${attr.x}": w.Attributes["x"], "${name}": w.Name()} {
		if !strings.Contains(filter, name) {
			continue
		}
		none = none || value == ""
		bad = bad || strings.ContainsAny(value, "+#/\x00") || strings.HasPrefix(filter, name) && strings.HasPrefix(value, "$")
	}
	switch {
	case bad && action == Deny:
		before, _, _ := strings.Cut(filter, "${")
		return before[:strings.LastIndex(before, "/")+1] + "#"
	case bad, none:
		return ""
	}
	return strings.NewReplacer("${client.id}", w.Client, "${user}", w.User, "${attr.x}", w.Attributes["x"], "${name}", w.Name()).Replace(filter)
}

// oracleAsk tells what the rules say about a set of topics: an allowed filter
// has all of them, a denied one any of them.
func oracleAsk(rules []AccessRule, w *Who, topics []string, publish bool) (allowed, denied, allDenied bool) {
	for _, r := range rules {
		if !slices.ContainsFunc(r.From, func(f string) bool { return oracleFits(f, w) }) {
			continue
		}
		filters := r.Subscribe
		if publish {
			filters = r.Publish
		}
		for _, f := range filters {
			f = oracleFilter(f, r.Action, w)
			misses := func(topic string) bool { return !interest.Match(f, topic) }
			hits := func(topic string) bool { return interest.Match(f, topic) }
			switch r.Action {
			case Allow:
				allowed = allowed || !slices.ContainsFunc(topics, misses)
			case Deny:
				denied = denied || slices.ContainsFunc(topics, hits)
				allDenied = allDenied || !slices.ContainsFunc(topics, misses)
			}
		}
	}
	return allowed, denied, allDenied
}

// TestAccessAgainstOracle compares the compiled rules with a walk over all
// rules and all topics.
func TestAccessAgainstOracle(t *testing.T) {
	world := accessWorld()
	filter := rapid.SampledFrom([]string{
		"#", "+", "a", "a/#", "a/+", "+/b", "a/b", "+/#", "$a/#", "a/+/b",
		"${client.id}", "${client.id}/#", "a/${client.id}", "a/${client.id}/#", "${user}/+", "+/${user}", "${attr.x}/b", "a/${attr.x}/${user}", "${name}/#", "a/b${attr.x}",
	})
	who := rapid.SampledFrom([]string{"*", "user:a", "user:", "user:*", "client:a*", "client:b", "label:x=a", "label:x=*", "spiffe://a/*"})
	value := rapid.SampledFrom([]string{"", "a", "b", "a", "a/b", "#", "+", "$a", "q"})
	request := rapid.SampledFrom([]string{"#", "+", "+/#", "a", "a/#", "a/+", "+/b", "a/b", "b", "b/+", "$a/#", "$a/b", "q/a", "+/+/#", "a/a/#", "a/b/b"})
	rapid.Check(t, func(t *rapid.T) {
		var rules []AccessRule
		for range rapid.IntRange(0, 6).Draw(t, "rules") {
			rules = append(rules, AccessRule{
				Action:    rapid.SampledFrom([]Action{Allow, Allow, Deny, Shadow}).Draw(t, "action"),
				From:      rapid.SliceOfN(who, 1, 2).Draw(t, "from"),
				Publish:   rapid.SliceOfN(filter, 1, 3).Draw(t, "publish"),
				Subscribe: rapid.SliceOfN(filter, 1, 3).Draw(t, "subscribe"),
			})
		}
		a, err := NewAccess(rules)
		if err != nil {
			t.Fatal(err)
		}
		w := &Who{Client: value.Draw(t, "client"), User: value.Draw(t, "user"), Attributes: map[string]string{"x": value.Draw(t, "x")}}
		if rapid.Bool().Draw(t, "certificate") {
			w.Names = []string{"spiffe://a/" + value.Draw(t, "name")}
		}
		g := a.Grants(a.Select(w))
		open := !slices.ContainsFunc(rules, func(r AccessRule) bool { return r.Action != Shadow })
		for _, topic := range world[:60] {
			for _, publish := range []bool{true, false} {
				v := g.Receive(w, topic)
				if publish {
					v = g.Publish(w, topic)
				}
				allowed, denied, _ := oracleAsk(rules, w, []string{topic}, publish)
				if want := open || allowed && !denied; v.Allowed() != want {
					t.Fatalf("topic %q publish %v: %+v, want %v", topic, publish, v, want)
				}
			}
		}
		f := request.Draw(t, "request")
		topics := slices.DeleteFunc(slices.Clone(world), func(topic string) bool { return !interest.Match(f, topic) })
		allowed, denied, all := oracleAsk(rules, w, topics, false)
		v := g.Subscribe(w, f)
		if want := open || allowed && !denied; v.Allowed() != want {
			t.Fatalf("filter %q: %+v, want %v", f, v, want)
		}
		if want := allowed && denied && !all; v.Partly != want {
			t.Fatalf("filter %q: %+v, want partly %v", f, v, want)
		}
	})
}
