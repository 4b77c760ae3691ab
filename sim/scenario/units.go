package scenario

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration with its unit: 1.28s, 20m, 72h.
type Duration time.Duration

// String returns the duration as Go writes it.
func (d Duration) String() string { return time.Duration(d).String() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration; write a number with its unit, such as 1.28s or 20m", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Shift is a duration that may be negative: -20m is twenty minutes back.
type Shift time.Duration

// String returns the shift as Go writes durations.
func (s Shift) String() string { return time.Duration(s).String() }

// MarshalText implements encoding.TextMarshaler.
func (s Shift) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Shift) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a shift in time; write a number with its unit, such as 20m or -20m", b)
	}
	*s = Shift(v)
	return nil
}

// Percent is a share: 1% or 0.01.
type Percent float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Percent) UnmarshalText(b []byte) error {
	num, percent := strings.CutSuffix(string(b), "%")
	v, err := strconv.ParseFloat(num, 64)
	if err != nil {
		return fmt.Errorf("%q is not a share; write 1%% or 0.01", b)
	}
	if percent {
		v /= 100
	}
	*p = Percent(v)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (p Percent) MarshalText() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(p), 'g', -1, 64), nil
}

// Rate is a bit rate: 9600bit, 256kbit, 50Mbit, 1Gbit.
type Rate int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rate) UnmarshalText(b []byte) error {
	units := []struct {
		name string
		mult float64
	}{{"Gbit", 1e9}, {"Mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}}
	for _, u := range units {
		if num, ok := strings.CutSuffix(string(b), u.name); ok {
			v, err := strconv.ParseFloat(num, 64)
			if err != nil || v <= 0 {
				break
			}
			*r = Rate(v * u.mult)
			return nil
		}
	}
	return fmt.Errorf("%q is not a rate; write a number with its unit, such as 9600bit or 50Mbit", b)
}

// MarshalText implements encoding.TextMarshaler.
func (r Rate) MarshalText() ([]byte, error) {
	return []byte(strconv.FormatInt(int64(r), 10) + "bit"), nil
}
