package batch_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/storeforward/batch"
)

type numbered struct {
	number  uint64
	message string
}

func split(data []byte) ([]numbered, error) {
	var out []numbered
	err := batch.Split(data, func(n uint64, m []byte) error {
		out = append(out, numbered{n, string(m)})
		return nil
	})
	return out, err
}

func pack(in []numbered) []byte {
	var p batch.Packer
	for _, m := range in {
		p.Add(m.number, []byte(m.message))
	}
	return p.Append(nil)
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in []numbered
		number := uint64(0)
		words := rapid.SampledFrom([]string{"", "a", "plant/1/temp", "plant/2/temp", "xxxxxxxx", "client-17"})
		for range rapid.IntRange(1, 40).Draw(t, "messages") {
			number += uint64(rapid.IntRange(1, 300).Draw(t, "step"))
			in = append(in, numbered{number, words.Draw(t, "head") + words.Draw(t, "body") + words.Draw(t, "tail")})
		}
		data := pack(in)
		if !batch.Is(data) {
			t.Fatalf("% x is not taken for a batch", data[:4])
		}
		out, err := split(data)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(out) != fmt.Sprint(in) {
			t.Fatalf("got %v\nwant %v", out, in)
		}
	})
}

// The bound that batching exists for: telemetry of 60 bytes, from a few
// devices on topics of their own, costs at most 1.25 bytes for each of its own.
func TestOverhead(t *testing.T) {
	const count, size, bundleOverhead = 100, 60, 190
	var p batch.Packer
	for i := range count {
		m := fmt.Appendf(nil, "\x85\x01\x01\x78\x18plant/line-%d/temperature\x58\x3c", i%6)
		for j := range size {
			m = append(m, byte(i*j*7919>>3))
		}
		p.Add(uint64(i+1), fmt.Appendf(m, "\x69plc-%d", i%6))
	}
	if got := float64(len(p.Append(nil))+bundleOverhead) / (count * size); got > 1.25 {
		t.Errorf("%.2f bytes for a byte of payload", got)
	}
}

func TestRefusals(t *testing.T) {
	head := func(packed ...byte) []byte {
		return append([]byte{0x82, batch.Kind, 0x40 | byte(len(packed))}, packed...)
	}
	for name, data := range map[string][]byte{
		"nothing":            nil,
		"no messages":        head(),
		"another kind":       {0x82, 1, 0x41, 0},
		"a trailing byte":    append(head(1, 0, 1, 'x'), 0),
		"it ends early":      head(1, 0, 9, 'x'),
		"no number":          head(0x80),
		"refers to nothing":  head(1, 1, 0, 0, 1, 'x'),
		"shares too much":    head(1, 0, 1, 'x', 1, 1, 1, 1, 0),
		"the number stays":   head(1, 0, 1, 'x', 0, 0, 1, 'x'),
		"a message too long": head(1, 0, 0xff, 0xff, 0x7f),
	} {
		if _, err := split(data); !errors.Is(err, batch.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stop := errors.New("stop")
	if err := batch.Split(pack([]numbered{{1, "x"}}), func(uint64, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the error of f became %v", err)
	}
}

// A batch that unfolds to more than the limit is refused before it does.
func TestBomb(t *testing.T) {
	packed := []byte{1, 0, 0x80, 0x20} // one message of 4 KiB
	packed = append(packed, bytes.Repeat([]byte{'x'}, 4096)...)
	for range 1000 {
		packed = append(packed, 1, 1, 0x80, 0x20, 0, 0) // and a thousand like it
	}
	data := append([]byte{0x82, batch.Kind, 0x59, byte(len(packed) >> 8), byte(len(packed))}, packed...)
	if _, err := split(data); !errors.Is(err, batch.ErrMalformed) {
		t.Errorf("%d bytes unfolded: %v", len(data), err)
	}
}

func FuzzSplit(f *testing.F) {
	f.Add(pack([]numbered{{1, "plant/1"}, {2, "plant/2"}, {9, "plant/2 and more"}}))
	f.Add([]byte{0x82, 2, 0x41, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := split(data)
		if err != nil {
			return
		}
		again, err := split(pack(out))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(out) {
			t.Fatalf("%v became %v, %v", out, again, err)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	var p batch.Packer
	messages := make([][]byte, 16)
	for i := range messages {
		messages[i] = fmt.Appendf(nil, "plant/line-%d/temperature%060d", i%6, i*7919)
	}
	for n := uint64(0); b.Loop(); n++ {
		if !p.Fits(len(messages[0])) {
			p.Reset()
		}
		p.Add(n+1, messages[n%16])
	}
}
