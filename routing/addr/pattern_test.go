package addr

import "testing"

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, eid string
		want         bool
	}{
		{"ipn:2.*", "ipn:2.0", true},
		{"ipn:2.*", "ipn:3.0", false},
		{"ipn:*.7", "ipn:3.7", true},
		{"ipn:*.*", "dtn://a/b", false},
		{"dtn://hdtn/**", "dtn://hdtn/", true},
		{"dtn://hdtn/**", "dtn://hdtn/a/b", true},
		{"dtn://hdtn/*", "dtn://hdtn/a", true},
		{"dtn://hdtn/*", "dtn://hdtn/a/b", false},
		{"dtn://hdtn/**", "dtn://hdtn2/a", false},
		{"dtn://*/in", "dtn://a/in", true},
		{"dtn://*/in", "dtn://a/b/in", false},
		{"dtn://**/in", "dtn://a/b/in", true},
		{"dtn://a/b", "dtn://a/b", true},
		{"dtn://a/b", "dtn://a/bc", false},
		{"dtn://**", "dtn:none", false},
	} {
		p, err := ParsePattern(c.pattern)
		e, err2 := ParseEID(c.eid)
		if err != nil || err2 != nil || p.Match(e) != c.want {
			t.Errorf("%s matches %s: not %v, errors %v, %v", c.pattern, c.eid, c.want, err, err2)
		}
	}
	for _, bad := range []string{"", "ipn:", "ipn:2", "ipn:a.b", "dtn:none", "http://x/", "dtn://a", "dtn://a/*/*/*"} {
		if _, err := ParsePattern(bad); err == nil {
			t.Errorf("%q was read as a pattern", bad)
		}
	}
	if (Pattern{}).Match(IPN(1, 1)) {
		t.Error("the zero Pattern matches")
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("ipn:2.*", "ipn:2.1")
	f.Add("dtn://*/in", "dtn://a/in")
	f.Add("dtn://a/**", "dtn://a/")
	f.Fuzz(func(t *testing.T, text, eid string) {
		p, err := ParsePattern(text)
		if err != nil {
			return
		}
		again, err := ParsePattern(p.String())
		if err != nil || again.Weight() != p.Weight() {
			t.Errorf("%q is read as another pattern the second time: %v", text, err)
		}
		if e, err := ParseEID(eid); err == nil && again.Match(e) != p.Match(e) {
			t.Errorf("%q matches %s once", text, e)
		}
	})
}

func TestEIDText(t *testing.T) {
	for _, s := range []string{"", "ipn:2.3", "dtn:none", "dtn://a/b"} {
		var e EID
		if err := e.UnmarshalText([]byte(s)); err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if b, err := e.MarshalText(); err != nil || string(b) != s {
			t.Errorf("%q is written as %q, %v", s, b, err)
		}
	}
	if err := new(EID).UnmarshalText([]byte("x")); err == nil {
		t.Error("x is an endpoint")
	}
}
