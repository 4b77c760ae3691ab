package packet

import (
	"encoding/binary"
	"math"
)

const (
	// NumClasses is the number of classes of blocks; a lower one is more urgent.
	NumClasses = 5
	// MaxData is the largest number of data symbols of a train.
	MaxData = 240
	// MaxNumber bounds what is counted: trains, blocks, packets.
	MaxNumber = 1 << 62
)

// The frame types. Of those that end with a class it is in the low three bits.
const (
	typeSymbol   = 0x10 // + class
	typeEnd      = 0x20 // + class
	typeConfirm  = 0x28
	typeStatus   = 0x40
	typeTrains   = 0x48 // + class
	typeAccepted = 0x50
	typeHeld     = 0x58
)

// Symbol is one symbol of a train. It is the last frame of its packet, so that
// its data need no length.
type Symbol struct {
	Class    uint8
	Train    uint64
	Position uint8 // of the train in its group: it began with Train-Position
	K        uint8 // data symbols of the train
	Index    uint8 // below K: a data symbol; else the row of a parity symbol
	Data     []byte
}

// SymbolHeader is the number of bytes of a symbol before its data.
func SymbolHeader(train uint64) int { return 4 + uvarintLen(train) }

// AppendSymbolHeader appends all of a symbol but its data.
func AppendSymbolHeader(b []byte, s Symbol) []byte {
	b = append(b, typeSymbol|s.Class)
	b = binary.AppendUvarint(b, s.Train)
	return append(b, s.Position, s.K, s.Index)
}

// End says what a receiver may expect of a class, and asks for a report.
type End struct {
	Class uint8
	Floor uint64 // trains below it are of no interest any more
	Next  uint64 // trains below it have been sent in full
	Block uint64 // blocks of the class below it have been released or given up
}

// AppendEnd appends an End frame.
func AppendEnd(b []byte, e End) []byte {
	b = append(b, typeEnd|e.Class)
	b = binary.AppendUvarint(b, e.Floor)
	b = binary.AppendUvarint(b, e.Next-e.Floor)
	return binary.AppendUvarint(b, e.Block)
}

// Confirm tells the receiver which reports arrived, and which blocks it may
// forget.
type Confirm struct {
	Report uint64 // highest number of a report packet
	Recent uint64 // bit i: the report with number Report-1-i arrived as well
	Block  uint64 // blocks below it have been released or given up
}

// AppendConfirm appends a Confirm frame.
func AppendConfirm(b []byte, c Confirm) []byte {
	b = append(b, typeConfirm)
	b = binary.AppendUvarint(b, c.Report)
	b = binary.BigEndian.AppendUint64(b, c.Recent)
	return binary.AppendUvarint(b, c.Block)
}

// Status is in each report.
type Status struct {
	Packets uint64 // highest number of a data packet, and one; 0: none yet
	Count   uint64 // data packets that arrived
	Room    uint64 // KiB of buffer that are free
	Confirm bool   // the sender shall confirm this packet
}

// AppendStatus appends a Status frame.
func AppendStatus(b []byte, s Status) []byte {
	b = append(b, typeStatus)
	b = binary.AppendUvarint(b, s.Packets)
	b = binary.AppendUvarint(b, s.Count)
	b = binary.AppendUvarint(b, s.Room)
	return append(b, bit(s.Confirm))
}

// Gap is one entry of Trains: a train that lacks symbols, or a run of trains
// of which nothing arrived.
type Gap struct {
	Train   uint64
	Run     uint64 // trains of which there is nothing; 0: one train that has some
	Deficit uint8  // symbols the train lacks
	Missing []byte // which data symbols: bit i%8 of byte i/8; empty: not said
}

// Trains says what a receiver has of the trains of a class from From to To-1:
// all but the gaps. Of others it says nothing.
type Trains struct {
	Class    uint8
	From, To uint64
	Gaps     []Gap
}

// withBitmap in place of a deficit says that a bitmap follows.
const withBitmap = 255

// AppendTrains appends a Trains frame. Gaps are in order.
func AppendTrains(b []byte, t Trains) []byte {
	b = append(b, typeTrains|t.Class)
	b = binary.AppendUvarint(b, t.From)
	b = binary.AppendUvarint(b, t.To-t.From)
	b = binary.AppendUvarint(b, uint64(len(t.Gaps)))
	at := t.From
	for _, g := range t.Gaps {
		b = binary.AppendUvarint(b, g.Train-at)
		at = g.Train + max(g.Run, 1)
		switch {
		case g.Run > 0:
			b = append(b, 0)
			b = binary.AppendUvarint(b, g.Run-1)
		case len(g.Missing) > 0:
			b = append(b, withBitmap, g.Deficit, byte(len(g.Missing)))
			b = append(b, g.Missing...)
		default:
			b = append(b, g.Deficit)
		}
	}
	return b
}

// GapLen is at least the number of bytes that a gap takes, given where the
// one before it ended.
func GapLen(g Gap, at uint64) int {
	return uvarintLen(g.Train-at) + 3 + uvarintLen(g.Run) + len(g.Missing)
}

// TrainsLen is at least the number of bytes of a Trains frame without gaps.
func TrainsLen(t Trains) int { return 4 + uvarintLen(t.From) + uvarintLen(t.To-t.From) }

// Range is the numbers from Lo to Hi-1: block ids, or bytes of a block.
type Range struct{ Lo, Hi uint64 }

// AppendAccepted appends an Accepted frame: the blocks, as ranges in order that
// do not touch, that their owner has taken for good.
func AppendAccepted(b []byte, ranges []Range) []byte {
	return appendRanges(append(b, typeAccepted), ranges)
}

func appendRanges(b []byte, ranges []Range) []byte {
	b = binary.AppendUvarint(b, uint64(len(ranges)))
	at := uint64(0)
	for _, r := range ranges {
		b = binary.AppendUvarint(b, r.Lo-at)
		b = binary.AppendUvarint(b, r.Hi-r.Lo-1)
		at = r.Hi
	}
	return b
}

// RangeLen is the number of bytes that a range takes, given where the one
// before it ended.
func RangeLen(r Range, at uint64) int { return uvarintLen(r.Lo-at) + uvarintLen(r.Hi-r.Lo-1) }

// HeldBlock is a block of which a receiver has a part from before.
type HeldBlock struct {
	ID     uint64
	Length uint64
	Held   []Range // of its bytes
}

// Held says of all blocks from From to To-1 what a receiver had of them when
// the association began: nothing, but for those listed.
type Held struct {
	From, To uint64
	Blocks   []HeldBlock
}

// AppendHeld appends a Held frame. Blocks are in order.
func AppendHeld(b []byte, h Held) []byte {
	b = append(b, typeHeld)
	b = binary.AppendUvarint(b, h.From)
	b = binary.AppendUvarint(b, h.To-h.From)
	b = binary.AppendUvarint(b, uint64(len(h.Blocks)))
	at := h.From
	for _, k := range h.Blocks {
		b = binary.AppendUvarint(b, k.ID-at)
		b = binary.AppendUvarint(b, k.Length)
		b = appendRanges(b, k.Held)
		at = k.ID + 1
	}
	return b
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// maxRun keeps sums of two numbers of a frame within 64 bits.
const maxRun = math.MaxUint64 >> 2
