package salvo

import (
	"maps"
	"slices"

	"github.com/farhop/farhop/node/salvo/packet"
)

// inBlock is a block at its receiver. Its bytes are the owner's.
type inBlock struct {
	id        uint64
	class     uint8
	length    uint64
	before    uint64 // id of the block of the class before
	held      spans
	complete  bool
	delivered bool
}

// unload takes the pieces that are in the first n bytes of a train. It reports
// false when there is no room for one: then the train has to come again.
func (r *Receiver) unload(t *inTrain, n int) bool {
	all := n == len(t.data)
	for t.at < n {
		p, head, state := packet.NextPiece(t.data[t.at:n])
		switch {
		case state == packet.PieceEnd:
			t.at = len(t.data)
			return true
		case state == packet.PieceBad || all && (state == packet.PieceShort || p.N > uint64(n-t.at-head)):
			r.stats.Nonsense++
			t.at = len(t.data)
			return true
		case state == packet.PieceShort || p.N > uint64(n-t.at-head):
			return true // the rest is still to come
		}
		start := t.at + head
		end := start + int(p.N)
		if !r.piece(t.class, p, t.data[start:end:end]) {
			r.stats.NoBlock++
			return false
		}
		t.at = end
	}
	return true
}

// piece takes a part of a block. It reports false when there is no room.
func (r *Receiver) piece(class uint8, p packet.Piece, bytes []byte) bool {
	b := r.blocks[p.ID]
	switch {
	case p.Length > uint64(r.cfg.MaxBlock) || b != nil && (b.length != p.Length || b.class != class):
		r.stats.Nonsense++
		return true
	case r.accepted.has(p.ID):
		r.stats.Repeated++
		r.told.add(p.ID, p.ID+1) // the sender does not know
		r.trips.stale = true
		return true
	case p.ID < r.lanes[class].floor: // given up: it may be on its way still
		r.stats.Repeated++
		return true
	case b == nil && (len(r.blocks) >= r.cfg.MaxBlocks || len(r.accepted) >= maxRanges && p.ID > r.accepted.first()):
		return false
	case b == nil:
		b = &inBlock{id: p.ID, class: class, length: p.Length}
		r.blocks[p.ID] = b
		r.lanes[class].partial[p.ID] = b
	case b.complete:
		r.stats.Repeated++
		return true
	case len(b.held) >= maxRanges && !b.held.has(p.Offset) && p.Offset != b.held.first():
		return false
	}
	if p.Offset == 0 {
		b.before = p.ID - p.Back
		if p.Back == 0 {
			b.before = 0
		}
	}
	r.keep(b, p, bytes)
	if b.held.hasAll(0, b.length) {
		r.complete(b)
	}
	return true
}

// keep hands bytes that are new to the owner.
func (r *Receiver) keep(b *inBlock, p packet.Piece, bytes []byte) {
	lo, hi := p.Offset, p.Offset+p.N
	for at := lo; ; {
		g := b.held.gap(at, hi)
		if g.Lo >= g.Hi {
			break
		}
		r.effects.Keep = append(r.effects.Keep, Keep{
			ID: b.id, Class: b.class, Length: int64(b.length), Offset: int64(g.Lo), Bytes: bytes[g.Lo-lo : g.Hi-lo],
		})
		at = g.Hi
	}
	b.held.add(lo, hi)
}

// complete delivers a block, and those that waited for it, unless one of its
// class before it is not delivered.
func (r *Receiver) complete(b *inBlock) {
	b.complete = true
	delete(r.lanes[b.class].partial, b.id)
	if !r.mayDeliver(b) {
		r.after[b.before] = append(r.after[b.before], b.id)
		return
	}
	for ready := []*inBlock{b}; len(ready) > 0; {
		b, ready = ready[0], ready[1:]
		b.delivered = true
		r.stats.Delivered++
		r.effects.Deliver = append(r.effects.Deliver, Delivery{ID: b.id, Class: b.class, Length: int64(b.length)})
		for _, id := range r.after[b.id] {
			if w := r.blocks[id]; w != nil && !w.delivered {
				ready = append(ready, w)
			}
		}
		delete(r.after, b.id)
	}
}

// mayDeliver reports whether the block of the class before has been delivered,
// or will never come.
func (r *Receiver) mayDeliver(b *inBlock) bool {
	if r.cfg.AnyOrder || b.before == 0 || b.before < r.lanes[b.class].floor || r.accepted.has(b.before) {
		return true
	}
	p := r.blocks[b.before]
	return p != nil && p.delivered
}

// passed ends what waits for blocks below the floor of a class.
func (r *Receiver) passed(l *inLane) {
	for _, before := range slices.Sorted(maps.Keys(r.after)) {
		ids := r.after[before]
		if before >= l.floor {
			break
		}
		delete(r.after, before)
		for _, id := range ids {
			if b := r.blocks[id]; b != nil && !b.delivered {
				r.complete(b) // or it waits again, when it is of another class
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(l.partial)) {
		if id >= l.floor {
			break
		}
		delete(l.partial, id)
		delete(r.blocks, id)
		r.stats.Withdrawn++
		r.effects.Withdrawn = append(r.effects.Withdrawn, id)
	}
}
