package bpa

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// fields are what the dissector has to say of each bundle, in this order. Of
// several in one bundle it lists all, joined with commas.
var fields = []string{
	"_ws.malformed", "_ws.expert.message", // of these two, nothing
	"bpv7.primary.dst_uri", "bpv7.primary.src_uri", "bpv7.primary.report_uri",
	"bpv7.create_ts.seqno", "bpv7.primary.lifetime",
	"bpv7.canonical.type_code", "bpv7.crc_type", "bpv7.crc_status",
	"bpv7.primary.frag_offset", "bpv7.primary.total_len",
	"bpv7.previous_node.uri", "bpv7.bundle_age.time", "bpv7.hop_count.limit", "bpv7.hop_count.current",
	"bpv7.status_rep.reason_code", "bpv7.status_rep.subj_src_uri",
}

// TestTshark has an independent implementation read the bundles this one
// writes: all kinds of blocks, names and checksums, fragments, status reports.
func TestTshark(t *testing.T) {
	path, err := exec.LookPath("tshark")
	if err != nil {
		if os.Getenv("FARHOP_E2E") == "require" {
			t.Fatal("tshark is not installed: nobody else reads the bundles we write")
		}
		t.Skip("nobody else reads the bundles we write: install tshark (Debian: apt-get install tshark)")
	}
	cases := tsharkCases(t)
	file := filepath.Join(t.TempDir(), "bundles.pcap")
	if err := os.WriteFile(file, capture(cases), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"-n", "-r", file, "-o", `uat:user_dlts:"User 0 (DLT=147)","bpv7","0","","0",""`, "-o", "bpv7.bp_reassemble_payload:FALSE",
		"-T", "fields", "-E", "separator=|", "-E", "occurrence=a", "-E", "aggregator=,",
	}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr.Bytes())
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	if len(lines) != len(cases) {
		t.Fatalf("%d bundles dissected of %d:\n%s", len(lines), len(cases), out)
	}
	for i, c := range cases {
		// Not an error: of payloads and blocks for private use it knows nothing.
		got := strings.Split(strings.NewReplacer("Unknown type code,", "", "Unknown type code", "").Replace(lines[i]), "|")
		for j, f := range fields {
			if want := c.want[f]; got[j] != want {
				t.Errorf("%s: %s is %q, want %q", c.name, f, got[j], want)
			}
		}
	}
}

type tsharkCase struct {
	name string
	raw  []byte
	want map[string]string
}

// capture writes a pcap file whose packets are bundles and nothing around them.
func capture(cases []tsharkCase) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint16(le.AppendUint16(b, 2), 4)
	for _, v := range []uint32{0, 0, 1 << 18, 147} {
		b = le.AppendUint32(b, v)
	}
	for i, c := range cases {
		for _, v := range []uint32{uint32(i), 0, uint32(len(c.raw)), uint32(len(c.raw))} {
			b = le.AppendUint32(b, v)
		}
		b = append(b, c.raw...)
	}
	return b
}

