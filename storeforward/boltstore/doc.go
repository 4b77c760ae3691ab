// Package boltstore is the buffer of a node kept wholly in one bbolt file. It
// owns DIR/buffer.db: its lock, its creation, its space and every byte in it.
// It never reads a clock for a decision, chooses no route and knows no link.
// Package node opens it and hands it to the loop as a store.Store.
//
//	s, err := boltstore.Open(boltstore.Config{Dir: dir, Done: loop.Persisted})
//	s.Append(&store.Batch{LSN: 1, Puts: puts}) // returns at once
//	...                                        // Done(1, nil): survives a power cut
//	err = s.Close()
//
// # Commits
//
// One goroutine commits. While its fsync runs, appended batches wait; the
// next commit takes all that waits, up to a limit. There is no linger timer:
// a lone batch is written at once, a crowd shares one commit. What one commit
// both stores and drops is never written at all.
//
// # Layout
//
// Keys are arrival numbers (8 bytes, big endian), never destinations, so
// that puts only touch the right edge of a tree. Headers and payloads live
// apart, so that recovery and scans never read a payload.
//
//	farhop    "file": magic, schema, incarnation, creation; "seq": highest arrival number ever used
//	messages  seq -> header and entries, immutable
//	marks     seq -> two bits per entry, once one of them was dropped or changed
//	payloads  seq -> payload block
//	state     key -> value
//
// Every value is a record: version byte, CRC-32C over key, version and body,
// body. A value over a quarter of a page is cut into several (pieces.go says
// why): so no drop ever copies a large neighbour. Which message waits in which queue is also held in RAM (8 bytes per
// entry), rebuilt at open; so a Drop needs no read, and the Drop of a message
// with one entry is two deletes.
//
// # Failures
//
// A full disk refuses the batch that needs room and nothing else; a reserve
// inside the file lets drops pass. Any other failed commit poisons the store
// (store.ErrPoisoned): after a failed fsync nobody knows what is on the disk
// until it is read again. A damaged or foreign file is refused at open by a
// check of its pages, done here because bbolt panics in a goroutine of its
// own, where no caller can recover.
package boltstore
