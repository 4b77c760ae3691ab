// Package core is the deterministic heart of a node: it composes routing and
// storeforward, takes events with now first, and answers with Effects.
//
// The contract:
//
//  1. No goroutine, lock, log, file, socket, clock, randomness or map order
//     that can reach an effect. One seed, one run.
//  2. No effect before its fact. A custody acknowledgement, a PUBACK (Reply)
//     or a delivery is emitted only after the driver reported the write it
//     rests on as Persisted. So the driver may run effects in any order, but
//     for one rule: Sends of one link keep their order.
//  3. Bounded. The core holds a window of headers per (destination, class)
//     and asks for more by Load. Payloads pass through unread.
//
// Three drivers share it: the real node, virtual worlds (sim), and real parts
// in a synctest bubble. Its caller is one goroutine:
//
//	c.Submit(now, batch)
//	for eff := c.Take(); eff != nil; eff = c.Take() { run(eff) }
//	sleepUntil(c.Wake())
//
// A message's way through the core: Submit (or Receive) finds its recipients
// and puts it; Persisted releases its Reply (or Ack) and makes it ready;
// dispatch offers it to a link, a device session or a service; Ack, Settle or
// expiry ends it.
package core
