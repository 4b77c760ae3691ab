package packet

import (
	"encoding/binary"
)

// Sealer numbers and seals packets. It is for one goroutine at a time.
type Sealer struct {
	keys  Keys
	epoch epoch
	next  uint64
	iv    [ivLen]byte
}

// NewSealer returns a sealer that begins with packet number 0: the same keys
// must never get a second one.
func NewSealer(k Keys) (*Sealer, error) {
	e, err := newEpoch(0, k.secret)
	if err != nil {
		return nil, err
	}
	return &Sealer{keys: k, epoch: e}, nil
}

// Next is the number of the packet that is sealed next.
func (s *Sealer) Next() uint64 { return s.next }

// Seal makes a packet, in place, of HeaderLen bytes that may be anything and
// the frames behind them; b should have room for TagLen bytes more.
func (s *Sealer) Seal(b []byte) ([]byte, error) {
	if s.next>>epochBits != s.epoch.index {
		e, err := s.epoch.next()
		if err != nil {
			return nil, err
		}
		s.epoch = e
	}
	b[0] = s.keys.first
	binary.BigEndian.PutUint32(b[1:], s.keys.association)
	binary.BigEndian.PutUint32(b[5:], uint32(s.next))
	nonce := s.epoch.nonce(&s.iv, s.next)
	s.next++
	return s.epoch.aead.Seal(b[:HeaderLen], nonce, b[HeaderLen:], b[:HeaderLen]), nil
}

// windowBits is how far behind the highest packet number one may be.
const windowBits = 8192

// Opener authenticates packets and refuses those it has seen. It is for one
// goroutine at a time.
type Opener struct {
	keys   Keys
	epochs []epoch // of the highest number, the one before, the one after
	iv     [ivLen]byte

	any     bool
	highest uint64
	count   uint64 // authentic packets
	window  [windowBits / 64]uint64
}

// NewOpener returns an opener for packets sealed with the same keys.
func NewOpener(k Keys) (*Opener, error) {
	e, err := newEpoch(0, k.secret)
	if err != nil {
		return nil, err
	}
	return &Opener{keys: k, epochs: append(make([]epoch, 0, 3), e)}, nil
}

// Seen is the highest packet number and how many packets there were, each
// counted once. It reports false before the first.
func (o *Opener) Seen() (highest, count uint64, ok bool) { return o.highest, o.count, o.any }

// Recent says which of the 64 packets before the highest were seen: bit 0 is
// the one just before it.
func (o *Opener) Recent() uint64 {
	var bits uint64
	for i := range min(uint64(64), o.highest) {
		if o.seen(o.highest - 1 - i) {
			bits |= 1 << i
		}
	}
	return bits
}

// Open opens a packet in place and returns its frames, which are in b, and its
// number. The error is a Drop. Nothing is allocated for a packet that is not
// authentic, but once for the keys of the next 2^22 packets.
func (o *Opener) Open(b []byte) ([]byte, uint64, error) {
	if len(b) < Overhead {
		return nil, 0, Truncated
	}
	if b[0] != o.keys.first || binary.BigEndian.Uint32(b[1:]) != o.keys.association {
		return nil, 0, Foreign
	}
	number := o.expand(binary.BigEndian.Uint32(b[5:]))
	if o.any {
		if number+windowBits <= o.highest {
			return nil, number, Old
		}
		if number <= o.highest && o.seen(number) {
			return nil, number, Replayed
		}
	}
	e := o.epoch(number >> epochBits)
	if e == nil {
		return nil, number, Forged
	}
	plain, err := e.aead.Open(b[HeaderLen:HeaderLen], e.nonce(&o.iv, number), b[HeaderLen:], b[:HeaderLen])
	if err != nil {
		return nil, number, Forged
	}
	o.note(number)
	return plain, number, nil
}

// expand finds the number nearest to what is expected next that ends with the
// 32 bits of a header (RFC 9000, appendix A.3).
func (o *Opener) expand(low uint32) uint64 {
	const win, half = 1 << 32, 1 << 31
	var expected uint64
	if o.any {
		expected = o.highest + 1
	}
	n := expected&^(win-1) | uint64(low)
	switch {
	case n+half <= expected && n < 1<<62:
		return n + win
	case n > expected+half && n >= win:
		return n - win
	}
	return n
}

// epoch returns the keys of an epoch, nil when it is neither that of the
// highest number nor beside it.
func (o *Opener) epoch(index uint64) *epoch {
	for i := range o.epochs {
		if o.epochs[i].index == index {
			return &o.epochs[i]
		}
	}
	last := &o.epochs[len(o.epochs)-1]
	if index != last.index+1 || index > o.highest>>epochBits+1 {
		return nil
	}
	e, err := last.next()
	if err != nil {
		return nil
	}
	if len(o.epochs) == cap(o.epochs) {
		copy(o.epochs, o.epochs[1:])
		o.epochs = o.epochs[:len(o.epochs)-1]
	}
	o.epochs = append(o.epochs, e)
	return &o.epochs[len(o.epochs)-1]
}

func (o *Opener) seen(number uint64) bool {
	bit := number % windowBits
	return o.window[bit/64]&(1<<(bit%64)) != 0
}

// note marks an authentic packet as seen and moves the window.
func (o *Opener) note(number uint64) {
	switch {
	case !o.any || number >= o.highest+windowBits:
		clear(o.window[:])
		o.any, o.highest = true, number
	case number > o.highest:
		for n := o.highest + 1; n < number; n++ {
			o.window[n%windowBits/64] &^= 1 << (n % 64)
		}
		o.highest = number
	}
	o.window[number%windowBits/64] |= 1 << (number % 64)
	o.count++
}
