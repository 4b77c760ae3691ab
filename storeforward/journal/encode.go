package journal

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/store"
)

// Records of a block. Each begins with its kind; numbers are uvarints, or
// zigzag where they may fall. Differences are to the record of the same kind
// before it in the block, and at the start of a block to zero. A name is
// written once per block and has a number from then on: 0 announces it.
//
//	put   flags (2), [class hops qos], seq -prev, [node] [origin] [prev] [topic]
//	      [service], [charge], message -prev, received -prev, life -prev, size,
//	      [count], [entries], entry..., [payload length, payload]
//	entry queue, flags, [qos], [bundle -prev], [dseq -prev of the queue],
//	      [frozen length, frozen]
//	drop  queue, seq -prev, [size]
//	mark  queue, seq -prev, state, size
//	set   key, 0 | 1 value | 2 (the value is the tail)
//	high  the highest Seq ever used
const (
	recPut      = 1
	recDrop     = 2
	recDropSame = 3 // of the size of the drop before
	recMark     = 4
	recSet      = 5
	recHigh     = 6
)

// Flags of a put, first byte and second byte.
const (
	putRetain     = 1 << 0
	putPayload    = 1 << 1 // it has one, even of no bytes
	putTail       = 1 << 2 // it is the tail of the block
	putLost       = 1 << 3 // it was unreadable when it should have been copied
	putSameHead   = 1 << 4
	putSameNode   = 1 << 5
	putSameOrigin = 1 << 6
	putSamePrev   = 1 << 7

	putSameTopic   = 1 << 0
	putSameService = 1 << 1
	putSized       = 1 << 2 // the payload is as long as Size says
	putOne         = 1 << 3 // one entry
	putSameCharge  = 1 << 4
	putCount       = 1 << 5 // Count follows
	putYields      = 1 << 6
	putKnown2      = 1<<7 - 1
)

// Flags of an entry; the lowest two bits are the state.
const (
	entryState      = 3
	entryFrozen     = 1 << 2
	entryQoSShift   = 3 // two bits, 3: a byte follows
	entryNextDSeq   = 1 << 5
	entryNextBundle = 1 << 6
	entrySameBundle = 1 << 7
)

// What follows the key of a set.
const (
	setDelete = 0
	setValue  = 1
	setTail   = 2
)

// putContext is what a put is told apart from.
type putContext struct {
	seq              uint64
	class, hops, qos byte
	message          uint64
	bundle           uint64
	received, life   int64
}

// names are those of the put before.
type names struct {
	node, origin, prev addr.Node
	topic, service     string
	charge             string
}

// blockMeta is one block in the buffer of an encoder.
type blockMeta struct {
	at          int // of its head
	head        blockHead
	first, last uint64 // Seqs of its puts; 0: none
	puts        int    // entries in them
}

// encoder turns records into blocks. seal ends it; reset begins anew. The
// buffer is used again and again.
type encoder struct {
	buf    []byte
	blocks []blockMeta
	open   bool

	nodes  *dict[addr.Node]
	texts  *dict[string]
	queues *dict[store.Queue]
	last   store.Queue // named last, by lastID; 0: none in this block
	lastID uint32
	dseq   []uint64 // of the last entry, by number of the queue
	put    putContext
	names  names
	ref    uint64 // Seq of the last drop or mark
	size   uint32 // of the last drop
}

func newEncoder() *encoder {
	return &encoder{nodes: newDict[addr.Node](nodeText), texts: newDict[string](plainText), queues: newDict[store.Queue](queueText)}
}

// maxKept is the largest buffer that is kept for the next group.
const maxKept = 4 * groupBytes

// reset empties the encoder. The buffer begins with room for a head.
func (e *encoder) reset(room int) {
	if cap(e.buf) > maxKept {
		e.buf = nil
	}
	e.buf = append(e.buf[:0], make([]byte, room)...)
	e.blocks, e.open = e.blocks[:0], false
}

// begin opens a block if none is open, or the open one is full.
func (e *encoder) begin(fresh bool) *blockMeta {
	if e.open {
		b := &e.blocks[len(e.blocks)-1]
		if !fresh && len(e.buf)-b.at < blockTarget {
			return b
		}
		e.end(nil)
	}
	e.blocks = append(e.blocks, blockMeta{at: len(e.buf)})
	e.buf = append(e.buf, make([]byte, blockHeadLen)...)
	e.open = true
	e.nodes.reset()
	e.texts.reset()
	e.queues.reset()
	e.last, e.lastID = store.Queue{}, 0
	e.dseq = append(e.dseq[:0], 0)
	e.put, e.names, e.ref, e.size = putContext{}, names{}, 0, 0
	return &e.blocks[len(e.blocks)-1]
}

