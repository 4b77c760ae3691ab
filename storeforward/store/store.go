// Package store is the contract between the custody machine and the buffer:
// what is written, what is read back, and when a write counts.
//
// A Store keeps messages (a payload once, with one Entry per queue that still
// has to carry it) and a small key-value State. Writes come in batches with
// rising LSNs; a batch is all or nothing, and the engine reports each LSN as
// persisted only when it would survive a power cut. Nothing here chooses a
// route or reads a clock; engines are storeforward/boltstore and /memstore,
// and storeforward/storetest is the suite both pass.
package store

import (
	"errors"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// LSN numbers batches from 1, rising by one.
type LSN uint64

// Kind says what waits at the end of a queue.
type Kind uint8

// The kinds of queues. Their numbers are on disk.
const (
	ToNode    Kind = 1 // another node: custody moves over a link
	ToRegion  Kind = 2 // any node of a region, or a subscriber that will appear there
	ToSession Kind = 3 // an MQTT session of this node
	ToService Kind = 4 // a service of this node itself: fleet, join, ...
	ToOrder   Kind = 5 // arrived out of order, waits for what came before it
)

// Queue names one queue: messages of one class for one destination.
type Queue struct {
	Kind  Kind
	Name  string // node, region path, client id, service, or origin node
	Class bundle.Class
}

// EntryState is the life of a message within one queue as the disk knows it.
type EntryState uint8

// Entry states. Everything finer (in flight, offered) is forgotten by a
// crash on purpose: it starts again from here.
const (
	Pending  EntryState = 0 // custody is here
	Received EntryState = 1 // QoS 2: the device answered PUBREC, PUBREL is due
	Ended    EntryState = 2 // expired here; its obituary still has to travel
)

// Entry is a message's place in one queue.
type Entry struct {
	Queue  Queue
	Bundle bundle.Sequence // bundle sequence at its origin; 0 for local queues
	DSeq   uint64          // contiguous per (origin, destination, class) from 1; orders and dedups
	QoS    uint8           // MQTT QoS of delivery, for sessions
	State  EntryState
	Frozen []byte // primary and immutable extension blocks, encoded; of local queues what the owner keeps there, as a rule nil
}

// Header is all that the core knows of a message; the payload stays outside.
// Headers are immutable once put: engines and the core share them.
type Header struct {
	Seq      uint64    // arrival number at this store, from 1, never reused
	Message  bundle.ID // identity of the message at its ingress node
	Origin   addr.Node // node that made the bundles of this message (Entry.Bundle, Entry.DSeq)
	Prev     addr.Node // node we had it from; zero when it entered here
	Class    bundle.Class
	Hops     uint8
	QoS      uint8
	Retain   bool   // published with the retain flag
	Yields   bool   // its route here lets newer messages displace it
	Topic    string // MQTT topic where this node may know it, else ""
	Service  string // service of the destination EID, such as mqtt
	Charge   string // quotas it counts against here, opaque to engines; the same few values come again and again
	Received int64  // arrival, ms of the node's clock
	Expires  int64  // end of life, ms of the node's clock
	Size     uint32 // bytes of the encoded payload block
	Count    uint16 // messages in it when it is a batch, of which Message is the first; else 0
	Entries  []Entry
}

// Blob is an encoded payload block. The core passes it through unread.
type Blob struct{ B []byte }

// Put stores a message and its entries. Seq rises strictly from Put to Put,
// and no two entries name one queue. Without a Blob, From names an older
// message whose payload is copied: so a message moves to other queues, under a
// new number, with its old one dropped in the same batch.
type Put struct {
	Header *Header
	Blob   *Blob
	From   uint64
}

// Drop ends custody of message Seq in Queue. The last Drop frees the payload.
// Dropping or marking what is not there does nothing. Size is that of the
// Header, so that an engine need not look it up.
type Drop struct {
	Queue Queue
	Seq   uint64
	Size  uint32
}

// Mark changes the state of one entry. Ended is final, and frees the payload
// if no other entry needs it. Size is that of the Header.
type Mark struct {
	Queue Queue
	Seq   uint64
	State EntryState
	Size  uint32
}

// Set writes one key of the State; a nil Value and a nil Blob delete it.
// Blob, when not nil, is appended to Value.
type Set struct {
	Key   string
	Value []byte
	Blob  *Blob
}

// Batch is one atomic write. Its parts apply in the order of the fields. It is
// not changed after Append.
type Batch struct {
	LSN LSN
	// Lazy says that nothing waits for this batch: the engine may leave its
	// sync, and its Done, to the next batch that is not lazy, or to Close. A
	// crash before that undoes it.
	Lazy  bool
	Puts  []Put
	Marks []Mark
	Drops []Drop
	Sets  []Set
}

// Empty reports whether b writes nothing.
func (b *Batch) Empty() bool {
	return len(b.Puts)+len(b.Marks)+len(b.Drops)+len(b.Sets) == 0
}

// Item is one message as one queue sees it.
type Item struct {
	Header *Header
	Entry  Entry
	// Damaged: the record cannot be read any more. Header holds only Seq, and
	// Entry only Queue; the owner accounts for the message and drops it.
	Damaged bool
}

// QueueSummary is what recovery knows of a queue before any header is read.
type QueueSummary struct {
	Queue Queue
	Count int
	Bytes int64  // of payloads; an Ended entry has none
	First uint64 // lowest Seq
}

// Summary is what a store knows when it opens.
type Summary struct {
	NextSeq uint64 // first Seq never used
	Queues  []QueueSummary
}

// Errors of every engine.
var (
	ErrNotFound = errors.New("no such message")
	ErrDamaged  = errors.New("the disk returns other bytes than were written")
	ErrFull     = errors.New("the disk is full") // the batch was refused whole; reads and drops still work
	ErrPoisoned = errors.New("the store refuses writes after a failed sync; restart the node to recover")
)

// LostState is the error of a Store.State that could not read some values and
// gave back all others. It wraps ErrDamaged.
type LostState struct {
	Keys []string // of the values
	Err  error    // what was wrong with them
}

// Error tells what was wrong.
func (e *LostState) Error() string { return e.Err.Error() }

// Unwrap returns it.
func (e *LostState) Unwrap() error { return e.Err }

// Store is a buffer engine. Append is called by one goroutine in LSN order
// and does not wait; the other methods may be called by any.
type Store interface {
	// Append queues one batch. The engine reports its end, in LSN order,
	// through the done function it was opened with.
	Append(*Batch)
	// Read returns the payload block of a message, ErrNotFound, or ErrDamaged.
	// Reads see only what is persisted.
	Read(seq uint64) ([]byte, error)
	// Scan returns up to n items of a queue with Seq > after, in Seq order.
	Scan(q Queue, after uint64, n int) ([]Item, error)
	// State calls f for every key with the prefix, in key order. The error is
	// a LostState when f got all that can still be read.
	State(prefix string, f func(key string, value []byte) error) error
	// Summary describes the persisted queues.
	Summary() (Summary, error)
	// Close waits for queued batches and releases the files.
	Close() error
}

// Done reports the fate of a batch: persisted when err is nil. Engines call
// it from their own goroutine.
type Done func(lsn LSN, err error)
