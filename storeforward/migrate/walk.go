package migrate

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/farhop/farhop/storeforward/store"
)

// walkHeaders bounds the headers that a walk holds, but for one of each queue.
const walkHeaders = 32 << 10

// message is one message with all that waits of it.
type message struct {
	header  *store.Header // its entries are those that wait, in their present states
	payload []byte        // nil: none, or nobody needs it any more
	queues  []store.Queue // in which it was found
	lost    error         // why it cannot be read; then header has only Seq, or all
}

// walk goes through the messages of a store in the order of their numbers. A
// store has them by queue, so it merges the queues.
type walk struct {
	s     store.Store
	sum   store.Summary
	page  int // items to ask for at a time
	heads heads
}

// head is a place in one queue, at an item.
type head struct {
	queue store.Queue
	items []store.Item // not empty; the first is the present one
	more  bool         // there may be others behind them
	left  int          // of the queue as the summary counts it
}

type heads []*head

func (h heads) Len() int           { return len(h) }
func (h heads) Less(i, j int) bool { return h[i].seq() < h[j].seq() }
func (h heads) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heads) Push(x any)        { *h = append(*h, x.(*head)) }
func (h *heads) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

func (h *head) seq() uint64 { return h.items[0].Header.Seq }

func newWalk(s store.Store) (*walk, error) {
	sum, err := s.Summary()
	if err != nil {
		return nil, err
	}
	w := &walk{s: s, sum: sum, page: min(max(walkHeaders/max(len(sum.Queues), 1), 1), 1024)}
	for _, q := range sum.Queues {
		h := &head{queue: q.Queue, more: true, left: q.Count}
		if err := w.fill(h, 0); err != nil {
			return nil, err
		}
		if len(h.items) > 0 {
			w.heads = append(w.heads, h)
		}
	}
	heap.Init(&w.heads)
	return w, nil
}

// fill reads the next items of a queue. A queue that does not hold what the
// summary says is an error: something would be left behind.
func (w *walk) fill(h *head, after uint64) (err error) {
	if h.items, err = w.s.Scan(h.queue, after, w.page); err != nil {
		return err
	}
	h.more = len(h.items) == w.page
	h.left -= len(h.items)
	if h.left < 0 || !h.more && h.left > 0 {
		return fmt.Errorf("%w: queue %q, kind %d, class %s holds other messages than its summary says",
			store.ErrDamaged, h.queue.Name, h.queue.Kind, h.queue.Class)
	}
	return nil
}

// next returns the next message, nil at the end.
func (w *walk) next() (*message, error) {
	if len(w.heads) == 0 {
		return nil, nil
	}
	m := &message{header: w.heads[0].items[0].Header}
	for len(w.heads) > 0 && w.heads[0].seq() == m.header.Seq {
		it := w.heads[0].items[0]
		m.queues = append(m.queues, w.heads[0].queue)
		if it.Damaged {
			m.header, m.lost = it.Header, errHeader
		}
		if err := w.advance(); err != nil {
			return nil, err
		}
	}
	if m.lost != nil {
		return m, nil
	}
	if err := m.agree(); err != nil {
		return nil, err
	}
	var err error
	m.payload, err = w.s.Read(m.header.Seq)
	switch {
	case errors.Is(err, store.ErrNotFound):
		m.payload = nil
	case errors.Is(err, store.ErrDamaged):
		m.payload, m.lost = nil, err
	case err != nil:
		return nil, err
	case m.payload == nil:
		m.payload = []byte{}
	}
	return m, nil
}

var errHeader = fmt.Errorf("its header cannot be read: %w", store.ErrDamaged)

// advance leaves the first item of the first head behind.
func (w *walk) advance() error {
	h := w.heads[0]
	last := h.seq()
	h.items = h.items[1:]
	if len(h.items) == 0 && h.more {
		if err := w.fill(h, last); err != nil {
			return err
		}
	}
	if len(h.items) == 0 {
		heap.Pop(&w.heads)
		return nil
	}
	if h.seq() <= last {
		return fmt.Errorf("%w: message %d comes after %d in queue %q", store.ErrDamaged, h.seq(), last, h.queue.Name)
	}
	heap.Fix(&w.heads, 0)
	return nil
}

// agree compares the queues in which a message was found with its entries.
func (m *message) agree() error {
	listed := make([]store.Queue, len(m.header.Entries))
	for i := range m.header.Entries {
		listed[i] = m.header.Entries[i].Queue
	}
	slices.SortFunc(listed, compareQueues)
	slices.SortFunc(m.queues, compareQueues)
	if !slices.Equal(listed, m.queues) {
		return fmt.Errorf("%w: message %d waits in %d queues and its header lists %d, or others",
			store.ErrDamaged, m.header.Seq, len(m.queues), len(listed))
	}
	return nil
}

func compareQueues(a, b store.Queue) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), cmp.Compare(a.Class, b.Class))
}

// each calls f for every message of a store.
func each(ctx context.Context, s store.Store, f func(*message) error) error {
	w, err := newWalk(s)
	if err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := w.next()
		if err != nil || m == nil {
			return err
		}
		if err := f(m); err != nil {
			return err
		}
	}
}
