// Package durable measures what a buffer engine does with bundles that must
// survive a power cut before they count, beside what the disk could do.
//
// It owns the load (closed-loop producers: each puts one bundle, waits until it
// is durable, and puts the next), the floor, and the figures. Every engine and
// the floor meet the same producers through one interface, Sink, so that what
// the harness costs, it costs all of them. It never looks into an engine, and
// chooses none for a node. The command "farhop bench store" calls it, and so
// does the module in sim/bench/peers, which adds databases and brokers.
//
// Words: the floor is a plain preallocated file to which a group of bundles,
// each framed with its length and a CRC-32C, is appended with one write and
// made durable with one fdatasync. A group is all that waits when the sync
// before it ends (natural group commit). A put makes a bundle durable; a cycle
// is a put, its delivery out of RAM, and its removal, which travels with the
// next put of the same producer as it does in a node.
//
//	report, err := durable.Run(ctx, durable.Config{Dir: dir, Engine: "journal"}, note)
package durable
