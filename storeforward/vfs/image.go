package vfs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// Image returns a directory as a power cut at moment at could leave it: all
// that was synced by then, and of the rest what rng says; nothing, when rng is nil. Writes may be torn
// into sectors and come without those before them. Names are apart from files:
// what was made, renamed or removed since the last SyncDir happened or did
// not, whatever was synced of the files. The image starts a history of its own, without faults.
// It panics when the history does not reach back to at.
func (m *Mem) Image(rng *rand.Rand, at int) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at < m.base || at > m.base+len(m.ops) {
		panic(fmt.Sprintf("image at %d of a history from %d to %d", at, m.base, m.base+len(m.ops)))
	}
	window := m.ops[:at-m.base]
	changes := append([]op(nil), m.pending...)
	durable, touched := 0, []*inode(nil)
	for i := range window {
		o := &window[i]
		switch {
		case o.kind >= opCreate && o.kind != opSyncDir:
			changes = append(changes, *o)
		case o.kind == opSyncDir:
			durable = len(changes)
		default:
			if o.ino.list == nil {
				o.ino.list = append(make([]op, 0, len(o.ino.pending)+8), o.ino.pending...)
				touched = append(touched, o.ino)
			}
			if o.kind == opSync {
				o.ino.durable = len(o.ino.list)
			} else {
				o.ino.list = append(o.ino.list, *o)
			}
		}
	}
	out := NewMem()
	keep := newChance(rng, len(changes)-durable)
	maps.Copy(out.names, m.names) // still ours: replaced below
	for i := range changes {
		if i < durable || keep.next() {
			applyName(out.names, &changes[i])
		}
	}
	copies := make(map[*inode]*inode, len(out.names))
	for _, name := range slices.Sorted(maps.Keys(out.names)) { // so that one rng is one image
		ino := out.names[name]
		if copies[ino] == nil {
			copies[ino] = ino.image(rng)
		}
		out.names[name], out.dir[name] = copies[ino], copies[ino]
	}
	for _, ino := range touched {
		ino.list, ino.durable = nil, 0
	}
	return out
}

// Copy returns the directory as programs see it, as a kill without a power cut
// leaves it: everything is on the disk.
func (m *Mem) Copy() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := NewMem()
	for name, ino := range m.dir {
		ino.now.shared = true
		c := &inode{now: ino.now, disk: ino.now, reserved: ino.reserved}
		out.names[name], out.dir[name] = c, c
	}
	return out
}

// image returns a file as it may be found.
func (ino *inode) image(rng *rand.Rand) *inode {
	list := ino.list
	if list == nil {
		list = ino.pending
	}
	ino.disk.shared = true
	c := ino.disk
	keep := newChance(rng, len(list)-ino.durable)
	for i := range list {
		o := &list[i]
		switch {
		case o.kind == opFlip || i < ino.durable && !o.lost:
			c.apply(o, nil)
		case i < ino.durable || !keep.next():
		case keep.torn():
			c.apply(o, rng)
		default:
			c.apply(o, nil)
		}
	}
	c.shared = true
	return &inode{now: c, disk: c, reserved: c.size}
}

func applyName(names map[string]*inode, o *op) {
	switch o.kind { //nolint:exhaustive // the others change no names
	case opCreate:
		names[o.name] = o.ino
	case opRename:
		if names[o.name] == o.ino {
			delete(names, o.name)
		}
		names[o.to] = o.ino
	case opRemove:
		delete(names, o.name)
	}
}

// chance decides which of some changes the disk has. Disks write in some
// order, all, nothing, or here and there; each must be likely.
type chance struct {
	rng    *rand.Rand
	first  int  // changes that are kept
	random bool // then: kept or not by chance
	tear   bool
	n      int
}

func newChance(rng *rand.Rand, n int) chance {
	c := chance{rng: rng, n: -1}
	if n == 0 || rng == nil {
		return c
	}
	switch rng.IntN(8) {
	case 0:
	case 1:
		c.first = n
	case 2, 3:
		c.first, c.tear = rng.IntN(n+1), true
	case 4:
		c.first, c.random = rng.IntN(n+1), true
	default:
		c.random, c.tear = true, true
	}
	return c
}

func (c *chance) next() bool {
	c.n++
	return c.n < c.first || c.random && c.rng.Uint64()&1 == 0
}

// torn reports whether the change that was kept last is torn: of an ordered
// disk only the last one can be.
func (c *chance) torn() bool {
	if !c.tear {
		return false
	}
	return !c.random && c.n == c.first-1 || c.random && c.rng.Uint64()&1 == 0
}

// forget folds the history before at into the base.
func (m *Mem) forget(at int) {
	n := min(at-m.base, len(m.ops))
	if n <= 0 {
		return
	}
	for i := range m.ops[:n] {
		o := &m.ops[i]
		m.bytes -= len(o.data)
		switch {
		case o.kind == opSync:
			o.ino.settle()
		case o.kind == opSyncDir:
			for i := range m.pending {
				applyName(m.names, &m.pending[i])
			}
			m.pending = nil
		case o.kind >= opCreate:
			m.pending = append(m.pending, *o)
		default:
			o.ino.pending = append(o.ino.pending, *o)
		}
	}
	m.base += n
	m.ops = append(make([]op, 0, len(m.ops)-n+64), m.ops[n:]...)
}

// settle puts the pending changes on the disk.
func (ino *inode) settle() {
	for i := range ino.pending {
		if o := &ino.pending[i]; !o.lost {
			ino.disk.apply(o, nil)
		}
	}
	ino.pending = nil
}
