// Package contact says when links can carry. It holds the Schedule of a
// periodic contact; it is pure and knows no nodes.
package contact

import (
	"errors"
	"time"
)

// Schedule is a periodic contact: a link carries in each
// [Start+k*Every, Start+k*Every+For) with k = 0, 1, 2, ... The zero Schedule
// is always open. Before Start a link is closed. A zero Start counts from the
// Unix epoch, so that two nodes agree without talking.
type Schedule struct {
	Start time.Time
	Every time.Duration // period
	For   time.Duration // length of one contact, 0 < For <= Every
}

// Always reports whether s never closes.
func (s Schedule) Always() bool { return s.Every <= 0 || s.For >= s.Every && s.Start.IsZero() }

// Open reports whether the link can carry at t.
func (s Schedule) Open(t time.Time) bool {
	if s.Every <= 0 {
		return true
	}
	d := t.Sub(s.start())
	return d >= 0 && d%s.Every < s.For
}

// Next returns the first edge, an opening or a closing, strictly after t; the
// zero Time when there is none any more.
func (s Schedule) Next(t time.Time) time.Time {
	if s.Every <= 0 {
		return time.Time{}
	}
	d := t.Sub(s.start())
	if d < 0 {
		return s.start()
	}
	if s.For >= s.Every {
		return time.Time{}
	}
	if in := d % s.Every; in < s.For {
		return t.Add(s.For - in)
	} else {
		return t.Add(s.Every - in)
	}
}

// Gap returns the planned silence between two contacts.
func (s Schedule) Gap() time.Duration { return max(s.Every-s.For, 0) }

// Validate reports all faults of s.
func (s Schedule) Validate() error {
	var errs []error
	if s.Every < 0 || s.For < 0 {
		errs = append(errs, errors.New("every and for must not be negative"))
	}
	if s.Every == 0 && (s.For != 0 || !s.Start.IsZero()) {
		errs = append(errs, errors.New("for and start need every"))
	}
	if s.Every > 0 && (s.For == 0 || s.For > s.Every) {
		errs = append(errs, errors.New("for must be more than 0 and at most every"))
	}
	return errors.Join(errs...)
}

func (s Schedule) start() time.Time {
	if s.Start.IsZero() {
		return time.Unix(0, 0)
	}
	return s.Start
}
