package storeforward

import (
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// State is where an Item is in its life; see the package comment.
type State uint8

// The states. Storing and Held differ only by whether the Item's batch is
// persisted, so an Item never has to be visited to become Held.
const (
	Waiting  State = iota // Storing or Held
	InFlight              // offered to a link or a device, unanswered
	Released              // custody ended; the Item is in no queue
)

// Item is one message in one queue, as long as it is inside the window.
type Item struct {
	Header *store.Header
	Entry  store.Entry
	Blob   *store.Blob // nil: the payload is on disk only
	State  State
	Sent   int // times offered

	lsn        store.LSN // the batch that made it durable
	queue      *Queue
	prev, next *Item
	expiry     int // index in the expiry heap, -1 when not there
}

// Queue is the window over one queue of the store.
type Queue struct {
	Name  store.Queue
	Count int   // all items, inside the window and beyond it
	Bytes int64 // their payload bytes

	outlet     *Outlet
	head, tail *Item
	cursor     *Item // oldest Waiting item; nil when there is none
	windowed   int   // items in the list
	flying     int   // of those, in flight
	ended      int   // of those, obituaries
	last       uint64
	loading    bool
	asked      store.LSN // what was persisted when the last load was asked for
	heap       int       // index in its outlet's heap, -1 when not there
	resting    bool      // offers nothing for now
	credit     int       // items that may be in flight; 0: any number
	line       line      // with credit: the order of offers

	age            uint64 // see ages
	older, younger *Queue // of its kind
}

// Outlet is a place that takes items from queues: a link's far end, a device
// session, a service. It serves classes strictly in order but for ageing, and
// within a class the queue whose oldest waiting item arrived first.
type Outlet struct {
	Owner any // whoever serves it; the machine never looks

	ready  [bundle.NumClasses]heap[*Queue]
	passed [bundle.NumClasses]int // times a class that waits was passed over since it was served
	hot    bool
}

// Empty reports whether nothing waits for the outlet.
func (o *Outlet) Empty() bool {
	for c := range o.ready {
		if o.ready[c].len() > 0 {
			return false
		}
	}
	return true
}

// Head returns the oldest item of the window, nil when it is empty.
func (q *Queue) Head() *Item { return q.head }

// Tail returns the newest item of the window, nil when it is empty.
func (q *Queue) Tail() *Item { return q.tail }

// Next returns the item that arrived after i in the same window.
func (i *Item) Next() *Item { return i.next }

// Queue returns the queue the item is in.
func (i *Item) Queue() *Queue { return i.queue }

// InFlight returns how many items of the window are in flight.
func (q *Queue) InFlight() int { return q.flying }

// Ended returns how many items of the window are obituaries.
func (q *Queue) Ended() int { return q.ended }

// Windowed returns how many items are inside the window.
func (q *Queue) Windowed() int { return q.windowed }

// complete reports whether the window holds the whole queue.
func (q *Queue) complete() bool { return q.windowed == q.Count }

func (q *Queue) push(i *Item) {
	i.queue, i.prev, i.next = q, q.tail, nil
	if q.tail != nil {
		q.tail.next = i
	} else {
		q.head = i
	}
	q.tail = i
	q.last = i.Header.Seq
	q.windowed++
	if i.Entry.State == store.Ended {
		q.ended++
	}
	if q.cursor == nil {
		q.cursor = i
	}
}

func (q *Queue) unlink(i *Item) {
	if q.cursor == i {
		q.cursor = i.nextWaiting()
	}
	if i.prev != nil {
		i.prev.next = i.next
	} else {
		q.head = i.next
	}
	if i.next != nil {
		i.next.prev = i.prev
	} else {
		q.tail = i.prev
	}
	i.prev, i.next = nil, nil
	if i.State == InFlight {
		q.flying--
	}
	if i.Entry.State == store.Ended {
		q.ended--
	}
	q.windowed--
	q.Count--
	q.Bytes -= i.size()
}

// size is what the item adds to the bytes of its queue: an obituary nothing.
func (i *Item) size() int64 {
	if i.Entry.State == store.Ended {
		return 0
	}
	return int64(i.Header.Size)
}

func (i *Item) nextWaiting() *Item {
	n := i.next
	for n != nil && n.State != Waiting {
		n = n.next
	}
	return n
}

// take marks the next item as in flight and returns it.
func (q *Queue) take() *Item {
	i := q.next()
	i.State = InFlight
	i.Sent++
	q.flying++
	if q.cursor == i {
		q.cursor = i.nextWaiting()
	}
	return i
}

// giveBack makes an in-flight item wait again, in its old place.
func (q *Queue) giveBack(i *Item) {
	i.State = Waiting
	q.flying--
	q.line.items = nil // it has its place in it again
	if q.cursor == nil || i.Header.Seq < q.cursor.Header.Seq {
		q.cursor = i
	}
}

// NewOutlet returns an outlet with nothing to serve.
func NewOutlet(owner any) *Outlet {
	o := &Outlet{Owner: owner}
	for c := range o.ready {
		o.ready[c] = heap[*Queue]{
			less: func(a, b *Queue) bool { return a.cursor.Header.Seq < b.cursor.Header.Seq },
			at:   func(q *Queue) *int { return &q.heap },
		}
	}
	return o
}

// fix gives q its place after its cursor moved, came or went.
func (o *Outlet) fix(q *Queue) {
	h := &o.ready[q.Name.Class]
	switch {
	case q.cursor == nil || q.resting || q.credit > 0 && q.flying >= q.credit:
		h.remove(q)
	case q.heap < 0:
		h.push(q)
	default:
		h.fix(q)
	}
}

func (o *Outlet) oldest(c bundle.Class) *Queue {
	if h := &o.ready[c]; h.len() > 0 {
		return h.s[0]
	}
	return nil
}
