package interest

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestValidTopic(t *testing.T) {
	for _, s := range []string{"a", "/", "/a", "a/", "a//b", "$SYS/x", "a b", "ü/é", strings.Repeat("a/", MaxLevels-1) + "a", strings.Repeat("a", MaxLength)} {
		if err := ValidTopic(s); err != nil {
			t.Errorf("ValidTopic(%q): %v", clip(s), err)
		}
	}
	for _, s := range []string{"", "a/+", "#", "a+b", "a\x00b", "\xff", "a\xed\xa0\x80", strings.Repeat("a/", MaxLevels) + "a", strings.Repeat("a", MaxLength+1)} {
		if err := ValidTopic(s); !errors.Is(err, ErrSyntax) {
			t.Errorf("ValidTopic(%q) = %v, want ErrSyntax", clip(s), err)
		} else if len(err.Error()) > 400 {
			t.Errorf("ValidTopic(%q): an error of %d bytes", clip(s), len(err.Error()))
		}
	}
}

func TestValidFilter(t *testing.T) {
	for _, s := range []string{"a", "#", "+", "+/#", "a/#", "a/+/b", "/", "/#", "+/+", "$SYS/#", "$share/g/a/#", "$share/g//a", "$shared/x"} {
		if err := ValidFilter(s); err != nil {
			t.Errorf("ValidFilter(%q): %v", s, err)
		}
	}
	for _, s := range []string{
		"", "a#", "a/#/b", "#/", "a/b+", "++", "+#", "a/b#/c", "\x00", "\xff",
		"$share", "$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a", "$share/#/a", "$share/g/a#",
	} {
		if err := ValidFilter(s); !errors.Is(err, ErrSyntax) {
			t.Errorf("ValidFilter(%q) = %v, want ErrSyntax", s, err)
		}
	}
}

func TestParseShare(t *testing.T) {
	for _, c := range []struct {
		in, group, rest string
		ok              bool
	}{
		{"$share/g/a/b", "g", "a/b", true},
		{"$share/g//a", "g", "/a", true},
		{"$share/g/#", "g", "#", true},
		{"$share/g", "", "", false},
		{"$share//a", "", "", false},
		{"$share/+/a", "", "", false},
		{"a/b", "", "", false},
		{"", "", "", false},
	} {
		group, rest, ok := ParseShare(c.in)
		if group != c.group || rest != c.rest || ok != c.ok {
			t.Errorf("ParseShare(%q) = %q, %q, %v", c.in, group, rest, ok)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		// The examples of MQTT 5, 4.7.1 and 4.7.2.
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"#", "$SYS/x", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"$SYS/#", "$SYS/", true},
		{"$SYS/#", "$SYS", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		// Our own.
		{"#", "a", true},
		{"#", "/", true},
		{"+/#", "a", true},
		{"a/+/#", "a", false},
		{"a/b", "a", false},
		{"a", "a/b", false},
		{"a/b", "a/B", false},
		{"a/+/c", "a/$x/c", true},
		{"a//c", "a//c", true},
		{"$share/g/a", "a", false},
		{"", "a", false},
		{"#", "", false},
	} {
		if got := Match(c.filter, c.topic); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.filter, c.topic, got)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"a", "a", true},
		{"+", "a", true},
		{"a", "+", false},
		{"#", "a/+/c", true},
		{"#", "+/#", true},
		{"+/#", "#", true},
		{"#", "$SYS/a", false},
		{"+/a", "$SYS/a", false},
		{"$SYS/#", "$SYS/+/x", true},
		{"a/#", "a", true},
		{"a/#", "a/#", true},
		{"a/#", "+/b", false},
		{"a/+/#", "a/#", false},
		{"a/#", "a/+/#", true},
		{"a/+/c", "a/b/c", true},
		{"a/+/c", "a/+/+", false},
		{"+/+", "+", false},
		{"", "a", false},
		{"#", "", false},
	} {
		if got := Covers(c.a, c.b); got != c.want {
			t.Errorf("Covers(%q, %q) = %v", c.a, c.b, got)
		}
	}
}

