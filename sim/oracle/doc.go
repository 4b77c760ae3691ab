// Package oracle judges a run of a virtual world. A driver tells it what
// happens at the edges of every core (submissions, replies, frames, batches
// that became durable, deliveries, crashes); the oracle keeps a ledger of each
// message and says at once when a promise is broken, and which.
//
// It owns the laws and nothing else: it moves no message, asks no core what it
// thinks, and rescans nothing: an event costs what it touches. It is pure.
// Package sim is its caller:
//
//	o := oracle.New(oracle.Config{Now: clock, Identify: identify})
//	n := o.Node(oracle.NodeConfig{Name: name, Clock: ms})
//	n.Submitted(token, pub, s); n.Staged(batch); n.Persisted(batch); n.Replied(r)
//	o.Finish(true)
//	for _, v := range o.Violations() { ... }
//
// The laws stand beside each other: one that looks at a single hop does not
// lean on one that looks at devices, so that a repeat which the consumer
// filters is still found where it happened. A message that broke one law is
// not judged by the laws at the end of the run again.
package oracle
