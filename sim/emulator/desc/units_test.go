package desc

import (
	"strings"
	"testing"
	"time"
)

func TestParseLoss(t *testing.T) {
	good := []struct {
		text string
		want float64
		form string
	}{
		{"0", 0, "0%"},
		{"0%", 0, "0%"},
		{"1%", 0.01, "1%"},
		{"0.01", 0.01, "1%"},
		{"0.5%", 0.005, "0.5%"},
		{"100%", 1, "100%"},
		{"1e-6", 1e-6, "0.0001%"},
		{"1e2%", 1, "100%"},
	}
	for _, c := range good {
		got, err := ParseLoss(c.text)
		if err != nil || got != c.want {
			t.Errorf("ParseLoss(%q) = %v, %v; want %v", c.text, got, err, c.want)
		}
		if FormatLoss(got) != c.form {
			t.Errorf("FormatLoss(%v) = %q, want %q", got, FormatLoss(got), c.form)
		}
	}
	bad := []struct{ text, want string }{
		{"", "not a number"},
		{"%", "not a number"},
		{"one", "not a number"},
		{"NaN", "not a number"},
		{"0x1p-2", "not a number"},
		{"1 %", "not a number"},
		{"--1", "not a number"},
		{"Inf%", "not a number"},
		{"-1%", "negative"},
		{"101%", "more than everything"},
		{"1", `write "1%"`},
		{"5", `write "5%"`},
		{"1.0", "100%"},
	}
	for _, c := range bad {
		if _, err := ParseLoss(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseLoss(%q): %v; want %q", c.text, err, c.want)
		}
	}
}

func TestParseRate(t *testing.T) {
	good := []struct {
		text string
		want int64
		form string
	}{
		{"0", 0, "unlimited"},
		{"unlimited", 0, "unlimited"},
		{"9600bit", 9600, "9600bit"},
		{"50Mbit", 50e6, "50Mbit"},
		{"1Gbit", 1e9, "1Gbit"},
		{"64kbit/s", 64e3, "64kbit"},
		{"1.5mbit", 1.5e6, "1500kbit"},
		{"1.10Gbit", 1.1e9, "1100Mbit"},
		{"0.001kbit", 1, "1bit"},
		{"1000Gbit", MaxRate, "1000Gbit"},
		{"50 Mbit", 50e6, "50Mbit"},
		{"1bit", 1, "1bit"},
	}
	for _, c := range good {
		got, err := ParseRate(c.text)
		if err != nil || got != c.want {
			t.Errorf("ParseRate(%q) = %v, %v; want %v", c.text, got, err, c.want)
		}
		if FormatRate(got) != c.form {
			t.Errorf("FormatRate(%v) = %q, want %q", got, FormatRate(got), c.form)
		}
	}
	bad := []struct{ text, want string }{
		{"", "unit"},
		{"9600", "unit"},
		{"1MB/s", "bits per second"},
		{"1Mibit", "unit"},
		{"Mbit", "plain decimal"},
		{"-1Mbit", "plain decimal"},
		{"1e6bit", "plain decimal"},
		{"1.bit", "plain decimal"},
		{"1.2.3bit", "plain decimal"},
		{"0.5bit", "more digits"},
		{"1.0000000001Gbit", "more digits"},
		{"1001Gbit", "above the limit"},
		{"99999999999999999999bit", "too large"},
		{"9223372036854775807Gbit", "too large"},
		{"0Mbit", "zero"},
		{"0.0bit", "zero"},
	}
	for _, c := range bad {
		if _, err := ParseRate(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseRate(%q): %v; want %q", c.text, err, c.want)
		}
	}
}

func FuzzParseLoss(f *testing.F) {
	for _, s := range []string{"1%", "0.01", "0", "100%", "1e-300%", "-0", "99.999%", "1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseLoss(text)
		if err != nil {
			return
		}
		if !(v >= 0 && v <= 1) {
			t.Fatalf("ParseLoss(%q) = %v", text, v)
		}
		if again, err := ParseLoss(FormatLoss(v)); err != nil || again != v {
			t.Fatalf("%q -> %v -> %q -> %v, %v", text, v, FormatLoss(v), again, err)
		}
	})
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"9600bit", "1.5Mbit", "1Gbit/s", "0", "unlimited", "0.000000001Gbit", "bit"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseRate(text)
		if err != nil {
			return
		}
		if v < 0 || v > MaxRate {
			t.Fatalf("ParseRate(%q) = %d", text, v)
		}
		if again, err := ParseRate(FormatRate(v)); err != nil || again != v {
			t.Fatalf("%q -> %d -> %q -> %d, %v", text, v, FormatRate(v), again, err)
		}
	})
}

func TestProfileString(t *testing.T) {
	p := Profile{
		Delay: 1280 * time.Millisecond, Jitter: time.Millisecond, Loss: 0.01, Rate: 50e6, Queue: 9000,
		Contacts: Schedule{Every: 2 * time.Hour, For: 40 * time.Minute},
	}
	const want = "delay 1.28s, jitter 1ms, loss 1%, rate 50Mbit, queue 9000 bytes, contacts every=2h,for=40m"
	if p.String() != want {
		t.Errorf("got %q, want %q", p, want)
	}
	if got := (Profile{}).String(); got != "perfect" {
		t.Errorf("zero profile: %q", got)
	}
}
