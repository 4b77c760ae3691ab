package bpa

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

// vectorFile holds bundles made by other implementations, one a line: name,
// source, complete, CRCs, hex.
const vectorFile = "../testdata/bpv7.tsv"

// verdicts are what parse and policy have to make of the bundles in vectorFile:
// "" is accepted by both, "parse" refused by the first, other words are the
// faults that policy finds.
var verdicts = map[string]string{
	// RFC 9173's own examples of signed and encrypted bundles break RFC 9171, but
	// for the one whose signature covers the primary block and which has an age.
	"rfc9173_appendix_a_1": "no-primary-crc,no-age",
	"rfc9173_appendix_a_2": "no-primary-crc,no-age",
	"rfc9173_appendix_a_3": "",
	"rfc9173_appendix_a_4": "no-primary-crc,no-age",
	"rfc9173_a1_original":  "no-primary-crc,no-age",

	// Bundles over which implementations disagree.
	"diff_nocrc_nobib":    "no-primary-crc",
	"diff_ipn0_reportto":  "no-primary-crc", // ipn:0.1 to report to is null, and no fault
	"diff_reserved_flags": "",

	"bsl_exA_nosec":       "",
	"bsl_exA_1_mac0":      "",
	"bsl_ccsds_mac_nosec": "",
	"bsl_ccsds_mac_bib":   "",
	"bsl_exA_4_enc0":      "",
	"bsl_exA_5_enc":       "",
	"bsl_exA_6_enc":       "",

	"bplib_bad_bundle": "parse",

	// Seven blocks are too many for bplib alone.
	"bplib_bundle_with_too_many_canonical_blocks":    "",
	"bplib_bundle_primary_and_payload_with_aa_x_20":  "",
	"bplib_primary_and_payload_with_crc_none":        "parse",
	"bplib_primary_and_payload_with_crc_32":          "",
	"bplib_bundle_primary_and_payload_with_dtn_none": "parse",
}

// TestVectors judges other implementations' bundles, without a clock: most are
// years old.
func TestVectors(t *testing.T) {
	data, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")[1:]
	for _, line := range lines {
		f := strings.Split(line, "\t")
		raw, err := hex.DecodeString(f[4])
		if err != nil {
			t.Fatalf("%s: %v", f[0], err)
		}
		want, known := verdicts[f[0]]
		got := "parse"
		v, err := bundle.Parse(raw)
		if err == nil {
			verdict := DefaultPolicy().Check(&v, time.Time{})
			got = verdict.Found.String()
		}
		if !known || got != want {
			t.Errorf("%s: %q (%v), want %q", f[0], got, err, want)
		}
	}
	if len(lines) != len(verdicts) {
		t.Errorf("%d bundles, %d verdicts", len(lines), len(verdicts))
	}
}
