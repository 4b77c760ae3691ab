package bundle

import (
	"errors"
	"math"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/cbor"
)

// MeshInfo is what the mesh block adds to a bundle. The block never changes
// on the way; the class of the bundle is part of its Sequence.
type MeshInfo struct {
	DSeq    uint64 // contiguous per (source, destination, class) from 1; orders and dedups
	Message ID     // the message carried; its Node is the ingress node, often the source
	QoS     uint8  // MQTT QoS of the publication, 0 to 2
	Groups  string // shared subscriptions that its destination was chosen for, as package core writes them; "" for none
	Count   uint16 // messages carried when the payload is a batch, of which Message is the first; else 0
}

const (
	meshVersion = 1
	meshNumber  = 2
	meshSection = "9.1, mesh block"
)

// appendMesh appends the mesh block of a bundle made by source.
func appendMesh(dst []byte, source addr.EID, m MeshInfo) []byte {
	name := m.Message.Node.String()
	if n, _, _ := source.Node(); n == m.Message.Node {
		name = "" // the usual case, and names are long
	}
	var scratch [96]byte
	n := 5
	switch {
	case m.Groups != "":
		n = 7
	case m.Count > 0:
		n = 6
	}
	d := cbor.AppendArray(scratch[:0], n)
	d = cbor.AppendUint(d, meshVersion)
	d = cbor.AppendUint(d, m.DSeq)
	d = cbor.AppendText(d, name)
	d = cbor.AppendUint(d, uint64(m.Message.Seq))
	d = cbor.AppendUint(d, uint64(m.QoS))
	if n > 5 {
		d = cbor.AppendUint(d, uint64(m.Count))
	}
	if n > 6 {
		d = append(cbor.AppendBytesHead(d, len(m.Groups)), m.Groups...)
	}
	return AppendBlock(dst, Block{Type: TypeMesh, Number: meshNumber, Flags: BlockReplicate, Data: d})
}

// readMesh reads the data of a mesh block in a bundle with primary block p.
// old is a guess of its message node.
func readMesh(data []byte, offset int, p *Primary, old addr.Node) (m MeshInfo, err error) {
	r := cbor.NewReaderAt(data, offset)
	n := r.ArrayMin(5)
	if r.Uint() != meshVersion {
		r.Fail(offset, "not version 1 of the mesh block")
	}
	m.DSeq = r.Uint()
	at := r.Offset()
	name := r.Text()
	m.Message.Seq = Sequence(r.Uint())
	m.QoS = uint8(r.UintMax(2))
	if n > 5 {
		m.Count = uint16(r.UintMax(math.MaxUint16))
		n--
	}
	if n > 5 {
		m.Groups = string(r.Bytes())
		n--
	}
	r.SkipN(n - 5)
	r.End()
	maker := p.ID()
	switch {
	case r.Err() != nil:
	case maker.Node.IsZero():
		r.Fail(offset, "a mesh block in a bundle whose source is no farhop node")
	case m.Message.Seq.Class() >= NumClasses || maker.Seq.Class() >= NumClasses:
		r.Fail(offset, "a sequence number of a class that does not exist")
	case len(name) == 0:
		m.Message.Node = maker.Node
	case string(name) == old.String():
		m.Message.Node = old
	default:
		m.Message.Node, err = addr.ParseNode(string(name))
		if err != nil {
			r.Fail(at, err.Error())
		}
	}
	if r.Err() == nil {
		return m, nil
	}
	if e, ok := errors.AsType[*cbor.Error](r.Err()); ok {
		return MeshInfo{}, &ParseError{Offset: e.Offset, Section: meshSection, Msg: e.Msg}
	}
	return m, nil
}
