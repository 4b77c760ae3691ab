package bundle

import (
	"bytes"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/cbor"
)

func TestKey(t *testing.T) {
	p := samplePrimary()
	whole := mustParse(t, AppendBundle(nil, AppendPrimary(nil, p), AppendPayload(nil, []byte("abcd")), Hop{}))
	p.Flags, p.FragOffset, p.TotalLen = FlagFragment, 4, 8
	part := mustParse(t, AppendBundle(nil, AppendPrimary(nil, p), AppendPayload(nil, []byte("efgh")), Hop{}))
	p.FragOffset = 0
	first := mustParse(t, AppendBundle(nil, AppendPrimary(nil, p), AppendPayload(nil, []byte("abcd")), Hop{}))
	k, ok1 := KeyOf(&whole)
	kp, ok2 := KeyOf(&part)
	kf, ok3 := KeyOf(&first)
	if !ok1 || !ok2 || !ok3 || k == kp || kp == kf || k == kf {
		t.Errorf("keys are not apart: %+v %+v %+v", k, kp, kf)
	}
	if kp.Whole() != k || kf.Whole() != k || k.Whole() != k || kp.Offset != 4 || kp.Len != 4 {
		t.Errorf("%+v is no fragment of %+v", kp, k)
	}
	anonymous := samplePrimary()
	anonymous.Source = addr.IPN(0, 7)
	v := mustParse(t, AppendBundle(nil, AppendPrimary(nil, anonymous), AppendPayload(nil, nil), Hop{}))
	if k, ok := KeyOf(&v); ok || k.Source != addr.None {
		t.Errorf("an anonymous bundle has the key %+v", k)
	}
}

// drawEID makes any EID this package can write.
func drawEID(t *rapid.T, label string) addr.EID {
	numbers := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 1, 23, 24, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64}))
	switch rapid.IntRange(0, 2).Draw(t, label) {
	case 0:
		return addr.None
	case 1:
		return addr.IPN(numbers.Draw(t, label+" node"), numbers.Draw(t, label+" service"))
	}
	e, err := addr.DTN("//" + rapid.StringMatching(`[a-z0-9.%-]{1,30}`).Draw(t, label+" name") + "/" + rapid.StringMatching(`[!-~]{0,30}`).Draw(t, label+" demux"))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEveryKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) Key {
			k := Key{Source: Canonical(drawEID(t, label)), Created: Timestamp{rapid.Uint64().Draw(t, "time"), rapid.Uint64().Draw(t, "seq")}}
			if rapid.Bool().Draw(t, "fragment") {
				k.Fragment, k.Offset, k.Len = true, rapid.Uint64().Draw(t, "offset"), rapid.Uint64().Draw(t, "len")
			}
			return k
		}
		a, b := draw("a"), draw("b")
		x, y := a.Append(nil), b.Append(nil)
		if got, err := ParseKey(x); err != nil || got != a {
			t.Fatalf("%+v read back as %+v, %v", a, got, err)
		}
		if a != b && (bytes.HasPrefix(x, y) || bytes.HasPrefix(y, x)) {
			t.Fatalf("%x and %x are prefixes of each other", x, y)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(Key{Source: addr.IPN(3, 4), Created: Timestamp{5, 6}}.Append(nil))
	f.Add(Key{Source: addr.IPN(3, 4), Fragment: true, Offset: 7, Len: 8}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKey(b)
		if err != nil {
			return
		}
		if again, err := ParseKey(k.Append(nil)); err != nil || again != k {
			t.Fatalf("%+v read back as %+v, %v", k, again, err)
		}
	})
}

// TestEIDIdentity holds which encodings name the same endpoint.
func TestEIDIdentity(t *testing.T) {
	read := func(s string) addr.EID {
		r := cbor.NewReader(unhex(t, s))
		e := ReadEID(&r)
		if r.End(); r.Err() != nil {
			t.Fatalf("%s: %v", s, r.Err())
		}
		return Canonical(e)
	}
	const none = "820100"
	same := [][]string{
		{none, "8202820000", "820283000000", "8202820001", "82028300001903e8"}, // the null endpoint
		{"8202820102", "820283000102", "82029f0102ff"},                         // the default allocator
		{"8202821b000ee8680000006401", "8202831a000ee868186401"},               // ipn:977000.100.1
		{"8202821affffffff07", "820283001affffffff07"},                         // ipn:!.7
		{"82016a2f2f612e62632f646566"},
	}
	for i, set := range same {
		for _, s := range set {
			for j, other := range same {
				if got := read(s) == read(other[0]); got != (i == j) {
					t.Errorf("%s and %s are the same: %v", s, other[0], got)
				}
			}
		}
	}
}

