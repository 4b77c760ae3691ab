package dtn

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/bundle/bpa"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// gateway is one of node earth-1, whose door peers with hdtn; luna-1 is of the
// mesh and has a door to ipn:9.
func gateway(t testing.TB) *Gateway {
	t.Helper()
	g, err := NewGateway(GatewayConfig{
		Node: addr.MustNode("earth-1"), Self: eid(t, "ipn:100.0"),
		Doors: NewTable([]Peer{
			{Name: "hdtn", EIDs: []addr.Pattern{pattern(t, "ipn:2.*"), pattern(t, "dtn://hdtn/**")}},
			{Name: "other", EIDs: []addr.Pattern{pattern(t, "ipn:3.*")}},
		}),
		Mappings: []Mapping{{EID: eid(t, "ipn:100.5"), Topic: "plant/1/temp"}},
		Exports: []Export{
			{Filter: "plant/1/#", To: "ipn:2.9", ReportTo: eid(t, "ipn:100.0"), HopLimit: 30},
			{Filter: "site/+/x", To: "dtn://hdtn/mqtt/{topic}", Lifetime: time.Hour},
		},
		Elsewhere: func(e addr.EID) (addr.Node, bool) {
			n, _ := e.Numbers()
			return addr.MustNode("luna-1"), n == 9
		},
		Ours: func(n addr.Node) bool { return n == addr.MustNode("luna-1") },
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// incoming makes a bundle that is ten minutes old and lives for an hour.
func incoming(t testing.TB, dst string, change func(*bundle.Primary)) []byte {
	t.Helper()
	p := bundle.Primary{
		Dest: eid(t, dst), Source: eid(t, "ipn:2.1"), ReportTo: addr.None, Lifetime: 3600_000,
		Created: bundle.Timestamp{Time: bundle.DTNTime(noon.Add(-10 * time.Minute).UnixMilli()), Seq: 7},
	}
	if change != nil {
		change(&p)
	}
	return bundle.AppendBundle(nil, bundle.AppendPrimary(nil, &p), bundle.AppendPayload(nil, []byte("21.5")),
		bundle.Hop{Prev: eid(t, "ipn:2.0"), Age: 20 * time.Minute, HopLimit: 10, HopCount: 1})
}

// published expects a publication to a topic.
func published(topic, region string) func(Action) bool {
	return func(a Action) bool {
		return a.Kind == Publish && a.Publication.Topic == topic && a.Publication.Region.String() == region &&
			string(a.Publication.Payload) == "21.5" && a.Publication.TTL == 50*time.Minute
	}
}

func TestIn(t *testing.T) {
	g := gateway(t)
	fragment := func(p *bundle.Primary) { p.Flags, p.TotalLen = bundle.FlagFragment, 100 }
	for _, c := range []struct {
		name, dst string
		change    func(*bundle.Primary)
		why       bundle.Reason
		check     func(Action) bool
	}{
		{name: "a topic", dst: "dtn://earth-1/mqtt/plant/7/temp", check: published("plant/7/temp", "")},
		{name: "a topic by way of another node", dst: "dtn://luna-1/mqtt/plant/7/temp", check: published("plant/7/temp", "")},
		{name: "a topic of a region", dst: "dtn://earth.eu/~mqtt/plant/7", check: published("plant/7", "earth/eu")},
		{name: "an escaped topic", dst: "dtn://earth-1/mqtt/caf%C3%A9/a%20b%2Fc", check: published("café/a b/c", "")},
		{name: "an empty level", dst: "dtn://earth-1/mqtt//a", check: published("/a", "")},
		{name: "a number", dst: "ipn:100.5", check: published("plant/1/temp", "")},
		{name: "no topic", dst: "dtn://earth-1/mqtt/", why: bundle.NotAllowed},
		{name: "a wildcard", dst: "dtn://earth-1/mqtt/a/+/b", why: bundle.NotAllowed},
		{name: "an escaped wildcard", dst: "dtn://earth-1/mqtt/a/%23", why: bundle.NotAllowed},
		{name: "a topic of the mesh", dst: "dtn://earth-1/mqtt/$mesh/x", why: bundle.NotAllowed},
		{name: "a topic of the mesh, escaped", dst: "dtn://earth-1/mqtt/%24SYS/x", why: bundle.NotAllowed},
		{name: "a broken escape", dst: "dtn://earth-1/mqtt/a%2", why: bundle.NotAllowed},
		{name: "no escape", dst: "dtn://earth-1/mqtt/a%zz", why: bundle.NotAllowed},
		{name: "not UTF-8", dst: "dtn://earth-1/mqtt/%ff%fe", why: bundle.NotAllowed},
		{name: "a zero byte", dst: "dtn://earth-1/mqtt/a%00b", why: bundle.NotAllowed},
		{name: "another service", dst: "dtn://earth-1/fleet", why: bundle.NoRoute},
		{name: "a service of ours that carries", dst: "dtn://earth-1/dtn", why: bundle.NoRoute},
		{name: "the node itself", dst: "ipn:100.0", why: bundle.NoRoute},
		{name: "a service of the node that is not mapped", dst: "ipn:100.6", why: bundle.NoRoute},
		{name: "a peer of this node", dst: "ipn:3.1", check: func(a Action) bool { return a.Kind == Forward && a.Peer == "other" }},
		{name: "the peer it comes from", dst: "ipn:2.4", why: bundle.NoRoute},
		{name: "nobody", dst: "dtn://mars/x", why: bundle.NoRoute},
		{name: "a peer of another node", dst: "ipn:9.4", check: func(a Action) bool { return a.Kind == Carry && a.Node == addr.MustNode("luna-1") }},
		{
			name: "a fragment for a topic", dst: "dtn://earth-1/mqtt/a", change: fragment,
			check: func(a Action) bool { return a.Kind == Gather && len(a.Publication.Payload) == 0 },
		},
		{name: "a fragment for somebody else", dst: "ipn:3.1", change: fragment, check: func(a Action) bool { return a.Kind == Forward }},
		{
			name: "an administrative record for a topic", dst: "dtn://earth-1/mqtt/a",
			change: func(p *bundle.Primary) { p.Flags = bundle.FlagAdminRecord }, why: bundle.NotAllowed,
		},
		{
			name: "a record that is none", dst: "ipn:100.0",
			change: func(p *bundle.Primary) { p.Flags = bundle.FlagAdminRecord }, why: bundle.Malformed,
		},
		{
			name: "an expired bundle", dst: "dtn://earth-1/mqtt/a",
			change: func(p *bundle.Primary) { p.Lifetime = 60_000 }, why: bundle.Expired,
		},
		{
			name: "no clock at its source", dst: "dtn://earth-1/mqtt/a", change: func(p *bundle.Primary) { p.Created.Time = 0 },
			check: func(a Action) bool { return a.TTL == 40*time.Minute },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, why := g.In(Received{Peer: "hdtn", Bundle: incoming(t, c.dst, c.change)}, noon)
			if why != c.why || why == bundle.OK && !c.check(a) {
				t.Fatalf("In: %v %+v, want %v", why, a, c.why)
			}
			if why == bundle.OK && (a.Keep < a.TTL || a.Keep < time.Hour || a.Key == [16]byte{}) {
				t.Errorf("key %x for %v", a.Key, a.Keep)
			}
		})
	}
}

func TestInRefusesNoBundle(t *testing.T) {
	if _, why := gateway(t).In(Received{Bundle: []byte("hello")}, noon); why != bundle.Malformed {
		t.Error(why)
	}
}

func TestInProperties(t *testing.T) {
	raw := incoming(t, "ipn:100.5", func(p *bundle.Primary) { p.ReportTo = eid(t, "ipn:2.3") })
	a, _ := gateway(t).In(Received{Peer: "hdtn", Bundle: raw}, noon)
	created := bundle.DTNTime(noon.Add(-10 * time.Minute).UnixMilli())
	want := []Property{{PropSource, "ipn:2.1"}, {PropDest, "ipn:100.5"}, {PropBundle, "ipn:2.1 " + uintText(created) + " 7"}, {PropReport, "ipn:2.3"}}
	if !slices.Equal(a.Publication.Props, want) {
		t.Errorf("properties %v, want %v", a.Publication.Props, want)
	}
}

func uintText(n uint64) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append(b, byte('0'+n%10))
	}
	slices.Reverse(b)
	return string(b)
}

