package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func mustAccess(t testing.TB, rules ...AccessRule) *Access {
	t.Helper()
	a, err := NewAccess(rules)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *Access) grantsOf(w *Who) *Grants { return a.Grants(a.Select(w)) }

var everyone = []string{"*"}

// fleet is a list with every kind of rule.
func fleet(t testing.TB) *Access {
	return mustAccess(t,
		AccessRule{
			Name: "ingest", Action: Allow, From: []string{"spiffe://acme/region/luna/dev/plc-*"},
			Publish: []string{"plant/${attr.site}/telemetry/#"}, Subscribe: []string{"cmd/${name}/#"},
		},
		AccessRule{Name: "own", Action: Allow, From: everyone, Publish: []string{"dev/${client.id}/+"}, Subscribe: []string{"dev/${client.id}/#"}},
		AccessRule{Name: "home", Action: Allow, From: []string{"user:*"}, Publish: []string{"home/u-${user}/x"}, Subscribe: []string{"home/+/x"}},
		AccessRule{Name: "ops", Action: Allow, From: []string{"user:alice", "user:bob", "name:*.ops.acme", "label:role=ops"}, Publish: []string{"#"}, Subscribe: []string{"#", "$SYS/#"}},
		AccessRule{Name: "vault", Action: Deny, From: everyone, Publish: []string{"plant/vault"}, Subscribe: []string{"plant/vault", "dev/+/key"}},
		AccessRule{Name: "trial", Action: Shadow, From: everyone, Publish: []string{"plant/+"}, Subscribe: []string{"plant/+"}},
		AccessRule{Name: "guests", Action: Allow, From: []string{"user:"}, Subscribe: []string{"public/#"}},
	)
}

func TestAccess(t *testing.T) {
	plc := &Who{Client: "c7", Names: []string{"spiffe://acme/region/luna/dev/plc-7"}, Attributes: map[string]string{"site": "hall-3"}}
	alice := &Who{Client: "phone", User: "alice"}
	for _, c := range []struct {
		name   string
		who    *Who
		do     string
		topic  string
		action Action
		rule   string
	}{
		{"an attribute", plc, "pub", "plant/hall-3/telemetry/t", Allow, "ingest"},
		{"another's attribute", plc, "pub", "plant/hall-4/telemetry/t", 0, ""},
		{"no attribute", &Who{Names: plc.Names}, "pub", "plant/hall-3/telemetry/t", 0, ""},
		{"an empty level for no attribute", &Who{Names: plc.Names}, "pub", "plant//telemetry/t", 0, ""},
		{"the name", plc, "sub", "cmd/plc-7/#", Allow, "ingest"},
		{"within the name", plc, "sub", "cmd/plc-7/+/x", Allow, "ingest"},
		{"wider than the name", plc, "sub", "cmd/+/#", 0, ""},
		{"the client id", plc, "pub", "dev/c7/x", Allow, "own"},
		{"of another", plc, "pub", "dev/c8/x", 0, ""},
		{"too deep", plc, "pub", "dev/c7/x/y", 0, ""},
		{"part of a level", alice, "pub", "home/u-alice/x", Allow, "home"},
		{"a longer level", &Who{User: "al"}, "pub", "home/u-alice/x", 0, ""},
		{"no user", plc, "pub", "home/u-/x", 0, ""},
		{"users only", plc, "sub", "home/1/x", 0, ""},
		{"user by name", alice, "pub", "any/thing", Allow, "ops"},
		{"DNS name", &Who{Names: []string{"spiffe://x/y", "a.ops.acme"}}, "pub", "any", Allow, "ops"},
		{"a SPIFFE id is no DNS name", &Who{Names: []string{"spiffe://x/a.ops.acme"}}, "pub", "any", 0, ""},
		{"label", &Who{Attributes: map[string]string{"role": "ops"}}, "pub", "any", Allow, "ops"},
		{"label of another value", &Who{Attributes: map[string]string{"role": "op"}}, "pub", "any", 0, ""},
		{"deny goes before allow", alice, "pub", "plant/vault", Deny, "vault"},
		{"deny goes before allow, subscribing", alice, "sub", "plant/vault", Deny, "vault"},
		{"# is not for $ topics", alice, "pub", "$SYS/x", 0, ""},
		{"$ topics by name", alice, "sub", "$SYS/broker/+", Allow, "ops"},
		{"shared", alice, "sub", "$share/g/home/1/x", Allow, "home"},
		{"shared and denied", alice, "sub", "$share/g/plant/vault", Deny, "vault"},
		{"without a user", plc, "sub", "public/x", Allow, "guests"},
		{"with a user", &Who{User: "eve"}, "sub", "public/x", 0, ""},
		{"shadow allows nothing", plc, "pub", "plant/1", 0, ""},
		{"received", plc, "recv", "cmd/plc-7/go", Allow, "ingest"},
		{"not received", alice, "recv", "dev/x/key", Deny, "vault"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := fleet(t).grantsOf(c.who)
			v := map[string]func(*Who, string) Verdict{"pub": g.Publish, "sub": g.Subscribe, "recv": g.Receive}[c.do](c.who, c.topic)
			if v.Action != c.action || v.Rule != c.rule || v.Allowed() != (c.action == Allow) {
				t.Errorf("got %+v", v)
			}
		})
	}
}

