package core

import (
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Key names work that comes from outside the mesh, such as a bundle of another
// DTN node: a second submission with the same Key is a Duplicate. The zero Key
// names nothing.
type Key [16]byte

// IsZero reports whether k names nothing.
func (k Key) IsZero() bool { return k == Key{} }

// maxSeen bounds the Keys that are remembered. Beyond it the oldest is
// forgotten, and counted.
const maxSeen = 1 << 18

// seen remembers Keys until the life of their work is over, however soon the
// work itself has left.
type seen struct {
	until map[Key]int64 // ms
	order []Key         // as they came
}

// seenBefore reports whether a Submission came before.
func (c *Core) seenBefore(s *Submission) bool {
	until, ok := c.seen.until[s.Key]
	return ok && until > c.now && !s.Key.IsZero()
}

// noteSeen remembers the Key of a Submission that was taken.
func (c *Core) noteSeen(s *Submission, until int64) {
	if s.Key.IsZero() {
		return
	}
	if len(c.seen.order) >= maxSeen {
		c.forgetSeen()
	}
	if c.seen.until[s.Key] == 0 {
		c.seen.order = append(c.seen.order, s.Key)
	}
	c.seen.until[s.Key] = until
	c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: seenName(s.Key), Value: binary.AppendUvarint(nil, uint64(until))})
}

// forgetSeen makes room: all that are over go, and some of the oldest in any
// case.
func (c *Core) forgetSeen() {
	spare := maxSeen / 16
	c.seen.order = slices.DeleteFunc(c.seen.order, func(k Key) bool {
		over := c.seen.until[k] <= c.now
		if !over && spare <= 0 {
			return false
		}
		if spare--; !over {
			c.stats.Forgotten++
		}
		delete(c.seen.until, k)
		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: seenName(k)})
		return true
	})
}

func seenName(k Key) string { return seenPrefix + hex.EncodeToString(k[:]) }

func (c *Core) restoreSeen(rest string, value []byte) error {
	var k Key
	until, err := uvarint(value)
	if n, err2 := hex.Decode(k[:], []byte(rest)); err != nil || err2 != nil || n != len(k) {
		return errDamaged
	}
	if len(c.seen.order) < maxSeen {
		c.seen.until[k] = int64(until)
		c.seen.order = append(c.seen.order, k)
	}
	return nil
}

// duplicate ends a Submission that came before, and reports whether it did.
func (c *Core) duplicate(s *Submission) bool {
	if s.QoS == 2 && c.inbound(s) || c.seenBefore(s) {
		c.verdict(s, bundle.Duplicate)
		c.reply(Reply{Token: s.Token, Reason: bundle.Duplicate})
		return true
	}
	return false
}
