package config

import (
	"fmt"
	"math"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

// Duration is a span of time that is written with units: 90d, 2h, 1h30m,
// 1.28s. It is never negative.
type Duration time.Duration

const day = 24 * time.Hour

// String returns the shortest usual form: 40m rather than 40m0s, days from a
// week on.
func (d Duration) String() string {
	t := time.Duration(d)
	if t >= 7*day && t%day == 0 {
		return strconv.FormatInt(int64(t/day), 10) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	s := string(b)
	if isNumber(s) && len(s) < 20 {
		return fmt.Errorf("%s has no unit; write %ss, %sm, %sh or %sd", s, s, s, s, s)
	}
	var days time.Duration
	rest := s
	if n, after, ok := strings.Cut(s, "d"); ok {
		v, err := strconv.ParseUint(n, 10, 64)
		if err != nil || v > uint64(math.MaxInt64/day) {
			return badDuration(s)
		}
		days, rest = time.Duration(v)*day, after
	}
	var t time.Duration
	if rest != "" || s == "" {
		var err error
		if t, err = time.ParseDuration(rest); err != nil || isNumber(rest) {
			return badDuration(s)
		}
	}
	if strings.HasPrefix(rest, "-") || days > math.MaxInt64-t {
		return badDuration(s)
	}
	*d = Duration(days + t)
	return nil
}

func badDuration(s string) error {
	return fmt.Errorf("%s is not a duration; write numbers with units, such as 1.28s, 40m, 2h or 90d", quote(s))
}

// Size is a number of bytes that is written with a unit: 512B, 64KB, 1MiB.
type Size int64

type unit struct {
	name   string
	factor int64
}

// sizeUnits and rateUnits are searched from the front when printing.
func sizeUnits() []unit {
	return []unit{
		{"TiB", 1 << 40},
		{"GiB", 1 << 30},
		{"MiB", 1 << 20},
		{"KiB", 1 << 10},
		{"TB", 1e12},
		{"GB", 1e9},
		{"MB", 1e6},
		{"KB", 1e3},
		{"kB", 1e3},
		{"B", 1},
	}
}

func rateUnits() []unit {
	return []unit{{"Gbit", 1e9}, {"Mbit", 1e6}, {"kbit", 1e3}, {"Kbit", 1e3}, {"bit", 1}}
}

// String returns the size in the largest unit that needs no fraction.
func (s Size) String() string { return formatUnit(int64(s), sizeUnits()) }

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(b []byte) error {
	v, err := parseUnit(string(b), sizeUnits())
	if err != nil {
		return fmt.Errorf("%w; write a size such as 64KB, 1MiB or 2GiB", err)
	}
	*s = Size(v)
	return nil
}

// Rate is a number of bits per second that is written with a unit: 9600bit,
// 50Mbit.
type Rate int64

// String returns the rate in the largest unit that needs no fraction.
func (r Rate) String() string { return formatUnit(int64(r), rateUnits()) }

// MarshalText implements encoding.TextMarshaler.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rate) UnmarshalText(b []byte) error {
	v, err := parseUnit(strings.TrimSuffix(string(b), "/s"), rateUnits())
	if err != nil {
		return fmt.Errorf("%w; write bits per second such as 9600bit, 64kbit or 50Mbit", err)
	}
	*r = Rate(v)
	return nil
}

// Share is a part of a whole, in billionths, that is written in percent: 1%,
// 0.05%.
type Share int64

const (
	percent Share = 1e7
	whole         = 100 * percent
)

// Float returns the share, 1 for the whole.
func (s Share) Float() float64 { return float64(s) / float64(whole) }

// String returns percent with as many digits as it takes.
func (s Share) String() string {
	text := strconv.FormatInt(int64(s/percent), 10)
	if rest := s % percent; rest > 0 {
		text += strings.TrimRight(fmt.Sprintf(".%07d", int64(rest)), "0")
	}
	return text + "%"
}

// MarshalText implements encoding.TextMarshaler.
func (s Share) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Share) UnmarshalText(b []byte) error {
	v, err := parseUnit(string(b), []unit{{"%", int64(percent)}})
	if err != nil {
		return fmt.Errorf("%w; write percent such as 1%% or 0.05%%", err)
	}
	*s = Share(v)
	return nil
}

