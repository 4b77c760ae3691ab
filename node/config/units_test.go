package config

import (
	"strings"
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"2h": 2 * time.Hour, "40m": 40 * time.Minute, "1.28s": 1280 * time.Millisecond, "90d": 90 * day,
		"1h30m": 90 * time.Minute, "1d12h": 36 * time.Hour, "0s": 0, "0d": 0, "250ms": 250 * time.Millisecond, "106751d": 106751 * day,
	} {
		var d Duration
		if err := d.UnmarshalText([]byte(s)); err != nil || time.Duration(d) != want {
			t.Errorf("%s: %v, %v", s, time.Duration(d), err)
		}
	}
	for _, s := range []string{"", "0", "72", "1.5", "d", "-1s", "1d-2h", "-1d", "1d2", "1.5d", "2 h", "1w", "106752d", "106751d24h", "h", "1e3s", "99999999999999999999d"} {
		var d Duration
		if err := d.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q is read as %v", s, d)
		}
	}
	for d, want := range map[time.Duration]string{
		72 * time.Hour: "72h", 90 * day: "90d", 7 * day: "7d", 10 * time.Minute: "10m", 90 * time.Second: "1m30s",
		time.Hour + time.Second: "1h0m1s", 0: "0s", 1280 * time.Millisecond: "1.28s", 20 * time.Second: "20s", 100 * time.Hour: "100h",
	} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%v prints as %s, want %s", d, got, want)
		}
	}
}

func TestSizeAndRate(t *testing.T) {
	for s, want := range map[string]Size{
		"1MiB": 1 << 20, "64KB": 64_000, "64kB": 64_000, "512B": 512, "0B": 0, "1.5KiB": 1536, "2 GiB": 2 << 30, "0.5MB": 500_000, "8388607TiB": 8388607 << 40,
	} {
		var got Size
		if err := got.UnmarshalText([]byte(s)); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "1000", "1.5B", "1mb", "1Mbit", "MiB", ".MiB", "1..5MiB", "-1B", "010B", "8388608TiB", "1e3B", "0x10B", "1  B", strings.Repeat("9", 40) + "B"} {
		var got Size
		if err := got.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q is read as %d", s, got)
		}
	}
	for s, want := range map[string]Rate{"50Mbit": 50e6, "9600bit": 9600, "64kbit": 64e3, "64Kbit/s": 64e3, "1.5Gbit": 15e8} {
		var got Rate
		if err := got.UnmarshalText([]byte(s)); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "50", "50MB", "50Mb", "50M", "/s", "9.6bit"} {
		var got Rate
		if err := got.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q is read as %d", s, got)
		}
	}
}

func TestShare(t *testing.T) {
	for s, want := range map[string]Share{
		"1%": percent, "0.05%": percent / 20, "100%": whole, "0%": 0, "12.5 %": percent * 25 / 2, "0.0000001%": 1, "50.00%": 50 * percent,
	} {
		var got Share
		if err := got.UnmarshalText([]byte(s)); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
		var again Share
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != got {
			t.Errorf("%s prints as %s, which is read as %d, %v", s, got, again, err)
		}
	}
	for _, s := range []string{"", "1", "0.01", "%", "-1%", "1e-3%", "01%", "0.00000001%", "1‰", "1%%", "999999999999%"} {
		var got Share
		if err := got.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q is read as %d", s, got)
		}
	}
	if f := (percent / 2).Float(); f != 0.005 {
		t.Errorf("half a percent is %v", f)
	}
}

func TestHostPort(t *testing.T) {
	for _, c := range []struct {
		s        string
		host     string
		port     int
		loopback bool
		any      bool
	}{
		{"127.0.0.1:1883", "127.0.0.1", 1883, true, false},
		{"127.8.0.1:1883", "127.8.0.1", 1883, true, false},
		{"[::1]:1883", "::1", 1883, true, false},
		{"[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", 1, true, false},
		{"localhost:0", "localhost", 0, true, false},
		{":7330", "", 7330, false, true},
		{"0.0.0.0:7330", "0.0.0.0", 7330, false, true},
		{"[::]:7330", "::", 7330, false, true},
		{"gw-3.example.net:65535", "gw-3.example.net", 65535, false, false},
		{"", "", 0, false, true},
	} {
		var h HostPort
		if err := h.UnmarshalText([]byte(c.s)); err != nil {
			t.Errorf("%q: %v", c.s, err)
		}
		if h.Host() != c.host || h.Port() != c.port || h.Loopback() != c.loopback || h.any() != c.any {
			t.Errorf("%q: %q %d %v %v", c.s, h.Host(), h.Port(), h.Loopback(), h.any())
		}
	}
	for _, s := range []string{"1883", "localhost", "a:b", "a:65536", "a:-1", "a:01", "a b:1", "::1:1", "a:", "h\x00:1", "http://a:1", "a/b:1"} {
		var h HostPort
		if err := h.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}
