package bundle

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"
)

// vectorFile holds bundles made by other implementations, one a line: name,
// source, complete, CRCs, hex.
const vectorFile = "testdata/bpv7.tsv"

// TestVectors parses other implementations' bundles, takes them apart and
// joins them again. Bundles that only policy would refuse have to parse.
func TestVectors(t *testing.T) {
	refused := map[string]string{
		"bplib_bad_bundle":                               "RFC 9171",
		"bplib_primary_and_payload_with_crc_none":        "4.3.2", // six items without a CRC
		"bplib_bundle_primary_and_payload_with_dtn_none": "4.2.2", // wrong CRC
	}
	data, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")[1:]
	if len(lines) < 20 {
		t.Errorf("%d vectors", len(lines))
	}
	for _, line := range lines {
		f := strings.Split(line, "\t")
		t.Run(f[0], func(t *testing.T) {
			b, err := hex.DecodeString(f[4])
			if err != nil {
				t.Fatal(err)
			}
			v, err := Parse(b)
			if want, bad := refused[f[0]]; bad {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("%v, want %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkRejoined(t, &v)
		})
	}
}

// checkRejoined takes v apart, joins it with another hop, and parses it again.
func checkRejoined(t *testing.T, v *View) {
	t.Helper()
	frozen, payload, hop := Cut(v)
	hop.Age = hop.Age.Truncate(time.Millisecond)
	joined := AppendBundle(nil, frozen, payload, hop)
	w, err := Parse(joined)
	if err != nil {
		t.Fatalf("joined again: %v in %x", err, joined)
	}
	frozen2, payload2, hop2 := Cut(&w)
	if hop2 != hop || !bytes.Equal(frozen2, frozen) || !bytes.Equal(payload2, payload) {
		t.Fatalf("joined again: %+v, want %+v", hop2, hop)
	}
	if w.Primary != v.Primary || w.Mesh != v.Mesh || !bytes.Equal(w.Payload.Data, v.Payload.Data) {
		t.Fatalf("joined again: %+v, want %+v", w, *v)
	}
}

// FuzzParse checks that no input panics and that what parses can be taken
// apart and joined.
func FuzzParse(f *testing.F) {
	frozen := AppendFrozen(nil, samplePrimary(), sampleMesh())
	f.Add(AppendBundle(nil, frozen, AppendPayload(nil, []byte("21.5")), sampleHop()))
	f.Add(AppendBundle(nil, AppendBlock(frozen, Block{Type: 200, Number: 3, Data: []byte{0}}), AppendPayload(nil, nil), Hop{NoAge: true}))
	for _, s := range []string{hexBundle(hexPrimary, hexPayload), hexBundle(hexPrimary, ext(6, 2, hexDest), ext(7, 3, "00"), ext(10, 4, "820801"), ext(193, 5, "8501096161"+"0501"), hexPayload)} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := PayloadData(b); err == nil {
			return
		}
		v, err := Parse(b)
		if err != nil {
			return
		}
		if keptBlocks(&v) > maxKept || len(v.Blocks) >= MaxBlocks || len(v.Payload.Raw) > len(b) {
			t.Fatalf("%d blocks", len(v.Blocks))
		}
		checkRejoined(t, &v)
	})
}

func BenchmarkParse(b *testing.B) {
	for name, size := range map[string]int{"1KB": 1 << 10, "1MB": 1 << 20} {
		in := AppendBundle(nil, AppendFrozen(nil, samplePrimary(), sampleMesh()), AppendPayload(nil, make([]byte, size)), sampleHop())
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(in); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/reuse", func(b *testing.B) {
			b.ReportAllocs()
			var v View
			for b.Loop() {
				if err := v.Parse(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendBundle(b *testing.B) {
	frozen := AppendFrozen(nil, samplePrimary(), sampleMesh())
	payload := AppendPayload(nil, make([]byte, 1<<10))
	hop := sampleHop()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendBundle(buf[:0], frozen, payload, hop)
	}
}

func BenchmarkAppendFrozen(b *testing.B) {
	p, m := samplePrimary(), sampleMesh()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendFrozen(buf[:0], p, m)
	}
}

func BenchmarkCut(b *testing.B) {
	in := AppendBundle(nil, AppendFrozen(nil, samplePrimary(), sampleMesh()), AppendPayload(nil, make([]byte, 1<<10)), sampleHop())
	v, err := Parse(in)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		Cut(&v)
	}
}
