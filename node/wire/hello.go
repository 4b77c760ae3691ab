package wire

import (
	"math"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/cbor"
)

// MaxSoftware is the longest Hello.Software, in bytes.
const MaxSoftware = 64

// MaxUplink is the longest Hello.Uplink, in bytes.
const MaxUplink = 32

// ValidUplink reports whether a text may name a link: letters, digits, and any of
// -_. between them; "" is no name, and valid.
func ValidUplink(s string) bool {
	for i, r := range []byte(s) {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || r != '-' && r != '_' && r != '.') {
			return false
		}
	}
	return len(s) <= MaxUplink
}

// Hello is the first frame in both directions of a session. Its claims count
// only as far as the peer's certificate bears them out.
type Hello struct {
	Version     uint16 // of this protocol
	Node        addr.Node
	Region      addr.Region
	Incarnation uint32 // of the node's store; another one has no custody of what was handed to the last
	Boot        uint64 // rises with each start of the node
	MaxFrame    uint32 // the largest frame it accepts, type and body, in bytes
	Software    string // for people, at most MaxSoftware bytes
	Salvo       Salvo
	Parts       bool    // it takes large bundles in parts
	Begun       []Begun // bundles it has parts of, at most MaxBegun; with Parts
	Early       bool    // said in the first flight of a connection: Early frames and a Begin follow
	Epoch       uint64  // a listener's name for the session; in the next first flight the dialler says it back
	Uplink      string  // the dialler's name for one of several links of the two, at most MaxUplink bytes; "" for the only one
}

// Type implements Frame.
func (Hello) Type() Type { return TypeHello }

func (f Hello) append(dst []byte) []byte {
	dst = cbor.AppendArray(dst, 12)
	dst = cbor.AppendUint(dst, uint64(f.Version))
	dst = cbor.AppendText(dst, f.Node.String())
	dst = cbor.AppendText(dst, f.Region.String())
	dst = cbor.AppendUint(dst, uint64(f.Incarnation))
	dst = cbor.AppendUint(dst, f.Boot)
	dst = cbor.AppendUint(dst, uint64(f.MaxFrame))
	dst = appendBegun(f.Salvo.append(appendClipped(dst, f.Software, MaxSoftware)), f.Parts, f.Begun)
	dst = cbor.AppendUint(cbor.AppendBool(dst, f.Early), f.Epoch)
	return appendClipped(dst, f.Uplink, MaxUplink)
}

func parseHello(r *cbor.Reader) (f Hello) {
	more := fields(r, 7)
	f.Version = uint16(r.UintMax(math.MaxUint16))
	f.Node = needNode(r, "sending")
	f.Region = readRegion(r)
	f.Incarnation = uint32(r.UintMax(math.MaxUint32))
	f.Boot = r.Uint()
	f.MaxFrame = uint32(r.UintMax(math.MaxUint32))
	f.Software = r.TextMax(MaxSoftware)
	if more > 0 { // 0.1 had none
		f.Salvo = parseSalvo(r)
		more--
	}
	if more > 0 {
		f.Parts, f.Begun = parseBegun(r)
		more--
	}
	if more > 0 {
		f.Early = r.Bool()
		more--
	}
	if more > 0 {
		f.Epoch = r.Uint()
		more--
	}
	if more > 0 {
		f.Uplink = r.TextMax(MaxUplink)
		more--
	}
	rest(r, more)
	return f
}
