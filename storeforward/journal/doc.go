// Package journal is the buffer of a node: an append-only journal of everything
// that was written, and a small index that says what of it is still needed. It
// owns DIR/journal: its lock, its segments, their space, and the index. It
// never reads a clock for a decision about a message, chooses no route and
// knows no link. Package node opens it and hands it to the loop as a
// store.Store; the command uses its tools on a directory without a daemon.
//
//	s, err := journal.Open(journal.Config{Dir: dir, Done: loop.Persisted})
//	s.Append(&store.Batch{LSN: 1, Puts: puts}) // returns at once
//	...                                        // Done(1, nil): survives a power cut
//	err = s.Close()
//
// # Commits
//
// One goroutine commits: it takes all batches that wait, encodes them into one
// buffer, and makes one write and one sync (group). While the sync runs, the
// next ones gather; there is no linger timer, but for a small part of a slow
// sync when others are on their way back (gather). A group of lazy batches
// alone is written, and synced with the next one, or after a second of rest;
// what does not fit into one group takes several, and one sync. A group is all
// or nothing: a batch is whole because its group is. Only when a group is synced
// does the book (what RAM knows) change, so reads see nothing that a power cut
// could undo.
//
// # Layout
//
// Segments are files of 16 MiB, reserved in advance: the journal never waits
// for a file to grow. A segment is a head and blocks (format.go), a block is
// records under one CRC-32C with its own dictionary of names (encode.go), which
// leaves some 20 bytes per message beside its payload and frozen blocks. Large
// payloads stand behind their block with a checksum of their own, so headers
// are read without them. Blocks are numbered; each says up to which number all
// were synced when it was written.
//
// The book has a set of message numbers per queue (package seqset, about two
// bytes a message), states that are not pending, the keys of the State in order
// (keys.go), and for each segment how much of it is needed and a sparse index of
// its blocks. Sizes are not kept: a Drop brings its own; one that says 0 is
// looked up. Small values of the State are in the book too, but for those of
// which there may be very many (Config.Bulk): of them it knows where they are.
//
// # Reading
//
// A read takes the blocks of one sample (page.go), checks them, and walks them
// to the record that is wanted; only that one is decoded into a Header, and
// only by Scan. Pages are kept as they are in the file, 3 MiB of them, and a
// MiB of payloads that Scan came past, for the Read that follows (cache.go).
//
// # Recovery
//
// A checkpoint is the book in index.db (package journal/index), written lazily
// with what changed. Open loads it and replays the journal from there; without
// one, or with one that does not fit the segments, it replays all of it: the
// index is a cache and can always be deleted. What a crash left of the last
// group is cut off. A bad block is a torn tail only in the newest segment and
// only when no later block knew it to be synced. Everything else is damage:
// the place is left alone, told once (Config.Alarm), and passed over; messages
// that are known to wait in it are returned by Scan as damaged, until they are
// dropped.
//
// A segment whose head is damaged is what the checkpoint says of it. Without
// one its blocks are found all the same, and what is behind them is damage and
// no torn tail. When nothing is needed of a segment in which something may
// never have been accounted for (Damage.Unknown), or when a file at the end is
// neither readable nor known, it is not removed but set aside (quarantine.go):
// renamed to NAME.damaged, no part of the journal, for the operator.
//
// # Cleaning
//
// A segment of which nothing is needed is removed, or becomes the next one. A
// drop is needed while the put it buries exists in an older segment, or the
// next rebuild would raise the dead; so tombstones are counted per segment they
// concern, and segments are removed oldest first. Segments of which less than
// a quarter is needed are rewritten, with their neighbours, into one cold
// segment that stands for their range: written aside, synced, renamed, and only
// after a checkpoint knows of it are its sources removed. Whatever a crash
// leaves of that, a checkpoint finds the segments it knows, or all is rebuilt
// with the cold segment in the place of its sources.
//
// # Failures
//
// A full disk refuses the batches that store something and nothing else: the
// end of the current segment is kept for drops until the next segment is at
// hand. Any other failed write or sync poisons the store (store.ErrPoisoned):
// nothing more is written, and the next Open decides by what is on the disk.
// A directory of another buffer, or of a newer farhop, is refused untouched.
package journal
