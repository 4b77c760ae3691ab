package policy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
)

func mustQuotas(t testing.TB, quotas ...Quota) *Quotas {
	t.Helper()
	q, err := NewQuotas(quotas)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func keys(charges []Charge) []string {
	out := []string{}
	for _, c := range charges {
		out = append(out, c.Key)
	}
	return out
}

// tenants is a list with every match field and every kind of account.
func tenants(t testing.TB) *Quotas {
	return mustQuotas(t,
		Quota{Name: "all", Bytes: 1 << 30},
		Quota{Name: "plc", Client: "plc-*", Bytes: 1 << 20, Count: 100},
		Quota{Name: "device", Each: EachClient, Count: 10},
		Quota{Name: "relays", Peer: "relay-*", Bytes: 1 << 20},
		Quota{Name: "neighbour", Each: EachPeer, Bytes: 1 << 20},
		Quota{Name: "plant", Topic: "plant/#", Each: EachNone, Bytes: 1 << 20},
		Quota{Name: "luna", Region: addr.MustRegion("luna"), Class: bundle.Bulk, HasClass: true, Count: 5},
	)
}

func TestCharges(t *testing.T) {
	quotas := tenants(t)
	for _, c := range []struct {
		name string
		s    Subject
		want []string
	}{
		{"published here", Subject{Client: "plc-7", Topic: "plant/1", Class: bundle.Telemetry}, []string{"all", "plc", "device/plc-7", "plant"}},
		{"another client", Subject{Client: "xplc-7", Topic: "plan", Class: bundle.Bulk}, []string{"all", "device/xplc-7"}},
		{"nobody in particular", Subject{Class: bundle.Alarm}, []string{"all", "device/"}},
		{"handed over", Subject{Peer: addr.MustNode("relay-1"), Topic: "plant", Class: bundle.Bulk}, []string{"all", "relays", "neighbour/relay-1", "plant"}},
		{"the client of another node", Subject{Client: "plc-7", Peer: addr.MustNode("earth-1"), Class: bundle.Bulk}, []string{"all", "neighbour/earth-1"}},
		{"one recipient within", Subject{Client: "a", Class: bundle.Bulk, Regions: regions("earth", "luna/base")}, []string{"all", "device/a", "luna"}},
		{"a region around it", Subject{Client: "a", Class: bundle.Bulk, Regions: regions("lunar", "earth")}, []string{"all", "device/a"}},
		{"another class", Subject{Client: "a", Class: bundle.Telemetry, Regions: regions("luna")}, []string{"all", "device/a"}},
		{"the mesh's own", Subject{Client: "plc-7", Topic: "plant/1", Class: bundle.Control, Peer: addr.MustNode("relay-1")}, []string{}},
		{"hostile client", Subject{Client: "a\n/%\xffü\u2028", Class: bundle.Bulk}, []string{"all", "device/a%0A/%25%FFü%E2%80%A8"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := quotas.Charges(&c.s, nil)
			if !slices.Equal(keys(got), c.want) {
				t.Errorf("got %q, want %q", keys(got), c.want)
			}
			for _, charge := range got {
				if name, _, _ := strings.Cut(charge.Key, "/"); charge.Quota.Name != name {
					t.Errorf("account %s has quota %v", charge.Key, charge.Quota)
				}
			}
		})
	}
	before := []Charge{{Key: "before"}}
	if got := quotas.Charges(&Subject{Class: bundle.Alarm, Peer: addr.MustNode("a")}, before); !slices.Equal(keys(got), []string{"before", "all", "neighbour/a"}) {
		t.Errorf("appended: %q", keys(got))
	}
}

func TestChargesOfWhatNoFilterMatches(t *testing.T) {
	quotas := mustQuotas(t, Quota{Name: "any", Topic: "#", Count: 1}, Quota{Name: "a", Topic: "a", Count: 1}, Quota{Name: "both", Topic: "a", Client: "c", Count: 1})
	for topic, want := range map[string][]string{
		"a": {"any", "a", "both"}, "b": {"any"}, "": {}, "$SYS/a": {},
	} {
		// Twice, so that a hit of an earlier round would show.
		for range 2 {
			got := keys(quotas.Charges(&Subject{Client: "c", Topic: topic, Class: bundle.Bulk}, nil))
			if !slices.Equal(got, want) {
				t.Errorf("%q: %q, want %q", topic, got, want)
			}
		}
	}
}

func TestZeroQuotas(t *testing.T) {
	var q Quotas
	if !q.Empty() || len(q.Charges(&Subject{Client: "a", Topic: "a", Class: bundle.Bulk}, nil)) != 0 || len(q.List()) != 0 || len(q.Analyze()) != 0 {
		t.Error("the zero Quotas charges something")
	}
	if none := mustQuotas(t); !none.Empty() {
		t.Error("no quotas are not empty")
	}
	if tenants(t).Empty() {
		t.Error("quotas are empty")
	}
}

func TestChargesAllocateNothing(t *testing.T) {
	quotas := tenants(t)
	subjects := []Subject{
		{Client: "plc-7", Topic: "plant/1/temp", Class: bundle.Bulk, Regions: regions("earth", "luna/base")},
		{Peer: addr.MustNode("relay-1"), Topic: "plant/1/temp", Class: bundle.Bulk, Regions: regions("luna/base")},
		{Client: "ü %", Class: bundle.Alarm},
	}
	into := make([]Charge, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		for i := range subjects {
			into = quotas.Charges(&subjects[i], into[:0])
		}
	}); n != 0 {
		t.Errorf("Charges allocates %v times", n)
	}
}

