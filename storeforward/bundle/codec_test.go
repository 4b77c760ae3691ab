package bundle

import (
	"bytes"
	"encoding/hex"
	"hash/crc32"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

var (
	luna  = addr.MustNode("luna-1")
	earth = addr.MustNode("earth-1")
)

func samplePrimary() *Primary {
	return &Primary{
		Flags: FlagNoFragment, CRCType: CRC32C,
		Dest: addr.NodeEID(earth, "mqtt"), Source: addr.NodeEID(luna, "mqtt"), ReportTo: addr.None,
		Created:  Timestamp{Time: 840_000_000_000, Seq: uint64(NewSequence(0x9f3a2, Telemetry, 57))},
		Lifetime: 3_600_000,
	}
}

func sampleMesh() MeshInfo {
	return MeshInfo{DSeq: 12, Message: ID{luna, NewSequence(0x9f3a2, Telemetry, 40)}, QoS: 1}
}

func sampleHop() Hop {
	return Hop{Prev: addr.NodeEID(luna, "node"), Age: 1500 * time.Millisecond, HopLimit: 32, HopCount: 3}
}

// keptBlocks counts the blocks that travel on unchanged.
func keptBlocks(v *View) (n int) {
	for i := range v.Blocks {
		if b := &v.Blocks[i]; b.Type != TypePayload && !b.Hop() {
			n++
		}
	}
	return n
}

func mustParse(t testing.TB, b []byte) View {
	t.Helper()
	v, err := Parse(b)
	if err != nil {
		t.Fatalf("%v in %x", err, b)
	}
	return v
}

func TestRoundTrip(t *testing.T) {
	fragment := samplePrimary()
	fragment.Flags, fragment.FragOffset, fragment.TotalLen = FlagFragment|FlagReportDeletion, 1000, 5000
	clockless := samplePrimary()
	clockless.Created.Time, clockless.Dest = 0, addr.RegionEID(addr.MustRegion("earth/eu"), "mqtt")
	foreign := samplePrimary()
	foreign.Dest, foreign.ReportTo = addr.IPN(977<<32|4, 1), addr.IPN(math.MaxUint64, 0)
	relayed := sampleMesh()
	relayed.Message.Node = earth
	largest := MeshInfo{DSeq: math.MaxUint64, Message: ID{luna, NewSequence(MaxIncarnation, Bulk, maxCount)}, QoS: 2}
	tests := []struct {
		name    string
		primary *Primary
		mesh    MeshInfo
		hop     Hop
		payload string
	}{
		{"plain", samplePrimary(), sampleMesh(), sampleHop(), "21.5"},
		{"for groups", samplePrimary(), MeshInfo{DSeq: 13, Message: sampleMesh().Message, QoS: 1, Groups: "\x00\x01g"}, sampleHop(), "21.5"},
		{"a batch for groups", samplePrimary(), MeshInfo{DSeq: 13, Message: sampleMesh().Message, Count: 3, Groups: "g"}, sampleHop(), "21.5"},
		{"fragment", fragment, sampleMesh(), sampleHop(), "part"},
		{"no clock, a region", clockless, sampleMesh(), Hop{Age: time.Hour, HopLimit: 255, HopCount: 255}, "x"},
		{"ipn", foreign, largest, Hop{Prev: addr.IPN(4, 0), NoAge: true}, strings.Repeat("x", 70000)},
		{"message of another node", samplePrimary(), relayed, Hop{}, ""},
	}
	var used View // parsing into a used View has to find the same
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			frozen := AppendFrozen(nil, tt.primary, tt.mesh)
			block := AppendPayload(nil, []byte(tt.payload))
			if len(block) > len(tt.payload)+PayloadOverhead {
				t.Errorf("payload block of %d bytes for %d", len(block), len(tt.payload))
			}
			b := AppendBundle([]byte("before"), frozen, block, tt.hop)[6:]
			v := mustParse(t, b)
			if err := used.Parse(b); err != nil || !reflect.DeepEqual(used, v) {
				t.Errorf("parsed into a used View: %v\n%+v\n%+v", err, used, v)
			}
			if v.Primary != *tt.primary || !v.Shortest || string(v.Payload.Data) != tt.payload {
				t.Errorf("primary %+v, want %+v", v.Primary, *tt.primary)
			}
			if !v.HasMesh || v.Mesh != tt.mesh || v.MeshErr != nil {
				t.Errorf("mesh block %+v %v, want %+v", v.Mesh, v.MeshErr, tt.mesh)
			}
			f, p, hop := Cut(&v)
			if !bytes.Equal(f, frozen) || !bytes.Equal(p, block) || hop != tt.hop {
				t.Errorf("cut into %x %x %+v", f, p, hop)
			}
			if data, err := PayloadData(p); err != nil || string(data) != tt.payload {
				t.Errorf("payload %q, %v", data, err)
			}
			fv, err := ParseFrozen(frozen)
			if err != nil || fv.Primary != *tt.primary || fv.Mesh != tt.mesh {
				t.Errorf("frozen parsed as %+v, %v", fv, err)
			}
		})
	}
}

