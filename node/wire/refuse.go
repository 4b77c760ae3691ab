package wire

import (
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// Refuse says that custody of one transfer was not taken. It precedes every
// Ack that would cover the transfer.
type Refuse struct {
	Class  bundle.Class
	XID    uint64
	Reason bundle.Reason
}

// Type implements Frame.
func (Refuse) Type() Type { return TypeRefuse }

func (f Refuse) append(dst []byte) []byte {
	dst = cbor.AppendArray(dst, 3)
	dst = cbor.AppendUint(cbor.AppendUint(dst, uint64(f.Class)), f.XID)
	return cbor.AppendUint(dst, uint64(f.Reason))
}

func parseRefuse(r *cbor.Reader) (f Refuse) {
	more := fields(r, 3)
	f.Class, f.XID, f.Reason = readClass(r), readXID(r), readReason(r)
	rest(r, more)
	return f
}