func TestKeysAreBounded(t *testing.T) {
	quotas := mustQuotas(t, Quota{Name: strings.Repeat("n", maxName), Each: EachClient, Count: 1})
	seen := map[string]string{}
	check := func(client string) {
		key := quotas.Charges(&Subject{Client: client, Class: bundle.Bulk}, nil)[0].Key
		if other, dup := seen[key]; dup && other != client {
			t.Fatalf("%.80q and %.80q share %q", client, other, key)
		}
		seen[key] = client
		if len(key) > MaxKey {
			t.Fatalf("%.80q: a key of %d bytes", client, len(key))
		}
	}
	for i := range 2 * maxKeys {
		check(fmt.Sprint(i))
		if i < 100 {
			check(strings.Repeat("x", i) + "1")
			check(strings.Repeat("\n", i) + "2")
			check(strings.Repeat("ü", i) + "3")
		}
	}
	check(strings.Repeat("x", 60_000) + "1")
	check(strings.Repeat("x", 60_000) + "2")
	if n := len(quotas.keys); n > maxKeys {
		t.Errorf("%d keys remembered, more than %d", n, maxKeys)
	}
}

// TestEscape: keys are kept on disk, so what they look like must not change.
func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "",
		"plc-7":                         "plc-7",
		"a b/c":                         "a b/c",
		"100%":                          "100%25",
		"a\nb\x7f\u0085":                "a%0Ab%7F%C2%85",
		"\xff\ufffd":                    "%FF\ufffd",
		strings.Repeat("x", 64):         strings.Repeat("x", 64),
		strings.Repeat("x", 65):         strings.Repeat("x", 46) + "%~9537c5fdf120482f",
		"x" + strings.Repeat("ü", 40):   "x" + strings.Repeat("ü", 22) + "%~d43b54d0c81dabf9",
		"xx" + strings.Repeat("\n", 30): "xx" + strings.Repeat("%0A", 14) + "%~2dbcb45b8c17741c",
	} {
		if got := escape(in); got != want {
			t.Errorf("escape(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a", "%0A", "\n", "%~", "ü\xff", strings.Repeat("\u2028", 30)} {
		f.Add(s, "b")
	}
	control := regexp.MustCompile(`[\p{Cc}\x{2028}\x{2029}]`)
	f.Fuzz(func(t *testing.T, a, b string) {
		x := escape(a)
		if len(x) > maxWho || !utf8.ValidString(x) || control.MatchString(x) {
			t.Fatalf("escape(%q) = %q", a, x)
		}
		if a != b && x == escape(b) {
			t.Fatalf("%q and %q are both %q", a, b, x)
		}
	})
}

func TestQuotaFaults(t *testing.T) {
	ok := Quota{Name: "ok", Count: 1}
	with := func(change func(*Quota)) Quota {
		q := Quota{Name: "bad", Count: 1}
		change(&q)
		return q
	}
	for _, c := range []struct {
		name string
		bad  Quota
		want string
	}{
		{"no name", with(func(q *Quota) { q.Name = "" }), "quota 2: name: invalid name: empty; give every quota a short name of its own"},
		{"duplicate", with(func(q *Quota) { q.Name = "ok" }), `quota "ok": name: quota 1 has this name already; rename one`},
		{"no limit", with(func(q *Quota) { q.Count = 0 }), `quota "bad": limits nothing; set max_bytes, max_messages or both`},
		{"negative bytes", with(func(q *Quota) { q.Bytes = -1 }), `quota "bad": max_bytes: -1 is negative; leave it out for no limit`},
		{"negative messages", with(func(q *Quota) { q.Count = -1 }), `quota "bad": max_messages: -1 is negative; leave it out for no limit`},
		{"filter", with(func(q *Quota) { q.Topic = "a#" }), `quota "bad": topic: filter "a#": invalid topic syntax: a wildcard must be alone in its level, not in "a#"; write an MQTT topic filter such as plant/+/temp or plant/#`},
		{"$", with(func(q *Quota) { q.Topic = "$share/g/a" }), `quota "bad": topic: "$share/g/a" starts with '$', and such topics are the node's own; remove the quota`},
		{"client", with(func(q *Quota) { q.Client = "a\x00" }), `quota "bad": client: invalid pattern: has a NUL; write a client id such as plc-7 or plc-*`},
		{"client bytes", with(func(q *Quota) { q.Client = "\xff" }), `quota "bad": client: invalid pattern: not UTF-8; write a client id such as plc-7 or plc-*`},
		{"long client", with(func(q *Quota) { q.Client = strings.Repeat("a", maxGlob+1) }), `quota "bad": client: invalid pattern: longer than 256 bytes; write a client id such as plc-7 or plc-*`},
		{"peer", with(func(q *Quota) { q.Peer = "Relay-*" }), `quota "bad": peer: invalid pattern: 'R' is not one of a-z 0-9 - _ *; write a node name such as relay-1 or relay-*`},
		{"long peer", with(func(q *Quota) { q.Peer = strings.Repeat("a", maxGlob+1) }), `quota "bad": peer: invalid pattern: longer than 256 bytes; write a node name such as relay-1 or relay-*`},
		{"control", with(func(q *Quota) { q.HasClass, q.Class = true, bundle.Control }), `quota "bad": class: control is for the mesh itself, which no quota limits; the most urgent class of a quota is alarm`},
		{"class", with(func(q *Quota) { q.HasClass, q.Class = true, 9 }), `quota "bad": class: unknown class 9; want alarm, interactive, telemetry or bulk`},
		{"each", with(func(q *Quota) { q.Each = 9 }), `quota "bad": each: unknown value 9; want none, client or peer`},
		{"client and peer", with(func(q *Quota) { q.Client, q.Peer = "a", "b" }), `quota "bad": match: matches nothing: what a client publishes here no peer hands over; make two quotas of it, one with client and one with peer`},
		{"each client of a peer", with(func(q *Quota) { q.Each, q.Peer = EachClient, "b" }), `quota "bad": each: client, but what a peer hands over has no client here; write peer, or match a client instead of a peer`},
		{"each peer of a client", with(func(q *Quota) { q.Each, q.Client = EachPeer, "b" }), `quota "bad": each: peer, but what a client publishes here no peer hands over; write client, or match a peer instead of a client`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewQuotas([]Quota{ok, c.bad})
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if f := (QuotaFault{}); !errors.As(err, &f) || f.Index != 1 {
				t.Errorf("not a QuotaFault of quota 2: %#v", err)
			}
		})
	}
	if got := CheckQuotas(make([]Quota, MaxQuotas+1)); len(got) != 1 || got[0].Index != MaxQuotas {
		t.Errorf("too many quotas: %v", got)
	}
	if got := CheckQuotas([]Quota{{Topic: "a#", Bytes: -1}}); len(got) != 3 {
		t.Errorf("not all faults at once: %v", got)
	}
}