func TestTrieDuplicatesAndPruning(t *testing.T) {
	var tr Trie[int]
	if tr.Add("a#", 1) {
		t.Error("an invalid filter was added")
	}
	filters := []string{"a", "a/#", "#", "+/b", "a/+/c", "/"}
	for _, f := range filters {
		if !tr.Add(f, 1) || tr.Add(f, 1) {
			t.Errorf("Add(%q) twice: want true, then false", f)
		}
	}
	for v := range 100 { // passes the size at which the set is indexed
		tr.Add("a/b/c", v)
	}
	if got := tr.Len(); got != len(filters)+100 {
		t.Errorf("Len = %d", got)
	}
	var visited []int
	tr.Match("a/b/c", func(v int) { visited = append(visited, v) })
	if len(visited) != 103 { // 100, and 1 again for "#", "a/#", "a/+/c"
		t.Errorf("visited %d values: %v", len(visited), visited)
	}
	if tr.Remove("a/b", 1) || tr.Remove("a/b/c", 100) || tr.Remove("", 1) || tr.Remove("+", 1) || tr.Remove("#/a", 1) {
		t.Error("removed what was never added")
	}
	for v := range 100 {
		if !tr.Remove("a/b/c", v) {
			t.Errorf("Remove(a/b/c, %d) = false", v)
		}
	}
	for _, f := range filters {
		if !tr.Remove(f, 1) || tr.Remove(f, 1) {
			t.Errorf("Remove(%q) twice: want true, then false", f)
		}
	}
	if !tr.root.empty() || tr.root.literal.more != nil || tr.Len() != 0 {
		t.Errorf("after removing all: %+v, Len %d", tr.root, tr.Len())
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	var tr Trie[int]
	for v, f := range []string{"a/b/c", "a/+/c", "a/#", "#", "+/+/+", "x"} {
		tr.Add(f, v)
	}
	n := 0
	visit := func(int) { n++ }
	if got := testing.AllocsPerRun(100, func() { tr.Match("a/b/c", visit) }); got != 0 {
		t.Errorf("Match allocates %v times", got)
	}
	if n != 5*101 {
		t.Errorf("visited %d", n)
	}
}

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		name  string
		in    []string
		limit int
		want  []string
	}{
		{"nothing", nil, 10, nil},
		{"sorted, once", []string{"b", "a", "b"}, 10, []string{"a", "b"}},
		{"covered", []string{"a/b", "a/+", "a/#", "c"}, 10, []string{"a/#", "c"}},
		{"twins", []string{"+/#", "#", "a"}, 10, []string{"#"}},
		{"invalid left out", []string{"a#", "a"}, 10, []string{"a"}},
		{"$ is not covered by #", []string{"#", "$SYS/x"}, 10, []string{"#", "$SYS/x"}},
		{"deepest, largest group", []string{"a/b/1", "a/b/2", "a/b/3", "a/c/1", "a/c/2", "d"}, 4, []string{"a/b/#", "a/c/1", "a/c/2", "d"}},
		{"upwards", []string{"a/b/1", "a/b/2", "a/c/1", "a/c/2", "d"}, 2, []string{"a/#", "d"}},
		{"everything", []string{"a", "b", "c"}, 2, []string{"#"}},
		{"$ stays", []string{"$a/x", "$a/y", "$b", "c", "d"}, 1, []string{"#", "$a/#", "$b"}},
		{"only $", []string{"$a/x", "$b/x"}, 1, []string{"$a/x", "$b/x"}},
		{"nothing gained by #", []string{"$a", "$b", "c"}, 1, []string{"$a", "$b", "c"}},
		{"wildcard prefix", []string{"+/a/1", "+/a/2"}, 1, []string{"+/a/#"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Summary(c.in, c.limit); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
