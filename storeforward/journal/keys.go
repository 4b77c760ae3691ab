package journal

import (
	"slices"
	"strings"
)

// stateValue is one key of the State.
type stateValue struct {
	seg    *segment
	at     int64 // of the block in the segment
	cost   int64 // bytes of the record
	inside bool  // value has it
	value  []byte
}

// keyEntry is a stateValue with its key as it is kept: there may be millions,
// and of most the value is on the disk alone.
type keyEntry struct {
	key  string
	seg  *segment
	at   uint32
	cost uint32
}

// keyBlock is how many keys a block of a keyTable has at most: what an
// insertion moves.
const keyBlock = 256

// keyTable is the State in the order of its keys. It takes half the memory of
// a map, and a prefix is found without a look at all the others.
type keyTable struct {
	blocks [][]keyEntry // none is empty
	count  int
	inside map[string][]byte // values that are kept in RAM
}

// keyPlace is where a key is, or would be.
type keyPlace struct{ block, at int }

// seek returns the first place whose key is not before the one given.
func (t *keyTable) seek(key string) (p keyPlace, found bool) {
	if last := len(t.blocks) - 1; last >= 0 { // they often come in order
		if b := t.blocks[last]; b[len(b)-1].key < key {
			return keyPlace{last, len(b)}, false
		}
	}
	p.block, found = slices.BinarySearchFunc(t.blocks, key, func(b []keyEntry, key string) int { return strings.Compare(b[0].key, key) })
	if found || p.block == 0 {
		return p, found
	}
	p.block--
	p.at, found = slices.BinarySearchFunc(t.blocks[p.block], key, func(e keyEntry, key string) int { return strings.Compare(e.key, key) })
	return p, found
}

// entry returns what is at a place, or, behind the end of a block, at the next
// one; nil at the end of all.
func (t *keyTable) entry(p keyPlace) (*keyEntry, keyPlace) {
	if p.block < len(t.blocks) && p.at == len(t.blocks[p.block]) {
		p = keyPlace{p.block + 1, 0}
	}
	if p.block >= len(t.blocks) {
		return nil, p
	}
	return &t.blocks[p.block][p.at], p
}

func (t *keyTable) value(e *keyEntry) stateValue {
	v := stateValue{seg: e.seg, at: int64(e.at), cost: int64(e.cost)}
	v.value, v.inside = t.inside[e.key]
	return v
}

func (t *keyTable) get(key string) (v stateValue, ok bool) {
	p, found := t.seek(key)
	if !found {
		return v, false
	}
	return t.value(&t.blocks[p.block][p.at]), true
}

// put adds a key, or replaces what is known of it.
func (t *keyTable) put(key string, v stateValue) {
	e := keyEntry{key, v.seg, uint32(v.at), uint32(v.cost)}
	p, found := t.seek(key)
	switch {
	case v.inside:
		if t.inside == nil {
			t.inside = map[string][]byte{}
		}
		t.inside[key] = v.value
	case found:
		delete(t.inside, key)
	}
	if found {
		t.blocks[p.block][p.at] = e
		return
	}
	t.count++
	t.insert(p, e)
}

func (t *keyTable) insert(p keyPlace, e keyEntry) {
	if len(t.blocks) == 0 {
		t.blocks = [][]keyEntry{{e}}
		return
	}
	b := t.blocks[p.block]
	switch {
	case len(b) < keyBlock:
	case p.at == len(b): // as it is when they come in order: full blocks stay behind
		t.blocks = slices.Insert(t.blocks, p.block+1, append(make([]keyEntry, 0, keyBlock), e))
		return
	default:
		half := append(make([]keyEntry, 0, keyBlock), b[keyBlock/2:]...)
		clear(b[keyBlock/2:])
		t.blocks[p.block] = b[:keyBlock/2]
		t.blocks = slices.Insert(t.blocks, p.block+1, half)
		if p.at > keyBlock/2 {
			p = keyPlace{p.block + 1, p.at - keyBlock/2}
		}
	}
	t.blocks[p.block] = slices.Insert(t.blocks[p.block], p.at, e)
}

func (t *keyTable) delete(key string) {
	p, found := t.seek(key)
	if !found {
		return
	}
	t.count--
	delete(t.inside, key)
	t.blocks[p.block] = slices.Delete(t.blocks[p.block], p.at, p.at+1)
	if len(t.blocks[p.block]) < keyBlock/4 {
		t.join(p.block)
		t.join(p.block - 1)
	}
}

// join makes one block of two neighbours if that leaves it half empty, and
// drops one that is empty.
func (t *keyTable) join(i int) {
	switch {
	case i < 0 || i >= len(t.blocks):
	case len(t.blocks[i]) == 0:
		t.blocks = slices.Delete(t.blocks, i, i+1)
	case i+1 < len(t.blocks) && len(t.blocks[i])+len(t.blocks[i+1]) <= keyBlock/2:
		t.blocks[i] = append(t.blocks[i], t.blocks[i+1]...)
		t.blocks = slices.Delete(t.blocks, i+1, i+2)
	}
}

// each calls f for the keys from one on, in their order, until it returns
// false. f must not change the table.
func (t *keyTable) each(from string, f func(e *keyEntry) bool) {
	p, _ := t.seek(from)
	for e, p := t.entry(p); e != nil && f(e); {
		e, p = t.entry(keyPlace{p.block, p.at + 1})
	}
}
