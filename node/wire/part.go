package wire

import (
	"math"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// MaxBegun is how many bundles a Hello names that its node has a part of.
const MaxBegun = 16

// PartKey names what a Part is of: the first bytes of the SHA-256 of the
// frozen part of the bundle, which no hop changes.
type PartKey [16]byte

// Begun says that its node has the first Have bytes of a bundle from an
// earlier session, so that they need not be sent again.
type Begun struct {
	Key  PartKey
	Have uint64
}

// Part carries some bytes of a large bundle; all parts of it together are one
// Transfer. What is cut is the frozen part and then the payload block; the
// blocks that this hop adds come with the last part.
type Part struct {
	Class  bundle.Class
	XID    uint64 // of the transfer
	Key    PartKey
	Total  uint64 // bytes of frozen part and payload block
	Frozen uint64 // of them, the frozen part
	Offset uint64
	Data   []byte
	Hops   []byte // encoded blocks; of the last part only
}

// Last reports whether it is the last part.
func (f Part) Last() bool { return f.Offset+uint64(len(f.Data)) == f.Total }

// Type implements Frame.
func (Part) Type() Type { return TypePart }

func (f Part) append(dst []byte) []byte {
	dst = cbor.AppendArray(dst, 8)
	dst = cbor.AppendUint(cbor.AppendUint(dst, uint64(f.Class)), f.XID)
	dst = cbor.AppendBytes(dst, f.Key[:])
	dst = cbor.AppendUint(cbor.AppendUint(dst, f.Total), f.Frozen)
	dst = cbor.AppendUint(dst, f.Offset)
	return cbor.AppendBytes(cbor.AppendBytes(dst, f.Data), f.Hops)
}

func parsePart(r *cbor.Reader) (f Part) {
	more := fields(r, 8)
	at := r.Offset()
	f.Class, f.XID = readClass(r), readXID(r)
	f.Key = readPartKey(r)
	f.Total = r.UintMax(math.MaxUint32)
	f.Frozen, f.Offset = r.UintMax(f.Total), r.UintMax(f.Total)
	f.Data = r.Bytes()
	if hops := r.Bytes(); len(hops) > 0 {
		f.Hops = hops
	}
	if end := f.Offset + uint64(len(f.Data)); end > f.Total || (end == f.Total) != (len(f.Hops) > 0) {
		r.Fail(at, "a part that does not fit its bundle")
	}
	rest(r, more)
	return f
}

func readPartKey(r *cbor.Reader) (k PartKey) {
	at := r.Offset()
	if b := r.Bytes(); copy(k[:], b) != len(k) || len(b) != len(k) {
		r.Fail(at, "a key that has not 16 bytes")
	}
	return k
}

// appendBegun appends the last item of a Hello: nothing in it when the node
// takes no parts, else the version of parts, and what is begun.
func appendBegun(dst []byte, parts bool, all []Begun) []byte {
	if !parts {
		return cbor.AppendArray(dst, 0)
	}
	all = all[:min(len(all), MaxBegun)]
	dst = cbor.AppendUint(cbor.AppendArray(dst, 1+2*len(all)), 1)
	for _, b := range all {
		dst = cbor.AppendUint(cbor.AppendBytes(dst, b.Key[:]), b.Have)
	}
	return dst
}

// parseBegun reads what appendBegun wrote. Of another version of parts nothing
// is known.
func parseBegun(r *cbor.Reader) (parts bool, all []Begun) {
	at := r.Offset()
	n := r.ArrayMin(0)
	if n == 0 {
		return false, nil
	}
	if r.Uint() != 1 {
		r.SkipN(n - 1)
		return false, nil
	}
	if n%2 != 1 || n > 1+2*MaxBegun {
		r.Fail(at, "a list of begun bundles that is too long, or not of pairs")
		return false, nil
	}
	for range n / 2 {
		all = append(all, Begun{Key: readPartKey(r), Have: r.UintMax(math.MaxUint32)})
	}
	return true, all
}
