package wire

import "github.com/farhop/farhop/storeforward/cbor"

// Volatile carries a bundle without custody (MQTT QoS 0): it is never stored
// and never acknowledged.
type Volatile struct {
	Bundle []byte
}

// Type implements Frame.
func (Volatile) Type() Type { return TypeVolatile }

func (f Volatile) append(dst []byte) []byte {
	return cbor.AppendBytes(cbor.AppendArray(dst, 1), f.Bundle)
}

func parseVolatile(r *cbor.Reader) (f Volatile) {
	more := fields(r, 1)
	f.Bundle = r.Bytes()
	rest(r, more)
	return f
}
