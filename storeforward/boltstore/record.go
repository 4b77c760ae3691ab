package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

const (
	recordVersion = 1
	recordHead    = 5 // version byte and CRC-32C, little endian
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errShort    = errors.New("record ends early")
	errTrailing = errors.New("record has bytes behind its end")
	errChecksum = errors.New("checksum does not match")
	errValue    = errors.New("value out of range")
)

func checksum(key []byte, version byte, body []byte) uint32 {
	c := crc32.Update(0, castagnoli, key)
	c = crc32.Update(c, castagnoli, []byte{version})
	return crc32.Update(c, castagnoli, body)
}

// beginRecord appends an empty record head; endRecord fills it in once the
// body stands behind it. start is len(dst) before beginRecord.
func beginRecord(dst []byte) []byte { return append(dst, recordVersion, 0, 0, 0, 0) }

func endRecord(dst []byte, start int, key []byte) []byte {
	binary.LittleEndian.PutUint32(dst[start+1:], checksum(key, recordVersion, dst[start+recordHead:]))
	return dst
}

// openRecord checks a record and returns its body, which aliases val.
func openRecord(key, val []byte) ([]byte, error) {
	if len(val) < recordHead {
		return nil, errShort
	}
	if binary.LittleEndian.Uint32(val[1:]) != checksum(key, val[0], val[recordHead:]) {
		return nil, errChecksum
	}
	if val[0] != recordVersion {
		return nil, fmt.Errorf("record version %d, want %d", val[0], recordVersion)
	}
	return val[recordHead:], nil
}

// Flags of a header record.
const (
	flagRetain  = 1 << 0
	flagPayload = 1 << 1 // a payload record existed when the header was written
	flagCharge  = 1 << 2 // a charge follows the service
	flagBatch   = 1 << 3 // a count follows the size
	flagYields  = 1 << 4
	flagsKnown  = flagRetain | flagPayload | flagCharge | flagBatch | flagYields
)

// appendHeader appends the body of a header record: h with those of entries
// whose slot is not gone, in the state of their slot.
func appendHeader(b []byte, h *store.Header, entries []store.Entry, slots []slot, payload bool) []byte {
	flags := byte(0)
	if h.Retain {
		flags |= flagRetain
	}
	if h.Yields {
		flags |= flagYields
	}
	if payload {
		flags |= flagPayload
	}
	if h.Charge != "" {
		flags |= flagCharge
	}
	if h.Count > 0 {
		flags |= flagBatch
	}
	b = append(b, flags, byte(h.Class), h.Hops, h.QoS)
	b = appendString(b, h.Message.Node.String())
	b = binary.AppendUvarint(b, uint64(h.Message.Seq))
	b = appendString(b, h.Origin.String())
	b = appendString(b, h.Prev.String())
	b = appendString(b, h.Topic)
	b = appendString(b, h.Service)
	if h.Charge != "" {
		b = appendString(b, h.Charge)
	}
	b = binary.AppendVarint(b, h.Received)
	b = binary.AppendVarint(b, h.Expires)
	b = binary.AppendUvarint(b, uint64(h.Size))
	if h.Count > 0 {
		b = binary.AppendUvarint(b, uint64(h.Count))
	}
	live := 0
	for _, s := range slots {
		if s.state != gone {
			live++
		}
	}
	b = binary.AppendUvarint(b, uint64(live))
	for i := range entries {
		if slots[i].state != gone {
			b = appendEntry(b, &entries[i], slots[i].state)
		}
	}
	return b
}

func appendEntry(b []byte, e *store.Entry, state store.EntryState) []byte {
	b = append(b, byte(e.Queue.Kind), byte(e.Queue.Class), e.QoS, byte(state))
	b = appendString(b, e.Queue.Name)
	b = binary.AppendUvarint(b, uint64(e.Bundle))
	b = binary.AppendUvarint(b, e.DSeq)
	if e.Frozen == nil {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Frozen))+1)
	return append(b, e.Frozen...)
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// reader takes values off the front of a body. After the first error all of
// its methods return zero values.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err, r.b = err, nil
	}
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail(errShort)
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

// uvarint accepts the shortest encoding only, so that a record has one form.
func (r *reader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	if n > 1 && r.b[n-1] == 0 || v > limit {
		r.fail(errValue)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	u := r.uvarint(math.MaxUint64)
	v := int64(u >> 1)
	if u&1 != 0 {
		v = ^v
	}
	return v
}

// bytes returns the next n bytes without copying them.
func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail(errShort)
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) string() string { return string(r.bytes(r.uvarint(math.MaxUint32))) }

func (r *reader) node() addr.Node {
	s := r.string()
	if s == "" {
		return addr.Node{}
	}
	n, err := addr.ParseNode(s)
	if err != nil {
		r.fail(err)
	}
	return n
}

