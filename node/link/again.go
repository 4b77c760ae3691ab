package link

import (
	"errors"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Payload reads the payload block of a transfer once more, to repair what a
// link lost of it long after it was sent. ErrGone says that custody of the
// bundle ended meanwhile.
type Payload func() ([]byte, error)

// ErrGone is returned by a Payload whose bundle is not in custody any more:
// the peer has it, or nobody wants it.
var ErrGone = errors.New("custody of the bundle has ended")

// stored is a transfer whose frames can be made again, byte by byte.
type stored struct {
	class   bundle.Class
	xid     uint64
	frozen  []byte
	hop     bundle.Hop
	parts   *parted // nil: it goes as a whole
	payload Payload
}

// append appends the frame that is a part of it, or all of it.
func (t *stored) append(dst []byte, part int, payload []byte) []byte {
	if t.parts != nil {
		return wire.Append(dst, t.parts.part(part, payload))
	}
	return wire.AppendTransfer(dst, t.class, t.xid, t.frozen, payload, t.hop)
}

// origin is where a frame in a lane comes from.
type origin struct {
	end  int     // of the frame among the lane's bytes
	of   *stored // nil: it cannot be made again
	part int
}
