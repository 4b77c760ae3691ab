package wire

import (
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// Gap is the obituary of a bundle that ended on its way. It travels in the
// bundle's place, with custody like one, so that the consumer stops waiting
// for it and the order of what follows can go on.
type Gap struct {
	Class   bundle.Class
	XID     uint64 // as in Transfer
	Origin  addr.Node
	Dest    addr.EID
	Bundle  bundle.Sequence
	DSeq    uint64 // the place in the order from Origin to Dest that stays empty
	Message bundle.ID
	Reason  bundle.Reason
	Hops    uint8 // nodes it has visited, as in the hop count block of a bundle
	Report  bool  // the consumer is to tell the publisher's node of it
}

// Type implements Frame.
func (Gap) Type() Type { return TypeGap }

func (f Gap) append(dst []byte) []byte {
	items := 10
	if f.Report {
		items++ // left out when it says nothing
	}
	dst = cbor.AppendArray(dst, items)
	dst = cbor.AppendUint(dst, uint64(f.Class))
	dst = cbor.AppendUint(dst, f.XID)
	dst = cbor.AppendText(dst, f.Origin.String())
	dst = bundle.AppendEID(dst, f.Dest)
	dst = cbor.AppendUint(dst, uint64(f.Bundle))
	dst = cbor.AppendUint(dst, f.DSeq)
	name := f.Message.Node.String()
	if f.Message.Node == f.Origin {
		name = ""
	}
	dst = cbor.AppendText(dst, name)
	dst = cbor.AppendUint(dst, uint64(f.Message.Seq))
	dst = cbor.AppendUint(dst, uint64(f.Reason))
	dst = cbor.AppendUint(dst, uint64(f.Hops))
	if f.Report {
		dst = cbor.AppendNull(dst)
	}
	return dst
}

func parseGap(r *cbor.Reader) (f Gap) {
	more := fields(r, 10)
	f.Class, f.XID = readClass(r), readXID(r)
	f.Origin = needNode(r, "origin")
	f.Dest = bundle.ReadEID(r)
	f.Bundle = readSequence(r)
	f.DSeq = r.Uint()
	if f.Message.Node = readNode(r); f.Message.Node.IsZero() {
		f.Message.Node = f.Origin
	}
	f.Message.Seq = readSequence(r)
	f.Reason = readReason(r)
	f.Hops = uint8(r.UintMax(255))
	if more > 0 && r.Null() {
		f.Report = true
		more--
	}
	rest(r, more)
	return f
}
