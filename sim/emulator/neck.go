package emulator

import "time"

// neck is the bottleneck of one direction: what passes it leaves one after the
// other, at the rate or the opportunities of the trace of a profile. Like all
// of shape.go it knows no clock.
type neck struct {
	busy time.Time // rate: taken until then
	next int64     // trace: the opportunity that is being filled
	used int       // trace: bytes taken of it
}

// slot is a place in the bottleneck that may still be refused.
type slot struct {
	depart time.Time // the last bit leaves
	full   bool      // it would wait behind more than the queue holds
	after  neck      // the bottleneck once the slot is taken
}

// plan finds the place for size bytes, headers included, offered at now.
func (n *neck) plan(now time.Time, size int, p *Profile) slot {
	if p.Trace != nil {
		return n.planTrace(now, size, p)
	}
	var s slot
	start, takes := now, sendTime(size, p.Rate)
	if p.Rate > 0 && n.busy.After(now) {
		start = n.busy
		// Waiting time stands for waiting bytes: both are the same at one rate.
		s.full = start.Sub(now)+takes > sendTime(p.Queue, p.Rate)
	}
	s.depart = start.Add(takes)
	s.after = neck{busy: s.depart}
	return s
}

// planTrace is plan for a trace. The backlog has no gap between now and next,
// so that counting opportunities counts waiting bytes.
func (n *neck) planTrace(now time.Time, size int, p *Profile) slot {
	first := p.Trace.From(now.Sub(p.Since))
	next, used := first, 0
	if n.next >= first {
		next, used = n.next, n.used
	}
	total := used + max(size, 1)
	more := (total - 1) / traceBytes // opportunities that fill up before the last
	last := next + int64(more)
	depart := p.Since.Add(p.Trace.Time(last))
	waiting := (next-first)*traceBytes + int64(used)
	return slot{
		depart: depart,
		full:   waiting > 0 && waiting+int64(size) > int64(p.Queue),
		after:  neck{busy: depart, next: last, used: total - more*traceBytes},
	}
}

// start is when the next byte could begin to leave.
func (n *neck) start(now time.Time, p *Profile) time.Time {
	if p.Trace == nil {
		if n.busy.After(now) {
			return n.busy
		}
		return now
	}
	next := p.Trace.From(now.Sub(p.Since))
	if n.next > next || (n.next == next && n.used == traceBytes) {
		next = n.next
		if n.used == traceBytes {
			next++
		}
	}
	return p.Since.Add(p.Trace.Time(next))
}

// free empties the bottleneck at now.
func (n *neck) free(now time.Time) { *n = neck{busy: now} }

// sendTime is how long size bytes take at rate bits per second, rounded up to
// the nanosecond; 0 if rate is unlimited. size is at most desc.MaxQueue and rate
// at least 1, so the result fits.
func sendTime(size int, rate int64) time.Duration {
	if rate <= 0 {
		return 0
	}
	bitTimes := uint64(size) * 8 * uint64(time.Second) // < 2^63: see desc.MaxQueue
	return time.Duration((bitTimes + uint64(rate) - 1) / uint64(rate))
}
