package link

import (
	"crypto/sha256"
	"slices"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// A bundle that takes a link some seconds goes in parts, so that one that a
// contact's end, a cut or a restart interrupts goes on where it was.
const (
	partTime    = 4        // seconds of the link's rate from which on a bundle is cut
	leastParted = 16 << 10 // bytes; below it is sent again
	mostParted  = 256 << 10
	partSize    = 16 << 10
	keepEvery   = 128 << 10 // bytes that came until they are kept
)

// PartStore keeps the beginnings of bundles whose sessions ended. It may
// forget any of them at any time: they are sent again then. Sessions share what
// is kept of their peer, over whichever of its links that came, and call at the
// same time: a bundle that begins on one link may end on another.
type PartStore interface {
	// Begun returns the keys of what is kept of a peer, newest first, and how
	// many bytes of each.
	Begun(peer addr.Node) []wire.Begun
	// Read returns what is kept, nil when it is forgotten.
	Read(peer addr.Node, key wire.PartKey) []byte
	// Append keeps bytes at an offset; where there are bytes already they are
	// the same.
	Append(peer addr.Node, key wire.PartKey, offset int, data []byte)
	// Drop forgets.
	Drop(peer addr.Node, key wire.PartKey)
}

// parted is the size from which on bundles go in parts.
func (p Properties) parted() int {
	if p.Rate == 0 {
		return mostParted
	}
	return int(min(max(p.Rate/8*partTime, leastParted), mostParted))
}

// keyOf names a bundle in parts. The frozen part has its source, its number
// and its destination.
func keyOf(frozen []byte) (k wire.PartKey) {
	sum := sha256.Sum256(frozen)
	copy(k[:], sum[:])
	return k
}

// splitter cuts the large bundles of one session.
type splitter struct {
	least int                     // bytes; 0: the peer takes no parts
	have  map[wire.PartKey]uint64 // what the peer has, by its Hello
}

func newSplitter(p Properties, peer wire.Hello) splitter {
	if !peer.Parts {
		return splitter{}
	}
	s := splitter{least: p.parted(), have: map[wire.PartKey]uint64{}}
	for _, b := range peer.Begun {
		s.have[b.Key] = b.Have
	}
	return s
}

// split returns a bundle that goes in parts, nil when it goes as a whole.
func (s *splitter) split(c bundle.Class, xid uint64, frozen, payload []byte, hop bundle.Hop) *parted {
	total := len(frozen) + len(payload)
	if s.least == 0 || total < s.least {
		return nil
	}
	p := &parted{head: wire.Part{Class: c, XID: xid, Key: keyOf(frozen), Total: uint64(total), Frozen: uint64(len(frozen))}, frozen: frozen, hop: hop}
	p.begin = int(min(s.have[p.head.Key], p.head.Total))
	delete(s.have, p.head.Key) // a second time it is sent from the beginning
	return p
}

// parted is a bundle that goes in parts, but for its payload block.
type parted struct {
	head   wire.Part // what all parts have in common
	frozen []byte
	hop    bundle.Hop
	begin  int // bytes that the peer has
}

// count is the number of parts.
func (p *parted) count() int {
	return max((int(p.head.Total)-p.begin+partSize-1)/partSize, 1)
}

// part makes one part, the same each time.
func (p *parted) part(i int, payload []byte) wire.Part {
	f, total := p.head, int(p.head.Total)
	at := p.begin + i*partSize
	end := min(at+partSize, total)
	f.Offset, f.Data = uint64(at), between(p.frozen, payload, at, end)
	if end == total {
		f.Hops = bundle.AppendHop(nil, p.frozen, p.hop)
	}
	return f
}

// between returns bytes lo to hi-1 of two slices, one after the other.
func between(a, b []byte, lo, hi int) []byte {
	switch {
	case lo >= len(a):
		return b[lo-len(a) : hi-len(a)]
	case hi <= len(a):
		return a[lo:hi]
	}
	return slices.Concat(a[lo:], b[:hi-len(a)])
}

// assembler puts the parts of one session together again. Parts of a class
// come in order, so there is one beginning a class.
type assembler struct {
	peer  addr.Node
	store PartStore
	most  int          // bytes of a bundle
	said  []wire.Begun // by our Hello
	open  [bundle.NumClasses]*beginning
}

// beginning is a bundle of which not all is here.
type beginning struct {
	xid  uint64
	key  wire.PartKey
	data []byte
	kept int // bytes that the store has
}

func newAssembler(peer addr.Node, store PartStore, most int, said []wire.Begun) *assembler {
	return &assembler{peer: peer, store: store, most: most, said: said}
}

// replace returns the frames with transfers in the place of their last parts,
// and without the others.
func (a *assembler) replace(frames []wire.Frame) ([]wire.Frame, error) {
	if !slices.ContainsFunc(frames, func(f wire.Frame) bool { return f.Type() == wire.TypePart }) {
		return frames, nil
	}
	out := frames[:0]
	for _, f := range frames {
		p, ok := f.(wire.Part)
		if !ok {
			out = append(out, f)
			continue
		}
		switch t, whole, err := a.take(p); {
		case err != nil:
			return nil, err
		case whole:
			out = append(out, t)
		}
	}
	return out, nil
}

// take adds a part, and returns the transfer that is whole with it.
func (a *assembler) take(p wire.Part) (t wire.Transfer, whole bool, err error) {
	if a.store == nil {
		return t, false, down(Protocol, "a part of transfer %d: this node said that it takes none", p.XID)
	}
	b := a.open[p.Class]
	if b == nil || b.xid != p.XID {
		if b, err = a.begin(p); err != nil {
			return t, false, err
		}
	}
	if b.key != p.Key || uint64(len(b.data)) != p.Offset || p.Total > uint64(a.most) {
		return t, false, down(Protocol, "part of transfer %d at byte %d of %d does not follow the one before, which ended at %d; at most %d bytes are taken",
			p.XID, p.Offset, p.Total, len(b.data), a.most)
	}
	b.data = append(b.data, p.Data...)
	if !p.Last() {
		if len(b.data)-b.kept >= keepEvery {
			a.keep(b)
		}
		return t, false, nil
	}
	a.open[p.Class] = nil
	if b.kept > 0 {
		a.store.Drop(a.peer, b.key)
	}
	whole = true
	t = wire.Transfer{Class: p.Class, XID: p.XID, Bundle: bundle.Splice(b.data[:p.Frozen], p.Hops, b.data[p.Frozen:])}
	return t, whole, nil
}

// begin opens a bundle, with what is kept of it.
func (a *assembler) begin(p wire.Part) (*beginning, error) {
	b := &beginning{xid: p.XID, key: p.Key}
	if p.Offset > 0 {
		var data []byte
		if slices.Contains(a.said, wire.Begun{Key: p.Key, Have: p.Offset}) {
			data = a.store.Read(a.peer, p.Key)
		}
		if uint64(len(data)) < p.Offset {
			return nil, down(Failed, "transfer %d goes on at byte %d of %d, which is not kept here: the next session sends it anew", p.XID, p.Offset, p.Total)
		}
		b.data, b.kept = data[:p.Offset], int(p.Offset)
	}
	a.open[p.Class] = b
	return b, nil
}

func (a *assembler) keep(b *beginning) {
	a.store.Append(a.peer, b.key, b.kept, b.data[b.kept:])
	b.kept = len(b.data)
}

// end keeps what is begun.
func (a *assembler) end() {
	for _, b := range a.open {
		if b != nil && len(b.data) > b.kept {
			a.keep(b)
		}
	}
}