// end closes the open block, behind which tail stands in pieces.
func (e *encoder) end(tail [][]byte) {
	b := &e.blocks[len(e.blocks)-1]
	b.head.body = len(e.buf) - b.at - blockHeadLen
	for _, t := range tail {
		b.head.tailSum = crc32.Update(b.head.tailSum, castagnoli, t)
		b.head.tail += len(t)
		e.buf = append(e.buf, t...)
	}
	e.open = false
}

// seal makes one group of all blocks: they get numbers from number on.
// It returns the number after the last.
func (e *encoder) seal(seed uint32, number, synced uint64) uint64 {
	if e.open {
		e.end(nil)
	}
	for i := range e.blocks {
		b := &e.blocks[i]
		b.head.number, b.head.synced = number, synced
		if i == 0 {
			b.head.flags |= flagFirst
		}
		if i == len(e.blocks)-1 {
			b.head.flags |= flagLast
		}
		sealBlock(e.buf[b.at:b.at+blockHeadLen+b.head.body], seed, &b.head)
		number++
	}
	return number
}

func (e *encoder) uint(v uint64) { e.buf = binary.AppendUvarint(e.buf, v) }
func (e *encoder) int(v int64)   { e.buf = binary.AppendVarint(e.buf, v) }

func (e *encoder) text(s string) {
	e.uint(uint64(len(s)))
	e.buf = append(e.buf, s...)
}

func (e *encoder) bytes(b []byte) {
	e.uint(uint64(len(b)))
	e.buf = append(e.buf, b...)
}

func (e *encoder) node(n addr.Node) {
	id, fresh := e.nodes.id(n)
	if !fresh {
		e.uint(uint64(id))
		return
	}
	e.buf = append(e.buf, 0)
	e.text(n.String())
}

func (e *encoder) name(s string) {
	id, fresh := e.texts.id(s)
	if !fresh {
		e.uint(uint64(id))
		return
	}
	e.buf = append(e.buf, 0)
	e.text(s)
}

func (e *encoder) queue(q store.Queue) uint32 {
	if e.lastID != 0 && q == e.last {
		e.uint(uint64(e.lastID))
		return e.lastID
	}
	id, fresh := e.queues.id(q)
	e.last, e.lastID = q, id
	if !fresh {
		e.uint(uint64(id))
		return id
	}
	e.buf = append(e.buf, 0, byte(q.Kind), byte(q.Class))
	e.text(q.Name)
	e.dseq = append(e.dseq, 0)
	return id
}

// body is the payload of a put.
type body struct {
	b    []byte
	has  bool
	lost bool
}

// putMessage writes a message with these entries.
func (e *encoder) putMessage(h *store.Header, entries []store.Entry, p body) {
	large := len(p.b) > inlineMax
	b := e.begin(large)
	if b.first == 0 {
		b.first = h.Seq
	}
	b.last = h.Seq
	b.puts += len(entries)
	e.putHead(h, len(entries), p, large)
	for i := range entries {
		e.entry(&entries[i])
	}
	switch {
	case large:
		e.end([][]byte{p.b})
	case p.has:
		if len(p.b) != int(h.Size) {
			e.uint(uint64(len(p.b)))
		}
		e.buf = append(e.buf, p.b...)
	}
}

// putFlags compares a message with the one before and remembers it.
func (e *encoder) putFlags(h *store.Header, entries int, p body, large bool) (f1, f2 byte) {
	set := func(f *byte, bit byte, on bool) {
		if on {
			*f |= bit
		}
	}
	set(&f1, putRetain, h.Retain)
	set(&f1, putPayload, p.has)
	set(&f1, putTail, large)
	set(&f1, putLost, p.lost)
	set(&f1, putSameHead, e.put.class == byte(h.Class) && e.put.hops == h.Hops && e.put.qos == h.QoS)
	set(&f1, putSameNode, e.names.node == h.Message.Node)
	set(&f1, putSameOrigin, e.names.origin == h.Origin)
	set(&f1, putSamePrev, e.names.prev == h.Prev)
	set(&f2, putSameTopic, e.names.topic == h.Topic)
	set(&f2, putSameService, e.names.service == h.Service)
	set(&f2, putSameCharge, e.names.charge == h.Charge)
	set(&f2, putCount, h.Count != 0)
	set(&f2, putYields, h.Yields)
	set(&f2, putSized, len(p.b) == int(h.Size))
	set(&f2, putOne, entries == 1)
	e.names = names{h.Message.Node, h.Origin, h.Prev, h.Topic, h.Service, h.Charge}
	return f1, f2
}