func TestShadowIsOnlyTold(t *testing.T) {
	g := fleet(t).grantsOf(&Who{User: "alice"})
	if v := g.Publish(&Who{User: "alice"}, "plant/1"); v.Shadow != "trial" || v.Rule != "ops" || !v.Allowed() {
		t.Errorf("published: %+v", v)
	}
	if v := g.Subscribe(&Who{User: "alice"}, "plant/1"); v.Shadow != "trial" || !v.Allowed() {
		t.Errorf("subscribed: %+v", v)
	}
	trial := mustAccess(t, AccessRule{Action: Shadow, From: everyone, Publish: []string{"a"}})
	if v := trial.grantsOf(&Who{}).Publish(&Who{}, "a"); !v.Allowed() || v.Shadow != "rule 1" {
		t.Errorf("a list with nothing but shadows changes something: %+v", v)
	}
}

func TestDefaults(t *testing.T) {
	w := &Who{Client: "c"}
	empty := mustAccess(t).grantsOf(w)
	one := mustAccess(t, AccessRule{Action: Allow, From: []string{"user:x"}, Publish: []string{"a"}}).grantsOf(w)
	for _, c := range []struct {
		name string
		g    *Grants
		want bool
	}{
		{"no rule", empty, true},
		{"a rule for another", one, false},
		{"no rule, and a rule for another", empty.With(one), false},
		{"a rule for another, and none", one.With(empty), false},
		{"none and none", empty.With(empty), true},
	} {
		if c.g.Publish(w, "a").Allowed() != c.want || c.g.Subscribe(w, "#").Allowed() != c.want || c.g.Receive(w, "a").Allowed() != c.want {
			t.Errorf("%s: want %v", c.name, c.want)
		}
	}
}

func TestWithDeniesWhatEitherDenies(t *testing.T) {
	w := &Who{}
	all := mustAccess(t, AccessRule{Name: "all", Action: Allow, From: everyone, Publish: []string{"#"}, Subscribe: []string{"#"}}).grantsOf(w)
	no := mustAccess(t, AccessRule{Name: "no", Action: Deny, From: everyone, Publish: []string{"x"}, Subscribe: []string{"x"}}).grantsOf(w)
	for _, g := range []*Grants{all.With(no), no.With(all)} {
		if v := g.Publish(w, "x"); v.Rule != "no" || v.Allowed() {
			t.Errorf("x: %+v", v)
		}
		if v := g.Publish(w, "y"); v.Rule != "all" || !v.Allowed() {
			t.Errorf("y: %+v", v)
		}
		if v := g.Subscribe(w, "#"); !v.Partly || v.Allowed() || v.Action != Allow {
			t.Errorf("a filter that matches what is denied: %+v", v)
		}
	}
}

