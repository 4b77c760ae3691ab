package broker

import "time"

const (
	wheelSlots = 1024 // of tickEvery: later ones go round more than once
)

// wheel is the timers of a loop. Setting, moving and removing one costs the
// same however many there are, and a tick looks only at those that are due.
type wheel struct {
	slots [wheelSlots]wheelEntry // heads of rings
	start time.Time              // slots are counted from here, by the clock that is never set
	last  int64                  // the slot that was served last
	count int                    // connections known, with a time set or not
}

// wheelEntry is one connection in one slot, or in none.
type wheelEntry struct {
	p          *polled
	next, prev *wheelEntry
	known      bool
}

func (w *wheel) slotOf(t time.Time) int64 { return int64(t.Sub(w.start) / tickEvery) }

// set makes e due at t, which may be past; a zero t is never.
func (w *wheel) set(e *wheelEntry, t time.Time) {
	if !e.known {
		e.known = true
		w.count++
	}
	e.unlink()
	if t.IsZero() {
		return
	}
	slot := max(w.slotOf(t)+1, w.last+1)
	slot = min(slot, w.last+wheelSlots-1) // within one round: onTime sets it again
	head := &w.slots[slot%wheelSlots]
	if head.next == nil {
		head.next, head.prev = head, head
	}
	e.next, e.prev = head.next, head
	head.next.prev, head.next = e, e
}

// remove forgets e.
func (w *wheel) remove(e *wheelEntry) {
	if e.known {
		e.known = false
		w.count--
	}
	e.unlink()
}

func (e *wheelEntry) unlink() {
	if e.next == nil {
		return
	}
	e.next.prev, e.prev.next = e.prev, e.next
	e.next, e.prev = nil, nil
}

// tick calls f for all that are due. f may set and remove them.
func (w *wheel) tick(now time.Time, f func(*polled)) {
	current := w.slotOf(now)
	w.last = max(w.last, current-wheelSlots)
	for w.last < current {
		w.last++
		head := &w.slots[w.last%wheelSlots]
		for head.next != nil && head.next != head {
			e := head.next
			e.unlink()
			f(e.p)
		}
	}
}
