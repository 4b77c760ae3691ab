// Package batch packs many small messages into the payload of one bundle, and
// takes them apart again, so that 60 bytes of telemetry need not carry 75
// bytes of bundle of their own. Messages that follow each other resemble each
// other: the topic, the client and the flags repeat, so a message is written
// as what it does not share with one of the few before it. The package knows
// bytes only: not what a message means, nor where it goes. docs/wire.md has
// the format.
//
//	var p batch.Packer
//	p.Add(17, first)
//	p.Add(19, second)
//	data := p.Append(nil)
//	err := batch.Split(data, func(number uint64, message []byte) error { ... })
package batch

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/farhop/farhop/storeforward/cbor"
)

// Kind is the first item of the payload data of a batch. A single publication
// has 1 there.
const Kind = 2

// Limits of one batch. They bound what a hostile one unfolds to.
const (
	MaxCount    = 1024    // messages
	MaxMessage  = 4 << 10 // bytes of one message
	MaxUnfolded = 1 << 20 // bytes of all messages together
)

// ErrMalformed is the cause of all that Split refuses.
var ErrMalformed = errors.New("malformed batch")

// memory is how many earlier messages a message may resemble.
const memory = 8

// Packer builds one batch. Its zero value is ready. A Packer may be used again
// after Reset.
type Packer struct {
	packed []byte
	past   [memory][]byte // the last messages, a ring
	count  int
	last   uint64
	size   int
}

// Count returns how many messages were added.
func (p *Packer) Count() int { return p.count }

// Size returns about how many bytes Append would append.
func (p *Packer) Size() int { return len(p.packed) + 8 }

// Fits reports whether a message of n bytes may be added.
func (p *Packer) Fits(n int) bool {
	return n <= MaxMessage && p.count < MaxCount && p.size+n <= MaxUnfolded
}

// Add packs a message under a number that rises from message to message. The
// message must stay as it is until Append.
func (p *Packer) Add(number uint64, message []byte) {
	back, prefix, suffix := p.closest(message)
	p.packed = binary.AppendUvarint(p.packed, number-p.last)
	p.packed = append(p.packed, byte(back))
	if back > 0 {
		p.packed = binary.AppendUvarint(p.packed, uint64(prefix))
		p.packed = binary.AppendUvarint(p.packed, uint64(suffix))
	}
	middle := message[prefix : len(message)-suffix]
	p.packed = binary.AppendUvarint(p.packed, uint64(len(middle)))
	p.packed = append(p.packed, middle...)
	p.past[p.count%memory] = message
	p.count++
	p.last = number
	p.size += len(message)
}

// closest finds the earlier message that shares most with this one: back is
// its distance, 0 for none.
func (p *Packer) closest(message []byte) (back, prefix, suffix int) {
	best := 2 // what a reference costs
	for d := 1; d <= min(memory, p.count); d++ {
		old := p.past[(p.count-d)%memory]
		n := common(old, message)
		m := commonEnd(old[n:], message[n:])
		if n+m > best {
			best, back, prefix, suffix = n+m, d, n, m
		}
		if best == len(message) {
			break
		}
	}
	return back, prefix, suffix
}

func common(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func commonEnd(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// Append appends the payload data of the batch.
func (p *Packer) Append(dst []byte) []byte {
	dst = cbor.AppendArray(dst, 2)
	dst = cbor.AppendUint(dst, Kind)
	return cbor.AppendBytes(dst, p.packed)
}

// Reset empties p and keeps its memory.
func (p *Packer) Reset() { *p = Packer{packed: p.packed[:0]} }

// Is reports whether payload data begins as a batch does.
func Is(data []byte) bool { return len(data) > 1 && data[0] == 0x82 && data[1] == Kind }

// Split takes a batch apart and calls f for each message, in order. The
// messages are valid after Split returned. An error of f ends it.
func Split(data []byte, f func(number uint64, message []byte) error) error {
	r := cbor.NewReader(data)
	n := r.Array()
	kind := r.Uint()
	packed := r.Bytes()
	r.End()
	if r.Err() != nil || n != 2 || kind != Kind {
		return fmt.Errorf("%w: not an array of %d and a byte string", ErrMalformed, Kind)
	}
	u := unpacker{rest: packed}
	for len(u.rest) > 0 {
		number, message, err := u.next()
		if err != nil {
			return err
		}
		if err := f(number, message); err != nil {
			return err
		}
	}
	if u.count == 0 {
		return fmt.Errorf("%w: it is empty", ErrMalformed)
	}
	return nil
}

type unpacker struct {
	rest  []byte
	past  [memory][]byte
	count int
	last  uint64
	size  int
}

func (u *unpacker) next() (uint64, []byte, error) {
	delta := u.uvarint()
	back, prefix, suffix := 0, 0, 0
	if len(u.rest) > 0 {
		back = int(u.rest[0])
		u.rest = u.rest[1:]
	}
	var old []byte
	if back > 0 {
		if back > memory || back > u.count {
			return 0, nil, fmt.Errorf("%w: message %d refers to one that is not there", ErrMalformed, u.count)
		}
		old = u.past[(u.count-back)%memory]
		prefix, suffix = int(min(u.uvarint(), MaxMessage+1)), int(min(u.uvarint(), MaxMessage+1))
	}
	middle := u.uvarint()
	size := uint64(prefix+suffix) + middle
	switch {
	case u.rest == nil || middle > uint64(len(u.rest)):
		return 0, nil, fmt.Errorf("%w: message %d ends early", ErrMalformed, u.count)
	case prefix+suffix > len(old):
		return 0, nil, fmt.Errorf("%w: message %d shares more than the other has", ErrMalformed, u.count)
	case size > MaxMessage || u.count >= MaxCount || u.size+int(size) > MaxUnfolded:
		return 0, nil, fmt.Errorf("%w: larger than the limits", ErrMalformed)
	case u.count > 0 && delta == 0 || u.last+delta < u.last:
		return 0, nil, fmt.Errorf("%w: the numbers do not rise", ErrMalformed)
	}
	message := make([]byte, 0, size)
	message = append(message, old[:prefix]...)
	message = append(message, u.rest[:middle]...)
	message = append(message, old[len(old)-suffix:]...)
	u.rest = u.rest[middle:]
	u.past[u.count%memory] = message
	u.count++
	u.size += int(size)
	u.last += delta
	return u.last, message, nil
}

// uvarint reads a number. At the end of the bytes, or for one that is too
// long, it empties rest for good.
func (u *unpacker) uvarint() uint64 {
	v, n := binary.Uvarint(u.rest)
	if n <= 0 {
		u.rest = nil
		return 0
	}
	u.rest = u.rest[n:]
	return v
}