func TestQuotaAnalyze(t *testing.T) {
	quotas := mustQuotas(t,
		Quota{Name: "all", Bytes: 100, Count: 10},
		Quota{Name: "roomier", Topic: "a/#", Bytes: 100},
		Quota{Name: "tighter", Topic: "a/#", Bytes: 99},
		Quota{Name: "device", Each: EachClient, Count: 5},
		Quota{Name: "plc", Client: "plc-*", Each: EachClient, Count: 5},
		Quota{Name: "plcs", Client: "plc-*", Count: 6},
		Quota{Name: "twin-1", Peer: "b", Region: addr.MustRegion("earth"), Count: 1},
		Quota{Name: "twin-2", Peer: "b", Region: addr.MustRegion("earth"), Count: 1},
		Quota{Name: "within", Peer: "b", Region: addr.MustRegion("earth/eu"), HasClass: true, Class: bundle.Bulk, Count: 9, Each: EachPeer},
	)
	var got []string
	for _, l := range quotas.Analyze() {
		who, rest, _ := strings.Cut(strings.TrimPrefix(l, "quota "), " is never reached: ")
		by, _, _ := strings.Cut(rest, " counts")
		got = append(got, who+" by "+by)
	}
	if want := []string{"roomier by all", "plc by device", "twin-2 by twin-1", "within by twin-1"}; !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestQuotaString(t *testing.T) {
	for want, q := range map[string]Quota{
		"all: everything; at most 5 bytes": {Name: "all", Bytes: 5},
		"x: client plc-*, topic a/#, to region luna, class bulk; each client; at most 5 bytes; at most 7 messages": {
			Name: "x", Client: "plc-*", Topic: "a/#", Region: addr.MustRegion("luna"), Class: bundle.Bulk, HasClass: true, Each: EachClient, Bytes: 5, Count: 7,
		},
		"p: from peer relay-*; at most 7 messages": {Name: "p", Peer: "relay-*", Count: 7},
	} {
		if got := q.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// oracleGlob is what a pattern means, as a regular expression.
func oracleGlob(pattern, s string) bool {
	return regexp.MustCompile(`^(?s:` + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`) + `)$`).MatchString(s)
}

// oracleCharge is the rule of Quota, field by field. ok is false if the
// message is not charged to it.
func oracleCharge(q Quota, s Subject) (key string, ok bool) {
	here := s.Peer == addr.Node{}
	ok = s.Class != bundle.Control
	if q.Client != "" {
		ok = ok && here && oracleGlob(q.Client, s.Client)
	}
	if q.Peer != "" {
		ok = ok && !here && oracleGlob(q.Peer, s.Peer.String())
	}
	if q.Topic != "" {
		ok = ok && interest.Match(q.Topic, s.Topic)
	}
	if q.HasClass {
		ok = ok && q.Class == s.Class
	}
	if q.Region != (addr.Region{}) {
		within := false
		for _, r := range s.Regions {
			within = within || strings.HasPrefix(r.String()+"/", q.Region.String()+"/")
		}
		ok = ok && within
	}
	switch q.Each {
	case EachClient:
		return q.Name + "/" + s.Client, ok && here
	case EachPeer:
		return q.Name + "/" + s.Peer.String(), ok && !here
	case EachNone:
	}
	return q.Name, ok
}

var (
	quotaGen = rapid.Custom(func(t *rapid.T) Quota {
		q := Quota{
			Topic:    rapid.SampledFrom([]string{"", "", "#", "a", "a/#", "+/b", "b/+"}).Draw(t, "topic"),
			Region:   rapid.SampledFrom([]addr.Region{{}, {}, addr.MustRegion("earth"), addr.MustRegion("earth/eu")}).Draw(t, "region"),
			Class:    rapid.SampledFrom([]bundle.Class{bundle.Alarm, bundle.Bulk}).Draw(t, "class"),
			HasClass: rapid.Bool().Draw(t, "has class"),
			Count:    1,
		}
		switch rapid.IntRange(0, 2).Draw(t, "side") {
		case 1:
			q.Client = rapid.StringMatching(`[ab*]{0,5}`).Draw(t, "client")
			q.Each = rapid.SampledFrom([]Each{EachNone, EachClient}).Draw(t, "each")
		case 2:
			q.Peer = rapid.StringMatching(`[ab*]{0,5}`).Draw(t, "peer")
			q.Each = rapid.SampledFrom([]Each{EachNone, EachPeer}).Draw(t, "each")
		}
		return q
	})
	subjectGen = rapid.Custom(func(t *rapid.T) Subject {
		s := Subject{
			Client:  rapid.StringMatching(`[ab]{0,5}`).Draw(t, "client"),
			Topic:   rapid.SampledFrom([]string{"", "a", "a/b", "b/b", "c", "$a/b"}).Draw(t, "topic"),
			Class:   rapid.SampledFrom([]bundle.Class{bundle.Control, bundle.Alarm, bundle.Bulk, bundle.Bulk}).Draw(t, "class"),
			Regions: rapid.SliceOfN(rapid.SampledFrom(regions("earth", "earth/eu", "earthly", "luna")), 0, 2).Draw(t, "regions"),
		}
		if rapid.Bool().Draw(t, "handed over") {
			s.Peer = addr.MustNode(rapid.StringMatching(`[ab]{1,5}`).Draw(t, "peer"))
		}
		return s
	})
)

func TestChargesAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(quotaGen, 0, 8).Draw(t, "quotas")
		for i := range list {
			list[i].Name = string(rune('a' + i))
		}
		quotas, err := NewQuotas(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range rapid.SliceOfN(subjectGen, 1, 5).Draw(t, "subjects") {
			want := []string{}
			for _, q := range list {
				if key, ok := oracleCharge(q, s); ok {
					want = append(want, key)
				}
			}
			if got := keys(quotas.Charges(&s, nil)); !slices.Equal(got, want) {
				t.Fatalf("%+v: got %q, want %q", s, got, want)
			}
		}
	})
}

// TestAnalyzeAgainstOracle fills the accounts of two quotas: one that is said
// to be never reached must never be the only one that is full.
func TestAnalyzeAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(quotaGen, 2, 2).Draw(t, "quotas")
		for i := range list {
			list[i].Name, list[i].Count = string(rune('a'+i)), rapid.IntRange(1, 3).Draw(t, "count")
		}
		quotas, err := NewQuotas(list)
		if err != nil {
			t.Fatal(err)
		}
		lines := quotas.Analyze()
		if len(lines) > 1 {
			t.Fatalf("both are never reached: %q", lines)
		}
		used := map[string]int{}
		for _, s := range rapid.SliceOfN(subjectGen, 0, 20).Draw(t, "subjects") {
			full := map[string]bool{}
			charges := quotas.Charges(&s, nil)
			for _, c := range charges {
				if used[c.Key] >= c.Quota.Count {
					full[c.Quota.Name] = true
				}
			}
			if len(full) == 0 {
				for _, c := range charges {
					used[c.Key]++
				}
			}
			for name := range full {
				if len(full) == 1 && len(lines) == 1 && strings.HasPrefix(lines[0], "quota "+name+" ") {
					t.Fatalf("%s, but it alone refuses %+v", lines[0], s)
				}
			}
		}
	})
}

func BenchmarkCharges(b *testing.B) {
	var list []Quota
	for i := range MaxQuotas {
		list = append(list, Quota{Name: fmt.Sprint("t-", i), Topic: fmt.Sprint("tenant-", i, "/#"), Each: EachClient, Bytes: 1})
	}
	quotas := mustQuotas(b, list...)
	s := Subject{Client: "plc-7", Topic: "tenant-99/plant/7/temp", Class: bundle.Telemetry, Regions: regions("earth")}
	var into []Charge
	b.ReportAllocs()
	for b.Loop() {
		into = quotas.Charges(&s, into[:0])
	}
}
