package broker

import "time"

const (
	wheelSlots = 1024 // of tickEvery: later ones go round more than once
)

// wheel is the timers of a loop. Setting, moving and removing one costs the
// same however many there are, and a tick looks only at those that are due.
type wheel struct {
	slots [wheelSlots]wheelEntry // heads of rings
	last  int64                  // the slot that was served last
	count int                    // connections known, with a time set or not
}

// moment is a time of a loop, in nanoseconds since the epoch at its start, by a
// clock that nobody turns back. A connection keeps two of them.
type moment int64

func (m moment) add(d time.Duration) moment { return m + moment(d) }

// wheelEntry is one connection in one slot, or in none.
type wheelEntry struct {
	p          *polled
	next, prev *wheelEntry
	known      bool
}

func slotOf(m moment) int64 { return int64(m) / int64(tickEvery) }

// set makes e due at t, which may be past; a zero t is never.
func (w *wheel) set(e *wheelEntry, t moment) {
	if !e.known {
		e.known = true
		w.count++
	}
	e.unlink()
	if t == 0 {
		return
	}
	slot := max(slotOf(t)+1, w.last+1)
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
func (w *wheel) tick(now moment, f func(*polled)) {
	current := slotOf(now)
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
