package wire

import (
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// Ack says that custody is durable here for every transfer of the class up to
// XID that was not refused. The sender releases them.
type Ack struct {
	Class bundle.Class
	XID   uint64
}

// Type implements Frame.
func (Ack) Type() Type { return TypeAck }

func (f Ack) append(dst []byte) []byte {
	dst = cbor.AppendArray(dst, 2)
	return cbor.AppendUint(cbor.AppendUint(dst, uint64(f.Class)), f.XID)
}

func parseAck(r *cbor.Reader) (f Ack) {
	more := fields(r, 2)
	f.Class, f.XID = readClass(r), readXID(r)
	rest(r, more)
	return f
}
