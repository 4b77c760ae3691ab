package salvo

import (
	"errors"
	"io"
	"slices"
	"sort"
	"time"

	"github.com/farhop/farhop/node/salvo/fec"
	"github.com/farhop/farhop/node/salvo/packet"
)

// part is one piece in a train.
type part struct {
	block *outBlock
	piece packet.Piece
	at    int // of its header in the content
	head  int // length of the header
}

// train is a train at its sender. Its content is not held, but made again from
// the blocks for each symbol.
type train struct {
	number uint64
	class  uint8
	k, m   int
	size   int // of a symbol
	length int // of the content
	parts  []part

	first  int // symbols of the first pass that were sent, of k+m
	parity [][]byte
	gap    time.Duration // between parity symbols
	lastAt time.Time     // when the last symbol was sent

	rows       int     // parity rows that were used
	again      []uint8 // symbols to send again, or for the first time: fresh parity
	fresh      map[uint8][]byte
	carousel   int    // data symbol that is sent next when there is nothing better
	lastPacket uint64 // that had a symbol
	gone       bool   // complete, or given up
}

// left is how many symbols of the first pass are to be sent.
func (t *train) left() int {
	if t.gone {
		return 0
	}
	return t.k + t.m - t.first
}

// readyAt is when the next symbol of the first pass may be sent.
func (t *train) readyAt() time.Time {
	if t.first < t.k {
		return time.Time{}
	}
	return t.lastAt.Add(t.gap)
}

// retire drops what a train that is not needed any more holds.
func (t *train) retire() {
	t.gone = true
	t.parts, t.parity, t.again, t.fresh = nil, nil, nil, nil
}

// pick chooses the train whose symbol is sent next: of the most urgent class
// that has something, what is missing first. But each eighth symbol is one that
// is missing, of whichever class, so that what waits at the receiver for few
// symbols does not wait behind all that is more urgent.
func (s *Sender) pick(now time.Time) *train {
	const share = 8
	if s.turn++; s.turn%share == 0 {
		for c := range s.lanes {
			if t := s.lanes[c].fixNext(); t != nil {
				return t
			}
		}
	}
	for c := range s.lanes {
		l := &s.lanes[c]
		if t := l.fixNext(); t != nil {
			return t
		}
		if t := l.activeNext(now); t != nil {
			return t
		}
		if s.mayForm(l) {
			s.form(l)
			if t := l.activeNext(now); t != nil {
				return t
			}
		}
	}
	return nil
}

// fixNext returns the train whose turn it is to send a symbol again.
func (l *lane) fixNext() *train {
	for len(l.fix) > 0 {
		if t := l.fix[0]; len(t.again) > 0 {
			return t
		}
		l.fix = l.fix[1:]
	}
	return nil
}

// activeNext returns the train whose turn it is in the first pass.
func (l *lane) activeNext(now time.Time) *train {
	l.active = slices.DeleteFunc(l.active, func(t *train) bool { return t.left() == 0 })
	for i := range l.active {
		at := (l.cursor + i) % len(l.active)
		if t := l.active[at]; !now.Before(t.readyAt()) {
			l.cursor = at
			return t
		}
	}
	return nil
}

// symbol appends the symbol of a train whose turn it is. After an error b is as
// before, and the train is gone.
func (s *Sender) symbol(now time.Time, b []byte, t *train) ([]byte, error) {
	l := &s.lanes[t.class]
	index, repeat := t.upcoming()
	start := len(b)
	b = packet.AppendSymbolHeader(b, packet.Symbol{
		Class: t.class, Train: t.number, K: uint8(t.k), Index: index,
		Position: uint8(min(t.number-min(l.sent(nil), t.number), 255)),
	})
	data := b[len(b) : len(b)+t.size]
	if err := s.fill(t, index, repeat, data); err != nil {
		s.unreadable(t, err)
		return b[:start], err
	}
	t.lastAt = now
	if repeat {
		t.again = t.again[1:]
		if l.rotate(s.plans.turn); len(l.fix) == 0 && len(l.active) == 0 {
			l.end(endings - 1) // how much of it arrived?
		}
		s.stats.Repeated++
	} else {
		t.first++
		if t.left() == 0 {
			t.parity = nil
		} else {
			l.cursor++
		}
	}
	s.stats.Symbols++
	return b[:len(b)+t.size], nil
}

// rotate ends the turn of the train whose symbol was sent again. As many take
// turns as in the first pass, not all: what they are made of is at hand then.
func (l *lane) rotate(turn int) {
	t := l.fix[0]
	if len(t.again) == 0 {
		l.fix = l.fix[1:]
		return
	}
	n := min(turn, len(l.fix))
	copy(l.fix, l.fix[1:n])
	l.fix[n-1] = t
}

