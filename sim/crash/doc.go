// Command crash kills real nodes and counts what their users got.
//
// Three real farhop processes in three regions, joined through emulated links,
// carry numbered messages while one after the other is killed, frozen, cut off
// or robbed of its disk, several hundred times. The clients speak MQTT 5 with
// QoS 2 and sessions that persist, and continue them by the letter of the
// standard: so every message that was published has to arrive once, whole and
// in the order of its publisher, and anything else is a fault of the product.
//
// With -mishaps the trouble is that of links: in a triangle they flap, lose one
// direction, swallow everything or change addresses, several at once, while
// nodes are restarted and killed. Two of the nodes have two links with names,
// which meet trouble one by one and together; one leaves by an address of its
// own, and is cut and its ends are killed as its socket is made (source.go).
// After each batch the network is whole, and every link has to come up, at both
// ends, and sockets of former sessions have to be gone (mishap.go, wire.go).
//
// It owns the campaign: which trouble comes when (trouble.go), the processes
// and their disks (process.go, disk.go), the clients (publisher.go,
// subscriber.go) and the judgement (ledger.go, verdict.go). It never looks into a node; it
// knows of one what a user can know. Kinds of trouble that this machine does
// not allow, such as a full disk without root, are skipped and named. It is run
// by make crash and make soak-processes:
//
//	go run ./sim/crash -farhop bin/farhop -rounds 200 -seed 7
//	go run ./sim/crash -farhop bin/farhop -mishaps 500 -seed 7 -json
//
// One seed is one plan of trouble. When exactly it strikes is up to the
// machine: two runs of one seed differ in what was in flight.
//
// Exit codes: 0 no fault; 1 a fault, with the data directories kept; 2 the
// campaign could not be run.
package main