// TestKeys: the key is of the bundle, whatever a hop changed.
func TestKeys(t *testing.T) {
	g := gateway(t)
	key := func(raw []byte) [16]byte {
		t.Helper()
		a, why := g.In(Received{Peer: "hdtn", Bundle: raw}, noon)
		if why != bundle.OK {
			t.Fatal(why)
		}
		return a.Key
	}
	one := incoming(t, "ipn:3.1", nil)
	moved, why, err := g.Exit(one, time.Minute, 1<<20)
	if why != bundle.OK || err != nil {
		t.Fatal(why, err)
	}
	if key(one) != key(moved.Parts[0].Join()) {
		t.Error("the key changes with the hop")
	}
	if key(one) == key(incoming(t, "ipn:3.1", func(p *bundle.Primary) { p.Created.Seq++ })) {
		t.Error("two bundles share a key")
	}
	none := func(p *bundle.Primary) { p.Source, p.Flags = addr.None, bundle.FlagNoFragment }
	first, second := key(incoming(t, "ipn:3.1", none)), key(incoming(t, "ipn:3.1", none))
	if first != second {
		t.Error("an anonymous bundle that is sent again has another key")
	}
}

func TestReports(t *testing.T) {
	rep := bpa.Report{Source: eid(t, "ipn:100.5"), Created: bundle.Timestamp{Time: 5, Seq: 6}, Code: bpa.LifetimeExpired}
	rep.Is[bpa.Deleted] = true
	p := bundle.Primary{
		Dest: eid(t, "ipn:100.0"), Source: eid(t, "ipn:2.0"), ReportTo: addr.None, Lifetime: 3600_000,
		Flags: bundle.FlagAdminRecord, Created: bundle.Timestamp{Time: bundle.DTNTime(noon.UnixMilli()), Seq: 1},
	}
	raw := bundle.AppendBundle(nil, bundle.AppendPrimary(nil, &p), bundle.AppendPayload(nil, rep.Append(nil)), bundle.Hop{NoAge: true})
	a, why := gateway(t).In(Received{Peer: "hdtn", Bundle: raw}, noon)
	if why != bundle.OK || a.Kind != Report || a.Report.Source != rep.Source || !a.Report.Is[bpa.Deleted] || a.Report.Code != rep.Code {
		t.Errorf("In: %v %+v", why, a)
	}
}

