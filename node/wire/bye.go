package wire

import "github.com/farhop/farhop/storeforward/cbor"

// MaxText is the longest text of Bye and StreamReply, in bytes.
const MaxText = 256

// Bye ends a session in peace and says why, for the peer's log.
type Bye struct {
	Reason string // at most MaxText bytes
}

// Type implements Frame.
func (Bye) Type() Type { return TypeBye }

func (f Bye) append(dst []byte) []byte {
	return appendClipped(cbor.AppendArray(dst, 1), f.Reason, MaxText)
}

func parseBye(r *cbor.Reader) (f Bye) {
	more := fields(r, 1)
	f.Reason = r.TextMax(MaxText)
	rest(r, more)
	return f
}