func TestEIDText(t *testing.T) {
	for s, want := range map[string]addr.EID{
		"ipn:977000.100.1":           addr.IPN(977000<<32|100, 1),
		"ipn:100.1":                  addr.IPN(100, 1),
		"ipn:!.7":                    addr.IPN(math.MaxUint32, 7),
		"ipn:0.0":                    addr.IPN(0, 0),
		"ipn:1.0.3":                  addr.IPN(1<<32, 3),
		"dtn:none":                   addr.None,
		"dtn://earth.eu/~mqtt":       addr.RegionEID(addr.MustRegion("earth/eu"), "mqtt"),
		"ipn:4294967295.4294967295.": {},
		"ipn:4294967296.1.1":         {},
		"ipn:!.1.1":                  {},
		"ipn:1.!.1":                  {},
		"ipn:1":                      {},
		"ipn:":                       {},
		"ipn:-1.1":                   {},
		"http://a/b":                 {},
	} {
		got, err := ParseEIDText(s)
		if got != want || (err == nil) != (want != addr.EID{}) {
			t.Errorf("%s read as %v, %v", s, got, err)
		}
		if err == nil && EIDText(got) != s {
			t.Errorf("%s written as %s", s, EIDText(got))
		}
	}
	for s, want := range map[string]string{"ipn:4294967295.7": "ipn:!.7", "ipn:0.5.1": "ipn:5.1", "ipn:007.1": "ipn:7.1"} {
		if got, err := ParseEIDText(s); err != nil || EIDText(got) != want {
			t.Errorf("%s written as %s, %v", s, EIDText(got), err)
		}
	}
}

func TestSingleton(t *testing.T) {
	for s, want := range map[string]bool{"dtn:none": false, "dtn://a/": true, "dtn://a/b": true, "dtn://a/~b": false, "ipn:1.0": true, "ipn:0.1": false} {
		if e, err := ParseEIDText(s); err != nil || IsSingleton(e) != want {
			t.Errorf("%s is a singleton: %v, %v", s, IsSingleton(e), err)
		}
	}
}

func FuzzEID(f *testing.F) {
	for _, s := range []string{"820100", "8202831a000ee868186401", "82029f0102ff", "82016a2f2f612e62632f646566"} {
		f.Add(unhex(f, s), "ipn:1.2.3")
	}
	f.Fuzz(func(t *testing.T, b []byte, text string) {
		r := cbor.NewReader(b)
		if e := ReadEID(&r); r.Err() == nil {
			checkEID(t, e)
		}
		if e, err := ParseEIDText(text); err == nil {
			checkEID(t, e)
		}
	})
}

// checkEID writes e in both its forms and reads it again.
func checkEID(t *testing.T, e addr.EID) {
	t.Helper()
	if got, err := ParseEIDText(EIDText(e)); err != nil || got != e {
		t.Fatalf("%s read as %v, %v", EIDText(e), got, err)
	}
	r := cbor.NewReader(AppendEID(nil, e))
	if got := ReadEID(&r); r.Len() != 0 || r.Err() != nil && len(e.SSP()) <= maxSSP || r.Err() == nil && got != e {
		t.Fatalf("%s encoded and read as %v, %v", EIDText(e), got, r.Err())
	}
}

// TestEveryPrimary draws primary blocks and hops, and reads them back.
func TestEveryPrimary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.Uint64()
		p := Primary{
			Flags: u.Draw(t, "flags"), CRCType: CRCType(rapid.IntRange(0, 2).Draw(t, "crc")),
			Dest: drawEID(t, "dest"), Source: drawEID(t, "source"), ReportTo: drawEID(t, "report-to"),
			Created: Timestamp{u.Draw(t, "time"), u.Draw(t, "seq")}, Lifetime: u.Draw(t, "lifetime"),
		}
		if p.Flags&FlagFragment != 0 {
			p.FragOffset, p.TotalLen = u.Draw(t, "offset"), u.Draw(t, "total")
		}
		frozen := AppendPrimaryAs(nil, &p)
		used := rapid.IntRange(0, 5).Draw(t, "blocks")
		for i := range used {
			frozen = AppendBlockAs(frozen, Block{
				Type: rapid.Uint64Range(11, 192).Draw(t, "type"), Number: uint64(i + 2), Flags: u.Draw(t, "block flags") &^ BlockDiscard,
				CRCType: CRCType(rapid.IntRange(0, 2).Draw(t, "block crc")), Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"),
			})
		}
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "payload")
		v, err := Parse(AppendBundle(nil, frozen, AppendPayload(nil, data), sampleHop()))
		if err != nil || v.Primary != p || !v.Shortest || len(v.Blocks) != used+4 || !bytes.Equal(v.Payload.Data, data) {
			t.Fatalf("%+v read back as %+v, %v", p, v, err)
		}
		if f, _, hop := Cut(&v); !bytes.Equal(f, frozen) || hop != sampleHop() {
			t.Fatalf("cut to %x %+v, want %x", f, hop, frozen)
		}
	})
}