func (e *encoder) putHead(h *store.Header, entries int, p body, large bool) {
	f1, f2 := e.putFlags(h, entries, p, large)
	e.buf = append(e.buf, recPut, f1, f2)
	if f1&putSameHead == 0 {
		e.buf = append(e.buf, byte(h.Class), h.Hops, h.QoS)
	}
	c := &e.put
	e.uint(h.Seq - c.seq)
	if f1&putSameNode == 0 {
		e.node(h.Message.Node)
	}
	if f1&putSameOrigin == 0 {
		e.node(h.Origin)
	}
	if f1&putSamePrev == 0 {
		e.node(h.Prev)
	}
	if f2&putSameTopic == 0 {
		e.name(h.Topic)
	}
	if f2&putSameService == 0 {
		e.name(h.Service)
	}
	if f2&putSameCharge == 0 {
		e.name(h.Charge)
	}
	life := h.Expires - h.Received // wraps, and wraps back
	e.int(int64(uint64(h.Message.Seq) - c.message))
	e.int(h.Received - c.received)
	e.int(life - c.life)
	e.uint(uint64(h.Size))
	if f2&putCount != 0 {
		e.uint(uint64(h.Count))
	}
	if f2&putOne == 0 {
		e.uint(uint64(entries))
	}
	c.seq, c.class, c.hops, c.qos = h.Seq, byte(h.Class), h.Hops, h.QoS
	c.message, c.received, c.life = uint64(h.Message.Seq), h.Received, life
}

func (e *encoder) entry(en *store.Entry) {
	id := e.queue(en.Queue)
	flags := byte(en.State) | min(en.QoS, 3)<<entryQoSShift
	if en.Frozen != nil {
		flags |= entryFrozen
	}
	if en.DSeq == e.dseq[id]+1 {
		flags |= entryNextDSeq
	}
	switch uint64(en.Bundle) {
	case e.put.bundle + 1:
		flags |= entryNextBundle
	case e.put.bundle:
		flags |= entrySameBundle
	}
	e.buf = append(e.buf, flags)
	if en.QoS >= 3 {
		e.buf = append(e.buf, en.QoS)
	}
	if flags&(entryNextBundle|entrySameBundle) == 0 {
		e.int(int64(uint64(en.Bundle) - e.put.bundle))
	}
	if flags&entryNextDSeq == 0 {
		e.int(int64(en.DSeq - e.dseq[id]))
	}
	if en.Frozen != nil {
		e.bytes(en.Frozen)
	}
	e.put.bundle, e.dseq[id] = uint64(en.Bundle), en.DSeq
}

func (e *encoder) drop(q store.Queue, seq uint64, size uint32) {
	e.begin(false)
	same := size == e.size
	if same {
		e.buf = append(e.buf, recDropSame)
	} else {
		e.buf = append(e.buf, recDrop)
	}
	e.queue(q)
	e.int(int64(seq - e.ref))
	if !same {
		e.uint(uint64(size))
	}
	e.ref, e.size = seq, size
}

func (e *encoder) mark(m *store.Mark, size uint32) {
	e.begin(false)
	e.buf = append(e.buf, recMark)
	e.queue(m.Queue)
	e.int(int64(m.Seq - e.ref))
	e.buf = append(e.buf, byte(m.State))
	e.uint(uint64(size))
	e.ref = m.Seq
}

// set writes a key, with the value in pieces; none deletes it. It returns the
// block and what the record takes.
func (e *encoder) set(key string, value [][]byte, del bool) (block int, size int64) {
	n := 0
	for _, v := range value {
		n += len(v)
	}
	e.begin(n > inlineMax)
	block = len(e.blocks) - 1
	start := len(e.buf)
	e.buf = append(e.buf, recSet)
	e.text(key)
	switch {
	case del:
		e.buf = append(e.buf, setDelete)
	case n > inlineMax:
		e.buf = append(e.buf, setTail)
		e.end(value)
	default:
		e.buf = append(e.buf, setValue)
		e.uint(uint64(n))
		for _, v := range value {
			e.buf = append(e.buf, v...)
		}
	}
	return block, int64(len(e.buf) - start)
}

func (e *encoder) high(seq uint64) {
	e.begin(false)
	e.buf = append(e.buf, recHigh)
	e.uint(seq)
}