// TestEncoding pins the bytes that other nodes and the disk have to read.
func TestEncoding(t *testing.T) {
	b := AppendBundle(nil, AppendFrozen(nil, samplePrimary(), sampleMesh()), AppendPayload(nil, []byte("21.5")), sampleHop())
	want := "9f" +
		// primary: version, flags, CRC type, destination, source, report-to,
		"890704028201" + "6e2f2f65617274682d312f6d717474" + "8201" + "6d2f2f6c756e612d312f6d717474" + "820100" +
		// creation, lifetime, CRC
		"821b000000c393e6d0001b4f9d130000000039" + "1a0036ee80" + "4489fbce59" +
		// mesh: type, number, flags, CRC type, data, CRC
		"8618c1020102" + "4e85010c601b4f9d13000000002801" + "44185d68a8" +
		// previous node, age, hop count
		"8606030002" + "5082016d2f2f6c756e612d312f6e6f6465" + "445da2d9c9" +
		"8607040102" + "431905dc" + "441fdb9dde" +
		"860a050102" + "4482182003" + "448aeaf120" +
		// payload
		"8601010002" + "4432312e35" + "4407010167" + "ff"
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("encoded as\n%s, want\n%s", got, want)
	}
}

// TestCRCs uses the check values of the two CRCs: the sums over "123456789".
func TestCRCs(t *testing.T) {
	in := "123456789"
	if c := ^updateX25(0xffff, []byte(in)); c != 0x906e {
		t.Errorf("CRC16 X.25 is %04x", c)
	}
	if c := crc32.Checksum([]byte(in), castagnoli); c != 0xe3069283 {
		t.Errorf("CRC32C is %08x", c)
	}
	block := []byte{0x86, 1, 1, 0, 1, 0x42, 'h', 'i', 0x42, 0, 0}
	c := ^updateX25(0xffff, block)
	block[9], block[10] = byte(c>>8), byte(c)
	if data, err := PayloadData(block); err != nil || string(data) != "hi" {
		t.Errorf("block with CRC16: %q, %v", data, err)
	}
	for name, b := range map[string][]byte{"CRC16": block, "CRC32C": AppendPayload(nil, []byte("hi"))} {
		for i := range len(b) * 8 { // no single wrong bit passes
			bad := slices.Clone(b)
			bad[i/8] ^= 1 << (i % 8)
			if data, err := PayloadData(bad); err == nil {
				t.Errorf("%s: bit %d wrong and read as %q", name, i, data)
			}
		}
	}
}

func TestDTNTime(t *testing.T) {
	day := time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC).UnixMilli()
	if ms := DTNTime(day); ms != 86_400_000 {
		t.Errorf("2000-01-02 is %d", ms)
	}
	if ms, ok := (Timestamp{Time: 86_400_000}).UnixMS(); ms != day || !ok {
		t.Errorf("back as %d, %v", ms, ok)
	}
	if _, ok := (Timestamp{}).UnixMS(); ok || DTNTime(0) != 0 {
		t.Error("time 0 is not told from a time")
	}
}

// TestDiscard covers RFC 9171, section 5.6, step 4: what flags of unknown
// blocks ask for.
func TestDiscard(t *testing.T) {
	frozen := AppendFrozen(nil, samplePrimary(), sampleMesh())
	kept := AppendBlock(slices.Clone(frozen), Block{Type: 200, Number: 3, Flags: BlockReport, Data: []byte{1}})
	with := AppendBlock(slices.Clone(kept), Block{Type: 201, Number: 4, Flags: BlockDiscard, Data: []byte{2}})
	payload := AppendPayload(nil, []byte("x"))
	v := mustParse(t, AppendBundle(nil, with, payload, sampleHop()))
	if f, _, _ := Cut(&v); !bytes.Equal(f, kept) || keptBlocks(&v) != 3 {
		t.Errorf("cut to %x, want %x", f, kept)
	}
	if b, found := v.Unprocessable(); found {
		t.Errorf("unprocessable: %+v", b)
	}
	fatal := AppendBlock(frozen, Block{Type: 202, Number: 9, Flags: BlockDeleteBundle})
	v = mustParse(t, AppendBundle(nil, fatal, payload, sampleHop()))
	if b, found := v.Unprocessable(); !found || b.Type != 202 || b.Number != 9 {
		t.Errorf("unprocessable: %+v, %v", b, found)
	}
	if _, err := ParseFrozen(append(frozen, payload...)); err == nil {
		t.Error("a payload block in frozen passes")
	}
}

// TestNumbersStayApart splices hop blocks into frozen parts that use the
// numbers one would take first.
func TestNumbersStayApart(t *testing.T) {
	frozen := AppendPrimary(nil, samplePrimary())
	for n := range uint64(maxKept) {
		frozen = AppendBlock(frozen, Block{Type: 200, Number: n + 3, Data: []byte{1}})
	}
	b := AppendBundle(nil, frozen, AppendPayload(nil, nil), sampleHop())
	for range 2 {
		v := mustParse(t, b)
		f, p, hop := Cut(&v)
		if hop != sampleHop() || !bytes.Equal(f, frozen) {
			t.Fatalf("cut to %+v", hop)
		}
		b = AppendBundle(nil, f, p, hop)
	}
	if _, err := Parse(AppendBundle(nil, AppendBlock(frozen, Block{Type: 200, Number: 99}), AppendPayload(nil, nil), Hop{})); err == nil {
		t.Error("a block too many passes")
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
