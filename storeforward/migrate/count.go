package migrate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// maxLost bounds the lost messages that are named; all are counted.
const maxLost = 1000

// Lost is a message, or a place of the disk, that cannot be read any more.
type Lost struct {
	Seq     uint64        // its number
	Last    uint64        // of a place: the last number of those that may have been there; else Seq
	Queues  []store.Queue // in which it waits; none of a place
	Message bundle.ID     // zero when its header cannot be read
	Why     string
}

// count is what was seen of a store.
type count struct {
	messages, entries, keys int
	bytes                   int64 // of payloads, each once
	size                    int64 // of all, about
	queues                  map[store.Queue]store.QueueSummary
	lost                    []Lost
	lostAll                 int
}

func (c *count) add(m *message) {
	if c.queues == nil {
		c.queues = map[store.Queue]store.QueueSummary{}
	}
	h := m.header
	c.messages++
	c.entries += len(h.Entries)
	c.bytes += int64(len(m.payload))
	c.size += int64(headerBytes(h) + len(m.payload))
	for i := range h.Entries {
		e := &h.Entries[i]
		q, seen := c.queues[e.Queue]
		if !seen {
			q = store.QueueSummary{Queue: e.Queue, First: h.Seq}
		}
		q.Count++
		if e.State != store.Ended {
			q.Bytes += int64(h.Size)
		}
		c.queues[e.Queue] = q
	}
}

func (c *count) state(key string, value []byte) {
	c.keys++
	c.size += int64(len(key) + len(value) + 32)
}

func (c *count) lose(l Lost) {
	if c.lostAll++; len(c.lost) < maxLost {
		c.lost = append(c.lost, l)
	}
}

// summary is what a store that holds what was counted must say of itself.
func (c *count) summary(next uint64) store.Summary {
	sum := store.Summary{NextSeq: next}
	sum.Queues = slices.SortedFunc(maps.Values(c.queues), func(a, b store.QueueSummary) int {
		return compareQueues(a.Queue, b.Queue)
	})
	return sum
}

// source is the store that is read.
type source struct {
	store       engine
	skipDamaged bool
}

// skip leaves a message behind that cannot be read, where that was allowed.
func (s *source) skip(c *count, m *message) error {
	if !s.skipDamaged {
		return fmt.Errorf("message %d: %w", m.header.Seq, m.lost)
	}
	c.lose(m.loss())
	return nil
}

func (m *message) loss() Lost {
	return Lost{Seq: m.header.Seq, Last: m.header.Seq, Queues: m.queues, Message: m.header.Message, Why: m.lost.Error()}
}

// survey reads all of a store. What is damaged is counted and no error, but
// for the state: it holds what was seen and promised, and cannot be spared.
func (s *source) survey(ctx context.Context) (c count, err error) {
	err = each(ctx, s.store, func(m *message) error {
		if m.lost != nil {
			c.lose(m.loss())
		} else {
			c.add(m)
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	err = s.store.State("", func(key string, value []byte) error {
		c.state(key, value)
		return nil
	})
	if errors.Is(err, store.ErrDamaged) {
		err = fmt.Errorf("what the node itself remembers cannot be read, and no store is whole without it: %w", err)
	}
	return c, err
}
