package packet

import "encoding/binary"

// Piece is the header of a part of a block in the content of a train; N bytes
// of the block follow it. Behind the last piece there are only zeros.
type Piece struct {
	ID     uint64 // of the block, not 0
	Length uint64 // of the block
	Back   uint64 // ID-Back is the block of the class before; 0: none. Only where Offset is 0
	Offset uint64 // of the part in the block
	N      uint64 // length of the part
}

// MaxPieceHeader is the largest number of bytes of the header of a piece.
const MaxPieceHeader = 5 * binary.MaxVarintLen64

// whole marks, in the lowest bit of the first number, a piece that is a block.
const whole = 1

// AppendPiece appends the header of a piece: one that is a block is always
// written as such.
func AppendPiece(b []byte, p Piece) []byte {
	if p.N == p.Length {
		b = binary.AppendUvarint(b, p.ID<<1|whole)
		b = binary.AppendUvarint(b, p.Length)
		return binary.AppendUvarint(b, p.Back)
	}
	b = binary.AppendUvarint(b, p.ID<<1)
	b = binary.AppendUvarint(b, p.Length)
	b = binary.AppendUvarint(b, p.Offset)
	b = binary.AppendUvarint(b, p.N)
	if p.Offset == 0 {
		b = binary.AppendUvarint(b, p.Back)
	}
	return b
}

// PieceLen is the number of bytes of the header.
func PieceLen(p Piece) int {
	if p.N == p.Length {
		return uvarintLen(p.ID<<1) + uvarintLen(p.Length) + uvarintLen(p.Back)
	}
	n := uvarintLen(p.ID<<1) + uvarintLen(p.Length) + uvarintLen(p.Offset) + uvarintLen(p.N)
	if p.Offset == 0 {
		n += uvarintLen(p.Back)
	}
	return n
}

// PieceState says what is at the front of content.
type PieceState byte

// The states of content.
const (
	PieceOK    PieceState = iota // a header
	PieceShort                   // the beginning of a header, perhaps
	PieceEnd                     // no more pieces
	PieceBad                     // not a header
)

// NextPiece reads the header of a piece and returns its length.
func NextPiece(b []byte) (Piece, int, PieceState) {
	if len(b) == 0 {
		return Piece{}, 0, PieceShort
	}
	if b[0] == 0 {
		return Piece{}, 0, PieceEnd
	}
	r := reader{b: b}
	id := r.uvarint()
	p := Piece{ID: id >> 1, Length: r.uvarint()}
	if id&whole != 0 {
		p.N, p.Back = p.Length, r.uvarint()
	} else {
		p.Offset, p.N = r.uvarint(), r.uvarint()
		if p.Offset == 0 {
			p.Back = r.uvarint()
		}
	}
	switch {
	case r.bad && len(b) < MaxPieceHeader:
		return Piece{}, 0, PieceShort
	case r.bad || p.ID == 0 || p.N == 0 || p.N > p.Length || p.Offset > p.Length-p.N || p.Back >= p.ID,
		id&whole == 0 && p.N == p.Length: // that is written another way
		return Piece{}, 0, PieceBad
	}
	return p, len(b) - len(r.b), PieceOK
}
