package core

import (
	"container/heap"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// The durable form of a will: a byte of flags, its class, then as unsigned
// varints the delay in seconds, the TTL in ms and the length of the topic, then
// the topic, then the payload block to the end.
const (
	willQoS    = 3 << 0
	willRetain = 1 << 2
	willClear  = 1 << 3
	willFlags  = willQoS | willRetain | willClear
)

// append appends the durable form without the payload block.
func (w *Will) append() []byte {
	flags := w.QoS & willQoS
	if w.Retain {
		flags |= willRetain
	}
	if w.Clear {
		flags |= willClear
	}
	b := []byte{flags, byte(w.Class)}
	for _, v := range [...]uint64{uint64(w.Delay), uint64(w.TTL.Milliseconds()), uint64(len(w.Topic))} {
		b = binary.AppendUvarint(b, v)
	}
	return append(b, w.Topic...)
}

// parseWill reads the durable form of a will. It keeps nothing of b.
func parseWill(b []byte) (Will, error) {
	if len(b) < 2 || b[0]&^willFlags != 0 || b[0]&willQoS > 2 || b[1] >= bundle.NumClasses {
		return Will{}, errDamaged
	}
	w := Will{QoS: b[0] & willQoS, Retain: b[0]&willRetain != 0, Clear: b[0]&willClear != 0, Class: bundle.Class(b[1])}
	b = b[2:]
	var numbers [3]uint64
	for i := range numbers {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return Will{}, errDamaged
		}
		numbers[i], b = v, b[n:]
	}
	delay, ttl, length := numbers[0], numbers[1], numbers[2]
	const longest = uint64(1<<63-1) / uint64(time.Millisecond)
	if delay > NeverExpires || ttl > longest || length == 0 || length > uint64(len(b)) {
		return Will{}, errDamaged
	}
	w.Delay, w.TTL = uint32(delay), time.Duration(ttl)*time.Millisecond
	w.Topic, w.Blob = string(b[:length]), &store.Blob{B: slices.Clone(b[length:])}
	return w, nil
}

// setAside keeps a will that is stuck apart from the next one of its client, who
// may not be kept out for it: others have the store full, or their sessions. As
// its name has a NUL, nobody else comes upon it.
func (c *Core) setAside(w *will) {
	client, _, _ := strings.Cut(w.client, "\x00")
	delete(c.wills.of, w.client)
	c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: willPrefix + w.client})
	if w.dated {
		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: willDuePrefix + w.client})
		w.dated = false
	}
	for c.wills.of[w.client] != nil || w.client == client {
		c.wills.aside++
		w.client = client + "\x00" + strconv.FormatUint(c.wills.aside, 10)
	}
	c.wills.of[w.client] = w
	c.setLarge(store.Set{Key: willPrefix + w.client, Value: w.append(), Blob: w.Blob})
}

func appendDue(due int64) []byte { return binary.AppendUvarint(nil, uint64(due)) }

// restoreWill takes a will back whose connection ended with the last boot.
func (c *Core) restoreWill(client string, value []byte) error {
	saved, err := parseWill(value)
	if err != nil {
		return err
	}
	w := &will{Will: saved, client: client, state: willOrphan, at: -1}
	c.wills.of[client] = w
	c.wills.bytes += w.size()
	return nil
}

// restoreWillDue lets a will count on that did so before. It counts no longer
// than its delay from now, whatever happened to the clock.
func (c *Core) restoreWillDue(client string, value []byte) error {
	due, err := uvarint(value)
	if err != nil {
		return err
	}
	w := c.wills.of[client]
	if w == nil { // its key was lost
		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: willDuePrefix + client})
		return nil
	}
	w.state, w.due, w.dated = willCounting, int64(min(due, 1<<62)), true
	if latest := c.now + int64(w.Delay)*1000; w.due > latest {
		w.due = latest
		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: willDuePrefix + client, Value: appendDue(w.due)})
	}
	heap.Push(&c.wills.due, w)
	return nil
}
