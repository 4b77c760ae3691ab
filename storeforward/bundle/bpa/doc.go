// Package bpa holds the procedures of RFC 9171, section 5, for bundles of any
// implementation: what is wrong with one (Policy), what changes at a hop
// (Forward), fragments (Fragment, Reassembler) and status reports (Report,
// Reporter).
//
// Package bundle says what bytes are; this one says what to do with them, and
// bundle must not import it: parse and policy stay apart. Nothing here does
// I/O, knows a clock or stores; payloads are never copied but to be
// reassembled. Gateways to other implementations call it, and farhop bundle
// decode:
//
//	v, err := bundle.Parse(raw)                        // malformed: code 8
//	if f := bpa.DefaultPolicy().Check(&v, now); !f.OK() {
//		refuse(f.Refused.Code())                       // by section 5.6
//	}
//	parts, faults := bpa.Forward(&v, bpa.Transit{Prev: self, Elapsed: stayed})
package bpa
