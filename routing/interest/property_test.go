package interest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// oracleMatch is MQTT 5, 4.7, word by word, slowly: levels in two slices,
// compared from the front.
func oracleMatch(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	return oracleLevels(f, t)
}

func oracleLevels(f, t []string) bool {
	switch {
	case len(f) == 0:
		return len(t) == 0
	case f[0] == "#":
		return true // any number of levels, also the parent
	case len(t) == 0:
		return false
	default:
		return (f[0] == "+" || f[0] == t[0]) && oracleLevels(f[1:], t[1:])
	}
}

// Few distinct levels, so that random filters and topics meet.
var (
	topicLevel  = rapid.SampledFrom([]string{"a", "b", "c", "", "$x"})
	filterLevel = rapid.SampledFrom([]string{"a", "b", "c", "", "$x", "+", "+"})

	topics = rapid.Custom(func(t *rapid.T) string {
		s := strings.Join(rapid.SliceOfN(topicLevel, 1, 5).Draw(t, "levels"), "/")
		if s == "" {
			return "a"
		}
		return s
	})
	filters = rapid.Custom(func(t *rapid.T) string {
		l := rapid.SliceOfN(filterLevel, 1, 4).Draw(t, "levels")
		if rapid.IntRange(0, 2).Draw(t, "multi") == 0 {
			l = append(l[1:], "#")
		}
		if s := strings.Join(l, "/"); s != "" {
			return s
		}
		return "+"
	})
)

func TestMatchAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, topic := filters.Draw(t, "filter"), topics.Draw(t, "topic")
		if err := ValidFilter(f); err != nil {
			t.Fatalf("the generator made %v", err)
		}
		if got, want := Match(f, topic), oracleMatch(f, topic); got != want {
			t.Fatalf("Match(%q, %q) = %v", f, topic, got)
		}
	})
}

// TestCoversAgainstOracle asks with every topic of up to five levels over the
// alphabet of the filters and one level none of them uses: enough to tell
// filters of up to four levels apart.
func TestCoversAgainstOracle(t *testing.T) {
	var all []string
	grow := []string{"a", "b", "", "$x", "other", "$other"}
	level := grow
	for range 5 {
		all = append(all, level...)
		var deeper []string
		for _, p := range level {
			for _, l := range grow {
				deeper = append(deeper, p+"/"+l)
			}
		}
		level = deeper
	}
	all = slices.DeleteFunc(all, func(s string) bool { return s == "" })
	rapid.Check(t, func(t *rapid.T) {
		a := strings.ReplaceAll(filters.Draw(t, "a"), "c", "b")
		b := strings.ReplaceAll(filters.Draw(t, "b"), "c", "b")
		want := !slices.ContainsFunc(all, func(s string) bool { return oracleMatch(b, s) && !oracleMatch(a, s) })
		if got := Covers(a, b); got != want {
			t.Fatalf("Covers(%q, %q) = %v", a, b, got)
		}
	})
}

// TestTrieAgainstOracle runs random adds, removes and matches on a trie and
// on a plain map of pairs.
func TestTrieAgainstOracle(t *testing.T) {
	type pair struct {
		filter string
		v      int
	}
	rapid.Check(t, func(t *rapid.T) {
		var tr Trie[int]
		model := map[pair]bool{}
		values := rapid.IntRange(0, 20)
		draw := func(t *rapid.T) pair { return pair{filters.Draw(t, "filter"), values.Draw(t, "value")} }
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				p := draw(t)
				if got := tr.Add(p.filter, p.v); got == model[p] {
					t.Fatalf("Add(%v) = %v", p, got)
				}
				model[p] = true
			},
			"remove": func(t *rapid.T) {
				p := draw(t)
				if got := tr.Remove(p.filter, p.v); got != model[p] {
					t.Fatalf("Remove(%v) = %v", p, got)
				}
				delete(model, p)
			},
			"match": func(t *rapid.T) {
				topic := topics.Draw(t, "topic")
				var got, want []int
				tr.Match(topic, func(v int) { got = append(got, v) })
				for p := range model {
					if oracleMatch(p.filter, topic) {
						want = append(want, p.v)
					}
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("Match(%q) = %v, want %v", topic, got, want)
				}
			},
			"": func(t *rapid.T) {
				if tr.Len() != len(model) || tr.root.empty() != (len(model) == 0) {
					t.Fatalf("Len %d, empty %v, model %d", tr.Len(), tr.root.empty(), len(model))
				}
				var want []string
				for p := range model {
					want = append(want, p.filter)
				}
				slices.Sort(want)
				if got := tr.Filters(); !slices.Equal(got, slices.Compact(want)) {
					t.Fatalf("Filters = %q", got)
				}
			},
		})
	})
}

func TestSummaryProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(filters, 0, 30).Draw(t, "filters")
		limit := rapid.IntRange(1, 30).Draw(t, "limit")
		out := Summary(in, limit)
		if !slices.IsSorted(out) {
			t.Fatalf("not sorted: %q", out)
		}
		dollars := map[string]bool{}
		for i, a := range out {
			if a[0] == '$' {
				first, _, _ := strings.Cut(a, "/")
				dollars[first] = true
			}
			for j, b := range out {
				if i != j && Covers(a, b) {
					t.Fatalf("%q covers %q in %q", a, b, out)
				}
			}
		}
		if len(out) > max(limit, len(dollars)+1) {
			t.Fatalf("%d filters over the limit %d: %q", len(out), limit, out)
		}
		exact := len(minimal(in)) <= limit
		for _, topic := range rapid.SliceOfN(topics, 20, 20).Draw(t, "topics") {
			matches := func(f string) bool { return oracleMatch(f, topic) }
			before, after := slices.ContainsFunc(in, matches), slices.ContainsFunc(out, matches)
			if before && !after || exact && before != after {
				t.Fatalf("%q: %v by %q, but %v by %q", topic, before, in, after, out)
			}
		}
		if again := Summary(out, len(out)); !slices.Equal(again, out) {
			t.Fatalf("not stable: %q, then %q", out, again)
		}
	})
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{"a/b", "+/#", "$share/g/a/#", "$SYS/+", "//", "a#", "a/\x00"} {
		f.Add(s, "a/b")
	}
	f.Fuzz(func(t *testing.T, filter, topic string) {
		var tr Trie[int]
		if added := tr.Add(filter, 1); added != (ValidFilter(filter) == nil) {
			t.Fatalf("Add(%q) = %v", filter, added)
		}
		found := false
		tr.Match(topic, func(int) { found = true })
		Covers(filter, topic)
		Summary([]string{filter, topic}, 1)
		if tr.Len() == 1 && ValidTopic(topic) == nil {
			if want := oracleMatch(filter, topic); found != want || Match(filter, topic) != want {
				t.Fatalf("%q, %q: trie %v, Match %v, want %v", filter, topic, found, Match(filter, topic), want)
			}
		}
		if tr.Len() == 1 && (!Covers(filter, filter) || !tr.Remove(filter, 1) || !tr.root.empty()) {
			t.Fatalf("%q does not cover itself, or is not removed cleanly", filter)
		}
	})
}

// BenchmarkMatch has 10,000 filters as a plant would: devices of their own,
// views over all devices, and a few that want everything.
func BenchmarkMatch(b *testing.B) {
	var tr Trie[int]
	for i := range 10_000 {
		f := fmt.Sprintf("plant/%d/telemetry/temp", i)
		switch i % 100 {
		case 1:
			f = fmt.Sprintf("plant/+/telemetry/sensor-%d", i)
		case 2:
			f = fmt.Sprintf("plant/%d/#", i)
		}
		tr.Add(f, i)
	}
	tr.Add("plant/+/telemetry/#", -1)
	n := 0
	visit := func(int) { n++ }
	b.ReportAllocs()
	for b.Loop() {
		tr.Match("plant/5102/telemetry/temp", visit)
	}
	if n == 0 {
		b.Fatal("nothing matched")
	}
}

func BenchmarkSummary(b *testing.B) {
	in := make([]string, 10_000)
	for i := range in {
		in[i] = fmt.Sprintf("plant/%d/telemetry/%d", i/100, i%100)
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := Summary(in, 64); len(got) > 64 {
			b.Fatal(len(got))
		}
	}
}

// TestSummaryCoversFilters: whatever the limit, each filter that was summed up
// lies below one of the summary; so one that comes below it changes nothing.
func TestSummaryCoversFilters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(filters, 1, 40).Draw(t, "filters")
		out := Summary(in, rapid.IntRange(1, 30).Draw(t, "limit"))
		below := func(f string) bool {
			return slices.ContainsFunc(out, func(g string) bool { return Covers(g, f) })
		}
		for _, f := range in {
			if ValidFilter(f) == nil && !below(f) {
				t.Fatalf("%q of %q is not below %q", f, in, out)
			}
		}
		one := rapid.SampledFrom(in).Draw(t, "one more")
		if again := Summary(append(slices.Clone(out), one), len(out)); below(one) && !slices.Equal(again, out) {
			t.Fatalf("%q, which is below %q, makes it %q", one, out, again)
		}
	})
}
