// Package broker is the MQTT side of a node: it speaks MQTT 3.1, 3.1.1 and 5
// with devices and hands what they publish to the node.
//
// It owns connections, packet order per client, sessions that end with their
// connection (live sessions), retained messages in memory, shared
// subscriptions and the inbound half of QoS 1 and 2; of a will it knows whether
// its client is lost, and the node has the rest. It never stores
// anything, never acknowledges a PUBLISH before the Node says that the fact is
// durable, and never lets one client's slow socket, malformed bytes or size
// cost another client anything. Package node calls it and implements Node.
//
// The way of a PUBLISH: socket -> driver (a poller's loop, or a pump) ->
// conn.feed, which cuts and checks packets (package packet) -> conn.onPublish
// -> Node.Publish -> done, on any goroutine -> conn.complete, in the order the
// client published -> live subscribers and PUBACK/PUBREC -> driver, one write
// for all that waits. A publish that only live sessions here want takes a
// shortcut: there is no fact to wait for.
//
// On Linux plain sockets are served by pollers, one goroutine for each
// processor; an idle client costs no goroutine and no buffer. Other transports
// have a pump: one goroutine that reads, and one that writes while there is
// something to write. CONNECT, SUBSCRIBE and UNSUBSCRIBE wait for the node on
// a goroutine of their own, which holds the client's input. Run and ServeConn
// end all of theirs before they return.
//
//	b, err := broker.New(broker.Config{Listen: "127.0.0.1:1883"}, node)
//	...
//	err = b.Run(ctx) // listens, serves, drains when ctx ends
package broker
