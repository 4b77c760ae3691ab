package link

import "time"

// Window is a contact that may repeat: [Start, Start+For), again each Every.
// Every 0 means once.
type Window struct {
	Start time.Time
	Every time.Duration
	For   time.Duration
}

// at returns the contact that is on at now, or else the next one; ok is false
// when there is none any more.
func (w Window) at(now time.Time) (start, end time.Time, ok bool) {
	start = w.Start
	if w.Every > 0 && now.After(start) {
		start = start.Add(now.Sub(start) / w.Every * w.Every)
	}
	if end = start.Add(w.For); end.After(now) {
		return start, end, true
	}
	if w.Every == 0 {
		return start, end, false
	}
	start = start.Add(w.Every)
	return start, start.Add(w.For), true
}

// scheduled reports whether the link has a schedule at all.
func (p Properties) scheduled() bool { return len(p.Contacts) > 0 }

// contact returns when the link is next open: open says whether it is now,
// change when that ends (for ever: zero). A link without a schedule is always
// open; one whose schedule is over never again.
func (p Properties) contact(now time.Time) (open bool, change time.Time) {
	if !p.scheduled() {
		return true, time.Time{}
	}
	for _, w := range p.Contacts {
		start, end, ok := w.at(now)
		switch {
		case !ok:
		case !start.After(now):
			if !open || end.After(change) {
				change = end
			}
			open = true
		case !open && (change.IsZero() || start.Before(change)):
			change = start
		}
	}
	return open, change
}

// gapAfter returns how long the link is closed from end on; ok is false when
// it does not open again.
func (p Properties) gapAfter(end time.Time) (gap time.Duration, ok bool) {
	open, change := p.contact(end)
	if open {
		return 0, true
	}
	return change.Sub(end), !change.IsZero()
}

// longestGap is the longest planned silence: what the operator says, or the
// longest pause of any repeating contact taken alone (an upper bound when
// several interleave).
func (p Properties) longestGap() time.Duration {
	gap := p.MaxGap
	if gap > 0 {
		return gap
	}
	for _, w := range p.Contacts {
		gap = max(gap, w.Every-w.For)
	}
	return gap
}
