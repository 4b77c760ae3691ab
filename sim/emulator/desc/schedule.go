package desc

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Schedule says when a link can carry: in each [Start+k*Every, Start+k*Every+For)
// with k = 0, 1, 2, ...
//
// The zero Schedule is always open. Before Start a link is closed: the plan
// begins with its first contact. A zero Start in a periodic schedule counts
// from the Unix epoch, so that two processes agree without talking; a [Link]
// counts it from the moment the link was opened instead (see Anchored), so that
// an emulation starts inside its first contact.
type Schedule struct {
	Start time.Time
	Every time.Duration // period; 0 together with For: always open
	For   time.Duration // length of one contact, 0 < For <= Every
}

// Always reports whether s has no windows, that is, whether it never closes.
func (s Schedule) Always() bool { return s.Every <= 0 }

// Open reports whether the link can carry at t.
func (s Schedule) Open(t time.Time) bool {
	if s.Always() {
		return true
	}
	d := t.Sub(s.start())
	return d >= 0 && d%s.Every < s.For
}

// Next returns the first edge (an opening or a closing) strictly after t, or
// the zero Time if there is none any more.
func (s Schedule) Next(t time.Time) time.Time {
	if s.Always() {
		return time.Time{}
	}
	d := t.Sub(s.start())
	switch {
	case d < 0:
		return s.start()
	case s.For >= s.Every: // back-to-back contacts have no edge between them
		return time.Time{}
	}
	in := d % s.Every
	if in < s.For {
		return t.Add(s.For - in)
	}
	return t.Add(s.Every - in)
}

// Anchored returns s with a zero Start replaced by t. An always-open schedule
// is returned unchanged.
func (s Schedule) Anchored(t time.Time) Schedule {
	if !s.Always() && s.Start.IsZero() {
		s.Start = t
	}
	return s
}

// Validate reports all faults of s.
func (s Schedule) Validate() error {
	var errs []error
	if s.Every < 0 || s.For < 0 {
		errs = append(errs, errors.New("every and for must not be negative"))
	}
	switch {
	case s.Every == 0 && s.For != 0:
		errs = append(errs, errors.New("for needs every: say how often the contact comes"))
	case s.Every > 0 && s.For == 0:
		errs = append(errs, errors.New("every needs for: say how long each contact lasts"))
	case s.For > s.Every:
		errs = append(errs, fmt.Errorf("for=%v is longer than every=%v", s.For, s.Every))
	}
	// time.Time.Sub saturates after 292 years, and Open would then be wrong.
	if y := s.Start.UTC().Year(); !s.Start.IsZero() && (y < 1970 || y > 2200) {
		errs = append(errs, fmt.Errorf("start is in the year %d; it must lie between 1970 and 2200", y))
	}
	return errors.Join(errs...)
}

// start is the instant from which windows count.
func (s Schedule) start() time.Time {
	if s.Start.IsZero() {
		return time.Unix(0, 0)
	}
	return s.Start
}

// ParseSchedule reads the text form "every=2h,for=40m[,start=RFC3339]". Keys
// may come in any order. "" and "always" are the zero Schedule.
func ParseSchedule(text string) (Schedule, error) {
	var s Schedule
	if text == "" || text == "always" {
		return s, nil
	}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		key, val, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return Schedule{}, scheduleError(text, fmt.Errorf("%q is not key=value", part))
		}
		if seen[key] {
			return Schedule{}, scheduleError(text, fmt.Errorf("%s is given twice", key))
		}
		seen[key] = true
		var err error
		switch key {
		case "every":
			s.Every, err = time.ParseDuration(val)
		case "for":
			s.For, err = time.ParseDuration(val)
		case "start":
			s.Start, err = time.Parse(time.RFC3339, val)
		default:
			err = fmt.Errorf("unknown key %q", key)
		}
		if err != nil {
			return Schedule{}, scheduleError(text, err)
		}
	}
	if s.Every == 0 { // only "start=..." or zeros: the writer meant something else
		return Schedule{}, scheduleError(text, errors.New("every is missing or zero"))
	}
	if err := s.Validate(); err != nil {
		return Schedule{}, scheduleError(text, err)
	}
	return s, nil
}

// String returns the form that ParseSchedule reads. Start keeps fractions of a
// second.
func (s Schedule) String() string {
	if s.Always() {
		return "always"
	}
	out := "every=" + shortDuration(s.Every) + ",for=" + shortDuration(s.For)
	if !s.Start.IsZero() {
		out += ",start=" + s.Start.Format(time.RFC3339Nano)
	}
	return out
}

// MarshalText implements encoding.TextMarshaler.
func (s Schedule) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Schedule) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSchedule(string(b))
	return err
}

func scheduleError(text string, err error) error {
	return fmt.Errorf("contacts %q: %w; write for example every=2h,for=40m,start=2030-01-02T00:00:00Z", clip(text), err)
}

// shortDuration is Duration.String without trailing zero units: 2h, not 2h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// clip keeps error texts short whatever was passed in.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
