package bundle

import (
	"errors"
	"fmt"

	"github.com/farhop/farhop/storeforward/cbor"
)

// Block types (RFC 9171, section 9.1).
const (
	TypePayload  = 1
	TypePrevNode = 6
	TypeAge      = 7
	TypeHopCount = 10
	TypeMesh     = 193 // from the range for private use

	// Not read here, but known to be security (RFC 9172, section 11.1).
	TypeIntegrity       = 11
	TypeConfidentiality = 12
)

// Block processing control flags (RFC 9171, section 4.2.4). Others are
// ignored.
const (
	BlockReplicate    = 1 << 0 // in every fragment
	BlockReport       = 1 << 1 // report when it cannot be processed
	BlockDeleteBundle = 1 << 2 // delete the bundle when it cannot be processed
	BlockDiscard      = 1 << 4 // leave it out when it cannot be processed
)

// Block is a canonical block (RFC 9171, section 4.3.2).
type Block struct {
	Type    uint64
	Number  uint64
	Flags   uint64
	CRCType CRCType // as received; AppendBlock writes CRC32C whatever it is
	Data    []byte  // the block-type-specific data, a view
	Raw     []byte  // the whole encoded block, a view
}

// Known reports whether this package understands blocks of the type.
func (b *Block) Known() bool {
	switch b.Type {
	case TypePayload, TypePrevNode, TypeAge, TypeHopCount, TypeMesh:
		return true
	}
	return false
}

// Hop reports whether the block changes at every hop.
func (b *Block) Hop() bool {
	return b.Type == TypePrevNode || b.Type == TypeAge || b.Type == TypeHopCount
}

// AppendBlock appends a block with CRC32C from its Type, Number, Flags and
// Data.
func AppendBlock(dst []byte, b Block) []byte {
	b.CRCType = CRC32C
	return AppendBlockAs(dst, b)
}

// AppendBlockAs is AppendBlock with the block's own CRCType: for blocks that
// replace a received one.
func AppendBlockAs(dst []byte, b Block) []byte {
	start := len(dst)
	dst = append(AppendBlockHead(dst, b, len(b.Data)), b.Data...)
	return AppendCRC(dst, b.CRCType, BlockCRC(b.CRCType, dst[start:]))
}

// AppendBlockHead appends all of a block that comes before its data of n
// bytes.
func AppendBlockHead(dst []byte, b Block, n int) []byte {
	items := 5
	if b.CRCType != CRCNone {
		items = 6
	}
	dst = cbor.AppendArray(dst, items)
	dst = cbor.AppendUint(dst, b.Type)
	dst = cbor.AppendUint(dst, b.Number)
	dst = cbor.AppendUint(dst, b.Flags)
	dst = cbor.AppendUint(dst, uint64(b.CRCType))
	return cbor.AppendBytesHead(dst, n)
}

// AppendPayload appends a payload block.
func AppendPayload(dst, data []byte) []byte {
	return AppendBlock(dst, Block{Type: TypePayload, Number: payloadNumber, Data: data})
}

// PayloadOverhead is the most that a payload block is longer than its data.
const PayloadOverhead = 5 + 9 + crc32cLen

// PayloadData verifies an encoded payload block, such as the store returns,
// and returns a view of its data.
func PayloadData(block []byte) ([]byte, error) {
	p := parser{r: cbor.NewReader(block)}
	var b Block
	p.block(&b)
	if b.Type != TypePayload {
		p.r.Fail(0, fmt.Sprintf("a block of type %d instead of the payload", b.Type))
	}
	p.r.End()
	if err := p.err(); err != nil {
		return nil, err
	}
	return b.Data, nil
}

const payloadNumber = 1

// ParseError says what makes bytes no bundle, where, and by which section of
// RFC 9171.
type ParseError struct {
	Offset  int
	Section string
	Msg     string
}

// WrongCRC is the Msg of the ParseError for a block whose checksum does not
// fit. That block is the last in the View.
const WrongCRC = "wrong CRC"

// Error implements error.
func (e *ParseError) Error() string {
	return fmt.Sprintf("malformed bundle at byte %d (RFC 9171, section %s): %s", e.Offset, e.Section, e.Msg)
}

// parser is a reader that remembers which section of RFC 9171 it reads by.
type parser struct {
	r    cbor.Reader
	sec  string
	data int // offset of the data of the last block read
	kept int // blocks that travel on unchanged
}

func (p *parser) section(s string) {
	if p.r.OK() {
		p.sec = s
	}
}

func (p *parser) err() error {
	if p.r.OK() {
		return nil // without a search: this is the common case
	}
	e, ok := errors.AsType[*cbor.Error](p.r.Err())
	if !ok {
		return nil
	}
	return &ParseError{Offset: e.Offset, Section: p.sec, Msg: e.Msg}
}

// fold takes over the error of a reader of nested data.
func (p *parser) fold(nested *cbor.Reader) {
	nested.End()
	if nested.OK() {
		return
	}
	if e, ok := errors.AsType[*cbor.Error](nested.Err()); ok {
		p.r.Fail(e.Offset, e.Msg)
	}
}

// block reads one canonical block and verifies its CRC.
func (p *parser) block(b *Block) {
	r := &p.r
	p.section("4.3.2")
	start := r.Offset()
	n := r.Array()
	b.Type, b.Number, b.Flags = r.Uint(), r.Uint(), r.Uint()
	b.CRCType = p.crcType()
	want := 5
	if b.CRCType != CRCNone {
		want = 6
	}
	if n != cbor.Indefinite && n != want {
		r.Fail(start, "a block whose number of items contradicts its CRC type")
	}
	b.Data = r.Bytes()
	p.data = r.Offset() - len(b.Data)
	b.Raw = p.finish(start, n, b.CRCType)
}

// crcType reads a CRC type.
func (p *parser) crcType() CRCType {
	at := p.r.Offset()
	t := p.r.Uint()
	if t > uint64(CRC32C) {
		p.section("4.2.1")
		p.r.Fail(at, fmt.Sprintf("CRC type %d", t))
		return CRCNone
	}
	return CRCType(t)
}

// finish reads the CRC of the block that began at start as an array of n
// items, verifies it and returns the block's bytes.
func (p *parser) finish(start, n int, t CRCType) []byte {
	r := &p.r
	at := r.Offset()
	var value []byte
	if t != CRCNone {
		p.section("4.2.2")
		if value = r.Bytes(); len(value) != t.size() {
			r.Fail(at, fmt.Sprintf("want a CRC of %d bytes", t.size()))
		}
	}
	offset := r.Offset() - len(value) - start
	closeArray(r, n)
	if !r.OK() {
		return nil
	}
	raw := r.Since(start)
	if !crcOK(t, raw, offset) {
		r.Fail(at, WrongCRC)
	}
	return raw
}
