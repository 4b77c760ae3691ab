package wire

import (
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// Early carries a copy of a bundle in the first flight of a connection, before
// there is a session. It asks for no custody: the sender offers the bundle
// again, as a Transfer, once the session stands.
type Early struct {
	Class  bundle.Class
	Bundle []byte // a whole encoded bundle
}

// Begin follows an early Hello, and what came with it, when the handshake is
// done and the dialler has decided to keep the connection.
type Begin struct{}

// Type implements Frame.
func (Early) Type() Type { return TypeEarly }

// Type implements Frame.
func (Begin) Type() Type { return TypeBegin }

func (f Early) append(dst []byte) []byte {
	return cbor.AppendBytes(cbor.AppendUint(cbor.AppendArray(dst, 2), uint64(f.Class)), f.Bundle)
}

func (Begin) append(dst []byte) []byte { return cbor.AppendArray(dst, 0) }

func parseEarly(r *cbor.Reader) (f Early) {
	more := fields(r, 2)
	f.Class, f.Bundle = readClass(r), r.Bytes()
	rest(r, more)
	return f
}
