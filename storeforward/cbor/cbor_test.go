package cbor

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAppend uses the examples of RFC 8949, appendix A.
func TestAppend(t *testing.T) {
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"0", AppendUint(nil, 0), "00"},
		{"23", AppendUint(nil, 23), "17"},
		{"24", AppendUint(nil, 24), "1818"},
		{"255", AppendUint(nil, 255), "18ff"},
		{"256", AppendUint(nil, 256), "190100"},
		{"1000", AppendUint(nil, 1000), "1903e8"},
		{"65536", AppendUint(nil, 65536), "1a00010000"},
		{"1000000", AppendUint(nil, 1000000), "1a000f4240"},
		{"1e12", AppendUint(nil, 1000000000000), "1b000000e8d4a51000"},
		{"max", AppendUint(nil, math.MaxUint64), "1bffffffffffffffff"},
		{"-1", AppendInt(nil, -1), "20"},
		{"-1000", AppendInt(nil, -1000), "3903e7"},
		{"min", AppendInt(nil, math.MinInt64), "3b7fffffffffffffff"},
		{"10 signed", AppendInt(nil, 10), "0a"},
		{"bytes", AppendBytes(nil, []byte{1, 2, 3, 4}), "4401020304"},
		{"bytes head", AppendBytesHead(nil, 300), "59012c"},
		{"text", AppendText(nil, "\u00fc"), "62c3bc"},
		{"no text", AppendText(nil, ""), "60"},
		{"array", AppendUint(AppendUint(AppendArray(nil, 2), 1), 2), "820102"},
		{"array of indefinite length", AppendBreak(AppendArrayStart(nil)), "9fff"},
		{"true false null", AppendNull(AppendBool(AppendBool(nil, true), false)), "f5f4f6"},
	}
	for _, tt := range tests {
		if got := hex.EncodeToString(tt.got); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	for _, v := range []uint64{0, 23, 24, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1} {
		if got := len(AppendUint(nil, v)); UintLen(v) != got {
			t.Errorf("UintLen(%d) = %d, want %d", v, UintLen(v), got)
		}
	}
	if got := len(AppendBytes(nil, make([]byte, 300))); BytesLen(300) != got {
		t.Errorf("BytesLen(300) = %d, want %d", BytesLen(300), got)
	}
}

func TestReadBack(t *testing.T) {
	var b []byte
	b = AppendArray(b, 9)
	b = AppendUint(b, math.MaxUint64)
	b = AppendInt(b, math.MinInt64)
	b = AppendInt(b, math.MaxInt64)
	b = AppendBytes(b, []byte("raw"))
	b = AppendText(b, "luna")
	b = AppendBool(b, true)
	b = AppendBool(b, false)
	b = AppendNull(b)
	b = AppendBreak(AppendUint(AppendArrayStart(b), 5))
	r := NewReaderAt(b, 100)
	if n := r.Array(); n != 9 {
		t.Fatalf("array of %d", n)
	}
	if v := r.Uint(); v != math.MaxUint64 {
		t.Errorf("Uint %d", v)
	}
	if v := r.Int(); v != math.MinInt64 {
		t.Errorf("Int %d", v)
	}
	if v := r.Int(); v != math.MaxInt64 {
		t.Errorf("Int %d", v)
	}
	if v := r.Bytes(); string(v) != "raw" {
		t.Errorf("Bytes %q", v)
	}
	if v := r.TextMax(4); v != "luna" {
		t.Errorf("Text %q", v)
	}
	if !r.Bool() || r.Bool() {
		t.Error("booleans read back otherwise")
	}
	if r.Null() != true || r.Null() {
		t.Error("null read back otherwise")
	}
	if n := r.Array(); n != Indefinite || r.Break() || r.Uint() != 5 || !r.Break() {
		t.Error("array of indefinite length read back otherwise")
	}
	r.End()
	if err := r.Err(); err != nil || !r.Shortest() {
		t.Errorf("err %v, shortest %v", err, r.Shortest())
	}
	if r.Offset() != 100+len(b) || !bytes.Equal(r.Since(100), b) {
		t.Errorf("offset %d, want %d", r.Offset(), 100+len(b))
	}
}