func tsharkCases(t *testing.T) []tsharkCase {
	expect := func(pairs ...string) map[string]string {
		m := map[string]string{
			"bpv7.primary.dst_uri": "ipn:3.1", "bpv7.primary.src_uri": "ipn:2.1", "bpv7.primary.report_uri": "ipn:2.0",
			"bpv7.create_ts.seqno": "7", "bpv7.primary.lifetime": "3600000",
			"bpv7.canonical.type_code": "1", "bpv7.crc_type": "2,2", "bpv7.crc_status": "1,1",
		}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	short := good()
	short.primary.CRCType = bundle.CRC16
	plain := good()
	plain.plain = true
	parts, f := Forward(hopped().view(t), Transit{Prev: self, Elapsed: 2 * time.Second})
	if f != 0 {
		t.Fatal(f)
	}
	out := []tsharkCase{
		{"CRC32C", good().encode(), expect()},
		{"CRC16", short.encode(), expect("bpv7.crc_type", "1,1")},
		{"payload without CRC", plain.encode(), expect("bpv7.crc_type", "2,0", "bpv7.crc_status", "1")},
		{"forwarded", parts.Join(), expect(
			"bpv7.canonical.type_code", "6,7,10,1", "bpv7.crc_type", "2,0,1,0,2", "bpv7.crc_status", "1,1,1",
			"bpv7.previous_node.uri", "ipn:10.0", "bpv7.bundle_age.time", "3500", "bpv7.hop_count.limit", "9", "bpv7.hop_count.current", "3")},
		meshCase(t, expect),
	}
	out = append(out, fragmentCases(t, expect)...)
	return append(out, reportCase(t, expect))
}

// hopped is a bundle with the blocks that change per hop, and no others.
func hopped() sample {
	s := good()
	s.blocks = []bundle.Block{prevBlock(addr.IPN(4, 0)), ageBlock(1500), hopBlock(9, 2)}
	return s
}

// meshCase is a bundle of a farhop node, with dtn names and without a clock.
func meshCase(t *testing.T, expect func(...string) map[string]string) tsharkCase {
	luna, earth := addr.MustNode("luna-1"), addr.MustNode("earth-1")
	seq := bundle.NewSequence(0x9f3a2, bundle.Alarm, 57)
	p := bundle.Primary{Dest: addr.NodeEID(earth, "mqtt"), Source: addr.NodeEID(luna, "mqtt"), ReportTo: addr.None, Created: bundle.Timestamp{Seq: uint64(seq)}, Lifetime: 60_000}
	m := bundle.MeshInfo{DSeq: 12, Message: bundle.ID{Node: luna, Seq: seq}, QoS: 1}
	hop := bundle.Hop{Prev: addr.NodeEID(luna, "node"), Age: 1500 * time.Millisecond, HopLimit: 32, HopCount: 3}
	raw := bundle.AppendBundle(nil, bundle.AppendFrozen(nil, &p, m), bundle.AppendPayload(nil, []byte("21.5")), hop)
	if v, err := bundle.Parse(raw); err != nil || !DefaultPolicy().Check(&v, created).OK() {
		t.Fatalf("a farhop bundle is refused: %v", err)
	}
	return tsharkCase{"farhop", raw, expect(
		"bpv7.primary.dst_uri", "dtn://earth-1/mqtt", "bpv7.primary.src_uri", "dtn://luna-1/mqtt", "bpv7.primary.report_uri", "dtn:none",
		"bpv7.create_ts.seqno", "5736760192037552185", "bpv7.primary.lifetime", "60000",
		"bpv7.canonical.type_code", "193,6,7,10,1", "bpv7.crc_type", "2,2,2,2,2,2", "bpv7.crc_status", "1,1,1,1,1,1",
		"bpv7.previous_node.uri", "dtn://luna-1/node", "bpv7.bundle_age.time", "1500", "bpv7.hop_count.limit", "32", "bpv7.hop_count.current", "3")}
}

func fragmentCases(t *testing.T, expect func(...string) map[string]string) (out []tsharkCase) {
	s := hopped()
	s.payload = strings.Repeat("0123456789", 20)
	parts, f, err := Fragment(s.view(t), Transit{Prev: self}, 200)
	if err != nil || len(parts) != 2 {
		t.Fatalf("%d fragments, %s, %v", len(parts), f, err)
	}
	offsets := []string{"0", "111"}
	for i, p := range parts {
		out = append(out, tsharkCase{"fragment", p.Join(), expect(
			"bpv7.canonical.type_code", "6,7,10,1", "bpv7.crc_type", "2,0,1,0,2", "bpv7.crc_status", "1,1,1",
			"bpv7.primary.frag_offset", offsets[i], "bpv7.primary.total_len", "200",
			"bpv7.previous_node.uri", "ipn:10.0", "bpv7.bundle_age.time", "1500", "bpv7.hop_count.limit", "9", "bpv7.hop_count.current", "3")})
	}
	return out
}

// reportCase reports the deletion of a bundle. tshark 4.0 does not read the two
// items more in a report about a fragment; TestReportEncoding has them.
func reportCase(t *testing.T, expect func(...string) map[string]string) tsharkCase {
	r, err := NewReporter(ReporterConfig{PerSecond: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := good()
	s.primary.Flags = allReports
	rep, made := r.Report(s.view(t), Deleted, HopLimitExceeded, created, true)
	if !made {
		t.Fatal("no report")
	}
	b := good()
	b.primary.Flags, b.primary.Dest, b.primary.Source, b.primary.ReportTo = bundle.FlagAdminRecord, s.primary.ReportTo, self, addr.None
	b.primary.Created.Seq, b.payload = 8, string(rep.Append(nil))
	return tsharkCase{"report", b.encode(), expect(
		"bpv7.primary.dst_uri", "ipn:2.0", "bpv7.primary.src_uri", "ipn:10.0", "bpv7.primary.report_uri", "dtn:none",
		"bpv7.create_ts.seqno", "8,7",
		"bpv7.status_rep.reason_code", "9", "bpv7.status_rep.subj_src_uri", "ipn:2.1")}
}