// TestHostileValues takes names that would be filters. None of them may widen
// an Allow rule or evade a Deny rule.
func TestHostileValues(t *testing.T) {
	allow := AccessRule{Name: "own", Action: Allow, From: everyone, Publish: []string{"dev/${client.id}/x", "${client.id}/#"}, Subscribe: []string{"dev/${client.id}/#", "${client.id}/#"}}
	wide := AccessRule{Name: "wide", Action: Allow, From: everyone, Publish: []string{"#"}, Subscribe: []string{"#"}}
	deny := allow
	deny.Name, deny.Action = "not-own", Deny
	for _, id := range []string{"#", "+", "a/b", "/", "a+", "a#", "a\x00", "$SYS"} {
		w := &Who{Client: id}
		g := mustAccess(t, allow).grantsOf(w)
		for _, topic := range []string{"dev/a/x", "dev/a/b/x", "a/b/c", "a", "$SYS/x", "+/x", "#", "dev/#/x"} {
			if g.Publish(w, topic).Allowed() {
				t.Errorf("client %q may publish %q", id, topic)
			}
		}
		for _, filter := range []string{"#", "+/#", "dev/#", "dev/+/#", "dev/a/b/#", "a/b/#", "a/#", "$SYS/#", "dev/a/b"} {
			if g.Subscribe(w, filter).Allowed() {
				t.Errorf("client %q may subscribe to %q", id, filter)
			}
		}
		d := mustAccess(t, wide, deny).grantsOf(w)
		for _, topic := range []string{"dev/a/b/x", "a/b/c", "dev/x"} {
			if d.Publish(w, topic).Allowed() || d.Receive(w, topic).Allowed() || d.Subscribe(w, topic).Allowed() {
				t.Errorf("client %q evades a denial for %q", id, topic)
			}
		}
	}
	w := &Who{} // no id at all: nothing of its own, and nothing is denied to it
	if mustAccess(t, allow).grantsOf(w).Publish(w, "dev//x").Allowed() {
		t.Error("an empty id has a topic of its own")
	}
	if !mustAccess(t, wide, deny).grantsOf(w).Publish(w, "dev//x").Allowed() {
		t.Error("an empty id is denied its own topic")
	}
}

func TestAccessFaults(t *testing.T) {
	ok := AccessRule{Name: "acl:1", Action: Allow, From: everyone, Publish: []string{"a"}}
	with := func(change func(*AccessRule)) AccessRule {
		r := ok
		r.Name = "bad"
		change(&r)
		return r
	}
	for _, c := range []struct {
		name string
		bad  AccessRule
		want string
	}{
		{"no action", with(func(r *AccessRule) { r.Action = 0 }), `access rule "bad": action: is missing; write allow, deny or shadow`},
		{"action", with(func(r *AccessRule) { r.Action = 9 }), `access rule "bad": action: unknown value 9; want allow, deny or shadow`},
		{"no name", with(func(r *AccessRule) { r.Name, r.Action = "", 0 }), `access rule 2: action: is missing; write allow, deny or shadow`},
		{"long name", with(func(r *AccessRule) { r.Name, r.Action = strings.Repeat("n", 257), Allow }), `name: is longer than 256 bytes or not UTF-8; write a short one`},
		{"nobody", with(func(r *AccessRule) { r.From = nil }), `access rule "bad": from: is missing; write whom the rule is for, or "*" for everyone`},
		{"crowd", with(func(r *AccessRule) { r.From = make([]string, 65) }), "65 entries, more than 64"},
		{"from", with(func(r *AccessRule) { r.From = []string{"alice"} }), `access rule "bad": from: "alice": invalid pattern: does not say what it is a pattern of; write *, spiffe://..., name:..., user:..., client:... or label:KEY=VALUE`},
		{"kind", with(func(r *AccessRule) { r.From = []string{"ip:1"} }), "unknown kind"},
		{"label", with(func(r *AccessRule) { r.From = []string{"label:site"} }), "no '=' with a key before it"},
		{"no topic", with(func(r *AccessRule) { r.Publish = nil }), `access rule "bad": is about no topic; set publish, subscribe or both`},
		{"filter", with(func(r *AccessRule) { r.Publish = []string{"a#"} }), `access rule "bad": publish: filter "a#": invalid topic syntax`},
		{"shared", with(func(r *AccessRule) { r.Subscribe = []string{"$share/g/a"} }), "without their $share/GROUP/; leave it out"},
		{"variable", with(func(r *AccessRule) { r.Publish = []string{"a/${id}"} }), "unknown variable ${id}; write ${client.id}, ${user}, ${name} or ${attr.NAME}"},
		{"no key", with(func(r *AccessRule) { r.Publish = []string{"a/${attr.}"} }), "unknown variable ${attr.}"},
		{"open", with(func(r *AccessRule) { r.Publish = []string{"a/${user/x}"} }), "has no closing '}' in its level"},
		{"wildcard beside", with(func(r *AccessRule) { r.Publish = []string{"a/+${user}"} }), "a wildcard must be alone in its level, not beside a variable"},
		{"$ before", with(func(r *AccessRule) { r.Publish = []string{"$x${user}/y"} }), "cannot have a variable; write it out"},
		{"many filters", with(func(r *AccessRule) { r.Publish = strings.Split(strings.Repeat("a ", 257), " ")[:257] }), "257 filters, more than 256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewAccess([]AccessRule{ok, c.bad})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if f := (AccessFault{}); !errors.As(err, &f) || f.Index != 1 {
				t.Errorf("not a fault of rule 1: %#v", err)
			}
		})
	}
	if f := CheckAccess(make([]AccessRule, MaxAccessRules+1)); len(f) != 1 || f[0].Index != MaxAccessRules {
		t.Errorf("too many rules: %v", f)
	}
}