func TestExport(t *testing.T) {
	g := gateway(t)
	stamp := Stamp{Created: noon, Seq: 42}
	for _, c := range []struct {
		name     string
		pub      Publication
		stamp    Stamp
		dst, src string // "" no export
		life     time.Duration
	}{
		{"a fixed endpoint, a mapped source", Publication{Topic: "plant/1/temp", TTL: time.Minute}, stamp, "ipn:2.9", "ipn:100.5", time.Minute},
		{"a number without a mapped source", Publication{Topic: "plant/1/a b"}, stamp, "ipn:2.9", "ipn:100.0", 24 * time.Hour},
		{"a topic in the endpoint", Publication{Topic: "site/é/x"}, stamp, "dtn://hdtn/mqtt/site/%C3%A9/x", "dtn://earth-1/mqtt/site/%C3%A9/x", time.Hour},
		{"no clock", Publication{Topic: "site/1/x"}, Stamp{Seq: 1, Age: time.Second}, "dtn://hdtn/mqtt/site/1/x", "dtn://earth-1/mqtt/site/1/x", time.Hour},
		{"no filter", Publication{Topic: "other"}, stamp, "", "", 0},
		{"from another stack", Publication{Topic: "plant/1/temp", Props: []Property{{PropBundle, "ipn:2.1 1 1"}}}, stamp, "", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.pub.Payload = []byte("21.5")
			raw, ok, err := g.Export(c.pub, c.stamp)
			if err != nil || ok != (c.dst != "") {
				t.Fatal(ok, err)
			}
			if !ok {
				return
			}
			v, err := bundle.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if verdict := bpa.DefaultPolicy().Check(&v, noon); !verdict.OK() {
				t.Errorf("our own policy refuses it: %v", verdict.Refused)
			}
			p := v.Primary
			if p.Dest.String() != c.dst || p.Source.String() != c.src || p.Created.Seq != c.stamp.Seq ||
				p.Lifetime != uint64(c.life/time.Millisecond) || string(v.Payload.Data) != "21.5" {
				t.Errorf("made %+v", p)
			}
			if ms, ok := p.Created.UnixMS(); ok == c.stamp.Created.IsZero() || ok && ms != noon.UnixMilli() || ok == v.HasAge {
				t.Errorf("created %v, age %v", p.Created, v.Age)
			}
			if again, _, _ := g.Export(c.pub, c.stamp); !bytes.Equal(again, raw) {
				t.Error("the same publication makes another bundle")
			}
			if peer, node, why := g.Onward(raw); why != bundle.OK || peer != "hdtn" || !node.IsZero() {
				t.Errorf("goes to %q", peer)
			}
		})
	}
	if got := g.Filters(); !slices.Equal(got, []string{"plant/1/#", "site/+/x"}) {
		t.Errorf("filters %q", got)
	}
}

