package storeforward

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// Span is how far behind the highest counter a Window remembers. It exceeds
// what one link may have in flight, so that every repeat after a lost
// acknowledgement still falls inside.
const Span = 8192

// Window remembers which of the last Span counters of one source were seen.
// A counter older than that counts as new: a repeat is better than a loss.
type Window struct {
	top  uint64
	bits [Span / 64]uint64
}

// Seen reports whether n was added before and is still remembered.
func (w *Window) Seen(n uint64) bool {
	return n <= w.top && w.top-n < Span && w.bits[n/64%(Span/64)]>>(n%64)&1 == 1
}

// Add remembers n. Adding a counter older than the window does nothing.
func (w *Window) Add(n uint64) {
	if n > w.top {
		w.slide(n)
	} else if w.top-n >= Span {
		return
	}
	w.bits[n/64%(Span/64)] |= 1 << (n % 64)
}

// slide moves the top to n and forgets what fell out.
func (w *Window) slide(n uint64) {
	if n-w.top >= Span {
		w.bits = [Span / 64]uint64{}
	} else {
		for i := w.top + 1; i <= n; {
			if i%64 == 0 && i+63 <= n {
				w.bits[i/64%(Span/64)] = 0
				i += 64
				continue
			}
			w.bits[i/64%(Span/64)] &^= 1 << (i % 64)
			i++
		}
	}
	w.top = n
}

// Join remembers what another window does, as far as it is in reach.
func (w *Window) Join(o *Window) {
	for i := range min(o.top+1, Span) {
		if n := o.top - i; o.Seen(n) {
			w.Add(n)
		}
	}
}

// Top returns the highest counter that was added, 0 for none.
func (w *Window) Top() uint64 { return w.top }

// Len returns how many counters are remembered.
func (w *Window) Len() int {
	n := 0
	for _, b := range w.bits {
		n += bits.OnesCount64(b)
	}
	return n
}

// AppendBinary appends the durable form: the top, then the words of the
// bitmap from the newest back to the oldest that is not zero.
func (w *Window) AppendBinary(b []byte) []byte {
	b = binary.AppendUvarint(b, w.top)
	words := make([]uint64, 0, Span/64)
	last := 0
	for i := range uint64(Span / 64) {
		word := w.bits[(w.top/64-i)%(Span/64)]
		words = append(words, word)
		if word != 0 {
			last = len(words)
		}
		if w.top/64 == i {
			break
		}
	}
	for _, word := range words[:last] {
		b = binary.BigEndian.AppendUint64(b, word)
	}
	return b
}

var errWindow = errors.New("damaged dedup window")

// ParseWindow reads what AppendBinary wrote.
func ParseWindow(b []byte) (*Window, error) {
	top, n := binary.Uvarint(b)
	b = b[max(n, 0):]
	if n <= 0 || len(b)%8 != 0 || len(b)/8 > Span/64 || uint64(len(b)/8) > top/64+1 {
		return nil, errWindow
	}
	w := &Window{top: top}
	for i := range uint64(len(b) / 8) {
		w.bits[(top/64-i)%(Span/64)] = binary.BigEndian.Uint64(b[i*8:])
	}
	return w, nil
}
