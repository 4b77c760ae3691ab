package salvo

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/salvo/fec"
	"github.com/farhop/farhop/node/salvo/packet"
)

// vectors are the examples of docs/salvo.md: made by the code, by name.
func vectors(t *testing.T) map[string][]byte {
	t.Helper()
	secret := make([]byte, packet.SecretLen)
	for i := range secret {
		secret[i] = byte(i)
	}
	sealed := func(k packet.Kind, n int, frames []byte) []byte {
		keys, err := packet.Derive(secret, 0xa1b2c3d4, 7, packet.Forward, k)
		if err != nil {
			t.Fatal(err)
		}
		s, err := packet.NewSealer(keys)
		if err != nil {
			t.Fatal(err)
		}
		var out []byte
		for range n + 1 {
			if out, err = s.Seal(append(make([]byte, packet.HeaderLen), frames...)); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	// A train of three symbols of four bytes: block 7, "salvo", which ends two
	// bytes before the train does.
	content := append(packet.AppendPiece(nil, packet.Piece{ID: 7, Length: 5, N: 5, Back: 2}), "salvo"...)
	content = append(content, make([]byte, 12-len(content))...)
	parity := [][]byte{make([]byte, 4), make([]byte, 4)}
	var coder fec.Coder
	for i := range 3 {
		if err := coder.Add(3, i, content[4*i:4*i+4], parity); err != nil {
			t.Fatal(err)
		}
	}
	symbol := func(i uint8, data []byte) []byte {
		return append(packet.AppendSymbolHeader(nil, packet.Symbol{Class: 3, Train: 300, Position: 1, K: 3, Index: i}), data...)
	}
	end := packet.AppendEnd(nil, packet.End{Class: 3, Floor: 298, Next: 301, Block: 7})
	status := packet.AppendStatus(nil, packet.Status{Packets: 1001, Count: 990, Room: 32768, Confirm: true})
	return map[string][]byte{
		"content":  content,
		"parity":   append(parity[0], parity[1]...),
		"symbol":   symbol(2, content[8:]),
		"end":      end,
		"confirm":  packet.AppendConfirm(nil, packet.Confirm{Report: 5, Recent: 0x1d, Block: 7}),
		"status":   status,
		"trains":   packet.AppendTrains(nil, packet.Trains{Class: 3, To: 301, Gaps: []packet.Gap{{Train: 7, Deficit: 2}, {Train: 9, Run: 4}, {Train: 300, Deficit: 1, Missing: []byte{4}}}}),
		"accepted": packet.AppendAccepted(nil, []Range{{Lo: 1, Hi: 7}, {Lo: 9, Hi: 10}}),
		"held":     packet.AppendHeld(nil, packet.Held{To: packet.MaxNumber - 1, Blocks: []packet.HeldBlock{{ID: 7, Length: 1000, Held: []Range{{Lo: 0, Hi: 300}, {Lo: 600, Hi: 1000}}}}}),
		"data":     sealed(packet.Data, 0, append(end, symbol(255, parity[0])...)),
		"report":   sealed(packet.Report, 1, status),
	}
}

// TestDocument checks the examples in docs/salvo.md, and that a receiver makes
// of them what the text says.
func TestDocument(t *testing.T) {
	data, err := os.ReadFile("../../docs/salvo.md")
	if err != nil {
		t.Fatal(err)
	}
	want := vectors(t)
	blocks := regexp.MustCompile("(?s)```hex ([a-z]+)\n(.*?)```").FindAllStringSubmatch(string(data), -1)
	if len(blocks) != len(want) {
		t.Errorf("%d examples, want %d", len(blocks), len(want))
	}
	comment := regexp.MustCompile(`#.*|\s`)
	for _, b := range blocks {
		var got strings.Builder
		for line := range strings.Lines(b[2]) {
			got.WriteString(comment.ReplaceAllString(line, ""))
		}
		if w := hex.EncodeToString(want[b[1]]); got.String() != w {
			t.Errorf("example %s is\n%s, want\n%s", b[1], got.String(), w)
		}
	}
	for d := range packet.NumDrops {
		if s := "`" + d.String() + "`"; !strings.Contains(string(data), s) {
			t.Errorf("no reason %s", s)
		}
	}
	for name, v := range map[string]int{
		"symbols of a train": trainSymbols, "trains of a class that are not known to be complete": maxTrains,
		"trains open at a receiver": maxOpen, "ranges of a set": maxRanges, "packets of a report": maxPackets,
	} {
		if s := fmt.Sprintf("| %s | %d |", name, v); !strings.Contains(string(data), s) {
			t.Errorf("no limit %q", s)
		}
	}
}

// TestVectorTrain gives a receiver the first and the parity symbols of the
// document's train.
func TestVectorTrain(t *testing.T) {
	v := vectors(t)
	keys := Keys{Secret: make([]byte, packet.SecretLen), Association: 1}
	r, err := NewReceiver(begin, Config{Rate: 1e6, AnyOrder: true}, keys, ReceiverState{})
	if err != nil {
		t.Fatal(err)
	}
	l := newLiar(t, keys, packet.Data)
	for i, data := range map[uint8][]byte{0: v["content"][:4], 255: v["parity"][:4], 254: v["parity"][4:]} {
		frames := append(packet.AppendSymbolHeader(nil, packet.Symbol{Class: 3, Train: 300, Position: 1, K: 3, Index: i}), data...)
		if err := r.Receive(begin, l.packet(frames)); err != nil {
			t.Fatal(err)
		}
	}
	e := r.Take()
	if len(e.Deliver) != 1 || e.Deliver[0] != (Delivery{ID: 7, Class: 3, Length: 5}) || !bytes.Equal(e.Keep[0].Bytes, []byte("salvo")) {
		t.Errorf("%+v", e)
	}
}
