package addr

import (
	"strings"
	"testing"
)

func TestParseNode(t *testing.T) {
	for _, s := range []string{"a", "luna-1", "gw_3", strings.Repeat("x", MaxName)} {
		n, err := ParseNode(s)
		if err != nil || n.String() != s {
			t.Errorf("ParseNode(%q) = %q, %v", s, n, err)
		}
	}
	for _, s := range []string{"", "-a", "A", "a.b", "a/b", "ü", "a b", strings.Repeat("x", MaxName+1)} {
		if n, err := ParseNode(s); err == nil {
			t.Errorf("ParseNode(%q) = %q, want an error", s, n)
		}
	}
}

func TestRegionContains(t *testing.T) {
	for _, c := range []struct {
		outer, inner string
		want         bool
	}{
		{"earth", "earth", true},
		{"earth", "earth/eu", true},
		{"earth/eu", "earth", false},
		{"earth", "earth2", false},
		{"earth/eu", "earth/eu/fra", true},
	} {
		if got := MustRegion(c.outer).Contains(MustRegion(c.inner)); got != c.want {
			t.Errorf("%s contains %s = %v, want %v", c.outer, c.inner, got, c.want)
		}
	}
	if (Region{}).Contains(MustRegion("earth")) {
		t.Error("the zero region contains earth")
	}
	if got := MustRegion("earth/eu/fra").Last(); got != "fra" {
		t.Errorf("Last = %q", got)
	}
}

func TestEID(t *testing.T) {
	n, svc, ok := NodeEID(MustNode("luna-1"), "mqtt").Node()
	if !ok || n.String() != "luna-1" || svc != "mqtt" {
		t.Errorf("node EID = %v %q %v", n, svc, ok)
	}
	e := RegionEID(MustRegion("earth/eu"), "mqtt")
	if e.String() != "dtn://earth.eu/~mqtt" {
		t.Errorf("region EID = %s", e)
	}
	if _, _, ok := e.Node(); ok {
		t.Error("a region EID names a node")
	}
	r, svc, ok := e.Region()
	if !ok || r.String() != "earth/eu" || svc != "mqtt" {
		t.Errorf("region of EID = %v %q %v", r, svc, ok)
	}
	for _, s := range []string{"dtn:none", "dtn://a/b", "ipn:5.0", "dtn://earth.eu/~mqtt"} {
		e, err := ParseEID(s)
		if err != nil || e.String() != s {
			t.Errorf("ParseEID(%q) = %v, %v", s, e, err)
		}
	}
	for _, s := range []string{"", "dtn:", "dtn://", "dtn://a", "dtn:///x", "ipn:1", "ipn:a.b", "http://x/y", "dtn://a/b c"} {
		if e, err := ParseEID(s); err == nil {
			t.Errorf("ParseEID(%q) = %v, want an error", s, e)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("earth/eu")
	f.Add("dtn://a/b")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseNode(s); err == nil && n.String() != s {
			t.Errorf("node %q printed as %q", s, n)
		}
		if r, err := ParseRegion(s); err == nil && r.String() != s {
			t.Errorf("region %q printed as %q", s, r)
		}
		if e, err := ParseEID(s); err == nil {
			if again, err := ParseEID(e.String()); err != nil || again != e {
				t.Errorf("EID %q: %v, %v", s, again, err)
			}
		}
	})
}
