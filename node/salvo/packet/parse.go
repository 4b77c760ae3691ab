package packet

import "encoding/binary"

// DataFrame is one frame of a data packet: the one that Type names.
type DataFrame struct {
	Type    FrameType
	Symbol  Symbol
	End     End
	Confirm Confirm
}

// ReportFrame is one frame of a report packet: the one that Type names. Its
// slices are used again for the next frame.
type ReportFrame struct {
	Type     FrameType
	Status   Status
	Trains   Trains
	Accepted []Range
	Held     Held

	ranges []Range // what Held.Blocks point into
}

// FrameType names the field of a frame that was read.
type FrameType byte

// The types of frames.
const (
	SymbolFrame FrameType = iota
	EndFrame
	ConfirmFrame
	StatusFrame
	TrainsFrame
	AcceptedFrame
	HeldFrame
)

// reader takes values from the front of b. After the first fault all are 0.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// uvarint takes a number in its shortest form, up to maxRun.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > maxRun || (n > 1 && r.b[n-1] == 0) {
		r.bad = true
		r.b = nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uint64() uint64 {
	if len(r.b) < 8 {
		r.bad = true
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

func (r *reader) bytes(n int) []byte {
	if len(r.b) < n {
		r.bad = true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

// add returns a+b, which must not exceed MaxNumber.
func (r *reader) add(a, b uint64) uint64 {
	if a > MaxNumber || b > MaxNumber-a {
		r.bad = true
		return 0
	}
	return a + b
}

// class takes the class from the type of a frame.
func (r *reader) class(typ byte) uint8 {
	c := typ & 7
	if c >= NumClasses {
		r.bad = true
		return 0
	}
	return c
}

// NextData reads the first frame of b into f and returns what is behind it.
// It reports false when there is no frame of a data packet; then nothing of
// the rest can be read.
func NextData(f *DataFrame, b []byte) ([]byte, bool) {
	r := reader{b: b}
	typ := r.byte()
	switch {
	case typ&^7 == typeSymbol:
		f.Type = SymbolFrame
		s := Symbol{Class: r.class(typ), Train: r.uvarint(), Position: r.byte(), K: r.byte(), Index: r.byte()}
		s.Data = r.bytes(len(r.b))
		if s.K == 0 || s.K > MaxData || s.Train >= MaxNumber || uint64(s.Position) > s.Train || len(s.Data) == 0 {
			r.bad = true
		}
		f.Symbol = s
	case typ&^7 == typeEnd:
		f.Type = EndFrame
		e := End{Class: r.class(typ), Floor: r.uvarint()}
		e.Next = r.add(e.Floor, r.uvarint())
		e.Block = r.uvarint()
		f.End = e
	case typ == typeConfirm:
		f.Type = ConfirmFrame
		f.Confirm = Confirm{Report: r.uvarint(), Recent: r.uint64(), Block: r.uvarint()}
	default:
		return nil, false
	}
	return r.b, !r.bad
}

// NextReport reads the first frame of b into f and returns what is behind it.
// It reports false when there is no frame of a report packet.
func NextReport(f *ReportFrame, b []byte) ([]byte, bool) {
	r := reader{b: b}
	typ := r.byte()
	switch {
	case typ == typeStatus:
		f.Type = StatusFrame
		f.Status = Status{Packets: r.uvarint(), Count: r.uvarint(), Room: r.uvarint()}
		flags := r.byte()
		f.Status.Confirm = flags == 1
		r.bad = r.bad || flags > 1
	case typ&^7 == typeTrains:
		f.Type = TrainsFrame
		f.Trains.Class = r.class(typ)
		r.trains(&f.Trains)
	case typ == typeAccepted:
		f.Type = AcceptedFrame
		f.Accepted = r.rangesInto(f.Accepted[:0], MaxNumber)
	case typ == typeHeld:
		f.Type = HeldFrame
		r.held(f)
	default:
		return nil, false
	}
	return r.b, !r.bad
}

func (r *reader) trains(t *Trains) {
	t.From = r.uvarint()
	t.To = r.add(t.From, r.uvarint())
	t.Gaps = t.Gaps[:0]
	at := t.From
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		g := Gap{Train: r.add(at, r.uvarint()), Deficit: r.byte()}
		switch g.Deficit {
		case 0:
			g.Run = r.uvarint() + 1
		case withBitmap:
			g.Deficit = r.byte()
			size := int(r.byte())
			g.Missing = r.bytes(size)
			r.bad = r.bad || size == 0 || size > MaxData/8 || g.Deficit == 0
		}
		r.bad = r.bad || g.Deficit > MaxData
		at = r.add(g.Train, max(g.Run, 1))
		r.bad = r.bad || at > t.To
		t.Gaps = append(t.Gaps, g)
	}
}

// rangesInto appends ranges that end at most at limit.
func (r *reader) rangesInto(out []Range, limit uint64) []Range {
	at := uint64(0)
	for i, n := uint64(0), r.uvarint(); i < n && !r.bad; i++ {
		gap := r.uvarint()
		lo := r.add(at, gap)
		hi := r.add(lo, r.uvarint()+1)
		r.bad = r.bad || hi > limit || (i > 0 && gap == 0)
		out = append(out, Range{lo, hi})
		at = hi
	}
	return out
}

func (r *reader) held(f *ReportFrame) {
	h := &f.Held
	h.From = r.uvarint()
	h.To = r.add(h.From, r.uvarint())
	h.Blocks, f.ranges = h.Blocks[:0], f.ranges[:0]
	at := h.From
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		k := HeldBlock{ID: r.add(at, r.uvarint()), Length: r.uvarint()}
		start := len(f.ranges)
		f.ranges = r.rangesInto(f.ranges, k.Length)
		k.Held = f.ranges[start:len(f.ranges):len(f.ranges)]
		at = r.add(k.ID, 1)
		r.bad = r.bad || at > h.To
		h.Blocks = append(h.Blocks, k)
	}
}
