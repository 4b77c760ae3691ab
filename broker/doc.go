// Package broker is the MQTT side of a node: it speaks MQTT 3.1, 3.1.1 and 5
// with devices and hands what they publish to the node.
//
// It owns connections, packet order per client, sessions that end with their
// connection (live sessions), retained messages in memory, shared
// subscriptions, wills and the inbound half of QoS 1 and 2. It never stores
// anything, never acknowledges a PUBLISH before the Node says that the fact is
// durable, and never lets one client's slow socket, malformed bytes or size
// cost another client anything. Package node calls it and implements Node.
//
// The way of a PUBLISH: socket -> frames (sizes checked before anything is
// allocated) -> engine (packet codec) -> conn.onPublish -> Node.Publish ->
// done, on any goroutine -> conn.drain, in the order the client published ->
// live subscribers and PUBACK/PUBREC, as many as wait in one write.
//
// Three kinds of goroutine exist: one reader per connection, one writer per
// connection that has something to write (an idle connection has none), and
// the acceptor; Run and ServeConn end all of theirs before they return.
//
// The MQTT engine (package github.com/mochi-mqtt/server/v2) is held in
// engine.go behind the one-method interface engine. It sees CONNECT, PINGREQ,
// DISCONNECT and AUTH; every other packet is taken from it before it acts, so
// its in-flight map, topic index, retained store and will machinery stay
// empty.
//
//	b, err := broker.New(broker.Config{Listen: "127.0.0.1:1883"}, node)
//	...
//	err = b.Run(ctx) // listens, serves, drains when ctx ends
package broker