// upcoming is the index of the symbol that a train sends next, and whether it
// is not of the first pass.
func (t *train) upcoming() (index uint8, repeat bool) {
	switch {
	case len(t.again) > 0:
		return t.again[0], true
	case t.first < t.k:
		return uint8(t.first), false
	}
	return uint8(fec.FirstRow - (t.first - t.k)), false
}

// fill makes one symbol.
func (s *Sender) fill(t *train, index uint8, repeat bool, data []byte) error {
	switch {
	case int(index) < t.k:
		if err := t.read(int(index), data); err != nil || repeat || t.m == 0 {
			return err
		}
		if t.parity == nil {
			t.parity = make([][]byte, t.m)
			for i := range t.parity {
				t.parity[i] = make([]byte, t.size)
			}
			t.rows = t.m
		}
		return s.coder.Add(t.k, int(index), data, t.parity)
	case repeat:
		if t.fresh[index] == nil {
			if err := s.freshen(t); err != nil {
				return err
			}
		}
		copy(data, t.fresh[index])
		delete(t.fresh, index)
	default:
		copy(data, t.parity[fec.FirstRow-int(index)])
	}
	return nil
}

// freshen computes the parity symbols that a train is to send again.
func (s *Sender) freshen(t *train) error {
	if n := t.k * t.size; cap(s.scratch) < n {
		s.scratch = make([]byte, n)
	}
	all := make([][]byte, t.k)
	for i := range all {
		all[i] = s.scratch[i*t.size : (i+1)*t.size]
		if err := t.read(i, all[i]); err != nil {
			return err
		}
	}
	var rows []uint8
	var out [][]byte
	t.fresh = map[uint8][]byte{}
	for _, i := range t.again {
		if int(i) >= t.k && t.fresh[i] == nil {
			t.fresh[i] = make([]byte, t.size)
			rows, out = append(rows, i), append(out, t.fresh[i])
		}
	}
	return s.coder.Rows(all, rows, out)
}

// errGone is returned for a train with a part of a block that is no more.
var errGone = errors.New("salvo: a block of the train is gone")

// readError says which block could not be read.
type readError struct {
	block *outBlock
	err   error
}

func (e *readError) Error() string { return e.err.Error() }

// read makes data symbol i from the blocks.
func (t *train) read(i int, data []byte) error {
	lo := i * t.size
	hi := min(lo+t.size, t.length)
	clear(data[max(hi-lo, 0):])
	first := sort.Search(len(t.parts), func(j int) bool {
		p := &t.parts[j]
		return p.at+p.head+int(p.piece.N) > lo
	})
	for at := lo; at < hi; first++ {
		p := &t.parts[first]
		if p.block.gone {
			return errGone
		}
		if at < p.at+p.head {
			var buf [packet.MaxPieceHeader]byte
			head := packet.AppendPiece(buf[:0], p.piece)
			at += copy(data[at-lo:hi-lo], head[at-p.at:])
		}
		if end := min(p.at+p.head+int(p.piece.N), hi); at < end {
			offset := int64(p.piece.Offset) + int64(at-p.at-p.head)
			if n, err := p.block.Data.ReadAt(data[at-lo:end-lo], offset); n < end-at {
				if err == nil {
					err = io.ErrUnexpectedEOF
				}
				return &readError{p.block, err}
			}
			at = end
		}
	}
	return nil
}

// unreadable ends a train that cannot be made, and a block that cannot be read.
func (s *Sender) unreadable(t *train, err error) {
	var fault *readError
	if errors.As(err, &fault) && !fault.block.gone {
		s.effects.Failed = append(s.effects.Failed, Failure{ID: fault.block.ID, Err: fault.err})
		s.drop(fault.block)
	}
	s.lanes[t.class].abandon(t)
}

// abandon ends a train that is not known to be complete. What is left of it
// waits again.
func (l *lane) abandon(t *train) {
	if t.gone {
		return
	}
	var rest []segment
	for _, p := range t.parts {
		if !p.block.gone {
			rest = append(rest, segment{p.block, p.piece.Offset, p.piece.Offset + p.piece.N})
		}
	}
	l.again(rest...)
	l.done(t)
	l.end(1)
}

// done removes a train from the table, which is trimmed later.
func (l *lane) done(t *train) {
	t.retire()
	if t.number >= l.base {
		l.table[t.number-l.base] = nil
	}
}
