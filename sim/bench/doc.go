// Package bench measures what one node does with messages that must be on disk
// before they are acknowledged, beside what its disk and its sockets could do,
// and beside another broker, in one run.
//
// It owns the load (one raw MQTT 3.1.1 client, the same for every server), the
// floors, the child processes and the figures. It never reaches into a node: a
// node is a child process that is started, loaded, killed and counted from
// outside, like any other broker. The command "farhop bench mqtt" calls it.
//
// One round is, for each server in turn:
//
//  1. a fresh server; one client with a persistent session subscribes to '#'
//     and goes, so that every publish of QoS 1 is for somebody who is away
//  2. publishers send until all is acknowledged: rate, latency, CPU, memory
//  3. the session comes back: every acknowledged message arrives once, and
//     those of one publisher in order
//  4. again from 1 with fewer messages, and the server is killed (SIGKILL)
//     under load; after a restart the acknowledged messages are counted
//
// Rounds follow each other with the servers interleaved, and medians are
// reported: a machine that is busy for a while is busy for all.
//
//	report, err := bench.Run(ctx, bench.Config{Dir: dir, Farhop: "/usr/bin/farhop"}, note)
package bench
