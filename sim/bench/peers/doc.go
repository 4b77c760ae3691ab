// Command bench-store puts the buffer engines of farhop beside other programs
// that keep messages or records on disk: NATS JetStream, SQLite and pebble.
//
// It owns the adapters of these peers, the profiles of the disk (as it is, with
// 5 ms added to every sync, with 10 MB/s to write to), and the tables. The
// producers, the floor and the engines are those of sim/bench/durable, so all
// meet the same load. It is a module of its own so that no peer becomes a
// dependency of the product; "make bench-store" builds and runs it, and nothing
// imports it.
//
// Every figure comes from a process of its own, begun for it in a new folder:
// the command starts itself ("bench-store one") under strace or in a cgroup as
// the profile asks, identically for all engines. Within a cell of the table the
// engines follow each other, round by round, in an order that rotates; medians
// over the rounds are shown, and shares are taken within rounds.
//
// "bench-store slowread COMMAND ..." runs a command with 20 MB/s to read from
// the disk, for the start of a node whose files are not in the page cache.
//
// What each peer does before it acknowledges:
//
//	floor          one write and one fdatasync of a plain file per group
//	pebble         a batch per put, committed with Sync by each producer
//	pebble-group   one committer, one batch with Sync for all that waits
//	sqlite         one committer, one transaction (WAL, synchronous=FULL) for all that waits
//	sqlite-each    a transaction per put
//	nats-always    JetStream, one stream, sync_interval: always
//	nats-streams   the same with a stream for each of the 100 destinations
//	nats-default   JetStream by its defaults: acknowledges from the page cache and
//	               syncs every two minutes; a power cut loses what it acknowledged
package main