// TestExit: what was carried leaves with our hop and all else as it came.
func TestExit(t *testing.T) {
	g := gateway(t)
	raw := incoming(t, "ipn:3.1", nil)
	d, why, err := g.Exit(raw, 5*time.Minute, 1<<20)
	if why != bundle.OK || err != nil || d.Peer != "other" || len(d.Parts) != 1 {
		t.Fatalf("Exit: %+v %v %v", d, why, err)
	}
	before, _ := bundle.Parse(raw)
	after, err := bundle.Parse(d.Parts[0].Join())
	if err != nil {
		t.Fatal(err)
	}
	if after.Prev != eid(t, "ipn:100.0") || after.Age != 25*time.Minute || after.HopCount != 2 {
		t.Errorf("left as %v, age %v, hops %d", after.Prev, after.Age, after.HopCount)
	}
	if !bytes.Equal(before.PrimaryRaw, after.PrimaryRaw) || !bytes.Equal(before.Payload.Raw, after.Payload.Raw) {
		t.Error("primary or payload changed")
	}
	if _, why, _ := g.Exit(raw, 2*time.Hour, 1<<20); why != bundle.Expired {
		t.Errorf("after its lifetime: %v", why)
	}
	if _, why, err := g.Exit(incoming(t, "ipn:9.1", nil), 0, 1<<20); why != bundle.NoRoute || err == nil {
		t.Errorf("a bundle for nobody here: %v %v", why, err)
	}
}