// end reports the first error, or that something is left over.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		return errTrailing
	}
	return r.err
}

// rawEntry is an entry that still aliases the record it was read from.
type rawEntry struct {
	kind, class, qos, state byte
	name                    []byte
	bundle, dseq            uint64
	frozen                  []byte
	hasFrozen               bool
}

func (r *reader) entry() (e rawEntry) {
	e.kind, e.class, e.qos, e.state = r.byte(), r.byte(), r.byte(), r.byte()
	e.name = r.bytes(r.uvarint(math.MaxUint32))
	e.bundle = r.uvarint(math.MaxUint64)
	e.dseq = r.uvarint(math.MaxUint64)
	if n := r.uvarint(math.MaxUint32); n > 0 {
		e.hasFrozen = true
		e.frozen = r.bytes(n - 1)
	}
	if r.err == nil && (!validKind(store.Kind(e.kind)) || e.class >= bundle.NumClasses || e.state > byte(store.Ended)) {
		r.fail(errValue)
	}
	return e
}

func (e *rawEntry) entry() store.Entry {
	out := store.Entry{
		Queue:  store.Queue{Kind: store.Kind(e.kind), Name: string(e.name), Class: bundle.Class(e.class)},
		Bundle: bundle.Sequence(e.bundle),
		DSeq:   e.dseq,
		QoS:    e.qos,
		State:  store.EntryState(e.state),
	}
	if e.hasFrozen {
		out.Frozen = append([]byte{}, e.frozen...)
	}
	return out
}

func validKind(k store.Kind) bool { return k >= store.ToNode && k <= store.ToOrder }

// head reads the fixed part of a header body, up to the entries. payload
// tells whether a payload record belongs to it.
func (r *reader) head(h *store.Header) (payload bool, entries int) {
	flags := r.byte()
	h.Retain, h.Yields = flags&flagRetain != 0, flags&flagYields != 0
	h.Class = bundle.Class(r.byte())
	h.Hops, h.QoS = r.byte(), r.byte()
	h.Message.Node = r.node()
	h.Message.Seq = bundle.Sequence(r.uvarint(math.MaxUint64))
	h.Origin, h.Prev = r.node(), r.node()
	h.Topic, h.Service = r.string(), r.string()
	if flags&flagCharge != 0 {
		h.Charge = r.string()
	}
	h.Received, h.Expires = r.varint(), r.varint()
	h.Size = uint32(r.uvarint(math.MaxUint32))
	if flags&flagBatch != 0 {
		h.Count = uint16(r.uvarint(math.MaxUint16))
	}
	// An entry takes at least 8 bytes, which bounds the allocation for them.
	n := r.uvarint(uint64(len(r.b)) / 8)
	if r.err == nil && (flags&^flagsKnown != 0 || h.Class >= bundle.NumClasses || n == 0) {
		r.fail(errValue)
	}
	return flags&flagPayload != 0, int(n)
}

// decodeHeader reads the body of a header record into fresh memory.
func decodeHeader(seq uint64, body []byte) (h *store.Header, payload bool, err error) {
	r := reader{b: body}
	h = &store.Header{Seq: seq}
	payload, n := r.head(h)
	if r.err != nil {
		return nil, false, r.err
	}
	h.Entries = make([]store.Entry, 0, n)
	for range n {
		e := r.entry()
		if r.err != nil {
			return nil, false, r.err
		}
		h.Entries = append(h.Entries, e.entry())
	}
	return h, payload, r.end()
}

// A marks record packs the state of each entry of a header record in two
// bits, gone included, lowest bits first.
func appendMarks(b []byte, slots []slot) []byte {
	b = binary.AppendUvarint(b, uint64(len(slots)))
	start := len(b)
	b = slices.Grow(b, (len(slots)+3)/4)[:start+(len(slots)+3)/4]
	clear(b[start:])
	for i, s := range slots {
		b[start+i/4] |= byte(s.state) << (i % 4 * 2)
	}
	return b
}

// decodeMarks returns the states in the order of the entries; want is the
// number of entries of the header record.
func decodeMarks(body []byte, want int) ([]store.EntryState, error) {
	r := reader{b: body}
	n := r.uvarint(uint64(len(r.b)) * 4)
	packed := r.bytes((n + 3) / 4)
	if err := r.end(); err != nil {
		return nil, err
	}
	if int(n) != want {
		return nil, fmt.Errorf("marks of %d entries, want %d", n, want)
	}
	if n%4 != 0 && packed[len(packed)-1]>>(n%4*2) != 0 {
		return nil, errValue
	}
	states := make([]store.EntryState, n)
	for i := range states {
		states[i] = store.EntryState(packed[i/4] >> (i % 4 * 2) & 3)
	}
	return states, nil
}
