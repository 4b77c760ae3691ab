package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
)

func testKeys(t testing.TB, k Kind) Keys {
	t.Helper()
	keys, err := Derive(bytes.Repeat([]byte{7}, SecretLen), 0xa1b2c3d4, 3, Forward, k)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func pair(t testing.TB) (*Sealer, *Opener) {
	t.Helper()
	s, err1 := NewSealer(testKeys(t, Data))
	o, err2 := NewOpener(testKeys(t, Data))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return s, o
}

func seal(t testing.TB, s *Sealer, frames string) []byte {
	t.Helper()
	b, err := s.Seal(append(make([]byte, HeaderLen), frames...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSealOpen(t *testing.T) {
	s, o := pair(t)
	first, second := seal(t, s, "one"), seal(t, s, "two")
	h, ok := Peek(first)
	if !ok || h != (Head{Kind: Data, Direction: Forward, Association: 0xa1b2c3d4}) {
		t.Errorf("header %+v %v", h, ok)
	}
	if first[0]&0xc0 != 0 {
		t.Errorf("first byte %#x is one of QUIC's", first[0])
	}
	for i, b := range [][]byte{second, first} { // in any order
		plain, number, err := o.Open(bytes.Clone(b))
		if err != nil || number != uint64(1-i) || string(plain) != []string{"two", "one"}[i] {
			t.Errorf("%q %d %v", plain, number, err)
		}
		if _, _, err := o.Open(bytes.Clone(b)); !errors.Is(err, Replayed) {
			t.Errorf("again: %v", err)
		}
	}
	if highest, count, ok := o.Seen(); highest != 1 || count != 2 || !ok || o.Recent() != 1 {
		t.Errorf("seen %d %d %v, recent %b", highest, count, ok, o.Recent())
	}
}

func TestPeekRefuses(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 40), bytes.Repeat([]byte{0xc8}, 40), bytes.Repeat([]byte{0x10}, 40), bytes.Repeat([]byte{8}, Overhead-1)} {
		if h, ok := Peek(b); ok {
			t.Errorf("%x is %+v", b, h)
		}
	}
}

// TestKeysDiffer wants another key for whatever differs.
func TestKeysDiffer(t *testing.T) {
	base := bytes.Repeat([]byte{7}, SecretLen)
	seen := map[[SecretLen]byte]bool{}
	for _, c := range []struct {
		secret      []byte
		association uint32
		incarnation uint64
		d           Direction
		k           Kind
	}{
		{base, 1, 1, Forward, Data},
		{base, 1, 1, Forward, Report},
		{base, 1, 1, Backward, Data},
		{base, 1, 1, Backward, Report},
		{base, 2, 1, Forward, Data},
		{base, 1, 2, Forward, Data},
		{bytes.Repeat([]byte{8}, SecretLen), 1, 1, Forward, Data},
	} {
		k, err := Derive(c.secret, c.association, c.incarnation, c.d, c.k)
		if err != nil || seen[k.secret] {
			t.Errorf("%+v: %v, key seen before: %v", c, err, seen[k.secret])
		}
		seen[k.secret] = true
	}
	if _, err := Derive(base[:31], 1, 1, Forward, Data); err == nil {
		t.Error("a short secret is taken")
	}
}

// TestReplayWindow compares the window with a set, and drops what is too old.
func TestReplayWindow(t *testing.T) {
	s, o := pair(t)
	r := rand.New(rand.NewPCG(1, 2))
	var sent [][]byte
	seen := map[uint64]bool{}
	for range 3 * windowBits {
		for range 1 + r.IntN(3) {
			sent = append(sent, seal(t, s, "x"))
		}
		if r.IntN(2000) == 0 {
			s.next += windowBits * 2 // a long gap
		}
		b := sent[len(sent)-1-min(r.IntN(1+r.IntN(100)), len(sent)-1)]
		_, n, err := o.Open(bytes.Clone(b))
		highest, _, _ := o.Seen()
		switch {
		case err == nil && seen[n]:
			t.Fatalf("packet %d taken twice", n)
		case err != nil && !seen[n] && n+windowBits > highest:
			t.Fatalf("packet %d refused: %v, highest %d", n, err, highest)
		}
		seen[n] = true
	}
	if _, _, err := o.Open(bytes.Clone(sent[0])); !errors.Is(err, Old) {
		t.Errorf("the first packet again: %v", err)
	}
}

// TestForgedNumbers: who cannot seal cannot move the window either, so what is
// genuine is still taken.
func TestForgedNumbers(t *testing.T) {
	s, o := pair(t)
	first, second := seal(t, s, "x"), seal(t, s, "y")
	if _, _, err := o.Open(bytes.Clone(second)); err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(second)
	binary.BigEndian.PutUint32(forged[5:], 2*windowBits)
	if _, _, err := o.Open(forged); !errors.Is(err, Forged) {
		t.Errorf("a forged packet: %v", err)
	}
	if _, n, err := o.Open(bytes.Clone(first)); err != nil || n != 0 {
		t.Errorf("a packet that came late, after the forged one: %d, %v", n, err)
	}
	if highest, count, _ := o.Seen(); highest != 1 || count != 2 {
		t.Errorf("%d packets up to %d, want 2 up to 1", count, highest)
	}
}

// TestEpochs goes over the ends of epochs, in disorder and with gaps.
func TestEpochs(t *testing.T) {
	s, o := pair(t)
	for e := range uint64(4) {
		s.next = max(s.next, (e+1)<<epochBits-3)
		var late []byte
		for i := range 6 {
			b := seal(t, s, "x")
			if i == 1 {
				late = b
				continue
			}
			if _, n, err := o.Open(b); err != nil || n != s.next-1 {
				t.Fatalf("epoch %d: packet %d: %d %v", e, s.next-1, n, err)
			}
		}
		if _, _, err := o.Open(late); err != nil {
			t.Fatalf("epoch %d: a late packet: %v", e, err)
		}
	}
}

// TestNumbers finds numbers beyond 32 bits.
func TestNumbers(t *testing.T) {
	_, o := pair(t)
	o.any = true
	for _, highest := range []uint64{0, 5, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<33 + 7, 1<<40 - 2} {
		o.highest = highest
		for _, d := range []int64{-8000, -1, 1, 2, 70_000, 1 << 30} {
			n := uint64(int64(highest) + d)
			if int64(highest)+d < 0 {
				continue
			}
			if got := o.expand(uint32(n)); got != n {
				t.Errorf("after %d: %d is read as %d", highest, n, got)
			}
		}
	}
}

func dataFrames() map[string][]byte {
	return map[string][]byte{
		"symbol":  append(AppendSymbolHeader(nil, sampleSymbol), sampleSymbol.Data...),
		"end":     AppendEnd(nil, sampleEnd),
		"confirm": AppendConfirm(nil, sampleConfirm),
	}
}

func reportFrames() map[string][]byte {
	return map[string][]byte{
		"status":   AppendStatus(nil, sampleStatus),
		"trains":   AppendTrains(nil, sampleTrains),
		"accepted": AppendAccepted(nil, sampleAccepted),
		"held":     AppendHeld(nil, sampleHeld),
	}
}

var (
	sampleSymbol   = Symbol{Class: 3, Train: 300, Position: 2, K: 3, Index: 255, Data: []byte{0xd0, 0xd1, 0xd2}}
	sampleEnd      = End{Class: 3, Floor: 298, Next: 301, Block: 7}
	sampleConfirm  = Confirm{Report: 5, Recent: 0x1d, Block: 7}
	sampleStatus   = Status{Packets: 1001, Count: 990, Room: 32768, Confirm: true}
	sampleTrains   = Trains{Class: 3, From: 0, To: 301, Gaps: []Gap{{Train: 7, Deficit: 2}, {Train: 9, Run: 4}, {Train: 300, Deficit: 1, Missing: []byte{0x04}}}}
	sampleAccepted = []Range{{1, 7}, {9, 10}}
	sampleHeld     = Held{From: 0, To: MaxNumber - 1, Blocks: []HeldBlock{{ID: 7, Length: 1000, Held: []Range{{0, 300}, {600, 1000}}}}}
)

// TestFrames reads what was written.
func TestFrames(t *testing.T) {
	var d DataFrame
	for name, b := range dataFrames() {
		if rest, ok := NextData(&d, b); !ok || len(rest) > 0 {
			t.Errorf("%s: %v, %d bytes left", name, ok, len(rest))
		}
	}
	if !reflect.DeepEqual(d.Symbol, sampleSymbol) || d.End != sampleEnd || d.Confirm != sampleConfirm {
		t.Errorf("%+v", d)
	}
	var r ReportFrame
	for name, b := range reportFrames() {
		if rest, ok := NextReport(&r, b); !ok || len(rest) > 0 {
			t.Errorf("%s: %v, %d bytes left", name, ok, len(rest))
		}
	}
	if r.Status != sampleStatus || !reflect.DeepEqual(r.Trains, sampleTrains) ||
		!reflect.DeepEqual(r.Accepted, sampleAccepted) || !reflect.DeepEqual(r.Held, sampleHeld) {
		t.Errorf("%+v", r)
	}
}

// TestBadFrames has what no one may send.
func TestBadFrames(t *testing.T) {
	big := binary.AppendUvarint(nil, 1<<63)
	for name, b := range map[string][]byte{
		"nothing":         {0},
		"class 5":         {typeSymbol | 5, 1, 0, 1, 0, 9},
		"no data":         {typeSymbol, 1, 0, 1, 0},
		"k 0":             {typeSymbol, 1, 0, 0, 0, 9},
		"k 241":           {typeSymbol, 1, 0, 241, 0, 9},
		"position":        {typeSymbol, 1, 2, 1, 0, 9},
		"long number":     {typeSymbol, 0x81, 0, 0, 1, 0, 9},
		"large number":    append(append([]byte{typeSymbol}, big...), 0, 1, 0, 9),
		"cut":             AppendEnd(nil, sampleEnd)[:3],
		"end overflows":   append(append(append([]byte{typeEnd}, binary.AppendUvarint(nil, maxRun)...), binary.AppendUvarint(nil, maxRun)...), 0),
		"report to sense": AppendStatus(nil, sampleStatus),
	} {
		var f DataFrame
		if _, ok := NextData(&f, b); ok {
			t.Errorf("data: %s: %x is %+v", name, b, f)
		}
	}
	for name, b := range map[string][]byte{
		"symbol":        dataFrames()["symbol"],
		"flags":         {typeStatus, 0, 0, 0, 2},
		"gap outside":   {typeTrains, 0, 1, 1, 1, 1},
		"deficit":       {typeTrains, 0, 9, 1, 1, 250},
		"bitmap of 0":   {typeTrains, 0, 9, 1, 1, withBitmap, 1, 0},
		"cut bitmap":    {typeTrains, 0, 9, 1, 1, withBitmap, 1, 3, 1},
		"many gaps":     {typeTrains, 0, 9, 200, 1, 1},
		"touching":      {typeAccepted, 2, 1, 0, 0, 0},
		"many ranges":   {typeAccepted, 200, 1, 1},
		"beyond length": {typeHeld, 0, 9, 1, 1, 5, 1, 0, 5},
		"id outside":    {typeHeld, 0, 1, 1, 3, 5, 0},
	} {
		var f ReportFrame
		if _, ok := NextReport(&f, b); ok {
			t.Errorf("report: %s: %x is %+v", name, b, f)
		}
	}
}

func samplePieces() []Piece {
	return []Piece{
		{ID: 7, Length: 300, N: 300, Back: 2},
		{ID: 8, Length: 1 << 20, Offset: 4096, N: 1000},
		{ID: 9, Length: 1 << 20, N: 1000},
		{ID: 1 << 60, Length: 1 << 40, Offset: 1 << 39, N: 1 << 30},
	}
}

func TestPieces(t *testing.T) {
	for _, p := range samplePieces() {
		b := AppendPiece(nil, p)
		if len(b) != PieceLen(p) || len(b) > MaxPieceHeader {
			t.Errorf("%+v has %d bytes, said %d", p, len(b), PieceLen(p))
		}
		got, n, state := NextPiece(append(bytes.Clone(b), make([]byte, 60)...))
		if got != p || n != len(b) || state != PieceOK {
			t.Errorf("%+v is read as %+v, %d bytes, state %d", p, got, n, state)
		}
		for i := range b {
			if _, _, state := NextPiece(b[:i]); state != PieceShort {
				t.Errorf("%+v: %d bytes are state %d", p, i, state)
			}
		}
	}
	for name, b := range map[string][]byte{
		"offset":   {14, 5, 4, 2},
		"length 0": {15, 0, 0},
		"back":     {15, 5, 7},
		"n 0":      {14, 5, 1, 0},
	} {
		if p, _, state := NextPiece(append(b, make([]byte, 60)...)); state != PieceBad {
			t.Errorf("%s: state %d, %+v", name, state, p)
		}
	}
	if _, _, state := NextPiece(make([]byte, 9)); state != PieceEnd {
		t.Errorf("zeros are state %d", state)
	}
}
