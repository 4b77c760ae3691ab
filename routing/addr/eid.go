package addr

import (
	"fmt"
	"strconv"
	"strings"
)

// Scheme is the URI scheme of an EID, with the code of RFC 9171, section 9.6.
type Scheme uint8

// The schemes of RFC 9171. A zero Scheme is the zero EID.
const (
	SchemeDTN Scheme = 1
	SchemeIPN Scheme = 2
)

// EID is an endpoint identifier (RFC 9171, section 4.2.5.1). The zero EID is
// invalid; the null endpoint is None.
type EID struct {
	scheme Scheme
	ssp    string // dtn: "none" or "//node/demux"
	node   uint64 // ipn
	svc    uint64 // ipn
}

// None is the null endpoint dtn:none.
var None = EID{scheme: SchemeDTN, ssp: "none"}

// NodeEID names a service of one node: dtn://NODE/SERVICE.
func NodeEID(n Node, service string) EID {
	return EID{scheme: SchemeDTN, ssp: "//" + n.s + "/" + service}
}

// RegionEID names a service of a region as a whole, a non-singleton endpoint
// (demux starts with '~'): dtn://earth.eu/~SERVICE for region earth/eu.
func RegionEID(r Region, service string) EID {
	return EID{scheme: SchemeDTN, ssp: "//" + strings.ReplaceAll(r.s, "/", ".") + "/~" + service}
}

// DTN makes a dtn EID from its scheme-specific part, "none" or "//node/demux".
func DTN(ssp string) (EID, error) {
	if ssp == "none" {
		return None, nil
	}
	if !strings.HasPrefix(ssp, "//") || strings.IndexByte(ssp[2:], '/') < 1 {
		return EID{}, fmt.Errorf("EID dtn:%s: %w: want dtn:none or dtn://NODE/SERVICE", clip(ssp), ErrName)
	}
	for i := range len(ssp) {
		if ssp[i] <= ' ' || ssp[i] >= 0x7f {
			return EID{}, fmt.Errorf("EID dtn:%q: %w: not printable ASCII", clip(ssp), ErrName)
		}
	}
	return EID{scheme: SchemeDTN, ssp: ssp}, nil
}

// IPN makes the ipn EID of a node number and a service number.
func IPN(node, service uint64) EID { return EID{scheme: SchemeIPN, node: node, svc: service} }

// ParseEID reads the text form, "dtn:none", "dtn://NODE/SERVICE" or
// "ipn:NODE.SERVICE".
func ParseEID(s string) (EID, error) {
	if rest, ok := strings.CutPrefix(s, "dtn:"); ok {
		return DTN(rest)
	}
	if rest, ok := strings.CutPrefix(s, "ipn:"); ok {
		a, b, _ := strings.Cut(rest, ".")
		n, err1 := strconv.ParseUint(a, 10, 64)
		v, err2 := strconv.ParseUint(b, 10, 64)
		if err1 == nil && err2 == nil {
			return IPN(n, v), nil
		}
	}
	return EID{}, fmt.Errorf("EID %q: %w: want dtn:none, dtn://NODE/SERVICE or ipn:NODE.SERVICE", clip(s), ErrName)
}

// Scheme returns the scheme, 0 for the zero EID.
func (e EID) Scheme() Scheme { return e.scheme }

// SSP returns the scheme-specific part of a dtn EID.
func (e EID) SSP() string { return e.ssp }

// Numbers returns the node and service numbers of an ipn EID.
func (e EID) Numbers() (node, service uint64) { return e.node, e.svc }

// IsZero reports whether e is no EID at all (dtn:none is not zero).
func (e EID) IsZero() bool { return e.scheme == 0 }

// Node returns the node of a dtn singleton EID whose name is a farhop node
// name, and its service.
func (e EID) Node() (n Node, service string, ok bool) {
	name, demux, ok := e.split()
	if !ok || strings.HasPrefix(demux, "~") {
		return Node{}, "", false
	}
	n, err := ParseNode(name)
	return n, demux, err == nil
}

// Region returns the region of an EID made by RegionEID, and its service.
func (e EID) Region() (r Region, service string, ok bool) {
	name, demux, ok := e.split()
	if !ok || !strings.HasPrefix(demux, "~") {
		return Region{}, "", false
	}
	r, err := ParseRegion(strings.ReplaceAll(name, ".", "/"))
	return r, demux[1:], err == nil
}

func (e EID) split() (name, demux string, ok bool) {
	if e.scheme != SchemeDTN || !strings.HasPrefix(e.ssp, "//") {
		return "", "", false
	}
	return strings.Cut(e.ssp[2:], "/")
}

// String returns the URI.
func (e EID) String() string {
	switch e.scheme {
	case SchemeDTN:
		return "dtn:" + e.ssp
	case SchemeIPN:
		return fmt.Sprintf("ipn:%d.%d", e.node, e.svc)
	}
	return ""
}

// MarshalText implements encoding.TextMarshaler.
func (e EID) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Empty text is the zero EID.
func (e *EID) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*e = EID{}
		return nil
	}
	*e, err = ParseEID(string(b))
	return err
}
