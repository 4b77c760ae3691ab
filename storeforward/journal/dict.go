package journal

import (
	"hash/maphash"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/store"
)

// dict numbers the names of one block, from 1, in the order in which they
// first appear. It is emptied for each block, which costs nothing.
type dict[T comparable] struct {
	seed  maphash.Seed
	text  func(T) string
	slots []dictSlot[T]
	gen   uint32
	n     uint32
}

type dictSlot[T comparable] struct {
	key T
	gen uint32
	id  uint32
}

func newDict[T comparable](text func(T) string) *dict[T] {
	return &dict[T]{seed: maphash.MakeSeed(), text: text, slots: make([]dictSlot[T], 256), gen: 1}
}

func (d *dict[T]) reset() {
	if d.gen++; d.gen == 0 {
		clear(d.slots)
		d.gen = 1
	}
	d.n = 0
}

// id returns the number of key, and whether it is new in this block.
func (d *dict[T]) id(key T) (id uint32, fresh bool) {
	if int(d.n)*2 >= len(d.slots) {
		d.grow()
	}
	mask := uint64(len(d.slots) - 1)
	for i := maphash.String(d.seed, d.text(key)) & mask; ; i = (i + 1) & mask {
		s := &d.slots[i]
		if s.gen != d.gen {
			d.n++
			*s = dictSlot[T]{key, d.gen, d.n}
			return d.n, true
		}
		if s.key == key {
			return s.id, false
		}
	}
}

func (d *dict[T]) grow() {
	old, gen := d.slots, d.gen
	d.slots = make([]dictSlot[T], 2*len(old))
	mask := uint64(len(d.slots) - 1)
	for _, s := range old {
		if s.gen != gen {
			continue
		}
		i := maphash.String(d.seed, d.text(s.key)) & mask
		for d.slots[i].gen == gen {
			i = (i + 1) & mask
		}
		d.slots[i] = s
	}
}

func queueText(q store.Queue) string { return q.Name }
func nodeText(n addr.Node) string    { return n.String() }
func plainText(s string) string      { return s }
