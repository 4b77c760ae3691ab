// Package node is the composition root of farhop: it builds every part of one
// node, runs the one loop that owns the core, and translates between the
// parts, which know nothing of each other.
//
// # Walk 1: an MQTT message
//
//  1. A device publishes. broker parses the packet and calls mqtt.Publish.
//  2. mqtt encodes it once as a payload block and posts a core.Submission to
//     the loop.
//  3. The loop calls core.Submit. core asks routing who wants it, gives it
//     its identity and puts it; Take returns a store.Batch.
//  4. the store commits the batch with one fsync for all that waited and
//     reports Persisted. Only now core returns the Reply, and broker sends the
//     PUBACK.
//  5. core offers the bundle to the next hop: a sender goroutine splices the
//     frame and link sends it.
//  6. The peer's link parses it, its core.Receive puts it, its store commits
//     it, and only then its Ack frame comes back; our core drops the bundle.
//  7. At the last node core delivers to each device session and drops the
//     message when the device acknowledged it.
//
// # Walk 2: a TCP stream
//
//  1. stream accepts a connection for a service and asks streams.Resolve,
//     which reads the last routing snapshot: endpoints that are up, in the
//     order of the route's regions.
//  2. streams.Open opens a stream on the link to the next hop; every relay
//     does the same, the last node dials the endpoint. The bytes never enter
//     the core or the store.
//
// # Walk 3: a fleet revision
//
//  1. The authority's node signs it (fleet.Sign), puts it in force here and
//     submits one bundle per known node to their service "fleet".
//  2. Walk 1 carries it, through outages, to each node.
//  3. There fleet.Open verifies, the agent checks and applies it and tells its
//     neighbours in its next advert which revision it has.
//
// # Walk 4: a bundle of another DTN stack
//
//  1. A door hands it to doors.Receive, Gateway.In says what it is, and it
//     becomes a submission; the Reply acknowledges the transfer.
//  2. Walk 1 carries it to the node whose door serves its destination. There
//     it waits in the queue of service dtn/PEER, which is open while that
//     peer is connected; the peer's acknowledgement settles it.
//
// # Log keys
//
// node, region, peer, address, client, message, revision, error, reason, dir,
// listen, kex, after, queue, count.
package node
