package wire

import "github.com/farhop/farhop/storeforward/cbor"

// Ping asks for a Pong with the same stamp, which means nothing to the peer.
type Ping struct {
	Stamp uint64
}

// Pong answers a Ping.
type Pong struct {
	Stamp uint64
}

// Type implements Frame.
func (Ping) Type() Type { return TypePing }

// Type implements Frame.
func (Pong) Type() Type { return TypePong }

func (f Ping) append(dst []byte) []byte { return appendStamp(dst, f.Stamp) }

func (f Pong) append(dst []byte) []byte { return appendStamp(dst, f.Stamp) }

func appendStamp(dst []byte, stamp uint64) []byte {
	return cbor.AppendUint(cbor.AppendArray(dst, 1), stamp)
}

func parseStamp(r *cbor.Reader) uint64 {
	more := fields(r, 1)
	stamp := r.Uint()
	rest(r, more)
	return stamp
}
