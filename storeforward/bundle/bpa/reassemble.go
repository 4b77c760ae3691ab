package bpa

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// ReassemblerConfig limits what unfinished bundles may hold in memory. Zero
// fields have defaults.
type ReassemblerConfig struct {
	Bytes   int64         // held of all fragments together; 64 MiB
	Whole   int64         // of one bundle's payload when complete; 16 MiB
	Bundles int           // unfinished at one time; 1,024
	Pieces  int           // fragments of one bundle; 16,384
	Wait    time.Duration // for the next fragment at most, however long the lifetime; 24 h
}

// Validate reports all faults of the configuration.
func (c ReassemblerConfig) Validate() error {
	if c.Bytes < 0 || c.Whole < 0 || c.Bundles < 0 || c.Pieces < 0 || c.Wait < 0 {
		return errors.New("limits of reassembly: want 0 or more")
	}
	return nil
}

func (c ReassemblerConfig) withDefaults() ReassemblerConfig {
	c.Bytes, c.Whole = cmp.Or(c.Bytes, 64<<20), cmp.Or(c.Whole, 16<<20)
	c.Bundles, c.Pieces = cmp.Or(c.Bundles, 1024), cmp.Or(c.Pieces, 16<<10)
	c.Wait = cmp.Or(c.Wait, 24*time.Hour)
	return c
}

// Extent is a range of bytes of a payload, From inclusive, To exclusive.
type Extent struct{ From, To uint64 }

// Unfinished names the fragments of a bundle that was given up.
type Unfinished struct {
	Key bundle.Key // of the whole
	IDs []uint64   // of its fragments, as given to Add
}

// ReassemblerStats counts what a Reassembler did and what it holds.
type ReassemblerStats struct {
	Completed  uint64
	Repeats    uint64 // fragments that brought nothing new
	Conflicts  uint64 // fragments that contradicted bytes that were there
	Refused    uint64 // fragments over a limit, or of another bundle than they say
	Expired    uint64 // bundles given up
	Unfinished int
	Bytes      int64
}

// Reassembler puts fragments together (RFC 9171, section 5.9). It keeps the
// payload bytes that are new and nothing else of a fragment; the fragments
// themselves belong into durable storage until Add or Expire returns their ids.
// After a restart they are added again, in any order. It is not safe for
// concurrent use.
type Reassembler struct {
	c     ReassemblerConfig
	all   map[bundle.Key]*partial
	stats ReassemblerStats
}

// partial is an unfinished bundle.
type partial struct {
	total   uint64
	have    uint64
	size    int64   // of it all in memory
	head    []byte  // primary and extension blocks of the whole, of the fragment at offset 0
	payload payload // its payload block but for the data
	pieces  []piece // sorted, not overlapping
	ids     []uint64
	until   time.Time
}

// pieceSize is what a fragment holds in memory beside its bytes.
const pieceSize = 96

type piece struct {
	at   uint64
	data []byte
}

func (p piece) end() uint64 { return p.at + uint64(len(p.data)) }

// payload is what the payload block of the whole takes from a fragment's.
type payload struct {
	flags uint64
	crc   bundle.CRCType
}

// NewReassembler returns an empty Reassembler.
func NewReassembler(c ReassemblerConfig) (*Reassembler, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Reassembler{c: c.withDefaults(), all: map[bundle.Key]*partial{}}, nil
}

// Stats returns the counters.
func (r *Reassembler) Stats() ReassemblerStats {
	s := r.stats
	s.Unfinished = len(r.all)
	return s
}

// Add adds a fragment that a policy accepts, under the id by which the caller
// stored it. With the last one that was missing it returns the whole bundle, encoded, and
// the ids of all its fragments, which may be released once the bundle is stored.
// Its age is that of the fragment with offset 0 as received.
//
// Reason Duplicate says that the fragment brought nothing new and may be
// released at once, StoreFull and TooLarge that a limit is reached, Malformed
// that it is no fragment or contradicts the others about the length of the
// whole. Bytes that are there are never replaced.
func (r *Reassembler) Add(id uint64, v *bundle.View, now time.Time) (whole []byte, ids []uint64, why bundle.Reason) {
	k, ok := bundle.KeyOf(v)
	if !ok || !k.Fragment || flags(v).Has(BadFragment) {
		r.stats.Refused++
		return nil, nil, bundle.Malformed
	}
	p, err := r.partial(k.Whole(), v)
	if err != bundle.OK {
		r.stats.Refused++
		return nil, nil, err
	}
	fresh, size := p.missing(k.Offset, k.Offset+k.Len), int64(pieceSize)
	for _, x := range fresh {
		size += int64(x.To - x.From)
	}
	if p.contradicts(k.Offset, v.Payload.Data) {
		r.stats.Conflicts++
	}
	var head []byte
	if k.Offset == 0 && p.head == nil {
		head = wholeHead(v)
	}
	size += int64(len(head))
	switch {
	case len(fresh) == 0 && head == nil:
		r.stats.Repeats++
		return nil, nil, bundle.Duplicate
	case r.stats.Bytes+size > r.c.Bytes || len(p.ids) >= r.c.Pieces:
		r.stats.Refused++
		return nil, nil, bundle.StoreFull
	}
	r.all[k.Whole()] = p
	r.stats.Bytes += size
	p.size += size
	p.ids = append(p.ids, id)
	p.until = later(p.until, now.Add(min(left(v), r.c.Wait)))
	p.insert(k.Offset, v.Payload.Data, fresh)
	if head != nil {
		p.head, p.payload = head, payload{v.Payload.Flags, v.Payload.CRCType}
	}
	if p.have < p.total || p.head == nil {
		return nil, nil, bundle.OK
	}
	r.drop(k.Whole(), p)
	r.stats.Completed++
	return p.join(), p.ids, bundle.OK
}

