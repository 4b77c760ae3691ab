package durable

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// appender is what the writing side of a store.Store is.
type appender interface {
	Append(*store.Batch)
	Close() error
}

// custody drives a store as a node does: batches with rising LSNs, appended
// under one lock, and producers that wait for their LSN.
type custody struct {
	to    appender
	waits []chan error // by producer, capacity 1

	// slots says who waits for an LSN: the LSN and the producer, at the place
	// LSN modulo length. At most one LSN of each producer waits, so a slot is
	// free again before it is needed.
	slots []atomic.Uint64

	origin addr.Node
	queues [Queues]store.Queue
	now    int64  // ms of the messages' clock
	size   uint32 // of each payload block

	mu    sync.Mutex // guards what follows, and the order of Append
	lsn   store.LSN
	seq   uint64
	dseq  [Queues]uint64
	count uint64 // of the origin's bundles
}

// producerBits of a slot hold the producer.
const producerBits = 16

// newCustody opens a store through open, for producers of l.
func newCustody(l *Load, producers int, open func(store.Done) (appender, error)) (*custody, error) {
	c := &custody{
		origin: addr.MustNode("origin"), now: time.Now().UnixMilli(), size: uint32(l.size - frozenBytes(l.size)),
		slots: make([]atomic.Uint64, 1<<bits.Len(uint(4*producers+64*drainers))),
	}
	for i := range c.queues {
		c.queues[i] = store.Queue{Kind: store.ToNode, Name: fmt.Sprintf("node-%02d", i), Class: bundle.Telemetry}
	}
	for range max(producers, drainers) {
		c.waits = append(c.waits, make(chan error, 1))
	}
	var err error
	if c.to, err = open(c.done); err != nil {
		return nil, err
	}
	if s, ok := c.to.(store.Store); ok {
		sum, err := s.Summary()
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		c.seq = max(sum.NextSeq, 1) - 1
	}
	return c, nil
}

// done is the store.Done of the engine.
func (c *custody) done(lsn store.LSN, err error) {
	v := c.slots[int(lsn)&(len(c.slots)-1)].Load()
	if store.LSN(v>>producerBits) == lsn {
		c.waits[v&(1<<producerBits-1)] <- err
	}
}

// parcel is a batch with one put and at most one drop, allocated at once.
type parcel struct {
	batch  store.Batch
	put    [1]store.Put
	header store.Header
	entry  [1]store.Entry
	blob   store.Blob
	drop   [1]store.Drop
}

// Put implements Sink.
func (c *custody) Put(producer int, b Bundle, gone Item) (Item, error) {
	p := &parcel{blob: store.Blob{B: b.Payload}}
	p.entry[0] = store.Entry{Queue: c.queues[b.Queue], Frozen: b.Frozen}
	p.header = store.Header{
		Origin: c.origin, Class: bundle.Telemetry, Hops: 1, QoS: 1, Service: "mqtt", Received: c.now,
		Expires: c.now + int64(time.Hour/time.Millisecond), Size: uint32(len(b.Payload)), Entries: p.entry[:],
	}
	p.put[0] = store.Put{Header: &p.header, Blob: &p.blob}
	p.batch.Puts = p.put[:]
	if gone.Seq != 0 {
		p.drop[0] = c.dropOf(gone)
		p.batch.Drops = p.drop[:]
	}
	c.mu.Lock()
	c.number(p, b.Queue)
	c.slots[int(c.lsn)&(len(c.slots)-1)].Store(uint64(c.lsn)<<producerBits | uint64(producer))
	c.to.Append(&p.batch)
	c.mu.Unlock()
	return Item{b.Queue, p.header.Seq}, <-c.waits[producer]
}

// number gives a parcel its place; c.mu is held.
func (c *custody) number(p *parcel, queue int) {
	c.lsn++
	c.seq++
	c.dseq[queue]++
	c.count++
	p.batch.LSN = c.lsn
	p.header.Seq = c.seq
	p.header.Message = bundle.ID{Node: c.origin, Seq: bundle.NewSequence(1, bundle.Telemetry, c.count)}
	p.entry[0].Bundle, p.entry[0].DSeq = p.header.Message.Seq, c.dseq[queue]
}

// dropOf ends custody of a bundle.
func (c *custody) dropOf(i Item) store.Drop {
	return store.Drop{Queue: c.queues[i.Queue], Seq: i.Seq, Size: c.size}
}

// Remove ends custody of the last bundle of a producer, which no put follows.
func (c *custody) Remove(i Item) {
	c.lazily(&store.Batch{Drops: []store.Drop{c.dropOf(i)}})
}

// lazily appends a batch nothing waits for.
func (c *custody) lazily(b *store.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lsn++
	b.LSN, b.Lazy = c.lsn, true
	c.to.Append(b)
}

// settle waits until all that was appended is durable. who is a producer that
// is not at work.
func (c *custody) settle(who int) error {
	c.mu.Lock()
	c.lsn++
	b := &store.Batch{LSN: c.lsn, Sets: []store.Set{{Key: "bench", Value: []byte("settled")}}}
	c.slots[int(c.lsn)&(len(c.slots)-1)].Store(uint64(c.lsn)<<producerBits | uint64(who))
	c.to.Append(b)
	c.mu.Unlock()
	return <-c.waits[who]
}

// Close implements Sink.
func (c *custody) Close() error { return c.to.Close() }