func TestRefused(t *testing.T) {
	tests := []struct {
		name, hex string
		read      func(*Reader)
		offset    int
		msg       string
	}{
		{"nothing there", "", func(r *Reader) { r.Uint() }, 0, "found the end"},
		{"wrong type", "61 61", func(r *Reader) { r.Uint() }, 0, "found a text string"},
		{"cut head", "19 01", func(r *Reader) { r.Uint() }, 0, "cut off"},
		{"reserved head", "1c", func(r *Reader) { r.Uint() }, 0, "reserved"},
		{"long string", "00 45 01", func(r *Reader) { r.Uint(); r.Bytes() }, 1, "5 bytes with 1 left"},
		{"huge string", "5b ffffffffffffffff", func(r *Reader) { r.Bytes() }, 0, "bytes with 0 left"},
		{"chunked string", "5f 41 00 ff", func(r *Reader) { r.Bytes() }, 0, "indefinite"},
		{"not UTF-8", "61 ff", func(r *Reader) { r.Text() }, 0, "not UTF-8"},
		{"long text", "62 6161", func(r *Reader) { r.TextMax(1) }, 0, "more than the limit of 1"},
		{"huge array", "9a ffffffff 00", func(r *Reader) { r.Array() }, 0, "items in 1 bytes"},
		{"short array", "81 00", func(r *Reader) { r.ArrayMin(2) }, 0, "at least 2"},
		{"open array", "9f ff", func(r *Reader) { r.ArrayMin(0) }, 0, "definite"},
		{"big number", "18 64", func(r *Reader) { r.UintMax(99) }, 0, "limit of 99"},
		{"big signed", "1b 8000000000000000", func(r *Reader) { r.Int() }, 0, "64 bits"},
		{"no boolean", "00", func(r *Reader) { r.Bool() }, 0, "true or false"},
		{"left over", "00 00", func(r *Reader) { r.Uint(); r.End() }, 1, "1 bytes after"},
		{"first error stays", "61 61 00", func(r *Reader) { r.Uint(); r.Bytes(); r.Fail(9, "x") }, 0, "want an unsigned"},
		{"skip a break", "ff", func(r *Reader) { r.Skip() }, 0, "found a break"},
		{"skip too deep", strings.Repeat("81", MaxDepth+1) + "8100", func(r *Reader) { r.Skip() }, MaxDepth + 1, "too deep"},
		{"skip a cut array", "82 00", func(r *Reader) { r.Skip() }, 0, "more items"},
		{"skip a short array", "82 81 00", func(r *Reader) { r.Skip() }, 3, "found the end"},
		{"skip chunks of another type", "5f 61 61 ff", func(r *Reader) { r.Skip() }, 1, "found a text string"},
		{"skip an endless integer", "1f", func(r *Reader) { r.Skip() }, 0, "no indefinite"},
		{"skip a simple value of two bytes", "f8 18", func(r *Reader) { r.Skip() }, 0, "fits one"},
		{"skip half a map", "bf 00 ff", func(r *Reader) { r.Skip() }, 2, "found a break"},
	}
	for _, tt := range tests {
		r := NewReader(unhex(t, tt.hex))
		tt.read(&r)
		var e *Error
		if !errors.As(r.Err(), &e) || e.Offset != tt.offset || !strings.Contains(e.Msg, tt.msg) {
			t.Errorf("%s: %v, want %q at byte %d", tt.name, r.Err(), tt.msg, tt.offset)
		}
		if r.Uint() != 0 || r.Bytes() != nil || r.Peek() != KindEnd {
			t.Errorf("%s: reads on after its error", tt.name)
		}
	}
}

func TestSkip(t *testing.T) {
	for _, s := range []string{
		"00", "3903e7", "4401020304", "62c3bc", "83010203", "a201020304", "c11a514b67b0",
		"f93c00", "fb3ff199999999999a", "f6", "f8ff", "5f42010243030405ff", "7f657374726561646d696e67ff",
		"9fff", "9f018202039f0405ffff", "bf61610161629f0203ffff", strings.Repeat("81", MaxDepth) + "00",
	} {
		b := unhex(t, s+"17")
		r := NewReader(b)
		r.Skip()
		if v := r.Uint(); v != 23 || r.Err() != nil || r.Len() != 0 {
			t.Errorf("%s: then %d, %v", s, v, r.Err())
		}
	}
	r := NewReader(unhex(t, "0001028100"))
	r.SkipN(4)
	if r.Len() != 0 || r.Err() != nil {
		t.Errorf("SkipN left %d, %v", r.Len(), r.Err())
	}
}

func TestShortest(t *testing.T) {
	for s, want := range map[string]bool{
		"17": true, "1817": false, "1818": true, "1900ff": false, "190100": true, "1a0000ffff": false,
		"1a00010000": true, "1b00000000ffffffff": false, "1b0000000100000000": true, "5801 00": false,
		"8118 00": false, "f90000": true,
	} {
		r := NewReader(unhex(t, s))
		r.Skip()
		if r.Err() != nil || r.Shortest() != want {
			t.Errorf("%s: shortest %v, %v", s, r.Shortest(), r.Err())
		}
	}
}

// FuzzReader checks that no input makes a Reader panic, step outside its
// input or stand still without an error.
func FuzzReader(f *testing.F) {
	for _, s := range []string{"00", "83010203", "9f018202039f0405ffff", "5f42010243030405ff", "bf61610161629f0203ffff", "1b7fffffffffffffff"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(b)
		for r.Len() > 0 && r.Err() == nil {
			start, mark := r.Offset(), r
			r.Skip()
			if r.Err() == nil && r.Offset() <= start {
				t.Fatalf("stands still at %d", start)
			}
			reencode(t, mark, r.Offset())
		}
		if r.Offset() > len(b) {
			t.Fatalf("read to %d of %d", r.Offset(), len(b))
		}
	})
}

// reencode reads the item at r with the typed methods; what they accept in
// shortest form has to come out of Append as it was.
func reencode(t *testing.T, r Reader, end int) {
	start := r.Offset()
	r.loose = false
	var out []byte
	switch r.Peek() {
	case KindUint:
		out = AppendUint(nil, r.Uint())
	case KindNegative:
		out = AppendInt(nil, r.Int())
	case KindBytes:
		out = AppendBytes(nil, r.Bytes())
	case KindText:
		out = AppendText(nil, string(r.Text()))
	default:
		return
	}
	if r.Err() == nil && r.Shortest() && (r.Offset() != end || !bytes.Equal(out, r.Since(start))) {
		t.Fatalf("%x read and written as %x, Skip ends at %d", r.Since(start), out, end)
	}
}
