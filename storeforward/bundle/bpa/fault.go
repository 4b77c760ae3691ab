package bpa

import (
	"math/bits"
	"strings"

	"github.com/farhop/farhop/storeforward/bundle"
)

// Faults is a set of things that are wrong with a bundle. Zero is a bundle
// without fault.
type Faults uint32

// The faults. What the bytes of a bundle are is bundle.Parse's matter; all but
// Malformed are about bundles that parse.
const (
	Malformed       Faults = 1 << iota // does not parse
	LooseEncoding                      // an integer or length is longer than it need be
	TooManyBlocks                      // more than the policy allows
	TooLarge                           // a payload over the limit of policy or link that cannot be divided
	NoPrimaryCRC                       // and no integrity block protects the primary block
	Clockless                          // creation time 0 and no age block
	RepeatedPrev                       // two previous node blocks
	RepeatedAge                        // two age blocks
	RepeatedHops                       // two hop count blocks
	ZeroLifetime                       // it never lives
	Expired                            // its age exceeds its lifetime
	HopLimit                           // its hop count exceeds its limit
	AnonymousFlags                     // no source, but asks for what needs one
	AdminFlags                         // an administrative record that asks for reports
	SharedSource                       // a source that is no single node
	SharedPrev                         // a previous node that is no single node
	NullDestination                    // can never be delivered
	LocalNode                          // a name that means whoever reads it
	IPNService                         // a service number beyond 32 bits
	WholeFragment                      // a fragment that must not be one
	BadFragment                        // empty, or beyond the end of the whole
	Unsupported                        // a block that asks for deletion where it is not known

	numFaults = iota
)

// Fault describes one member of Faults.
type Fault struct {
	Name   string // for JSON, labels and scripts; never changes
	Clause string // what it offends against
	Text   string
	Reason bundle.Reason // why the bundle ends
	Code   Code          // what a status report says of it
}

var faults = [numFaults]Fault{
	{"malformed", "RFC 9171, section 5.6, step 3", "it does not parse", bundle.Malformed, Unintelligible},
	{"loose-encoding", "RFC 9171, section 4.1", "an integer or length is longer than it has to be", bundle.Malformed, Unintelligible},
	{"too-many-blocks", "local limit", "it has more blocks than are accepted here", bundle.TooLarge, TrafficPared},
	{"too-large", "local limit; RFC 9171, section 5.8", "its payload is larger than is accepted, and it cannot be divided", bundle.TooLarge, TrafficPared},
	{"no-primary-crc", "RFC 9171, section 4.3.1", "the primary block has neither a CRC nor an integrity block", bundle.NotAllowed, Unintelligible},
	{"no-age", "RFC 9171, section 4.4.2", "it was made without a clock and has no age block", bundle.NotAllowed, Unintelligible},
	{"repeated-previous-node", "RFC 9171, section 4.4.1", "it has several previous node blocks", bundle.Malformed, Unintelligible},
	{"repeated-age", "RFC 9171, section 4.4.2", "it has several age blocks", bundle.Malformed, Unintelligible},
	{"repeated-hop-count", "RFC 9171, section 4.4.3", "it has several hop count blocks", bundle.Malformed, Unintelligible},
	{"zero-lifetime", "RFC 9171, section 4.3.1", "its lifetime is 0", bundle.Expired, LifetimeExpired},
	{"expired", "RFC 9171, section 5.5", "its age exceeds its lifetime", bundle.Expired, LifetimeExpired},
	{"hop-limit", "RFC 9171, section 4.4.3", "its hop count exceeds its hop limit", bundle.HopLimit, HopLimitExceeded},
	{"anonymous-flags", "RFC 9171, sections 4.2.3 and 4.2.4", "it has no source, but may be divided or asks for reports", bundle.NotAllowed, NoInformation},
	{"admin-flags", "RFC 9171, sections 4.2.3 and 4.2.4", "an administrative record asks for reports", bundle.NotAllowed, NoInformation},
	{"source-not-singleton", "RFC 9171, section 5.2, step 1", "its source is not a single node", bundle.NotAllowed, Unintelligible},
	{"previous-not-singleton", "RFC 9171, section 4.4.1", "its previous node is not a single node", bundle.NotAllowed, Unintelligible},
	{"null-destination", "RFC 9171, section 4.2.5.1.1", "its destination has no members", bundle.NoRoute, DestinationUnavailable},
	{"local-node", "RFC 9758, section 5.4", "its source or destination is the name each node has for itself", bundle.NotAllowed, Unintelligible},
	{"ipn-service", "RFC 9758, section 3", "an ipn service number has more than 32 bits", bundle.NotAllowed, Unintelligible},
	{"fragment-of-whole", "RFC 9171, section 5.8", "it is a fragment of what must not be divided", bundle.NotAllowed, Unintelligible},
	{"bad-fragment", "RFC 9171, sections 4.3.1 and 5.8", "it is an empty fragment, or one beyond the end of the whole", bundle.Malformed, Unintelligible},
	{"unsupported-block", "RFC 9171, section 5.6, step 4", "a block that is not known here asks for the bundle to be deleted", bundle.NotAllowed, BlockUnsupported},
}

// Has reports whether any of others is in f.
func (f Faults) Has(others Faults) bool { return f&others != 0 }

// List describes the members of f, in their order.
func (f Faults) List() []Fault {
	var out []Fault
	for ; f != 0; f &= f - 1 {
		if i := bits.TrailingZeros32(uint32(f)); i < len(faults) {
			out = append(out, faults[i])
		}
	}
	return out
}

// first returns the first member, the one that a bundle ends for; the zero
// Fault when there is none.
func (f Faults) first() Fault {
	if i := bits.TrailingZeros32(uint32(f)); i < len(faults) {
		return faults[i]
	}
	return Fault{}
}

// Reason returns why a bundle with these faults ends, bundle.OK for none.
func (f Faults) Reason() bundle.Reason { return f.first().Reason }

// Code returns what a status report says of these faults.
func (f Faults) Code() Code { return f.first().Code }

// String returns the names, joined with commas.
func (f Faults) String() string {
	var names []string
	for _, x := range f.List() {
		names = append(names, x.Name)
	}
	return strings.Join(names, ",")
}
