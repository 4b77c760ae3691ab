package bundle

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/cbor"
)

// Blocks in hex, without CRC: a primary block from ipn:2.1 to ipn:1.2 with
// sequence number 1 and a lifetime of 100 ms, and a payload of "1".
const (
	hexDest    = "8202820102"
	hexReport  = "820100"
	hexCreated = "820001"
	hexPrimary = "88070000" + hexDest + "8202820201" + hexReport + hexCreated + "1864"
	hexPayload = "85010100004131"
)

// hexBundle joins blocks to a bundle.
func hexBundle(blocks ...string) string { return "9f" + strings.Join(blocks, "") + "ff" }

// swap returns a bundle in whose primary block one field is another.
func swap(field, other string) string {
	return hexBundle(strings.Replace(hexPrimary, field, other, 1), hexPayload)
}

// ext returns an extension block.
func ext(typ, number uint64, data string) string {
	b := cbor.AppendUint(cbor.AppendUint([]byte{0x85}, typ), number)
	raw, err := hex.DecodeString(data)
	if err != nil {
		panic(err)
	}
	return hex.EncodeToString(cbor.AppendBytes(append(b, 0, 0), raw))
}

func parseHex(t *testing.T, s string) (View, error) {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(b)
}

func TestRefused(t *testing.T) {
	many := hexPrimary
	for n := range uint64(maxKept + 1) {
		many += ext(200, n+2, "")
	}
	tests := []struct{ name, hex, want string }{
		{"nothing", "", "4.1): want an array"},
		{"outer array of definite length", "82" + hexPrimary + hexPayload, "4.1): a bundle is an array of indefinite length"},
		{"no payload", hexBundle(hexPrimary), "4.1): no payload block"},
		{"cut off", "9f" + hexPrimary, "4.3.2): want an array, found the end"},
		{"bytes behind", hexBundle(hexPrimary, hexPayload) + "00", "4.1): 1 bytes after"},
		{"block behind the payload", hexBundle(hexPrimary, hexPayload, ext(200, 2, "")), "4.1): a block after"},
		{"version 6", swap("8807", "8806"), "4.3.1): not version 7"},
		{"CRC type 3", swap("88070000", "88070003"), "4.2.1): CRC type 3"},
		{"fragment without offset", swap("88070000", "88070100"), "4.3.1): a primary block whose number of items"},
		{"unknown scheme", swap(hexDest, "8205820102"), "4.2.5.1): an endpoint identifier that is neither"},
		{"unknown scheme, low byte 2", swap(hexDest, "82190102820102"), "4.2.5.1): an endpoint identifier that is neither"},
		{"dtn:none as text", swap(hexReport, "8201646e6f6e65"), "4.2.5.1): dtn:none written as text"},
		{"dtn with a number", swap(hexReport, "820101"), "4.2.5.1): a dtn endpoint that is a number"},
		{"dtn without a node", swap(hexReport, "8201642f2f2f2f"), "4.2.5.1): EID dtn"},
		{"dtn too long", swap(hexReport, "82017907d0"+strings.Repeat("2f", 2000)), "4.2.5.1): a dtn endpoint of more than"},
		{"dtn as bytes", swap(hexReport, "82014130"), "4.2.5.1): want a text string, found a byte string"},
		{"ipn of 4 numbers", swap(hexDest, "82028401020304"), "4.2.5.1): want the 2 or 3 numbers"},
		{"ipn with a huge allocator", swap(hexDest, "8202831b00000001000000000102"), "4.2.5.1): an ipn allocator"},
		{"creation time alone", swap(hexCreated, "8100"), "4.2.7): want a creation timestamp"},
		{"payload number 2", hexBundle(hexPrimary, "85010200004131"), "4.1): a payload block that is not number 1"},
		{"number twice", hexBundle(hexPrimary, ext(7, 2, "00"), ext(10, 2, "820801"), hexPayload), "4.1): block number 2 twice"},
		{"large number twice", hexBundle(hexPrimary, ext(7, 99, "00"), ext(10, 99, "820801"), hexPayload), "4.1): block number 99 twice"},
		{"number 0", hexBundle(hexPrimary, ext(7, 0, "00"), hexPayload), "4.1): block number 0 twice or reserved"},
		{"previous node of nonsense", hexBundle(hexPrimary, ext(6, 2, "00"), hexPayload), "4.4.1): want an array"},
		{"age and more", hexBundle(hexPrimary, ext(7, 2, "0000"), hexPayload), "4.4.2): 1 bytes after"},
		{"hop limit 0", hexBundle(hexPrimary, ext(10, 2, "820000"), hexPayload), "4.4.3): want a hop limit"},
		{"hop limit 256", hexBundle(hexPrimary, ext(10, 2, "8219010000"), hexPayload), "4.4.3): want a hop limit"},
		{"payload in chunks", hexBundle(hexPrimary, "85010100005f4131ff"), "4.3.2): an indefinite length"},
		{"CRC without CRC type", hexBundle(hexPrimary, "86010100004131420000"), "4.3.2): a block whose number of items"},
		{"CRC of another size", hexBundle(hexPrimary, "86010100014131440000ffff"), "4.2.2): want a CRC of 2 bytes"},
		{"wrong CRC", hexBundle(hexPrimary, "8601010002413144deadbeef"), "4.2.2): wrong CRC"},
		{"too many blocks", hexBundle(many, hexPayload), "4.1): more than 64 blocks"},
	}
	for _, tt := range tests {
		_, err := parseHex(t, tt.hex)
		var pe *ParseError
		if !errors.As(err, &pe) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestErrorNamesPlace(t *testing.T) {
	_, err := parseHex(t, hexBundle(hexPrimary, ext(200, 2, "0102"), ext(7, 3, "61"), hexPayload))
	want := "malformed bundle at byte 38 (RFC 9171, section 4.4.2): want an unsigned integer, found a text string"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestLiberal holds what other stacks send and RFC 9171 lets a node accept.
func TestLiberal(t *testing.T) {
	tests := []struct {
		name, hex string
		check     func(*View) bool
	}{
		{"smallest", hexBundle(hexPrimary, hexPayload), func(v *View) bool {
			return v.Shortest && v.Primary.CRCType == CRCNone && v.Primary.Dest == addr.IPN(1, 2) &&
				v.Primary.Created.Seq == 1 && IsNull(v.Primary.ReportTo) && v.Primary.ID().Node.IsZero()
		}},
		{
			"inner arrays of indefinite length", hexBundle("9f070000"+"9f029f0102ffff"+"8202820201"+hexReport+"9f0001ff"+"1864ff", "9f01010000"+"4131"+"ff"),
			func(v *View) bool { return v.Primary.Dest == addr.IPN(1, 2) && v.Primary.Lifetime == 100 },
		},
		{"integers longer than need be", swap(hexCreated, "8219000001"), func(v *View) bool { return !v.Shortest }},
		{"ipn with an allocator", swap(hexDest, "820283010203"), func(v *View) bool { return v.Primary.Dest == addr.IPN(1<<32|2, 3) }},
		{"ipn with an allocator, indefinite", swap(hexDest, "82029f010203ff"), func(v *View) bool { return v.Primary.Dest == addr.IPN(1<<32|2, 3) }},
		{"ipn:0.5 is null", swap(hexDest, "8202820005"), func(v *View) bool { return IsNull(v.Primary.Dest) }},
		{"unknown block flags", hexBundle(hexPrimary, "85010118f9004131"), func(v *View) bool { return v.Payload.Flags == 0xf9 }},
		{"hop count above 255", hexBundle(hexPrimary, ext(10, 2, "82081903e8"), hexPayload), func(v *View) bool { return v.HopLimit == 8 && v.HopCount == 255 }},
		{"age above 292 years", hexBundle(hexPrimary, ext(7, 2, "1bffffffffffffffff"), hexPayload), func(v *View) bool { return v.HasAge && v.Age > 292*365*24*time.Hour }},
		{"previous node twice", hexBundle(hexPrimary, ext(6, 2, hexDest), ext(6, 3, "8202820909"), hexPayload), func(v *View) bool {
			return v.Repeats == RepeatsPrevNode && v.Prev == addr.IPN(1, 2) && len(v.Blocks) == 3
		}},
		{"age twice", hexBundle(hexPrimary, ext(7, 2, "05"), ext(7, 3, "00"), hexPayload), func(v *View) bool {
			return v.Repeats == RepeatsAge && v.Age == 5*time.Millisecond
		}},
		{"hop count thrice", hexBundle(hexPrimary, ext(10, 2, "820801"), ext(10, 3, "820900"), ext(10, 4, "820900"), hexPayload), func(v *View) bool {
			return v.Repeats == RepeatsHopCount && v.HopLimit == 8 && v.HopCount == 1
		}},
		{"two mesh blocks", hexBundle(hexPrimary, ext(193, 2, ""), ext(193, 3, ""), hexPayload), func(v *View) bool {
			return !v.HasMesh && v.MeshErr != nil && keptBlocks(v) == 2
		}},
		{"mesh block of someone else", hexBundle(hexPrimary, ext(193, 2, "010203"), hexPayload), func(v *View) bool { return !v.HasMesh && v.MeshErr != nil && keptBlocks(v) == 1 }},
	}
	for _, tt := range tests {
		v, err := parseHex(t, tt.hex)
		if err != nil || !tt.check(&v) {
			t.Errorf("%s: %v %+v", tt.name, err, v)
		}
	}
}

// TestMeshBlock sets the mesh block apart from others of its type: whatever
// is wrong with it, the bundle parses and the block stays.
func TestMeshBlock(t *testing.T) {
	const node, seq = "82016d2f2f6c756e612d312f6d717474", "8200" + "1b4f9d130000000039"
	farhop := strings.NewReplacer("8202820201", node, hexCreated, seq).Replace(hexPrimary)
	ok := MeshInfo{DSeq: 9, Message: ID{addr.MustNode("a"), 5}, QoS: 2}
	tests := []struct{ name, primary, data, want string }{
		{"good", farhop, "8501096161" + "0502", ""},
		{"more items", farhop, "8801096161" + "05020040f6", ""},
		{"version 2", farhop, "8502096161" + "0502", "not version 1"},
		{"not an array", farhop, "010203", "want an array"},
		{"item missing", farhop, "8401096161" + "05", "at least 5"},
		{"bytes behind", farhop, "8501096161" + "0502" + "00", "1 bytes after"},
		{"QoS 3", farhop, "8501096161" + "0503", "limit of 2"},
		{"bad node name", farhop, "8501096141" + "0502", "node name"},
		{"message of class 7", farhop, "8501096161" + "1b0000070000000005" + "02", "class that does not exist"},
		{"bundle of class 7", strings.Replace(farhop, "4f9d13", "4f9d17", 1), "8501096161" + "0502", "class that does not exist"},
		{"source ipn", hexPrimary, "8501096161" + "0502", "no farhop node"},
	}
	for _, tt := range tests {
		v, err := parseHex(t, hexBundle(tt.primary, ext(TypeMesh, 2, tt.data), hexPayload))
		if err != nil || keptBlocks(&v) != 1 {
			t.Errorf("%s: %v, %d blocks kept", tt.name, err, keptBlocks(&v))
		}
		switch {
		case tt.want == "" && (!v.HasMesh || v.MeshErr != nil || v.Mesh != ok):
			t.Errorf("%s: %+v, %v", tt.name, v.Mesh, v.MeshErr)
		case tt.want != "" && (v.HasMesh || v.Mesh != MeshInfo{} || v.MeshErr == nil || !strings.Contains(v.MeshErr.Error(), tt.want)):
			t.Errorf("%s: %+v, %v, want %q", tt.name, v.Mesh, v.MeshErr, tt.want)
		}
	}
}

// TestHostile gives bundles made to exhaust memory, and counts what parsing
// them allocates.
func TestHostile(t *testing.T) {
	block := func(number uint64) string { return ext(200, number, "") }
	var million strings.Builder
	million.WriteString("9f" + hexPrimary)
	for n := range uint64(1_000_000) {
		million.WriteString(block(n + 2))
	}
	tests := []struct{ name, hex, want string }{
		{"a million blocks", million.String(), "more than 64 blocks"},
		{"a million age blocks", "9f" + hexPrimary + strings.Repeat("8507020000"+"4100", 1_000_000), "block number 2 twice"},
		{"a payload of 2^63 bytes", hexBundle(hexPrimary, "85010100005b7fffffffffffffff"), "a string of 9223372036854775807 bytes"},
		{"a payload of 2^64-1 bytes", hexBundle(hexPrimary, "85010100005bffffffffffffffff"), "a string of 18446744073709551615 bytes"},
		{"a name of 2^32 bytes", swap(hexReport, "82017b0000000100000000"), "a string of 4294967296 bytes"},
		{"an array of 2^32 blocks", "9affffffff" + hexPrimary, "an array of 4294967295 items"},
		{"an endless string", hexBundle(hexPrimary, "85010100005f"), "indefinite length"},
		{"an endless name", swap(hexReport, "82017f612fff"), "indefinite length"},
		{"an endless nest", "9f" + strings.Repeat("9f", 1_000_000), "want an unsigned integer, found an array"},
		{"a lie about the CRC", hexBundle(hexPrimary, "860101000241315b7fffffffffffffff"), "a string of"},
	}
	for _, tt := range tests {
		raw := unhex(t, tt.hex)
		var err error
		allocs := testing.AllocsPerRun(1, func() { _, err = Parse(raw) })
		if err == nil || !strings.Contains(err.Error(), tt.want) || allocs > 100 {
			t.Errorf("%s: %v after %.0f allocations, want %q", tt.name, err, allocs, tt.want)
		}
	}
}
