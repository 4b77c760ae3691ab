package wire

import (
	"math"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// MaxService is the longest name of a service, in bytes.
const MaxService = 63

// StreamOpen is the first frame on a stream that carries a TCP connection to
// a service; the connection's bytes follow it at once.
type StreamOpen struct {
	Service string // 1 to MaxService bytes
	Dest    addr.Node
	Source  addr.Node // where the connection entered the mesh
	Hops    uint8     // hops it may still take
	ID      uint64    // names the connection at Source
}

// Type implements Frame.
func (StreamOpen) Type() Type { return TypeStreamOpen }

func (f StreamOpen) append(dst []byte) []byte {
	dst = cbor.AppendArray(dst, 5)
	dst = appendClipped(dst, f.Service, MaxService)
	dst = cbor.AppendText(dst, f.Dest.String())
	dst = cbor.AppendText(dst, f.Source.String())
	dst = cbor.AppendUint(dst, uint64(f.Hops))
	return cbor.AppendUint(dst, f.ID)
}

func parseStreamOpen(r *cbor.Reader) (f StreamOpen) {
	more := fields(r, 5)
	at := r.Offset()
	if f.Service = r.TextMax(MaxService); f.Service == "" {
		r.Fail(at, "no service")
	}
	f.Dest = needNode(r, "destination")
	f.Source = needNode(r, "source")
	f.Hops = uint8(r.UintMax(math.MaxUint8))
	f.ID = r.Uint()
	rest(r, more)
	return f
}

// StreamReply answers a StreamOpen: the service's node has a connection to
// the endpoint, or why there is none. Bytes follow an OK.
type StreamReply struct {
	OK     bool
	Reason bundle.Reason
	Text   string // for people, at most MaxText bytes
}

// Type implements Frame.
func (StreamReply) Type() Type { return TypeStreamReply }

func (f StreamReply) append(dst []byte) []byte {
	dst = cbor.AppendBool(cbor.AppendArray(dst, 3), f.OK)
	dst = cbor.AppendUint(dst, uint64(f.Reason))
	return appendClipped(dst, f.Text, MaxText)
}

func parseStreamReply(r *cbor.Reader) (f StreamReply) {
	more := fields(r, 3)
	f.OK, f.Reason, f.Text = r.Bool(), readReason(r), r.TextMax(MaxText)
	rest(r, more)
	return f
}
