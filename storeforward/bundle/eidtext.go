package bundle

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/farhop/farhop/routing/addr"
)

// localNode is the ipn node number that means "this node" wherever it is read
// (RFC 9758, section 3.4.2).
const localNode = math.MaxUint32

// IsNull reports whether e is the null endpoint: dtn:none, ipn:0.0, or any
// other service of ipn node 0, which is invalid but has to be taken for null,
// not refused (RFC 9758, section 3.4.1).
func IsNull(e addr.EID) bool {
	if e.Scheme() == addr.SchemeIPN {
		node, _ := e.Numbers()
		return node == 0
	}
	return e.IsZero() || e == addr.None
}

// IsLocalNode reports whether e means the node that reads it. Such an EID has
// no meaning on the way between nodes (RFC 9758, section 5.4).
func IsLocalNode(e addr.EID) bool {
	node, _ := e.Numbers()
	return e.Scheme() == addr.SchemeIPN && node == localNode
}

// IsSingleton reports whether e can have one member alone, which makes it fit
// to identify a node (RFC 9171, section 4.2.5.2).
func IsSingleton(e addr.EID) bool {
	if e.Scheme() == addr.SchemeIPN {
		return !IsNull(e)
	}
	_, demux, ok := strings.Cut(strings.TrimPrefix(e.SSP(), "//"), "/")
	return ok && !strings.HasPrefix(demux, "~")
}

// Canonical returns the one EID that stands for all that name the same
// endpoint. The encodings of an ipn EID with two and with three numbers read as
// equal already (RFC 9758, section 6); what is left are the names of nothing.
func Canonical(e addr.EID) addr.EID {
	if IsNull(e) {
		return addr.None
	}
	return e
}

// EIDText returns the URI of e, ipn EIDs in the text forms of RFC 9758:
// ipn:!.7 for this node's, ipn:977000.100.1 for one with an allocator.
func EIDText(e addr.EID) string {
	node, svc := e.Numbers()
	switch {
	case IsLocalNode(e):
		return "ipn:!." + strconv.FormatUint(svc, 10)
	case node > math.MaxUint32:
		return fmt.Sprintf("ipn:%d.%d.%d", node>>32, node&math.MaxUint32, svc)
	}
	return e.String()
}

// ParseEIDText reads a URI in any form of RFC 9171 and RFC 9758.
func ParseEIDText(s string) (addr.EID, error) {
	rest, ok := strings.CutPrefix(s, "ipn:")
	if !ok {
		return addr.ParseEID(s)
	}
	parts := strings.Split(rest, ".")
	if len(parts) == 2 && parts[0] == "!" {
		parts[0] = strconv.FormatUint(localNode, 10)
	}
	var n [3]uint64
	if len(parts) < 2 || len(parts) > 3 {
		return addr.EID{}, badIPN(s)
	}
	for i, p := range parts {
		bits := 32
		if i == len(parts)-1 || len(parts) == 2 {
			bits = 64 // services; and node numbers written before there were allocators
		}
		v, err := strconv.ParseUint(p, 10, bits)
		if err != nil {
			return addr.EID{}, badIPN(s)
		}
		n[i] = v
	}
	if len(parts) == 3 {
		return addr.IPN(n[0]<<32|n[1], n[2]), nil
	}
	return addr.IPN(n[0], n[1]), nil
}

func badIPN(s string) error {
	const most = 80
	if len(s) > most {
		s = s[:most] + "..."
	}
	return fmt.Errorf("EID %q: %w: want ipn:NODE.SERVICE, ipn:ALLOCATOR.NODE.SERVICE or ipn:!.SERVICE", s, addr.ErrName)
}
