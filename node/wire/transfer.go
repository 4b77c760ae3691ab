package wire

import (
	"encoding/binary"
	"slices"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// Transfer offers custody of a bundle. The receiver answers with an Ack that
// covers it once it is durable there, or with a Refuse.
type Transfer struct {
	Class  bundle.Class
	XID    uint64 // contiguous from 1 per session, direction and class, shared with Gap
	Bundle []byte // a whole encoded bundle
}

// Type implements Frame.
func (Transfer) Type() Type { return TypeTransfer }

func (f Transfer) append(dst []byte) []byte {
	dst = appendTransferHead(dst, f.Class, f.XID)
	return cbor.AppendBytes(dst, f.Bundle)
}

func appendTransferHead(dst []byte, c bundle.Class, xid uint64) []byte {
	dst = cbor.AppendArray(dst, 3)
	return cbor.AppendUint(cbor.AppendUint(dst, uint64(c)), xid)
}

// transferSize returns the length of the body of a Transfer.
func transferSize(c bundle.Class, xid uint64, size int) int {
	return 1 + cbor.UintLen(uint64(c)) + cbor.UintLen(xid) + cbor.BytesLen(size)
}

func parseTransfer(r *cbor.Reader) (f Transfer) {
	more := fields(r, 3)
	f.Class, f.XID, f.Bundle = readClass(r), readXID(r), r.Bytes()
	rest(r, more)
	return f
}

// AppendTransfer appends the frame of a Transfer whose bundle is spliced from
// parts as by bundle.AppendBundle, without a copy of the bundle in between.
func AppendTransfer(dst []byte, c bundle.Class, xid uint64, frozen, payloadBlock []byte, hop bundle.Hop) []byte {
	const slack = 192 // frame head and hop blocks, roughly
	dst = slices.Grow(dst, len(frozen)+len(payloadBlock)+slack)
	// The heads hold the length of the bundle, which is known only when the
	// hop blocks are written: so they are written first and then moved.
	start := len(dst)
	dst = bundle.AppendHop(dst, frozen, hop)
	hops := len(dst) - start
	size := len(frozen) + hops + len(payloadBlock) + 2
	body := transferSize(c, xid, size)
	ahead := uvarintLen(uint64(1+body)) + 1 + body - size + 1 + len(frozen)
	dst = slices.Grow(dst, ahead)[:start+ahead+hops]
	copy(dst[start+ahead:], dst[start:start+hops])

	head := binary.AppendUvarint(dst[:start], uint64(1+body))
	head = appendTransferHead(append(head, byte(TypeTransfer)), c, xid)
	head = cbor.AppendBytesHead(head, size)
	head = append(cbor.AppendArrayStart(head), frozen...)
	return cbor.AppendBreak(append(dst[:len(head)+hops], payloadBlock...))
}
