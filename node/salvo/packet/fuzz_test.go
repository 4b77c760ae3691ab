package packet

import (
	"bytes"
	"testing"
)

// FuzzData reads frames of data packets, and writes them again: the bytes must
// be the same, for there is one way to write each.
func FuzzData(f *testing.F) {
	for _, b := range dataFrames() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d DataFrame
		for len(b) > 0 {
			rest, ok := NextData(&d, b)
			if !ok {
				return
			}
			var again []byte
			switch d.Type {
			case SymbolFrame:
				again = append(AppendSymbolHeader(nil, d.Symbol), d.Symbol.Data...)
				if len(again)-len(d.Symbol.Data) != SymbolHeader(d.Symbol.Train) {
					t.Errorf("length of the header of %+v", d.Symbol)
				}
			case EndFrame:
				again = AppendEnd(nil, d.End)
			case ConfirmFrame:
				again = AppendConfirm(nil, d.Confirm)
			default:
				t.Fatalf("type %d", d.Type)
			}
			if !bytes.Equal(again, b[:len(b)-len(rest)]) {
				t.Fatalf("%x is written as %x", b[:len(b)-len(rest)], again)
			}
			b = rest
		}
	})
}

// FuzzReport does so with frames of report packets.
func FuzzReport(f *testing.F) {
	for _, b := range reportFrames() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r ReportFrame
		for len(b) > 0 {
			rest, ok := NextReport(&r, b)
			if !ok {
				return
			}
			var again []byte
			switch r.Type {
			case StatusFrame:
				again = AppendStatus(nil, r.Status)
			case TrainsFrame:
				again = AppendTrains(nil, r.Trains)
			case AcceptedFrame:
				again = AppendAccepted(nil, r.Accepted)
			case HeldFrame:
				again = AppendHeld(nil, r.Held)
			default:
				t.Fatalf("type %d", r.Type)
			}
			if !bytes.Equal(again, b[:len(b)-len(rest)]) {
				t.Fatalf("%x is written as %x", b[:len(b)-len(rest)], again)
			}
			b = rest
		}
	})
}

// FuzzPiece reads headers of pieces.
func FuzzPiece(f *testing.F) {
	for _, p := range samplePieces() {
		f.Add(AppendPiece(nil, p))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, n, state := NextPiece(b)
		if state != PieceOK {
			return
		}
		if p.N == 0 || p.Offset+p.N > p.Length || p.ID == 0 || n != PieceLen(p) {
			t.Fatalf("%x is %+v, %d bytes", b, p, n)
		}
		if again := AppendPiece(nil, p); !bytes.Equal(again, b[:n]) {
			t.Fatalf("%x is written as %x", b[:n], again)
		}
	})
}

// FuzzOpen gives an opener bytes, and then the same with a right header.
func FuzzOpen(f *testing.F) {
	s, _ := pair(f)
	f.Add(seal(f, s, "frames"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, o := pair(t)
		good, _ := pair(t)
		if _, _, err := o.Open(bytes.Clone(b)); err == nil && !bytes.Equal(b, seal(t, good, "frames")) {
			t.Fatalf("%x is authentic", b)
		}
		if len(b) >= HeaderLen {
			c := bytes.Clone(b)
			copy(c, seal(t, good, "")[:HeaderLen-1])
			_, _, _ = o.Open(c)
		}
	})
}
