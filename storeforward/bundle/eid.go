package bundle

import (
	"math"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/cbor"
)

// maxSSP is the longest dtn scheme-specific part accepted, in bytes.
const maxSSP = 1024

// AppendEID appends an endpoint identifier (RFC 9171, section 4.2.5.1). The
// zero EID is written as dtn:none.
func AppendEID(dst []byte, e addr.EID) []byte {
	dst = cbor.AppendArray(dst, 2)
	if e.Scheme() == addr.SchemeIPN {
		node, svc := e.Numbers()
		dst = cbor.AppendArray(cbor.AppendUint(dst, uint64(addr.SchemeIPN)), 2)
		return cbor.AppendUint(cbor.AppendUint(dst, node), svc)
	}
	dst = cbor.AppendUint(dst, uint64(addr.SchemeDTN))
	if e.IsZero() || e == addr.None {
		return cbor.AppendUint(dst, 0)
	}
	return cbor.AppendText(dst, e.SSP())
}

// ReadEID reads an endpoint identifier: dtn, or ipn with two elements or with
// the three of RFC 9758, whose allocator goes into the upper half of the node
// number. Policy, such as what dtn:none may be used for, is the caller's.
func ReadEID(r *cbor.Reader) addr.EID {
	var none addr.EID
	return readEID(r, &none, &none)
}

// readEID is ReadEID with two guesses: when one of them is the EID read, its
// string is used again instead of a new one.
func readEID(r *cbor.Reader, guess, other *addr.EID) addr.EID {
	at := r.Offset()
	outer := r.Array()
	if outer != 2 && outer != cbor.Indefinite {
		r.Fail(at, "want an endpoint identifier, an array of 2 items")
		return addr.EID{}
	}
	var e addr.EID
	switch scheme := r.Uint(); addr.Scheme(min(scheme, math.MaxUint8)) {
	case addr.SchemeDTN:
		e = readDTN(r, guess, other)
	case addr.SchemeIPN:
		e = readIPN(r)
	default:
		r.Fail(at, "an endpoint identifier that is neither dtn nor ipn")
	}
	closeArray(r, outer)
	return e
}

func readDTN(r *cbor.Reader, guess, other *addr.EID) addr.EID {
	at := r.Offset()
	if r.Peek() == cbor.KindUint {
		if r.Uint() != 0 {
			r.Fail(at, "a dtn endpoint that is a number other than 0")
		}
		return addr.None
	}
	ssp := r.Text()
	switch {
	case len(ssp) > len("none") && guess.SSP() == string(ssp):
		return *guess
	case len(ssp) > len("none") && other.SSP() == string(ssp):
		return *other
	case !r.OK():
		return addr.EID{}
	case len(ssp) > maxSSP:
		r.Fail(at, "a dtn endpoint of more than 1024 bytes")
		return addr.EID{}
	case string(ssp) == "none":
		r.Fail(at, "dtn:none written as text instead of 0")
		return addr.EID{}
	}
	e, err := addr.DTN(string(ssp))
	if err != nil {
		r.Fail(at, err.Error())
	}
	return e
}

func readIPN(r *cbor.Reader) addr.EID {
	at := r.Offset()
	n := r.Array()
	first := r.Uint()
	second := r.Uint()
	three := n == 3 || n == cbor.Indefinite && r.Peek() == cbor.KindUint
	if n != 2 && n != 3 && n != cbor.Indefinite {
		r.Fail(at, "want the 2 or 3 numbers of an ipn endpoint")
	}
	if !three {
		closeArray(r, n)
		return addr.IPN(first, second)
	}
	svc := r.Uint()
	if first > math.MaxUint32 || second > math.MaxUint32 {
		r.Fail(at, "an ipn allocator or node number of more than 32 bits")
	}
	closeArray(r, n)
	return addr.IPN(first<<32|second, svc)
}

// closeArray consumes the break of an array read with length n.
func closeArray(r *cbor.Reader, n int) {
	if n == cbor.Indefinite && !r.Break() {
		r.Fail(r.Offset(), "more items than the structure has")
	}
}
