package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/bundle/bpa"
	"github.com/farhop/farhop/storeforward/cbor"
)

// testBundle is a bundle of one hour made in 2026, with a payload and blocks.
func testBundle(flags uint64, payload []byte, hop bundle.Hop) []byte {
	p := bundle.Primary{
		Flags: flags, Dest: addr.IPN(977000<<32|100, 1), Source: addr.IPN(2, 1), ReportTo: addr.None,
		Created: bundle.Timestamp{Time: 825_681_600_000, Seq: 7}, Lifetime: 3_600_000,
	}
	return bundle.AppendBundle(nil, bundle.AppendPrimary(nil, &p), bundle.AppendPayload(nil, payload), hop)
}

// decode runs farhop bundle decode --json.
func decode(t *testing.T, stdin []byte, args ...string) (d decoded, code int, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"bundle", "decode", "--json"}, args...), bytes.NewReader(stdin), &out, &errs)
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &d); err != nil {
			t.Fatalf("%v in %s%s", err, out.String(), errs.String())
		}
	}
	return d, code, errs.String()
}

// TestBundleInputs gives the same bundle in all the ways there are.
func TestBundleInputs(t *testing.T) {
	raw := testBundle(0, []byte("hello"), bundle.Hop{HopLimit: 9, HopCount: 2, NoAge: true})
	digits := hex.EncodeToString(raw)
	file := filepath.Join(t.TempDir(), "b.bin")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "b.hex")
	if err := os.WriteFile(text, []byte("0x"+digits[:20]+"\n  "+strings.ToUpper(digits[20:])+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]struct {
		stdin []byte
		arg   string
	}{
		"hex": {nil, digits}, "0x": {nil, "0x" + digits}, "blanks": {nil, "9f " + digits[2:30] + "\n\t" + digits[30:]}, "bytes": {nil, "0x9f, 0x" + digits[2:]},
		"file": {nil, file}, "file of hex": {nil, text}, "stdin": {raw, "-"}, "stdin of hex": {[]byte(digits), "-"},
	} {
		d, code, stderr := decode(t, in.stdin, in.arg)
		if code != exitOK || d.Bytes != len(raw) || d.Parse.Verdict != accepted || d.Policy.Verdict != accepted || len(d.Blocks) != 3 || stderr != "" {
			t.Errorf("%s: exit %d, %+v, %s", name, code, d, stderr)
		}
	}
	for _, arg := range []string{"none.bin", "9f0", "", strings.Repeat("9fxx", 5000)} {
		if _, code, stderr := decode(t, nil, arg); code != exitUsage || !strings.Contains(stderr, "neither a file nor") {
			t.Errorf("%.20q: exit %d, %s", arg, code, stderr)
		}
	}
	if _, code, stderr := decode(t, nil, "-"); code != exitFailed || !strings.Contains(stderr, "empty") {
		t.Errorf("nothing on standard input: exit %d, %s", code, stderr)
	}
}

func TestBundleFields(t *testing.T) {
	raw := testBundle(bundle.FlagReportDeletion|1<<30, []byte("hello"), bundle.Hop{Prev: addr.IPN(5, 0), HopLimit: 9, HopCount: 2, Age: 1500e6})
	d, code, _ := decode(t, nil, hex.EncodeToString(raw))
	if code != exitOK || d.Bundle == nil || len(d.Blocks) != 5 {
		t.Fatalf("exit %d, %+v", code, d)
	}
	h := d.Bundle
	if h.Destination != "ipn:977000.100.1" || h.Source != "ipn:2.1" || h.ReportTo != "dtn:none" || h.Created.UTC != "2026-03-01T12:00:00.000Z" ||
		h.Expires != "2026-03-01T13:00:00.000Z" || strings.Join(h.FlagNames, " ") != "report-deletion unassigned-0x40000000" {
		t.Errorf("%+v", h)
	}
	at := 1
	for i, name := range []string{"primary", "previous-node", "age", "hop-count", "payload"} {
		b := d.Blocks[i]
		if b.Name != name || b.Offset != at || b.CRC.Type != "crc32c" || len(b.CRC.Value) != 8 || (b.Type == nil) != (i == 0) {
			t.Errorf("block %d: %+v, want %s at %d", i, b, name, at)
		}
		at += b.Length
	}
	if d.Blocks[4].Data != hex.EncodeToString([]byte("hello")) || d.Blocks[1].Value != "ipn:5.0" {
		t.Errorf("%+v", d.Blocks)
	}
}

