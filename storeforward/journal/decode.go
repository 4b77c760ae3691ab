package journal

import (
	"encoding/binary"
	"math"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Limits that every batch keeps and every block is held to.
const (
	maxName    = 1<<16 - 1 // MQTT strings, and with them topics and client ids
	maxKey     = 4 << 10
	maxPayload = 256 << 20
	maxFrozen  = 16 << 20
	maxBatch   = 1 << 30
)

// putFields are what a put says. Names are places in the lists of its block.
type putFields struct {
	seq, message           uint64
	received, expires      int64
	size                   uint32
	node, origin, prev     int32
	topic, service, charge int32
	flags1, flags2         byte
	class, hops, qos       byte
	hasPayload, tail       bool // tail: the payload is behind the block
	count                  uint16
	entries                []entryRecord
	payload                []byte
}

// record is one record of a block. It aliases the block and is good until
// the next one is read. A drop or mark has seq and size, a set has tail.
type record struct {
	kind byte
	putFields

	// drop and mark
	queue int32
	state store.EntryState

	// set
	key   []byte
	value []byte
	del   bool
}

// entryRecord is one entry of a put.
type entryRecord struct {
	bundle, dseq uint64
	frozen       []byte
	queue        int32
	qos          byte
	state        store.EntryState
	hasFrozen    bool
}

// nameLists are the names of one block, which they alias. The first of each
// list is the zero one.
type nameLists struct {
	nodes, texts [][]byte
	queues       []queueName
}

// queueName is a queue as a block names it.
type queueName struct {
	kind, class byte
	name        []byte
	dseq        uint64
	q           *queue // resolved by who needs it
}

func (n *queueName) queue() store.Queue {
	return store.Queue{Kind: store.Kind(n.kind), Name: string(n.name), Class: bundle.Class(n.class)}
}

// decoder reads the records of blocks.
type decoder struct {
	b    []byte
	at   int // in b
	err  error
	tail int // bytes of the tail of the block

	nameLists
	put  putContext
	same struct{ node, origin, prev, topic, service, charge int32 }
	ref  uint64
	size uint32
}

// start begins with the body of a block.
func (d *decoder) start(body []byte, tail int) {
	d.b, d.at, d.err, d.tail = body, 0, nil, tail
	d.nodes = append(d.nodes[:0], nil)
	d.texts = append(d.texts[:0], nil)
	d.queues = append(d.queues[:0], queueName{})
	d.put, d.ref, d.size = putContext{}, 0, 0
	d.same.node, d.same.origin, d.same.prev, d.same.topic, d.same.service, d.same.charge = 0, 0, 0, 0, 0, 0
}

// left is how many bytes are not read yet.
func (d *decoder) left() int { return len(d.b) - d.at }

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err, d.b, d.at = err, nil, 0
	}
}

func (d *decoder) byte() byte {
	if d.at >= len(d.b) {
		d.fail(errShort)
		return 0
	}
	v := d.b[d.at]
	d.at++
	return v
}

// uint reads a number. Most take one byte.
func (d *decoder) uint(limit uint64) uint64 {
	if d.at < len(d.b) {
		if v := d.b[d.at]; v < 0x80 && uint64(v) <= limit {
			d.at++
			return uint64(v)
		}
	}
	return d.longUint(limit)
}

func (d *decoder) longUint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b[d.at:])
	switch {
	case n <= 0:
		d.fail(errShort)
		return 0
	case v > limit:
		d.fail(errValue)
		return 0
	}
	d.at += n
	return v
}

func (d *decoder) int() int64 {
	u := d.uint(math.MaxUint64)
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) bytes(limit uint64) []byte {
	n := d.uint(limit)
	return d.take(n)
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(d.left()) {
		d.fail(errShort)
		return nil
	}
	end := d.at + int(n)
	v := d.b[d.at:end:end]
	d.at = end
	return v
}

// name reads a reference to a name of a list, or a new one.
func (d *decoder) name(list *[][]byte) int32 {
	if id := d.uint(uint64(len(*list) - 1)); id != 0 || d.err != nil {
		return int32(id)
	}
	*list = append(*list, d.bytes(maxName))
	return int32(len(*list) - 1)
}

func (d *decoder) queueRef() int32 {
	if id := d.uint(uint64(len(d.queues) - 1)); id != 0 || d.err != nil {
		return int32(id)
	}
	n := queueName{kind: d.byte(), class: d.byte()}
	n.name = d.bytes(maxName)
	if !validKind(store.Kind(n.kind)) || n.class >= bundle.NumClasses {
		d.fail(errValue)
	}
	d.queues = append(d.queues, n)
	return int32(len(d.queues) - 1)
}

func validKind(k store.Kind) bool { return k >= store.ToNode && k <= store.ToOrder }