func TestActionText(t *testing.T) {
	for _, a := range []Action{Allow, Deny, Shadow} {
		b, _ := a.MarshalText()
		var got Action
		if err := got.UnmarshalText(b); err != nil || got != a {
			t.Errorf("%s: %v, %v", b, got, err)
		}
	}
	got := Allow
	if err := got.UnmarshalText([]byte("")); err == nil || got != Allow {
		t.Errorf("an empty action is %v, %v", got, err)
	}
}

// TestSelect finds the rules of single users without a walk over all.
func TestSelect(t *testing.T) {
	var rules []AccessRule
	for i := range 100 {
		rules = append(rules, AccessRule{Action: Allow, From: []string{fmt.Sprintf("user:u%d", i), "user:all", "user:all"}, Publish: []string{"a"}})
	}
	rules = append(rules, AccessRule{Action: Deny, From: []string{"user:u7", "client:c"}, Publish: []string{"b"}})
	a := mustAccess(t, rules...)
	for _, c := range []struct {
		who  Who
		want string
	}{
		{Who{User: "u7"}, "[7 100]"},
		{Who{User: "u8"}, "[8]"},
		{Who{User: "u8", Client: "c"}, "[8 100]"},
		{Who{}, "[]"},
	} {
		if got := fmt.Sprint(a.Select(&c.who)); got != c.want {
			t.Errorf("%+v: %s, want %s", c.who, got, c.want)
		}
	}
	if n := len(a.Select(&Who{User: "all"})); n != 100 {
		t.Errorf("%d rules, want 100", n)
	}
}

func TestPublishAllocatesNothing(t *testing.T) {
	w := &Who{Client: "c7", User: "alice", Attributes: map[string]string{"site": "x"}}
	g := fleet(t).grantsOf(w).With(mustAccess(t).grantsOf(w))
	if n := testing.AllocsPerRun(100, func() {
		g.Publish(w, "dev/c7/x")
		g.Receive(w, "home/u-alice/x")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestOverlaps(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a/#", "a", true},
		{"a/#", "b/#", false},
		{"a/+", "+/b", true},
		{"a/+", "a/b/c", false},
		{"#", "$SYS", false},
		{"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/+", true},
		{"#", "+", true},
		{"a/+/c", "a/b/#", true},
		{"", "#", false},
	} {
		if overlaps(c.a, c.b) != c.want || overlaps(c.b, c.a) != c.want {
			t.Errorf("overlaps(%q, %q), want %v", c.a, c.b, c.want)
		}
	}
}
