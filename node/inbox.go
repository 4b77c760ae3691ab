package node

import (
	"context"
	"sync"
	"time"

	"github.com/farhop/farhop/node/core"
)

// event is something that happened, as a call on the core. It runs on the
// loop's goroutine and must not block.
type event func(now time.Time, c *core.Core)

// inbox is where all goroutines leave events for the loop, which takes all
// that waits at once. Sources that can be held up (link readers) wait while it
// is full; those bounded by their own credit (devices, the store) do not.
type inbox struct {
	ready chan struct{} // has one token when events wait

	mu     sync.Mutex // guards what follows
	room   *sync.Cond
	events []event
	closed bool
}

// inboxLimit is how many events may wait before link readers are held up.
const inboxLimit = 4096

func newInbox() *inbox {
	in := &inbox{ready: make(chan struct{}, 1)}
	in.room = sync.NewCond(&in.mu)
	return in
}

// put leaves an event. It reports false after close.
func (in *inbox) put(e event) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.add(e)
}

// putWait leaves an event when there is room.
func (in *inbox) putWait(e event) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.events) >= inboxLimit && !in.closed {
		in.room.Wait()
	}
	in.add(e)
}

func (in *inbox) add(e event) bool {
	if in.closed {
		return false
	}
	in.events = append(in.events, e)
	if len(in.events) == 1 {
		select {
		case in.ready <- struct{}{}:
		default:
		}
	}
	return true
}

// take returns all waiting events, using spare's memory for the next ones.
func (in *inbox) take(spare []event) []event {
	in.mu.Lock()
	defer in.mu.Unlock()
	events := in.events
	in.events = spare[:0]
	if len(events) >= inboxLimit {
		in.room.Broadcast()
	}
	return events
}

func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.room.Broadcast()
}

// mailbox is an unbounded queue with one consumer. What fills it is bounded
// by the core's windows.
type mailbox[T any] struct {
	ready chan struct{}

	mu    sync.Mutex // guards what follows
	items []T
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{ready: make(chan struct{}, 1)} }

func (m *mailbox[T]) put(v T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items = append(m.items, v)
	if len(m.items) == 1 {
		select {
		case m.ready <- struct{}{}:
		default:
		}
	}
}

// each calls f with everything that waits, until ctx ends.
func (m *mailbox[T]) each(ctx context.Context, f func(T)) {
	var spare []T
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.ready:
		}
		m.mu.Lock()
		items := m.items
		m.items = spare[:0]
		m.mu.Unlock()
		for _, v := range items {
			f(v)
		}
		clear(items)
		spare = items
	}
}
