package main

import (
	"testing"
	"time"
	"unicode/utf8"
)

func TestSpanText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                          "0s",
		1500 * time.Microsecond:    "2ms",
		1280 * time.Millisecond:    "1.3s",
		90 * time.Second:           "1m30s",
		20 * time.Minute:           "20m",
		time.Hour:                  "1h",
		90*time.Minute + 10e9:      "1h30m",
		50 * time.Hour:             "2d2h",
		72 * time.Hour:             "3d",
		-90 * time.Second:          "-1m30s",
		100*24*time.Hour + 59*6e10: "100d",
	} {
		if got := spanText(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestSizeText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 200 << 20: "200 MiB", 5 << 40: "5.0 TiB", 1 << 60: "1048576 TiB"} {
		if got := sizeText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// What other machines say must not move the cursor or colour a terminal.
func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain ✓":         "plain ✓",
		"\x1b[31mred":     `\x1b[31mred`,
		"a\nb\tc":         `a\nb\tc`,
		"\xff\xfe":        `\xff\xfe`,
		"\u202etfel":      `\u202etfel`,
		"replaced \ufffd": "replaced \ufffd",
	} {
		if got := clean(in, 0); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := clean("a\tb\n", '\t'); got != "a\tb\\n" {
		t.Errorf("keep: %q", got)
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[0m\xff\u202e\x00")
	f.Fuzz(func(t *testing.T, s string) {
		out := clean(s, 0)
		if !utf8.ValidString(out) || clean(out, 0) != out {
			t.Errorf("%q: %q", s, out)
		}
	})
}

func TestRoomText(t *testing.T) {
	none, some := int64(0), int64(3<<20)
	for _, c := range []struct {
		room *int64
		want string
	}{{nil, ""}, {&none, "; the disk is full: new messages are refused"}, {&some, "; the disk takes 3.0 MiB more"}} {
		if got := roomText(c.room); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