// next reads one record; false at the end of the block, or when d.err says
// what is wrong.
func (d *decoder) next(r *record) bool {
	if d.err != nil || d.left() == 0 {
		return false
	}
	r.kind = d.byte()
	switch r.kind {
	case recPut:
		d.putRecord(r)
	case recDrop, recDropSame:
		r.queue = d.queueRef()
		r.seq = d.ref + uint64(d.int())
		if r.kind == recDrop {
			d.size = uint32(d.uint(math.MaxUint32))
		}
		r.kind, r.size, d.ref = recDrop, d.size, r.seq
	case recMark:
		r.queue = d.queueRef()
		r.seq = d.ref + uint64(d.int())
		r.state = store.EntryState(d.byte())
		r.size, d.ref = uint32(d.uint(math.MaxUint32)), r.seq
		if r.state > store.Ended {
			d.fail(errValue)
		}
	case recSet:
		d.setRecord(r)
	case recHigh:
		r.seq = d.uint(math.MaxUint64 - 1)
	default:
		d.fail(errValue)
	}
	return d.err == nil
}

func (d *decoder) setRecord(r *record) {
	r.key = d.bytes(maxKey)
	r.value, r.del, r.tail = nil, false, false
	switch d.byte() {
	case setDelete:
		r.del = true
	case setValue:
		r.value = d.bytes(inlineMax)
	case setTail:
		r.tail = true
		d.last()
	default:
		d.fail(errValue)
	}
}

// last checks that a record whose value is the tail ends the block.
func (d *decoder) last() {
	if d.err == nil && (d.left() > 0 || d.tail == 0) {
		d.fail(errTrailing)
	}
}

func (d *decoder) putRecord(r *record) {
	f1, f2 := d.byte(), d.byte()
	c := &d.put
	if f1&putSameHead == 0 {
		c.class, c.hops, c.qos = d.byte(), d.byte(), d.byte()
	}
	step := d.uint(math.MaxUint64)
	c.seq += step
	if f1&putSameNode == 0 {
		d.same.node = d.name(&d.nodes)
	}
	if f1&putSameOrigin == 0 {
		d.same.origin = d.name(&d.nodes)
	}
	if f1&putSamePrev == 0 {
		d.same.prev = d.name(&d.nodes)
	}
	if f2&putSameTopic == 0 {
		d.same.topic = d.name(&d.texts)
	}
	if f2&putSameService == 0 {
		d.same.service = d.name(&d.texts)
	}
	if f2&putSameCharge == 0 {
		d.same.charge = d.name(&d.texts)
	}
	c.message += uint64(d.int())
	c.received += d.int()
	c.life += d.int()
	size := d.uint(math.MaxUint32)
	r.count = 0
	if f2&putCount != 0 {
		r.count = uint16(d.uint(math.MaxUint16))
	}
	n := uint64(1)
	if f2&putOne == 0 {
		n = d.uint(uint64(d.left()) / 2) // an entry takes two bytes at least
	}
	if d.err == nil && (f2&^putKnown2 != 0 || c.class >= bundle.NumClasses || step == 0 || c.seq < step || c.seq == math.MaxUint64) {
		d.fail(errValue)
		return
	}
	r.flags1, r.flags2 = f1, f2
	r.class, r.hops, r.qos, r.seq, r.size = c.class, c.hops, c.qos, c.seq, uint32(size)
	r.node, r.origin, r.prev, r.topic, r.service, r.charge = d.same.node, d.same.origin, d.same.prev, d.same.topic, d.same.service, d.same.charge
	r.message, r.received, r.expires = c.message, c.received, c.received+c.life
	r.entries = r.entries[:0]
	for ; n > 0 && d.err == nil; n-- {
		d.entry(r)
	}
	d.payload(r)
}

func (d *decoder) payload(r *record) {
	r.hasPayload, r.tail, r.payload = r.flags1&putPayload != 0, r.flags1&putTail != 0, nil
	switch {
	case r.tail && !r.hasPayload:
		d.fail(errValue)
	case r.tail:
		d.last()
	case r.hasPayload:
		n := uint64(r.size)
		if r.flags2&putSized == 0 {
			n = d.uint(inlineMax)
		}
		r.payload = d.take(n)
	}
}

func (d *decoder) entry(r *record) {
	r.entries = append(r.entries, entryRecord{queue: d.queueRef()})
	e := &r.entries[len(r.entries)-1]
	flags := d.byte()
	e.state = store.EntryState(flags & entryState)
	if e.qos = flags >> entryQoSShift & 3; e.qos == 3 {
		e.qos = d.byte()
	}
	switch {
	case flags&entryNextBundle != 0:
		d.put.bundle++
	case flags&entrySameBundle == 0:
		d.put.bundle += uint64(d.int())
	}
	q := &d.queues[e.queue]
	if flags&entryNextDSeq != 0 {
		q.dseq++
	} else {
		q.dseq += uint64(d.int())
	}
	e.bundle, e.dseq = d.put.bundle, q.dseq
	if e.hasFrozen = flags&entryFrozen != 0; e.hasFrozen {
		e.frozen = d.bytes(maxFrozen)
	}
	if e.state > store.Ended {
		d.fail(errValue)
	}
}

func (r *record) lost() bool { return r.flags1&putLost != 0 }
