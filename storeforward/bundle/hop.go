package bundle

import (
	"slices"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/cbor"
)

// Hop is what changes each time a bundle is forwarded. It travels in blocks
// of its own (RFC 9171, section 4.4), which Cut takes out and AppendBundle
// puts in.
type Hop struct {
	Prev     addr.EID      // the node that sends; zero: no previous node block
	Age      time.Duration // since creation, sent in whole milliseconds
	NoAge    bool          // no bundle age block
	HopLimit uint8         // 0: no hop count block
	HopCount uint8
}

// AppendFrozen appends the part of a new bundle that no hop changes: the
// primary block and the mesh block.
func AppendFrozen(dst []byte, p *Primary, m MeshInfo) []byte {
	return appendMesh(AppendPrimary(dst, p), p.Source, m)
}

// AppendBundle appends a whole bundle: frozen (of AppendFrozen or Cut), the
// blocks of hop, and the encoded payload block (of AppendPayload or Cut).
// Nothing of frozen and payload is decoded or encoded again, so their CRCs
// stay as their makers set them.
func AppendBundle(dst, frozen, payloadBlock []byte, hop Hop) []byte {
	dst = slices.Grow(dst, len(frozen)+len(payloadBlock)+hopSize)
	dst = cbor.AppendArrayStart(dst)
	dst = append(dst, frozen...)
	dst = AppendHop(dst, frozen, hop)
	dst = append(dst, payloadBlock...)
	return cbor.AppendBreak(dst)
}

// Splice is AppendBundle with blocks of a hop that are encoded already, as by
// AppendHop.
func Splice(frozen, hops, payloadBlock []byte) []byte {
	out := cbor.AppendArrayStart(make([]byte, 0, len(frozen)+len(hops)+len(payloadBlock)+2))
	out = append(append(out, frozen...), hops...)
	return cbor.AppendBreak(append(out, payloadBlock...))
}

// hopSize is what the blocks of most hops need.
const hopSize = 128

// AppendHop appends the blocks of hop, numbered apart from those in frozen.
func AppendHop(dst, frozen []byte, hop Hop) []byte {
	used := usedNumbers(frozen)
	var scratch [96]byte
	if !hop.Prev.IsZero() {
		d := AppendEID(scratch[:0], hop.Prev)
		dst = AppendBlock(dst, Block{Type: TypePrevNode, Number: used.free(), Data: d})
	}
	// A fragment without age or hop count could not be judged by itself.
	if !hop.NoAge {
		d := cbor.AppendUint(scratch[:0], uint64(max(hop.Age, 0)/time.Millisecond))
		dst = AppendBlock(dst, Block{Type: TypeAge, Number: used.free(), Flags: BlockReplicate, Data: d})
	}
	if hop.HopLimit != 0 {
		d := cbor.AppendArray(scratch[:0], 2)
		d = cbor.AppendUint(cbor.AppendUint(d, uint64(hop.HopLimit)), uint64(hop.HopCount))
		dst = AppendBlock(dst, Block{Type: TypeHopCount, Number: used.free(), Flags: BlockReplicate, Data: d})
	}
	return dst
}

// usedNumbers returns the block numbers in frozen, which was parsed or made
// here before.
func usedNumbers(frozen []byte) (used numbers) {
	used.add(payloadNumber)
	r := cbor.NewReader(frozen)
	for r.Skip(); r.Len() > 0 && r.Err() == nil; {
		n := r.Array()
		r.Skip() // type
		number := r.Uint()
		if n == cbor.Indefinite {
			for r.Err() == nil && !r.Break() {
				r.Skip()
			}
		} else {
			r.SkipN(n - 2)
		}
		used.add(number)
	}
	return used
}

// Cut takes a received bundle apart into what is stored once per destination,
// what is stored once per message, and what the next hop writes anew. frozen
// is a copy, payloadBlock a view of the parsed bytes; both are byte for byte
// as received. Blocks of unknown type that ask to be discarded are left out
// (RFC 9171, section 5.6, step 4).
func Cut(v *View) (frozen, payloadBlock []byte, hop Hop) {
	size := len(v.PrimaryRaw)
	for i := range v.Blocks {
		if b := &v.Blocks[i]; b.frozen() {
			size += len(b.Raw)
		}
	}
	frozen = append(make([]byte, 0, size), v.PrimaryRaw...)
	for i := range v.Blocks {
		if b := &v.Blocks[i]; b.frozen() {
			frozen = append(frozen, b.Raw...)
		}
	}
	return frozen, v.Payload.Raw, Hop{
		Prev: v.Prev, Age: v.Age, NoAge: !v.HasAge, HopLimit: v.HopLimit, HopCount: v.HopCount,
	}
}

// frozen reports whether the block belongs into the part no hop changes.
func (b *Block) frozen() bool {
	return b.Type == TypeMesh || !b.Known() && b.Flags&BlockDiscard == 0
}