// TestExitFragments sends through a small peer what the other side's gateway
// gathers.
func TestExitFragments(t *testing.T) {
	g := gateway(t)
	p := bundle.Primary{
		Dest: eid(t, "ipn:2.9"), Source: eid(t, "ipn:100.5"), ReportTo: addr.None, Lifetime: 3600_000,
		Created: bundle.Timestamp{Time: bundle.DTNTime(noon.UnixMilli()), Seq: 1},
	}
	data := bytes.Repeat([]byte("0123456789"), 1000)
	raw := bundle.AppendBundle(nil, bundle.AppendPrimary(nil, &p), bundle.AppendPayload(nil, data), bundle.Hop{NoAge: true})
	d, why, err := g.Exit(raw, 0, 1000)
	if why != bundle.OK || err != nil || len(d.Parts) < 10 {
		t.Fatalf("%d parts %v %v", len(d.Parts), why, err)
	}
	re, err := bpa.NewReassembler(bpa.ReassemblerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewGateway(GatewayConfig{Node: addr.MustNode("x"), Self: eid(t, "ipn:2.0"), Mappings: []Mapping{{eid(t, "ipn:2.9"), "in"}}})
	if err != nil {
		t.Fatal(err)
	}
	var whole []byte
	for i, part := range d.Parts {
		if part.Len() > 1000 {
			t.Errorf("a part of %d bytes", part.Len())
		}
		a, why := other.In(Received{Peer: "farhop", Bundle: part.Join()}, noon)
		if why != bundle.OK || a.Kind != Gather {
			t.Fatalf("part %d: %v %+v", i, why, a)
		}
		v, _ := bundle.Parse(a.Raw)
		if w, _, why := re.Add(uint64(i), &v, noon); w != nil {
			whole = w
		} else if why != bundle.OK {
			t.Fatal(why)
		}
	}
	a, why := other.In(Received{Peer: "farhop", Bundle: whole}, noon)
	if why != bundle.OK || a.Kind != Publish || a.Publication.Topic != "in" || !bytes.Equal(a.Publication.Payload, data) {
		t.Errorf("the whole: %v %v", why, a.Kind)
	}
}

func TestGatewayValidate(t *testing.T) {
	good := func() GatewayConfig {
		return GatewayConfig{
			Node: addr.MustNode("n"), Self: eid(t, "dtn://n/"), Mappings: []Mapping{{eid(t, "ipn:1.1"), "a"}},
			Exports: []Export{{Filter: "a/#", To: "ipn:2.1"}},
		}
	}
	if _, err := NewGateway(good()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*GatewayConfig){
		"no node":                func(c *GatewayConfig) { c.Node = addr.Node{} },
		"self is no node id":     func(c *GatewayConfig) { c.Self = eid(t, "dtn://n/x") },
		"a topic with wildcards": func(c *GatewayConfig) { c.Mappings[0].Topic = "a/#" },
		"a topic of the mesh":    func(c *GatewayConfig) { c.Mappings[0].Topic = "$mesh/a" },
		"a mapping of nothing":   func(c *GatewayConfig) { c.Mappings[0].EID = addr.None },
		"an endpoint twice":      func(c *GatewayConfig) { c.Mappings = append(c.Mappings, Mapping{c.Mappings[0].EID, "b"}) },
		"a topic twice":          func(c *GatewayConfig) { c.Mappings = append(c.Mappings, Mapping{eid(t, "ipn:1.2"), "a"}) },
		"a bad filter":           func(c *GatewayConfig) { c.Exports[0].Filter = "a/#/b" },
		"an export to nowhere":   func(c *GatewayConfig) { c.Exports[0].To = "dtn:none" },
		"a topic in numbers":     func(c *GatewayConfig) { c.Exports[0].To = "ipn:2.{topic}" },
		"a source of many":       func(c *GatewayConfig) { c.Exports[0].Source = eid(t, "dtn://a/~b") },
	} {
		t.Run(name, func(t *testing.T) {
			c := good()
			change(&c)
			if _, err := NewGateway(c); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestTable(t *testing.T) {
	table := NewTable([]Peer{
		{Name: "any", EIDs: []addr.Pattern{pattern(t, "ipn:*.*")}},
		{Name: "two", EIDs: []addr.Pattern{pattern(t, "ipn:2.*")}},
		{Name: "one", EIDs: []addr.Pattern{pattern(t, "ipn:2.1")}},
	})
	for e, want := range map[string]string{"ipn:9.9": "any", "ipn:2.9": "two", "ipn:2.1": "one", "dtn://x/y": ""} {
		if got, _ := table.Peer(eid(t, e)); got != want {
			t.Errorf("%s goes to %q, want %q", e, got, want)
		}
	}
}

func FuzzTopics(f *testing.F) {
	f.Add("plant/1/a b")
	f.Add("%24x")
	f.Add("\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if back, err := unescapeTopic(escapeTopic(s)); back != s && err == nil {
			t.Errorf("%q came back as %q", s, back)
		}
		if topic, err := unescapeTopic(s); err == nil && checkTopic(topic) != nil {
			t.Errorf("%q is a topic", topic)
		}
	})
}

func FuzzIn(f *testing.F) {
	f.Add(incoming(f, "dtn://earth-1/mqtt/plant/7", nil))
	f.Add(incoming(f, "ipn:3.1", func(p *bundle.Primary) { p.Flags, p.TotalLen = bundle.FlagFragment, 100 }))
	f.Add(incoming(f, "ipn:100.0", func(p *bundle.Primary) { p.Flags = bundle.FlagAdminRecord }))
	g := gateway(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		a, why := g.In(Received{Peer: "hdtn", Bundle: in}, noon)
		if (why == bundle.OK) != (a.Kind != 0) {
			t.Errorf("%v with %+v", why, a)
		}
		if a.Kind == Publish && (checkTopic(a.Publication.Topic) != nil || a.TTL <= 0) {
			t.Errorf("published %+v", a.Publication)
		}
		if a.Kind == Forward {
			if d, why, _ := g.Exit(a.Raw, time.Second, 1<<20); why == bundle.OK && len(d.Parts) == 0 {
				t.Error("it vanished at the exit")
			}
		}
	})
}
