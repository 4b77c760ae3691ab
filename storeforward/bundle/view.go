package bundle

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/cbor"
)

// MaxBlocks is the most blocks accepted in one bundle.
const MaxBlocks = 64

// maxKept is the most blocks beside primary, payload and those that change
// per hop. It leaves room for the latter, so that what was accepted with none
// of them is still accepted after they were added.
const maxKept = MaxBlocks - 5

// View is a parsed bundle. Its slices are views of the parsed bytes, its
// names are copies.
type View struct {
	Primary    Primary
	PrimaryRaw []byte
	Payload    Block

	Prev     addr.EID      // previous node, zero without the block
	Age      time.Duration // cut to what a Duration holds
	HasAge   bool
	HopLimit uint8 // 0 without a hop count block
	HopCount uint8

	// With HasMesh the source is a farhop node, Mesh.Message has a node, and
	// both sequence numbers have a class that exists.
	Mesh    MeshInfo
	HasMesh bool
	MeshErr error // there is a block of type 193 that is not ours, or broken

	// Kept are the blocks that travel on unchanged, in order: the mesh block
	// and all that this package does not know.
	Kept []Block
	// Shortest is false when a length or integer outside block data is longer
	// than it has to be (RFC 9171, section 4.1, forbids it; many send it).
	Shortest bool
}

// Parse reads a whole bundle. It verifies structure and CRCs and judges
// nothing: whether a primary block without CRC, a missing age or an unknown
// block is welcome is the caller's policy. Errors are *ParseError.
//
// The outer array has to be of indefinite length (RFC 9171, section 4.1); the
// blocks' own arrays may be. Byte strings in chunks are refused: they could
// not be viewed without a copy.
func Parse(b []byte) (View, error) {
	var v View
	err := v.Parse(b)
	return v, err
}

// Parse is the function Parse into a View used before, whose memory and names
// serve again: a View per link makes parsing its bundles free of garbage.
// After an error the View holds nothing of use.
func (v *View) Parse(b []byte) error {
	p := parser{r: cbor.NewReader(b)}
	p.section("4.1")
	if n := p.r.Array(); n != cbor.Indefinite {
		p.r.Fail(0, "a bundle is an array of indefinite length")
	}
	p.blocks(v, true)
	p.r.End()
	return p.err()
}

// ParseFrozen reads what AppendFrozen wrote or Cut kept: the primary block and
// the blocks that travel unchanged.
func ParseFrozen(frozen []byte) (View, error) {
	var v View
	p := parser{r: cbor.NewReader(frozen)}
	p.blocks(&v, false)
	return v, p.err()
}

// blocks reads a primary block and then, when whole, blocks up to the break,
// else blocks up to the end of the data.
func (p *parser) blocks(v *View, whole bool) {
	old, oldPrev, oldNode := v.Primary, v.Prev, v.Mesh.Message.Node
	*v = View{Kept: v.Kept[:0]}
	p.primary(v, &old)
	seen := numbers{}
	for p.r.Err() == nil {
		at := p.r.Offset()
		if whole && p.r.Break() || !whole && p.r.Len() == 0 {
			break
		}
		b := p.block()
		p.section("4.1")
		if v.Payload.Raw != nil {
			p.r.Fail(at, "a block after the payload block")
		}
		if p.r.Err() == nil && !seen.add(b.Number) {
			p.r.Fail(at, fmt.Sprintf("block number %d twice or reserved", b.Number))
		}
		if !whole && b.Type == TypePayload {
			p.r.Fail(at, "a payload block among the kept blocks")
		}
		p.sort(v, &b, at, &oldPrev, oldNode)
	}
	p.section("4.1")
	if whole && v.Payload.Raw == nil {
		p.r.Fail(p.r.Offset(), "no payload block")
	}
	v.Shortest = p.r.Shortest()
}

// sort puts a block where it belongs in v.
func (p *parser) sort(v *View, b *Block, at int, oldPrev *addr.EID, oldNode addr.Node) {
	if p.r.Err() != nil {
		return
	}
	switch b.Type {
	case TypePayload:
		if b.Number != payloadNumber {
			p.r.Fail(at, "a payload block that is not number 1")
		}
		v.Payload = *b
	case TypePrevNode:
		p.once(!v.Prev.IsZero(), "4.4.1", at)
		r := cbor.NewReaderAt(b.Data, p.data)
		v.Prev = readEID(&r, oldPrev, &v.Primary.Source)
		p.fold(&r)
	case TypeAge:
		p.once(v.HasAge, "4.4.2", at)
		r := cbor.NewReaderAt(b.Data, p.data)
		v.Age, v.HasAge = duration(r.Uint()), true
		p.fold(&r)
	case TypeHopCount:
		p.once(v.HopLimit != 0, "4.4.3", at)
		p.hopCount(v, b.Data)
	case TypeMesh:
		if v.HasMesh || v.MeshErr != nil {
			p.r.Fail(at, "a second mesh block")
		}
		v.Mesh, v.MeshErr = readMesh(b.Data, p.data, &v.Primary, oldNode)
		v.HasMesh = v.MeshErr == nil
		p.keep(v, b, at)
	default:
		p.keep(v, b, at)
	}
}

func (p *parser) keep(v *View, b *Block, at int) {
	if len(v.Kept) == maxKept {
		p.r.Fail(at, fmt.Sprintf("more than %d blocks", MaxBlocks))
		return
	}
	v.Kept = append(v.Kept, *b)
}

// once fails for the second block of a type that occurs once.
func (p *parser) once(again bool, section string, at int) {
	p.section(section)
	if again {
		p.r.Fail(at, "a second block of this type")
	}
}

func (p *parser) hopCount(v *View, data []byte) {
	r := cbor.NewReaderAt(data, p.data)
	n := r.Array()
	limit, count := r.Uint(), r.Uint()
	closeArray(&r, n)
	if n != 2 && n != cbor.Indefinite || limit < 1 || limit > math.MaxUint8 {
		r.Fail(p.data, "want a hop limit from 1 to 255 and a hop count")
	}
	v.HopLimit, v.HopCount = uint8(limit), uint8(min(count, math.MaxUint8))
	p.fold(&r)
}

// duration returns milliseconds as a Duration, cut to the largest.
func duration(ms uint64) time.Duration {
	return time.Duration(min(ms, math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
}

// Unprocessable returns the first block of unknown type whose flags demand
// that the bundle be deleted (RFC 9171, section 5.6, step 4).
func (v *View) Unprocessable() (Block, bool) {
	for _, b := range v.Kept {
		if b.Flags&BlockDeleteBundle != 0 && !b.Known() {
			return b, true
		}
	}
	return Block{}, false
}

// numbers is a set of block numbers. 0, the primary block, is always in it.
type numbers struct {
	low  uint64 // those below 64, as bits
	high []uint64
}

// add reports false for a number that is in the set.
func (s *numbers) add(n uint64) bool {
	if n >= 64 {
		if slices.Contains(s.high, n) {
			return false
		}
		s.high = append(s.high, n)
		return true
	}
	if n == 0 || s.low>>n&1 != 0 {
		return false
	}
	s.low |= 1 << n
	return true
}

// free adds and returns the lowest number that is neither in the set nor
// reserved.
func (s *numbers) free() uint64 {
	n := uint64(payloadNumber + 1)
	for !s.add(n) {
		n++
	}
	return n
}