func TestBundleVerdicts(t *testing.T) {
	ok := testBundle(0, []byte("hello"), bundle.Hop{})
	wrong := bytes.Clone(ok)
	wrong[len(wrong)-3]++
	clockless := bundle.Primary{Dest: addr.IPN(3, 1), Source: addr.IPN(2, 1), ReportTo: addr.None, Lifetime: 1000}
	noAge := bundle.AppendBundle(nil, bundle.AppendPrimary(nil, &clockless), bundle.AppendPayload(nil, nil), bundle.Hop{NoAge: true})
	tests := []struct {
		name          string
		raw           []byte
		args          []string
		parse, policy string
		faults        string
		blocks        int
	}{
		{"good", ok, nil, accepted, accepted, "", 3},
		{"good at its time", ok, []string{"--at", "2026-03-01T12:30:00Z"}, accepted, accepted, "", 3},
		{"expired", ok, []string{"--at", "2026-03-01T14:00:00Z"}, accepted, refused, "expired", 3},
		{"no age", noAge, nil, accepted, refused, "no-age", 2},
		{"wrong CRC", wrong, nil, refused, refused, "malformed", 3},
		{"cut off", ok[:len(ok)-8], nil, refused, refused, "malformed", 2},
		{"nonsense", []byte{1, 2, 3}, nil, refused, refused, "malformed", 0},
	}
	for _, tt := range tests {
		d, code, stderr := decode(t, nil, append(tt.args, hex.EncodeToString(tt.raw))...)
		var names []string
		for _, f := range d.Policy.Faults {
			names = append(names, f.Name)
		}
		if d.Parse.Verdict != tt.parse || d.Policy.Verdict != tt.policy || strings.Join(names, ",") != tt.faults || len(d.Blocks) != tt.blocks {
			t.Errorf("%s: %+v", tt.name, d)
		}
		if (code == exitOK) != (tt.policy == accepted) || (stderr == "") != (code == exitOK) {
			t.Errorf("%s: exit %d, %s", tt.name, code, stderr)
		}
		if tt.name == "wrong CRC" && (!d.Blocks[2].CRC.Wrong || d.Blocks[1].CRC.Wrong || d.Parse.Section != "4.2.2") {
			t.Errorf("%s: %+v", tt.name, d)
		}
	}
}

func TestBundleReport(t *testing.T) {
	rep := bpa.Report{Code: bpa.HopLimitExceeded, Source: addr.IPN(2, 1), Created: bundle.Timestamp{Time: 5, Seq: 6}}
	rep.Is[bpa.Deleted] = true
	var out bytes.Buffer
	raw := testBundle(bundle.FlagAdminRecord, rep.Append(nil), bundle.Hop{})
	if code := run(t.Context(), []string{"bundle", "decode", hex.EncodeToString(raw)}, nil, &out, &out); code != exitOK || !strings.Contains(out.String(), "hop limit exceeded") {
		t.Errorf("exit %d: %s", code, out.String())
	}
	raw = testBundle(bundle.FlagAdminRecord, cbor.AppendUint(nil, 1), bundle.Hop{})
	if d, code, _ := decode(t, nil, hex.EncodeToString(raw)); code != exitOK || !strings.Contains(d.Blocks[2].Value.(map[string]any)["error"].(string), "administrative record") {
		t.Errorf("exit %d: %+v", code, d.Blocks)
	}
}
