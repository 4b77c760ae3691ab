package bpa

import (
	"math"
	"slices"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// Parts are the bytes of one bundle in pieces, to be written one after the
// other. Pieces that did not change are views of the bundle they came from.
type Parts [][]byte

// Len returns the length of the bundle.
func (p Parts) Len() (n int) {
	for _, b := range p {
		n += len(b)
	}
	return n
}

// Join copies the pieces into one.
func (p Parts) Join() []byte { return slices.Concat(p...) }

// Transit is what a node adds to a bundle that passes through it.
type Transit struct {
	Prev    addr.EID      // this node, for the previous node block; zero: send none
	Elapsed time.Duration // how long the bundle was here and on the way here
}

// Forward returns a received bundle as it leaves for the next node (RFC 9171,
// sections 5.4 and 5.6): the previous node block is this node's, the age has
// grown, the hop is counted, blocks that ask to be discarded where they are not
// known are gone. All other blocks are as they came, byte for byte and in their
// order, and blocks that changed keep number, flags and kind of CRC. The
// payload is neither read nor copied.
//
// A bundle whose hops or lifetime are used up, or with a block that asks for
// its deletion, is not forwarded: Parts is nil and Faults say why. The rest of
// the policy is not checked again.
func Forward(v *bundle.View, t Transit) (Parts, Faults) {
	if f := spent(v, t); f != 0 {
		return nil, f
	}
	e := editor{v: v, t: t, scratch: make([]byte, 0, scratchSize), parts: make(Parts, 0, 8)}
	const head = 1 // of the outer array
	e.run(0, head+len(v.PrimaryRaw))
	if v.Prev.IsZero() && !t.Prev.IsZero() {
		e.fresh(bundle.Block{Type: bundle.TypePrevNode, Number: freeNumber(v), CRCType: bundle.CRC32C})
	}
	at := head + len(v.PrimaryRaw)
	var seen bundle.Repeats
	for i := range v.Blocks {
		b := &v.Blocks[i]
		switch bit := hopBit(b.Type); {
		case bit != 0 && seen&bit != 0: // the second of a kind that occurs once
		case b.Type == bundle.TypePrevNode && t.Prev.IsZero():
		case bit != 0:
			seen |= bit
			e.fresh(*b)
		case b.Known() || b.Flags&bundle.BlockDiscard == 0:
			e.run(at, at+len(b.Raw))
		}
		at += len(b.Raw)
	}
	e.run(at, len(v.Raw))
	return e.done(), 0
}

// spent finds why a bundle must not go on.
func spent(v *bundle.View, t Transit) (f Faults) {
	if v.HopLimit != 0 && v.HopCount >= v.HopLimit {
		f |= HopLimit
	}
	if v.HasAge && uint64(grown(v, t)/time.Millisecond) > v.Primary.Lifetime {
		f |= Expired
	}
	if _, deadly := v.Unprocessable(); deadly {
		f |= Unsupported
	}
	return f
}

// grown returns the age with which the bundle leaves, cut to what fits.
func grown(v *bundle.View, t Transit) time.Duration {
	stay := max(t.Elapsed, 0)
	if v.Age > math.MaxInt64-stay {
		return math.MaxInt64
	}
	return v.Age + stay
}

func hopBit(typ uint64) bundle.Repeats {
	switch typ {
	case bundle.TypePrevNode:
		return bundle.RepeatsPrevNode
	case bundle.TypeAge:
		return bundle.RepeatsAge
	case bundle.TypeHopCount:
		return bundle.RepeatsHopCount
	}
	return 0
}

// freeNumber returns the lowest block number that no block of v has.
func freeNumber(v *bundle.View) uint64 {
	var used uint64 // those below 64, as bits; at most bundle.MaxBlocks-1 of them
	for i := range v.Blocks {
		if n := v.Blocks[i].Number; n < 64 {
			used |= 1 << n
		}
	}
	for n := uint64(2); n < 64; n++ {
		if used>>n&1 == 0 {
			return n
		}
	}
	return 64 // 62 blocks have 2 to 63 and the payload has 1: no other is left
}

// scratchSize is what the blocks of most hops need; longer ones grow it.
const scratchSize = 128

// editor makes the pieces of an edited bundle: runs of the old bytes, merged
// where they meet, and blocks written anew into scratch.
type editor struct {
	v        *bundle.View
	t        Transit
	parts    Parts
	scratch  []byte
	from, to int // run of old bytes that is still open
}

// run adds the old bytes from..to.
func (e *editor) run(from, to int) {
	if from == e.to && e.to != 0 {
		e.to = to
		return
	}
	e.close()
	e.from, e.to = from, to
}

func (e *editor) close() {
	if e.to > e.from {
		e.parts = append(e.parts, e.v.Raw[e.from:e.to:e.to])
	}
	e.from, e.to = 0, 0
}

// fresh adds a block of a type that changes per hop in place of b.
func (e *editor) fresh(b bundle.Block) {
	e.close()
	start := len(e.scratch)
	e.scratch = appendHop(e.scratch, b, e.v, e.t)
	end := len(e.scratch)
	e.parts = append(e.parts, e.scratch[start:end:end])
}

func (e *editor) done() Parts {
	e.close()
	return e.parts
}

// appendHop appends block b with what it has to say after the transit.
func appendHop(dst []byte, b bundle.Block, v *bundle.View, t Transit) []byte {
	var data [64]byte
	switch b.Type {
	case bundle.TypePrevNode:
		b.Data = bundle.AppendEID(data[:0], t.Prev)
	case bundle.TypeAge:
		b.Data = cbor.AppendUint(data[:0], uint64(grown(v, t)/time.Millisecond))
	case bundle.TypeHopCount:
		d := cbor.AppendArray(data[:0], 2)
		b.Data = cbor.AppendUint(cbor.AppendUint(d, uint64(v.HopLimit)), uint64(v.HopCount)+1)
	}
	return bundle.AppendBlockAs(dst, b)
}
