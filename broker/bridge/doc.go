// Package bridge carries messages between the local broker and any other MQTT
// broker or cluster, both ways, over links that are long, thin and break.
//
// It owns its two connections, what it says on them, and the rules that name
// topics. It stores nothing and knows neither package broker nor package node:
// the local broker is one more MQTT 5 server behind Deps.Local. Package node
// makes bridges and runs them.
//
//	b, err := bridge.New(cfg, bridge.Deps{Local: dial, Log: log, Reg: reg})
//	...
//	err = b.Run(ctx) // connects again and again until ctx ends
//	s := b.Status()
//
// # The queue is the session
//
// The bridge holds a session that never expires at each broker. A message is
// acknowledged to the broker it comes from when the broker it goes to has
// acknowledged it, not before. So what waits, waits on the disk of a broker,
// and no crash of any of the three loses a message of QoS 1 or 2. While the
// remote is away the bridge is not connected to the local broker either, and
// takes nothing out of its queue. The connections live and end together: what
// was under way when one broke, its source sends again on the next.
//
// # Exactly once
//
// The bridge gives no packet ids. A message goes on under the id it came
// with, and the four steps of QoS 2 pass through: PUBLISH there, PUBREC back,
// PUBREL there, PUBCOMP back. The two brokers then hold one handshake between
// them, and what the bridge knows is no part of it. Whatever moment it crashes
// at, its successor gets PUBLISH or PUBREL again from the source, under the
// same id, and hands it on to a destination that knows this id and answers
// without taking the message twice. (A client library gives ids of its own;
// with one, a crash forgets which id was which and the message goes over
// again. That is why this package has its own client.)
//
// That the destination holds an id from long ago, when the source has lost its
// session and counts anew, would make it swallow a message. So before the
// first use of an id that the source marks as new (DUP unset) the bridge sends
// a PUBREL for it, which ends whatever is held (flow.clear).
//
// QoS 1 knows no such thing. After a crash between the two acknowledgements
// the source sends again what the destination has, at most a window of it, and
// MQTT 5 gives the destination no way to tell. Repeats that can be told are
// removed:
//
//   - The connection to the source breaks and the bridge lives on: it knows by
//     packet id, DUP and digest what the destination acknowledged, and answers
//     for it.
//   - The copies bear a common identity, because the mesh or another bridge
//     gave them one: the bridge drops what the destination has.
//
// What remains is a bridge that itself crashes, or a destination whose
// acknowledgement is lost with its connection, and QoS 1: use QoS 2 where a
// repeat does harm. What is left of QoS 2 is a broker that loses its session
// and so its half of the handshake.
//
// # No loops
//
// Between MQTT 5 brokers messages carry the domains they have been in
// (OriginProperty), and none is taken into a domain it comes from. That needs
// no memory and holds for rings of any length, after any crash, and for
// retained messages that come back after a year. No-local spares the link the
// echo where it can be asked for, that is without Share.
//
// MQTT 3.1.1 carries no properties. There the bridge counts digests of topic,
// payload and QoS of what it sent and expects back, and takes as many off what
// comes; an equal message of a device is one more and passes. The count is in
// memory and bounded in number and in connected time: a crash of the bridge
// lets the echoes under way then come back once, and no further, because the
// local side has no-local. The retain flag is not part of it: live copies come
// without. Rules that go one way only, or Mosquitto's mark, avoid the question.
//
// Several bridges between the same two domains would each carry every message.
// With Share they are one group at both brokers, and one carries it; order is
// then kept by each, not between them.
//
// # Flow
//
// The window is asked of the source as its Receive Maximum (MQTT 5, 3.1.2.11.3)
// and kept towards the destination as its own. It, the keepalive and the pauses
// between attempts follow from the measured round trip (rtt.go). Between the
// sockets at most Config.Buffer bytes wait; then QoS 0 is dropped and counted,
// and for the others the source is read no further.
//
// Goroutines per link: a reader, a writer and a watcher for each broker, one
// for the tables, one each way for messages that were refused, one for
// subscriptions that were. link.run ends them before it returns, and Run all.
package bridge
