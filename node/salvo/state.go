package salvo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sort"

	"github.com/farhop/farhop/node/salvo/packet"
)

// BlockState is a block that has arrived in part.
type BlockState struct {
	ID     uint64
	Class  uint8
	Length int64
	Before uint64  // id of the block of the class before; 0: none. A receiver's
	Held   []Range // bytes the receiver has, in order, not touching
}

// SenderState is what a sender remembers between associations: of blocks that
// were not released, what the receiver has.
type SenderState struct {
	Incarnation uint64
	Blocks      []BlockState // by id
}

// ReceiverState is what a receiver remembers between associations. The bytes
// that it names are its owner's, who takes out of it what he does not have.
type ReceiverState struct {
	Incarnation uint64
	Accepted    []Range      // ids of blocks taken for good, in order, not touching
	Blocks      []BlockState // the others, by id
}

// State is what the next association goes on with. Blocks themselves are their
// owner's.
func (s *Sender) State() SenderState {
	st := SenderState{Incarnation: s.keys.Incarnation}
	for _, b := range s.order {
		if !b.gone && len(b.have) > 0 {
			st.Blocks = append(st.Blocks, BlockState{ID: b.ID, Class: b.Class, Length: b.Length, Held: append([]Range(nil), b.have...)})
		}
	}
	for _, b := range s.prior { // not offered again so far
		st.Blocks = append(st.Blocks, b)
	}
	sort.Slice(st.Blocks, func(i, j int) bool { return st.Blocks[i].ID < st.Blocks[j].ID })
	return st
}

// ErrState is returned for bytes that are no state.
var ErrState = errors.New("salvo: not a stored state")

// The first byte of a stored state: what it is, and the version.
const (
	senderTag   = 0x51
	receiverTag = 0x61
)

// AppendSenderState appends a state in the form that is stored.
func AppendSenderState(b []byte, st SenderState) []byte {
	b = binary.BigEndian.AppendUint64(append(b, senderTag), st.Incarnation)
	return appendBlocks(b, st.Blocks)
}

// ParseSenderState reads what AppendSenderState wrote.
func ParseSenderState(b []byte) (SenderState, error) {
	r := stateReader{b: b}
	st := SenderState{Incarnation: r.head(senderTag)}
	st.Blocks = r.blocks()
	return st, r.done()
}

// AppendReceiverState appends a state in the form that is stored.
func AppendReceiverState(b []byte, st ReceiverState) []byte {
	b = binary.BigEndian.AppendUint64(append(b, receiverTag), st.Incarnation)
	b = appendSpans(b, st.Accepted)
	return appendBlocks(b, st.Blocks)
}

// ParseReceiverState reads what AppendReceiverState wrote.
func ParseReceiverState(b []byte) (ReceiverState, error) {
	r := stateReader{b: b}
	st := ReceiverState{Incarnation: r.head(receiverTag)}
	st.Accepted = r.spans()
	st.Blocks = r.blocks()
	return st, r.done()
}

func appendSpans(b []byte, s []Range) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	for _, r := range s {
		b = binary.AppendUvarint(b, r.Lo)
		b = binary.AppendUvarint(b, r.Hi)
	}
	return b
}

func appendBlocks(b []byte, blocks []BlockState) []byte {
	b = binary.AppendUvarint(b, uint64(len(blocks)))
	for _, k := range blocks {
		b = binary.AppendUvarint(b, k.ID)
		b = append(b, k.Class)
		b = binary.AppendUvarint(b, uint64(k.Length))
		b = binary.AppendUvarint(b, k.Before)
		b = appendSpans(b, k.Held)
	}
	return b
}

// stateReader takes values from the front of b. After a fault all are 0.
type stateReader struct {
	b   []byte
	bad bool
}

func (r *stateReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *stateReader) head(tag byte) uint64 {
	if len(r.b) < 9 || r.b[0] != tag {
		r.bad, r.b = true, nil
		return 0
	}
	v := binary.BigEndian.Uint64(r.b[1:])
	r.b = r.b[9:]
	return v
}

// length takes the number of items, which are at least size bytes each.
func (r *stateReader) length(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *stateReader) spans() []Range {
	n := r.length(2)
	s := make([]Range, 0, n)
	for range n {
		s = append(s, Range{Lo: r.uvarint(), Hi: r.uvarint()})
	}
	r.bad = r.bad || !spans(s).within(math.MaxInt64)
	return s
}

func (r *stateReader) blocks() []BlockState {
	n := r.length(5)
	blocks := make([]BlockState, 0, n)
	last := uint64(0)
	for range n {
		k := BlockState{ID: r.uvarint()}
		if len(r.b) > 0 {
			k.Class, r.b = r.b[0], r.b[1:]
		}
		length := r.uvarint()
		k.Length = int64(min(length, math.MaxInt64))
		k.Before = r.uvarint()
		k.Held = r.spans()
		if k.ID <= last || k.Class >= packet.NumClasses || length < 1 || length > math.MaxInt64 ||
			k.Before >= k.ID || !spans(k.Held).within(length) {
			r.bad = true
		}
		if r.bad {
			return nil
		}
		last = k.ID
		blocks = append(blocks, k)
	}
	return blocks
}

func (r *stateReader) done() error {
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("%w: begin without it, the peer sends again what is missing", ErrState)
	}
	return nil
}
