package bpa

import (
	"errors"
	"fmt"
	"slices"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// MaxFragments is the most pieces one bundle is divided into at one node.
const MaxFragments = 1 << 16

// ErrWhole is the cause of a bundle that must not be divided.
var ErrWhole = errors.New("the bundle must not be divided")

// Fragment returns a received bundle as it leaves for the next node, in
// fragments of at most most bytes each (RFC 9171, section 5.8); in one piece, as
// by Forward, when it fits. The payloads are views of the bundle's.
//
// The first fragment has all extension blocks. The others have those that ask
// for it and those that change per hop, without which they could not be judged
// by themselves. Bundles with security blocks are not divided: a fragment of
// one does not verify on the way (RFC 9172, section 5.2); neither are those
// without a CRC on the primary block, whose fragments would have none.
//
// Faults are those of Forward. TooLarge comes with an error that says why the
// bundle cannot be divided, or that most is too small.
func Fragment(v *bundle.View, t Transit, most int) ([]Parts, Faults, error) {
	whole, f := Forward(v, t)
	if f != 0 {
		return nil, f, fmt.Errorf("forward: %s", f)
	}
	if whole.Len() <= most {
		return []Parts{whole}, 0, nil
	}
	if err := divisible(v); err != nil {
		return nil, TooLarge, err
	}
	first, rest := extensions(v, t, true), extensions(v, t, false)
	var out []Parts
	data := v.Payload.Data
	for done := 0; done < len(data); {
		ext := rest
		if done == 0 {
			ext = first
		}
		head := fragmentHead(v, ext, uint64(done))
		n := most - len(head) - payloadOverhead(&v.Payload, most)
		if n < 1 {
			return nil, TooLarge, fmt.Errorf("%d bytes are too few for a fragment with %d bytes of headers", most, len(head))
		}
		if len(out) == MaxFragments {
			return nil, TooLarge, fmt.Errorf("more than %d fragments of %d bytes", MaxFragments, most)
		}
		if n = min(n, len(data)-done); n == len(data) {
			n-- // all of it in one would be no fragment
		}
		out = append(out, fragmentParts(v, head, data[done:done+n]))
		done += n
	}
	return out, 0, nil
}

// divisible says why a bundle must not be divided.
func divisible(v *bundle.View) error {
	p := &v.Primary
	switch {
	case p.Flags&bundle.FlagNoFragment != 0:
		return fmt.Errorf("%w: its flags forbid it (RFC 9171, section 4.2.3)", ErrWhole)
	case bundle.IsNull(p.Source):
		return fmt.Errorf("%w: it has no source (RFC 9171, section 4.2.3)", ErrWhole)
	case p.CRCType == bundle.CRCNone:
		return fmt.Errorf("%w: its primary block has no CRC (RFC 9171, section 4.3.1)", ErrWhole)
	case len(v.Payload.Data) < 2:
		return fmt.Errorf("%w: its payload has fewer than 2 bytes (RFC 9171, section 5.8)", ErrWhole)
	case p.Flags&bundle.FlagFragment != 0 && flags(v).Has(BadFragment):
		return fmt.Errorf("%w: it is a fragment beyond the end of the whole", ErrWhole)
	case slices.ContainsFunc(v.Blocks, func(b bundle.Block) bool {
		return b.Type == bundle.TypeIntegrity || b.Type == bundle.TypeConfidentiality
	}):
		return fmt.Errorf("%w: it has security blocks (RFC 9172, section 5.2)", ErrWhole)
	}
	return nil
}

// extensions returns the encoded extension blocks of the first fragment or of
// the others.
func extensions(v *bundle.View, t Transit, first bool) (out []byte) {
	if !t.Prev.IsZero() && v.Prev.IsZero() {
		out = appendHop(out, bundle.Block{Type: bundle.TypePrevNode, Number: freeNumber(v), CRCType: bundle.CRC32C}, v, t)
	}
	var seen bundle.Repeats
	for i := range v.Blocks {
		b := &v.Blocks[i]
		switch bit := hopBit(b.Type); {
		case b.Type == bundle.TypePayload, bit&seen != 0, b.Type == bundle.TypePrevNode && t.Prev.IsZero():
		case bit != 0:
			seen |= bit
			out = appendHop(out, *b, v, t)
		case !b.Known() && b.Flags&bundle.BlockDiscard != 0:
		case first || b.Flags&bundle.BlockReplicate != 0:
			out = append(out, b.Raw...)
		}
	}
	return out
}

// fragmentHead returns all of a fragment that comes before its payload block.
// offset counts from the start of v's own payload.
func fragmentHead(v *bundle.View, ext []byte, offset uint64) []byte {
	p := v.Primary
	if p.Flags&bundle.FlagFragment == 0 {
		p.Flags |= bundle.FlagFragment
		p.FragOffset, p.TotalLen = 0, uint64(len(v.Payload.Data))
	}
	p.FragOffset += offset
	head := cbor.AppendArrayStart(make([]byte, 0, len(v.PrimaryRaw)+len(ext)+32))
	return append(bundle.AppendPrimaryAs(head, &p), ext...)
}

// payloadOverhead returns what the payload block of a fragment of at most most
// bytes adds to its data, with the break behind it.
func payloadOverhead(b *bundle.Block, most int) int {
	head := 1 + cbor.UintLen(b.Type) + cbor.UintLen(b.Number) + cbor.UintLen(b.Flags) + cbor.UintLen(uint64(b.CRCType))
	crc := len(bundle.AppendCRC(nil, b.CRCType, 0))
	return head + cbor.UintLen(uint64(most)) + crc + 1
}

// fragmentParts joins a head with the payload block of data.
func fragmentParts(v *bundle.View, head, data []byte) Parts {
	b := v.Payload
	start := len(head)
	head = bundle.AppendBlockHead(head, b, len(data))
	crc := bundle.BlockCRC(b.CRCType, head[start:], data)
	tail := cbor.AppendBreak(bundle.AppendCRC(nil, b.CRCType, crc))
	return Parts{head, data, tail}
}