// partial returns the unfinished bundle that a fragment belongs to, or a new
// one that is not yet in r.
func (r *Reassembler) partial(k bundle.Key, v *bundle.View) (*partial, bundle.Reason) {
	p := r.all[k]
	total := v.Primary.TotalLen
	switch {
	case p != nil && p.total != total:
		return nil, bundle.Malformed
	case p != nil:
		return p, bundle.OK
	case total > uint64(r.c.Whole):
		return nil, bundle.TooLarge
	case len(r.all) >= r.c.Bundles:
		return nil, bundle.StoreFull
	}
	return &partial{total: total}, bundle.OK
}

func (r *Reassembler) drop(k bundle.Key, p *partial) {
	r.stats.Bytes -= p.size
	delete(r.all, k)
}

// Missing returns the ranges that are still missing of a bundle, nil when none
// of its fragments is here.
func (r *Reassembler) Missing(k bundle.Key) []Extent {
	p := r.all[k.Whole()]
	if p == nil {
		return nil
	}
	return p.missing(0, p.total)
}

// Expire gives up the bundles whose lifetime has ended or that waited too long
// for a fragment, and returns them in the order of their time.
func (r *Reassembler) Expire(now time.Time) []Unfinished {
	type ended struct {
		Unfinished
		until time.Time
		key   string
	}
	var out []ended
	for k, p := range r.all {
		if !p.until.After(now) {
			out = append(out, ended{Unfinished{k, p.ids}, p.until, string(k.Append(nil))})
			r.drop(k, p)
			r.stats.Expired++
		}
	}
	slices.SortFunc(out, func(a, b ended) int { return cmp.Or(a.until.Compare(b.until), cmp.Compare(a.key, b.key)) })
	all := make([]Unfinished, len(out))
	for i := range out {
		all[i] = out[i].Unfinished
	}
	return all
}

// Wake returns when Expire has something to do; ok is false when nothing waits.
func (r *Reassembler) Wake() (at time.Time, ok bool) {
	for _, p := range r.all {
		if !ok || p.until.Before(at) {
			at, ok = p.until, true
		}
	}
	return at, ok
}

// left returns what is left of a bundle's lifetime by its age block.
func left(v *bundle.View) time.Duration {
	const most = 100 * 365 * 24 * time.Hour // far from overflow
	life := time.Duration(min(v.Primary.Lifetime, uint64(most/time.Millisecond))) * time.Millisecond
	return max(life-v.Age, 0)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// at returns the index of the first piece that ends behind from.
func (p *partial) at(from uint64) int {
	i, _ := slices.BinarySearchFunc(p.pieces, from, func(x piece, from uint64) int {
		if x.end() <= from {
			return -1
		}
		return 1
	})
	return i
}

// missing returns the parts of from..to that are not here: the material extents
// of such a fragment.
func (p *partial) missing(from, to uint64) (out []Extent) {
	for i := p.at(from); i < len(p.pieces) && p.pieces[i].at < to; i++ {
		if x := p.pieces[i]; x.at > from {
			out = append(out, Extent{from, x.at})
		}
		from = p.pieces[i].end()
	}
	if from < to {
		out = append(out, Extent{from, to})
	}
	return out
}

// contradicts reports whether data at offset at differ from what is here.
func (p *partial) contradicts(at uint64, data []byte) bool {
	end := at + uint64(len(data))
	for i := p.at(at); i < len(p.pieces) && p.pieces[i].at < end; i++ {
		x := p.pieces[i]
		lo, hi := max(at, x.at), min(end, x.end())
		if string(x.data[lo-x.at:hi-x.at]) != string(data[lo-at:hi-at]) {
			return true
		}
	}
	return false
}

// insert copies the fresh parts of data at offset at.
func (p *partial) insert(at uint64, data []byte, fresh []Extent) {
	for _, x := range fresh {
		n := piece{x.From, slices.Clone(data[x.From-at : x.To-at])}
		p.pieces = slices.Insert(p.pieces, p.at(x.From), n)
		p.have += x.To - x.From
	}
}

// wholeHead returns what the whole bundle has of its first fragment.
func wholeHead(v *bundle.View) []byte {
	p := v.Primary
	p.Flags &^= bundle.FlagFragment
	head := bundle.AppendPrimaryAs(cbor.AppendArrayStart(nil), &p)
	for i := range v.Blocks {
		if b := &v.Blocks[i]; b.Type != bundle.TypePayload {
			head = append(head, b.Raw...)
		}
	}
	return head
}

// join encodes the complete bundle.
func (p *partial) join() []byte {
	b := bundle.Block{Type: bundle.TypePayload, Number: 1, Flags: p.payload.flags, CRCType: p.payload.crc}
	out := slices.Grow(p.head, int(p.total)+bundle.PayloadOverhead+16)
	start := len(out)
	out = bundle.AppendBlockHead(out, b, int(p.total))
	for _, x := range p.pieces {
		out = append(out, x.data...)
	}
	out = bundle.AppendCRC(out, b.CRCType, bundle.BlockCRC(b.CRCType, out[start:]))
	return cbor.AppendBreak(out)
}

// String names the range in logs.
func (x Extent) String() string { return fmt.Sprintf("%d-%d", x.From, x.To) }
