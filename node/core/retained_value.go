package core

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/store"
)

// Retained is a value of the state under RetainedPrefix.
type Retained struct {
	State KeptState
	Ends  int64 // ms; a message without an end has 0
	Stamp Stamp
	Node  addr.Node // zero in values of before stamps: this node
	Block []byte    // payload block; of a deletion nil
	Old   bool      // of before stamps: Ends is the end of its bundles, and holds only if its publisher set an expiry
}

// keptVersion begins every value. Those of before stamps begin with the first
// byte of a time in ms, which is 0.
const keptVersion = 1

// appendKept appends the value of news, without the payload block.
func appendKept(dst []byte, n *news) []byte {
	dst = append(dst, keptVersion, byte(n.state))
	dst = binary.AppendUvarint(dst, uint64(n.ends))
	dst = binary.AppendUvarint(dst, uint64(n.stamp))
	return append(append(dst, byte(len(n.node.String()))), n.node.String()...)
}

// ParseRetained reads a value of the state. Block is a view of it.
func ParseRetained(b []byte) (Retained, error) {
	if len(b) >= 8 && b[0] == 0 {
		return Retained{Ends: int64(binary.BigEndian.Uint64(b)), Block: b[8:], Old: true}, nil
	}
	var r Retained
	if len(b) < 2 || b[0] != keptVersion || b[1] > byte(KeptExpired) {
		return r, errDamaged
	}
	r.State = KeptState(b[1])
	b = b[2:]
	ends, n := binary.Uvarint(b)
	if n <= 0 || ends > 1<<62 {
		return r, errDamaged
	}
	b = b[n:]
	stamp, n := binary.Uvarint(b)
	if b = b[max(n, 0):]; n <= 0 || Stamp(stamp) > MaxStamp || len(b) == 0 || len(b) <= int(b[0]) {
		return r, errDamaged
	}
	r.Ends, r.Stamp = int64(ends), Stamp(stamp)
	name, block := b[1:1+b[0]], b[1+b[0]:]
	var err error
	if r.Node, err = addr.ParseNode(string(name)); err != nil {
		return r, errDamaged
	}
	if r.State == KeptValue {
		r.Block = block
	}
	return r, nil
}

// restoreRetained takes a value back into the index. One that cannot be read
// is left out: the next publication replaces it.
func (c *Core) restoreRetained(topic string, value []byte) {
	v, err := ParseRetained(value)
	if err != nil || len(topic) > maxRetained || c.retained.get(topic) != nil {
		return
	}
	n := news{topic: topic, stamp: v.Stamp, node: v.Node, state: v.State, ends: v.Ends}
	if v.Old {
		n.node, n.ends = c.cfg.Self, 0
	}
	if k := c.retained.put(c.cfg.Self, nil, &n); k.state == KeptValue {
		k.size = uint32(len(topic) + len(v.Block))
		c.retained.bytes += int64(k.size)
	}
}

// restoreStamps takes back what the clock and the reach of this node were.
func (c *Core) restoreStamps(rest string, value []byte) error {
	switch stampPrefix + rest {
	case stampKey:
		bound, err := uvarint(value)
		if err != nil || Stamp(bound) > MaxStamp {
			return errDamaged
		}
		c.retained.clock, c.retained.bound = Stamp(bound), Stamp(bound)
	case awayKey:
		return c.restoreAway(value)
	}
	return nil
}

// restoredRetained completes the index when all keys were read.
func (c *Core) restoredRetained(p Persistent) error {
	r := &c.retained
	err := p.State(doubtPrefix, func(key string, _ []byte) error {
		if k := r.get(strings.TrimPrefix(key, doubtPrefix)); k != nil {
			k.doubted = true
		}
		return nil
	})
	if s := &r.sync; len(r.list) > 0 && s.loaded == nil {
		s.loaded, s.alive = map[addr.Node]int64{}, c.now
	}
	r.sync.saved = r.sync.alive
	c.keepsChanged()
	if errors.As(err, new(*store.LostState)) {
		err = nil // told already
	}
	return err
}
