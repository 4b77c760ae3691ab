package bundle

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/cbor"
)

// MaxBlocks is the most blocks accepted in one bundle, the primary among them.
const MaxBlocks = 64

// maxKept is the most blocks beside primary, payload and those that change
// per hop. It leaves room for the latter, so that what was accepted with none
// of them is still accepted after they were added.
const maxKept = MaxBlocks - 5

// View is a parsed bundle. Its slices are views of the parsed bytes, its
// names are copies.
type View struct {
	Raw        []byte // all of it
	Primary    Primary
	PrimaryRaw []byte
	Payload    Block
	Blocks     []Block // all but the primary, in order; the payload is the last

	// What blocks 6, 7 and 10 say; of several of one type, the first. There
	// must be no several (RFC 9171, section 4.4), but that is policy.
	Repeats  Repeats
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

	// Shortest is false when a length or integer outside block data is longer
	// than it has to be (RFC 9171, section 4.1, forbids it; many send it).
	Shortest bool
}

// Repeats says which blocks that occur once occur more than once.
type Repeats uint8

// The blocks that change per hop.
const (
	RepeatsPrevNode Repeats = 1 << iota
	RepeatsAge
	RepeatsHopCount
)

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
// After an error the View holds what was read before it, for people to look
// at and for nothing else.
func (v *View) Parse(b []byte) error {
	v.Raw = b
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
	v := View{Raw: frozen}
	p := parser{r: cbor.NewReader(frozen)}
	p.blocks(&v, false)
	return v, p.err()
}

// blocks reads a primary block and then, when whole, blocks up to the break,
// else blocks up to the end of the data.
func (p *parser) blocks(v *View, whole bool) {
	old, oldPrev, oldNode := v.Primary, v.Prev, v.Mesh.Message.Node
	*v = View{Raw: v.Raw, Blocks: v.Blocks[:0]}
	p.primary(v, &old)
	if v.Blocks == nil {
		v.Blocks = make([]Block, 0, 6) // what most bundles have, in one piece
	}
	seen := numbers{}
	for p.r.OK() {
		at := p.r.Offset()
		if whole && p.r.Break() || !whole && p.r.Len() == 0 {
			break
		}
		if p.section("4.1"); len(v.Blocks)+1 >= MaxBlocks {
			p.r.Fail(at, tooManyBlocks)
			break
		}
		v.Blocks = append(v.Blocks, Block{})
		b := &v.Blocks[len(v.Blocks)-1]
		p.block(b)
		p.section("4.1")
		switch {
		case b.Raw == nil: // cut off, or no block
			v.Blocks = v.Blocks[:len(v.Blocks)-1]
		case !p.r.OK():
		case v.Payload.Raw != nil:
			p.r.Fail(at, "a block after the payload block")
		case !seen.add(b.Number):
			p.r.Fail(at, fmt.Sprintf("block number %d twice or reserved", b.Number))
		case !whole && b.Type == TypePayload:
			p.r.Fail(at, "a payload block among the kept blocks")
		default:
			p.sort(v, b, at, &oldPrev, oldNode)
		}
	}
	p.section("4.1")
	if whole && v.Payload.Raw == nil {
		p.r.Fail(p.r.Offset(), "no payload block")
	}
	v.Shortest = p.r.Shortest()
}

const tooManyBlocks = "more than 64 blocks"

// sort reads into v what a block says that belongs to this package.
func (p *parser) sort(v *View, b *Block, at int, oldPrev *addr.EID, oldNode addr.Node) {
	switch b.Type {
	case TypePayload:
		if b.Number != payloadNumber {
			p.r.Fail(at, "a payload block that is not number 1")
		}
		v.Payload = *b
	case TypePrevNode:
		p.section("4.4.1")
		r := cbor.NewReaderAt(b.Data, p.data)
		prev := readEID(&r, oldPrev, &v.Primary.Source)
		if p.fold(&r); v.Prev.IsZero() {
			v.Prev = prev
		} else {
			v.Repeats |= RepeatsPrevNode
		}
	case TypeAge:
		p.section("4.4.2")
		r := cbor.NewReaderAt(b.Data, p.data)
		age := duration(r.Uint())
		if p.fold(&r); !v.HasAge {
			v.Age, v.HasAge = age, true
		} else {
			v.Repeats |= RepeatsAge
		}
	case TypeHopCount:
		p.section("4.4.3")
		p.hopCount(v, b.Data)
	default:
		if p.kept++; p.kept > maxKept {
			p.r.Fail(at, tooManyBlocks)
		}
		if b.Type == TypeMesh {
			p.mesh(v, b.Data, oldNode)
		}
	}
}

// mesh reads a mesh block. Of two none is ours: a farhop node writes one.
func (p *parser) mesh(v *View, data []byte, oldNode addr.Node) {
	if v.HasMesh || v.MeshErr != nil {
		v.Mesh, v.HasMesh = MeshInfo{}, false
		v.MeshErr = &ParseError{Offset: p.data, Section: meshSection, Msg: "a second mesh block"}
		return
	}
	v.Mesh, v.MeshErr = readMesh(data, p.data, &v.Primary, oldNode)
	v.HasMesh = v.MeshErr == nil
}

func (p *parser) hopCount(v *View, data []byte) {
	r := cbor.NewReaderAt(data, p.data)
	n := r.Array()
	limit, count := r.Uint(), r.Uint()
	closeArray(&r, n)
	if n != 2 && n != cbor.Indefinite || limit < 1 || limit > math.MaxUint8 {
		r.Fail(p.data, "want a hop limit from 1 to 255 and a hop count")
	}
	if p.fold(&r); v.HopLimit == 0 {
		v.HopLimit, v.HopCount = uint8(limit), uint8(min(count, math.MaxUint8))
	} else {
		v.Repeats |= RepeatsHopCount
	}
}

// duration returns milliseconds as a Duration, cut to the largest.
func duration(ms uint64) time.Duration {
	return time.Duration(min(ms, math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
}

// Unprocessable returns the first block of unknown type whose flags demand
// that the bundle be deleted (RFC 9171, section 5.6, step 4).
func (v *View) Unprocessable() (Block, bool) {
	for i := range v.Blocks {
		if b := &v.Blocks[i]; b.Flags&BlockDeleteBundle != 0 && !b.Known() {
			return *b, true
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