func formatUnit(v int64, units []unit) string {
	for _, u := range units {
		if v != 0 && v%u.factor == 0 {
			return strconv.FormatInt(v/u.factor, 10) + u.name
		}
	}
	return strconv.FormatInt(v, 10) + units[len(units)-1].name
}

// parseUnit reads a decimal number and a unit, exactly: 1.5KiB is 1536, and
// 1.5B is refused.
func parseUnit(s string, units []unit) (int64, error) {
	switch {
	case isNumber(s):
		return 0, fmt.Errorf("%s has no unit", quote(s))
	case leadingZero(s):
		return 0, fmt.Errorf("%s starts with a zero, which some read as octal", quote(s))
	}
	i := max(strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' }), 0)
	number, name := s[:i], strings.TrimPrefix(s[i:], " ")
	for _, u := range units {
		if name != u.name || !isNumber(number) || len(number) > 30 {
			continue
		}
		v, ok := new(big.Rat).SetString(number)
		if ok && v.Mul(v, new(big.Rat).SetInt64(u.factor)).IsInt() && v.Num().IsInt64() {
			return v.Num().Int64(), nil
		}
	}
	return 0, fmt.Errorf("%s is not a number with a known unit", quote(s))
}

// isNumber reports whether s has only digits and dots, with a digit.
func isNumber(s string) bool {
	return strings.Trim(s, "0123456789.") == "" && strings.Trim(s, ".") != ""
}

// leadingZero finds numbers that some read as octal.
func leadingZero(s string) bool { return len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9' }

// Instant is a point in time, kept in UTC. Years are limited to 1970-2199 so
// that differences fit a time.Duration.
type Instant struct{ time.Time }

// MarshalText implements encoding.TextMarshaler.
func (i Instant) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// String returns the time as RFC 3339 has it.
func (i Instant) String() string { return i.UTC().Format(time.RFC3339Nano) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (i *Instant) UnmarshalText(b []byte) error {
	t, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return fmt.Errorf("%s is not a time; write it as 2026-01-01T00:00:00Z", quote(string(b)))
	}
	if t = t.UTC(); t.Year() < 1970 || t.Year() >= 2200 {
		return fmt.Errorf("%s is not between 1970 and 2199", quote(string(b)))
	}
	i.Time = t
	return nil
}

// HostPort is a host name or address and a port, as net.Dial takes it. "" is
// none; the host is empty in ":7330", all addresses of the machine.
type HostPort string

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *HostPort) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "" {
		*h = ""
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%s is not HOST:PORT; write it as 127.0.0.1:1883, example.net:7330 or [::1]:7330", quote(s))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%s has the port %s; write a number from 0 to 65535", quote(s), quote(port))
	}
	if _, err := netip.ParseAddr(host); err != nil && !hostName(host) {
		return fmt.Errorf("%s has the host %s; write a host name or an IP address", quote(s), quote(host))
	}
	*h = HostPort(s)
	return nil
}

func hostName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return len(s) <= 253
}

// Host returns the host, "" for all addresses.
func (h HostPort) Host() string {
	host, _, _ := net.SplitHostPort(string(h))
	return host
}

// Port returns the port, 0 for one the system chooses.
func (h HostPort) Port() int {
	_, port, _ := net.SplitHostPort(string(h))
	n, _ := strconv.Atoi(port)
	return n
}

// Loopback reports whether only this machine can reach a listener there.
func (h HostPort) Loopback() bool {
	host := h.Host()
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// any reports whether a listener there takes every address of the machine.
func (h HostPort) any() bool {
	a, err := netip.ParseAddr(h.Host())
	return h.Host() == "" || err == nil && a.IsUnspecified()
}

// ClassName is the name of a bundle.Class, or "" for none.
type ClassName string

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *ClassName) UnmarshalText(b []byte) error {
	if _, err := bundle.ParseClass(string(b)); err != nil && len(b) > 0 {
		return err
	}
	*c = ClassName(b)
	return nil
}

// quote makes a piece of input safe to print, and short.
func quote(s string) string {
	const longest = 60
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	return strconv.Quote(s)
}
