package desc

import (
	"strings"
	"testing"
	"time"
)

// t0 is where virtual time starts in the tests of this package.
func t0() time.Time { return time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC) }

func TestScheduleOpenAndNext(t *testing.T) {
	passes := Schedule{Start: t0(), Every: 2 * time.Hour, For: 40 * time.Minute}
	daily := Schedule{Every: 24 * time.Hour, For: time.Hour}
	cases := []struct {
		name string
		s    Schedule
		at   time.Time
		open bool
		next time.Time
	}{
		{"zero is always open", Schedule{}, t0(), true, time.Time{}},
		{"before start is closed", passes, t0().Add(-time.Nanosecond), false, t0()},
		{"long before start", passes, t0().Add(-100 * time.Hour), false, t0()},
		{"opening edge belongs to the contact", passes, t0(), true, t0().Add(40 * time.Minute)},
		{"last nanosecond", passes, t0().Add(40*time.Minute - 1), true, t0().Add(40 * time.Minute)},
		{"closing edge does not", passes, t0().Add(40 * time.Minute), false, t0().Add(2 * time.Hour)},
		{"in the gap", passes, t0().Add(time.Hour), false, t0().Add(2 * time.Hour)},
		{"second contact", passes, t0().Add(2 * time.Hour), true, t0().Add(2*time.Hour + 40*time.Minute)},
		{"years later", passes, t0().Add(20000*time.Hour + time.Hour), false, t0().Add(20002 * time.Hour)},
		{"no gap never closes", Schedule{t0(), time.Hour, time.Hour}, t0().Add(5 * time.Hour), true, time.Time{}},
		{"no gap opens once", Schedule{t0(), time.Hour, time.Hour}, t0().Add(-time.Hour), false, t0()},
		{"zero start counts from the epoch", daily, time.Unix(86400*365, 0), true, time.Unix(86400*365+3600, 0)},
		{"zero start, gap", daily, time.Unix(86400*365+3600, 0), false, time.Unix(86400*366, 0)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := c.s.Open(c.at); got != c.open {
				t.Errorf("Open = %v, want %v", got, c.open)
			}
			next := c.s.Next(c.at)
			if !next.Equal(c.next) {
				t.Errorf("Next = %v, want %v", next, c.next)
			}
			if !next.IsZero() && (c.s.Open(next) == c.s.Open(next.Add(-1))) {
				t.Errorf("nothing changes at the edge %v", next)
			}
		})
	}
}

func TestScheduleAnchored(t *testing.T) {
	s := Schedule{Every: time.Hour, For: time.Minute}
	if got := s.Anchored(t0()); !got.Start.Equal(t0()) || !got.Open(t0()) {
		t.Errorf("zero start not anchored: %v", got)
	}
	s.Start = t0().Add(time.Hour)
	if got := s.Anchored(t0()); got != s {
		t.Errorf("given start moved: %v", got)
	}
	if got := (Schedule{}).Anchored(t0()); got != (Schedule{}) {
		t.Errorf("always open got a start: %v", got)
	}
}

func TestParseSchedule(t *testing.T) {
	cases := []struct {
		text string
		want Schedule
		form string // what String gives back
	}{
		{"", Schedule{}, "always"},
		{"always", Schedule{}, "always"},
		{"every=2h,for=40m", Schedule{Every: 2 * time.Hour, For: 40 * time.Minute}, "every=2h,for=40m"},
		{"for=1m30s, every=90m", Schedule{Every: 90 * time.Minute, For: 90 * time.Second}, "every=1h30m,for=1m30s"},
		{"every=500ms,for=20ms", Schedule{Every: 500 * time.Millisecond, For: 20 * time.Millisecond}, "every=500ms,for=20ms"},
		{
			"every=10s,for=5s,start=2030-01-02T03:04:05Z",
			Schedule{t0(), 10 * time.Second, 5 * time.Second},
			"every=10s,for=5s,start=2030-01-02T03:04:05Z",
		},
	}
	for _, c := range cases {
		got, err := ParseSchedule(c.text)
		if err != nil || got != c.want {
			t.Errorf("ParseSchedule(%q) = %v, %v; want %v", c.text, got, err, c.want)
		}
		if got.String() != c.form {
			t.Errorf("String of %q = %q, want %q", c.text, got, c.form)
		}
	}
}

func TestParseScheduleFaults(t *testing.T) {
	cases := []struct{ text, want string }{
		{"every", "not key=value"},
		{"every=2h", "every needs for"},
		{"for=2h", "every is missing"},
		{"every=0s,for=0s", "every is missing"},
		{"start=2030-01-02T03:04:05Z", "every is missing"},
		{"every=1h,for=2h", "longer than"},
		{"every=-1h,for=-2h", "negative"},
		{"every=2,for=1", "missing unit"},
		{"every=2h,every=3h,for=1h", "given twice"},
		{"every=2h,for=1h,until=9", "unknown key"},
		{"every=2h,for=1h,start=tomorrow", "tomorrow"},
		{"every=2h,for=1h,start=0001-01-01T00:00:01Z", "between 1970 and 2200"},
	}
	for _, c := range cases {
		_, err := ParseSchedule(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "write for example") {
			t.Errorf("ParseSchedule(%q): %v; want %q and an example", c.text, err, c.want)
		}
	}
}

func FuzzParseSchedule(f *testing.F) {
	for _, s := range []string{"", "always", "every=2h,for=40m", "every=10s,for=5s,start=2030-01-02T03:04:05.5+02:00", "for=1ns,every=1ns", "every=,for=", "=,="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSchedule(text)
		if err != nil {
			return
		}
		if err := s.Validate(); err != nil {
			t.Fatalf("accepted %q but %v", text, err)
		}
		again, err := ParseSchedule(s.String())
		if err != nil || again.Every != s.Every || again.For != s.For || !again.Start.Equal(s.Start) {
			t.Fatalf("%q -> %q -> %v, %v", text, s, again, err)
		}
		if next := s.Next(t0()); !next.IsZero() && !next.After(t0()) {
			t.Fatalf("%q: next edge %v is not in the future", text, next)
		}
	})
}
