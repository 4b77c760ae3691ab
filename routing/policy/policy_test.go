package policy

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
)

func regions(names ...string) []addr.Region {
	var out []addr.Region
	for _, n := range names {
		out = append(out, addr.MustRegion(n))
	}
	return out
}

func mustTable(t *testing.T, routes ...Route) *Table {
	t.Helper()
	table, err := NewTable(routes)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func example(t *testing.T) *Table {
	return mustTable(t,
		Route{Name: "alarms", Topic: "plant/+/alarm/#", To: regions("earth", "luna"), Class: bundle.Alarm, HasClass: true},
		Route{Name: "noise", Topic: "plant/+/debug/#", Unreachable: Drop},
		Route{Name: "historian", Service: "historian", To: regions("earth")},
		Route{Name: "plant", Topic: "plant/#", To: regions("earth"), TTL: 72 * time.Hour, OnFull: DropOldest},
		Route{Name: "late", Topic: "plant/+/alarm/fire", Unreachable: Drop},
		Route{Name: "historian-2", Service: "historian", To: regions("luna")},
	)
}

func TestForTopicTakesTheFirstListed(t *testing.T) {
	table := example(t)
	for topic, want := range map[string]string{
		"plant/1/alarm/fire": "alarms",
		"plant/1/debug":      "noise",
		"plant/1/temp":       "plant",
		"plant":              "plant",
		"factory/1":          "",
		"$SYS/plant":         "",
		"":                   "",
	} {
		r, ok := table.ForTopic(topic)
		if r.Name != want || ok != (want != "") {
			t.Errorf("ForTopic(%q) = %q, %v, want %q", topic, r.Name, ok, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { table.ForTopic("plant/1/temp") }); n != 0 {
		t.Errorf("ForTopic allocates %v times", n)
	}
}

func TestForService(t *testing.T) {
	table := example(t)
	if r, ok := table.ForService("historian"); !ok || r.Name != "historian" {
		t.Errorf("historian: %v, %v", r, ok)
	}
	if r, ok := table.ForService("plant"); ok {
		t.Errorf("the name of a topic route serves as a service: %v", r)
	}
}

func TestZeroTable(t *testing.T) {
	var table Table
	if _, ok := table.ForTopic("a"); ok {
		t.Error("the zero table routes a topic")
	}
	if _, ok := table.ForService(""); ok {
		t.Error("the zero table routes a service")
	}
	if got := table.Explain("a"); len(got) != 1 || len(table.Analyze()) != 0 || len(table.Routes()) != 0 {
		t.Errorf("Explain = %q", got)
	}
}

func TestExplain(t *testing.T) {
	table := example(t)
	for topic, want := range map[string][]string{
		"plant/1/alarm/fire": {
			"route alarms: topic plant/+/alarm/# to earth, luna; unreachable: store; class alarm",
			"route plant matches too, but alarms is listed first",
			"route late matches too, but alarms is listed first",
		},
		"plant/1": {"route plant: topic plant/# to earth; unreachable: store; on full: drop-oldest; ttl 72h0m0s"},
		"x":       {"no route matches: it goes to its subscribers, with the class and lifetime it came with"},
		"$SYS/x":  {"topics that start with '$' are the node's own and never routed"},
		"a/#":     {`topic "a/#": invalid topic syntax: '#' is a wildcard, only filters may have one`},
	} {
		if got := table.Explain(topic); !slices.Equal(got, want) {
			t.Errorf("Explain(%q):\n got %q\nwant %q", topic, got, want)
		}
	}
}

func TestAnalyze(t *testing.T) {
	want := []string{
		"route late is never taken: alarms, listed before it, matches all it matches; move it up or remove it",
		"route historian-2 is never taken: historian, listed before it, matches all it matches; move it up or remove it",
	}
	if got := example(t).Analyze(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestFaults(t *testing.T) {
	ok := Route{Name: "ok", Topic: "a/#", To: regions("earth")}
	with := func(change func(*Route)) Route {
		r := ok
		r.Name = "bad"
		change(&r)
		return r
	}
	for _, c := range []struct {
		name string
		bad  Route
		want string
	}{
		{"no name", with(func(r *Route) { r.Name = "" }), "route 2: name: invalid name: empty; give every route a short name of its own"},
		{"bad name", with(func(r *Route) { r.Name = "A b" }), `route "A b": name: invalid name: 'A' is not one of a-z 0-9 - _; give every route a short name of its own`},
		{"duplicate", with(func(r *Route) { r.Name = "ok" }), `route "ok": name: route 1 has this name already; rename one`},
		{"neither", with(func(r *Route) { r.Topic = "" }), `route "bad": match: matches nothing; set a topic or a service`},
		{"both", with(func(r *Route) { r.Service = "x" }), `route "bad": match: has both a topic and a service; make two routes of it`},
		{"filter", with(func(r *Route) { r.Topic = "a#" }), `route "bad": topic: filter "a#": invalid topic syntax: a wildcard must be alone in its level, not in "a#"; write an MQTT topic filter such as plant/+/temp or plant/#`},
		{"$", with(func(r *Route) { r.Topic = "$SYS/#" }), `route "bad": topic: "$SYS/#" starts with '$', and such topics never leave their node; remove the route`},
		{"service", with(func(r *Route) { r.Topic, r.Service = "", "X" }), `route "bad": service: invalid name: 'X' is not one of a-z 0-9 - _; write the name of a service`},
		{"within", with(func(r *Route) { r.To = regions("earth/eu", "earth") }), `route "bad": to: earth/eu lies in earth already; remove it`},
		{"twice", with(func(r *Route) { r.To = regions("earth", "earth") }), `route "bad": to: earth lies in earth already; remove it`},
		{"empty region", with(func(r *Route) { r.To = []addr.Region{{}} }), `route "bad": to: region 1 is empty; write its path, such as earth/eu`},
		{"many regions", with(func(r *Route) { r.To = make([]addr.Region, MaxTo+1) }), `route "bad": to: 65 regions, more than 64; name a region that contains them`},
		{"control", with(func(r *Route) { r.HasClass, r.Class = true, bundle.Control }), `route "bad": class: control is for the mesh itself; the most urgent class of a route is alarm`},
		{"class", with(func(r *Route) { r.HasClass, r.Class = true, 9 }), `route "bad": class: unknown class 9; want alarm, interactive, telemetry or bulk`},
		{"negative ttl", with(func(r *Route) { r.TTL = -1 }), `route "bad": ttl: -1ns is negative; leave it out for the node's default`},
		{"long ttl", with(func(r *Route) { r.TTL = MaxTTL + 1 }), `route "bad": ttl: 87600h0m0.000000001s is more than ten years; write less`},
		{"unreachable", with(func(r *Route) { r.Unreachable = 7 }), `route "bad": unreachable: unknown value 7; want store or drop`},
		{"on full", with(func(r *Route) { r.OnFull = 7 }), `route "bad": on_full: unknown value 7; want refuse or drop-oldest`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewTable([]Route{ok, c.bad})
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if f := (Fault{}); !errors.As(err, &f) || f.Index != 1 {
				t.Errorf("not a Fault of route 1: %#v", err)
			}
		})
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	_, err := NewTable([]Route{{Name: "a"}, {Topic: "#", TTL: -1}})
	if got := strings.Split(err.Error(), "\n"); len(got) != 3 {
		t.Errorf("%d faults: %v", len(got), err)
	}
	if got := Check(make([]Route, MaxRoutes+1)); len(got) != 1 || got[0].Index != MaxRoutes {
		t.Errorf("too many routes: %v", got)
	}
}

func TestEnumText(t *testing.T) {
	for _, u := range []Unreachable{Store, Drop} {
		b, _ := u.MarshalText()
		var got Unreachable
		if err := got.UnmarshalText(b); err != nil || got != u {
			t.Errorf("%s: %v, %v", b, got, err)
		}
	}
	var o OnFull
	if err := o.UnmarshalText([]byte("drop-oldest")); err != nil || o != DropOldest {
		t.Errorf("%v, %v", o, err)
	}
	if err := o.UnmarshalText([]byte("evict")); err == nil {
		t.Error("evict is accepted")
	}
}

// TestForTopicAgainstOracle compares the table with a walk over the list.
func TestForTopicAgainstOracle(t *testing.T) {
	filter := rapid.SampledFrom([]string{"#", "+", "a", "a/#", "a/+", "+/b", "a/b", "b/#", "a/b/c"})
	topic := rapid.SampledFrom([]string{"a", "b", "a/b", "b/b", "a/b/c", "c/d", "$a", "$a/b"})
	rapid.Check(t, func(t *rapid.T) {
		var routes []Route
		for i, f := range rapid.SliceOfN(filter, 0, 12).Draw(t, "filters") {
			routes = append(routes, Route{Name: string(rune('a' + i)), Topic: f, Unreachable: Drop})
		}
		table, err := NewTable(routes)
		if err != nil {
			t.Fatal(err)
		}
		s := topic.Draw(t, "topic")
		want := slices.IndexFunc(routes, func(r Route) bool { return s[0] != '$' && interest.Match(r.Topic, s) })
		got, ok := table.ForTopic(s)
		if ok != (want >= 0) || ok && got.Name != routes[want].Name {
			t.Fatalf("ForTopic(%q) = %v, want route %d of %v", s, got, want, routes)
		}
	})
}
