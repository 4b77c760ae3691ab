// Package storeforward is the custody machine: bounded windows over the queues
// of a store, and for each message one Item per queue that must carry it.
//
// It is pure. It takes decisions of its caller (node/core) as method calls
// with now where time matters, writes facts into a store.Batch, and never
// touches a payload, a clock, a goroutine or a file.
//
// The life of an Item:
//
//	         Put                Persisted            Next
//	(none) -------> Storing ---------------> Held ---------> InFlight
//	                                          ^  |              |  |
//	                                   Return |  |       Return |  | Release
//	                                          +--|--------------+  v
//	                                             |               Released
//	                                             | Bury (expired, order still owed)
//	                                             v
//	                                           Ended --> travels on as its own obituary
//
// Invariants, each guarded by a test of this package: an Item leaves Storing
// only when its batch is persisted; Items of one queue are taken in Seq order,
// and a returned Item again before any younger one, but after a refusal those
// of each origin in DSeq order, until enough of them were taken; a queue's
// Count and Bytes equal what a full scan of the store would find.
package storeforward
