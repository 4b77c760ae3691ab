package desc

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestParseTrace(t *testing.T) {
	tr, err := ParseTrace("lte.up", []byte("# cellular\n\n0\n5\r\n5\n  7 \n20"))
	if err != nil {
		t.Fatal(err)
	}
	if tr.Period() != 20*time.Millisecond || tr.Rate() != 3e6 || tr.String() != "lte.up" {
		t.Errorf("%v, period %v, rate %d", tr, tr.Period(), tr.Rate())
	}
	for _, c := range []struct{ text, want string }{
		{"", "later than 0 ms"},
		{"# nothing\n", "later than 0 ms"},
		{"0\n0\n", "later than 0 ms"},
		{"1\n2\nx\n", "line 3: not a time"},
		{"1\n-2\n", "line 2: not a time"},
		{"1.5\n", "line 1: not a time"},
		{"1 2\n", "line 1: not a time"},
		{"9999999999\n", "line 1: not a time"},
		{"604800001\n", "line 1: not a time"},
		{"5\n4\n", "line 2: 4 ms is before"},
	} {
		if _, err := ParseTrace("t", []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v; want %q", c.text, err, c.want)
		}
	}
	many := strings.Repeat("1\n", MaxOpportunities+1)
	if _, err := ParseTrace("t", []byte(many)); err == nil || !strings.Contains(err.Error(), fmt.Sprint(MaxOpportunities)) {
		t.Errorf("too many opportunities: %v", err)
	}
}

func TestTraceFromAndTime(t *testing.T) {
	const ms = time.Millisecond
	tr, err := ParseTrace("t", []byte("0\n5\n5\n10\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   time.Duration
		want int64
	}{{-ms, 0}, {0, 0}, {1, 1}, {5 * ms, 1}, {5*ms + 1, 3}, {10 * ms, 3}, {10*ms + 1, 5}, {20 * ms, 7}, {1000 * ms, 399}} {
		got := tr.From(c.at)
		if got != c.want {
			t.Errorf("From(%v) = %d, want %d", c.at, got, c.want)
		}
		if c.at >= 0 && (tr.Time(got) < c.at || (got > 0 && tr.Time(got-1) >= c.at && c.at > 0)) {
			t.Errorf("From(%v): opportunity %d is at %v", c.at, got, tr.Time(got))
		}
	}
}

func TestDelaysAt(t *testing.T) {
	const s = time.Second
	d := Delays{Points: []DelayPoint{{At: 10 * s, Delay: s}, {At: 20 * s, Delay: 2 * s}, {At: 40 * s, Delay: s}}}
	again := d
	again.Repeat = true
	for _, c := range []struct{ at, once, repeated time.Duration }{
		{-s, s, s},
		{0, s, s},
		{10 * s, s, s},
		{15 * s, s * 3 / 2, s * 3 / 2},
		{20 * s, 2 * s, 2 * s},
		{30 * s, s * 3 / 2, s * 3 / 2},
		{40 * s, s, s},
		{60 * s, s, 2 * s},
		{1000 * time.Hour, s, s},
	} {
		if got := d.At(c.at); got != c.once {
			t.Errorf("At(%v) = %v, want %v", c.at, got, c.once)
		}
		if got := again.At(c.at); got != c.repeated {
			t.Errorf("repeated: At(%v) = %v, want %v", c.at, got, c.repeated)
		}
	}
	for _, c := range []struct {
		d    Delays
		want string
	}{
		{Delays{Points: []DelayPoint{{At: s, Delay: s}, {At: s, Delay: s}}}, "point 1: at 1s does not come after 1s"},
		{Delays{Points: []DelayPoint{{At: -s, Delay: s}}}, "point 0: at -1s is negative"},
		{Delays{Points: []DelayPoint{{Delay: 25 * time.Hour}}}, "point 0: delay 25h0m0s"},
		{Delays{Repeat: true}, "to repeat"},
		{Delays{Points: []DelayPoint{{Delay: s}}, Repeat: true}, "to repeat"},
		{Delays{Points: make([]DelayPoint, MaxPoints+1)}, "at most"},
	} {
		if err := c.d.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v; want %q", c.d, err, c.want)
		}
	}
	if got := d.String(); got != "1s to 2s" {
		t.Errorf("%q", got)
	}
}

func FuzzParseTrace(f *testing.F) {
	for _, s := range []string{"1\n2\n3\n", "0\n0\n5", "# a\n7\r\n", "604800000", "5\n4\n"} {
		f.Add([]byte(s), int64(12345678))
	}
	f.Fuzz(func(t *testing.T, data []byte, at int64) {
		tr, err := ParseTrace("fuzz", data)
		if err != nil {
			return
		}
		if tr.Period() <= 0 {
			t.Fatalf("period %v", tr.Period())
		}
		d := time.Duration(at % int64(1000*tr.Period()))
		i := tr.From(d)
		if tr.Time(i) < d || (i > 0 && tr.Time(i-1) >= d) || tr.Time(i+1) < tr.Time(i) {
			t.Fatalf("From(%v) = %d, at %v", d, i, tr.Time(i))
		}
	})
}
