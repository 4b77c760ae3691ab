package desc

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// MaxRate is the largest rate a profile may name, in bits per second (1 Tbit/s).
// It keeps all arithmetic on rates inside 64 bits.
const MaxRate = 1_000_000_000_000

// ParseLoss reads a loss ratio: "1%" or the fraction "0.01". A bare number of
// one or more ("1", "5") is refused, since it may mean percent or everything.
func ParseLoss(text string) (float64, error) {
	num, percent := strings.CutSuffix(text, "%")
	if num == "" || strings.Trim(num, "0123456789.eE+-") != "" {
		return 0, fmt.Errorf(`loss %q is not a number: write for example "1%%" or "0.01"`, clip(text))
	}
	v, err := strconv.ParseFloat(num, 64)
	if err != nil {
		return 0, fmt.Errorf(`loss %q is not a number: write for example "1%%" or "0.01"`, clip(text))
	}
	switch {
	case v < 0:
		return 0, fmt.Errorf("loss %q is negative: it lies between 0%% and 100%%", clip(text))
	case percent && v > 100:
		return 0, fmt.Errorf("loss %q is more than everything: it lies between 0%% and 100%%", clip(text))
	case percent:
		return v / 100, nil
	case v >= 1:
		return 0, fmt.Errorf(`loss %q: write "%s%%" if you mean percent, "100%%" if you mean everything`, clip(text), clip(num))
	}
	return v, nil
}

// FormatLoss returns the form that ParseLoss reads back to the same value.
func FormatLoss(loss float64) string {
	// The decimal point is moved in the text: loss*100 would turn the last digit
	// of many a round number.
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(loss, 'e', -1, 64), "e")
	if e, err := strconv.Atoi(exponent); err == nil {
		p, err := strconv.ParseFloat(mantissa+"e"+strconv.Itoa(e+2), 64)
		if err == nil && p/100 == loss {
			return strconv.FormatFloat(p, 'g', -1, 64) + "%"
		}
	}
	return strconv.FormatFloat(loss, 'g', -1, 64)
}

type rateUnit struct {
	name string
	bits int64
}

// rateUnits lists the units from large to small. It is a function because the
// package keeps no mutable state.
func rateUnits() []rateUnit {
	return []rateUnit{{"Gbit", 1e9}, {"Mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}}
}

// ParseRate reads a rate in bits per second: "9600bit", "1.5Mbit", "1Gbit",
// each optionally followed by "/s"; upper and lower case are the same. "0" and
// "unlimited" mean no limit and return 0. Bare numbers and bytes are refused.
func ParseRate(text string) (int64, error) {
	if text == "0" || strings.EqualFold(text, "unlimited") {
		return 0, nil
	}
	num := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/")
	name := text[len(num):]
	unit := int64(0)
	for _, u := range rateUnits() {
		if strings.EqualFold(name, u.name) || strings.EqualFold(name, u.name+"/s") {
			unit = u.bits
		}
	}
	if unit == 0 {
		return 0, fmt.Errorf("rate %q: unit %q is not one of bit, kbit, Mbit, Gbit (bits per second); write for example 50Mbit", clip(text), clip(name))
	}
	v, err := scaleDecimal(strings.TrimSpace(num), unit)
	if err != nil {
		return 0, fmt.Errorf("rate %q: %w", clip(text), err)
	}
	if v > MaxRate {
		return 0, fmt.Errorf("rate %q is above the limit of %s", clip(text), FormatRate(MaxRate))
	}
	if v == 0 {
		return 0, fmt.Errorf(`rate %q is zero: write "unlimited" for no limit, and cut the link to carry nothing`, clip(text))
	}
	return v, nil
}

// FormatRate returns the form that ParseRate reads back to the same value.
func FormatRate(bits int64) string {
	if bits <= 0 {
		return "unlimited"
	}
	for _, u := range rateUnits() {
		if bits%u.bits == 0 {
			return strconv.FormatInt(bits/u.bits, 10) + u.name
		}
	}
	return strconv.FormatInt(bits, 10) + "bit"
}

// scaleDecimal returns num * unit for a plain decimal such as "1.5", exactly:
// what does not come out as a whole number is an error, not rounded.
func scaleDecimal(num string, unit int64) (int64, error) {
	whole, frac, dotted := strings.Cut(num, ".")
	if whole == "" || (dotted && frac == "") || strings.Trim(whole+frac, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a plain decimal number", clip(num))
	}
	frac = strings.TrimRight(frac, "0")
	w, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || w > math.MaxInt64/unit/2 {
		return 0, fmt.Errorf("%q is too large", clip(num))
	}
	out := w * unit
	for _, digit := range frac {
		if unit%10 != 0 {
			return 0, fmt.Errorf("%q has more digits than its unit has bits", clip(num))
		}
		unit /= 10
		out += int64(digit-'0') * unit
	}
	return out, nil
}

type sizeUnit struct {
	name  string
	bytes int64
}

func sizeUnits() []sizeUnit {
	return []sizeUnit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"kB", 1e3}, {"B", 1}}
}

// ParseSize reads a number of bytes with its unit: 64KiB, 1.5MB, 512B, 0.
func ParseSize(text string) (int, error) {
	if text == "0" {
		return 0, nil
	}
	for _, u := range sizeUnits() {
		num, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
		if err != nil || strings.Trim(strings.TrimSpace(num), "0123456789.") != "" {
			break
		}
		bytes := v * float64(u.bytes)
		switch {
		case bytes > MaxQueue:
			return 0, fmt.Errorf("size %q is above the limit of %s", clip(text), FormatSize(MaxQueue))
		case bytes != math.Trunc(bytes):
			return 0, fmt.Errorf("size %q is not a whole number of bytes", clip(text))
		}
		return int(bytes), nil
	}
	return 0, fmt.Errorf("size %q is not a number with a unit; write for example 64KiB or 4MB", clip(text))
}

// FormatSize returns the form that ParseSize reads back to the same value.
func FormatSize(n int) string {
	for _, u := range sizeUnits() {
		if n != 0 && int64(n)%u.bytes == 0 {
			return strconv.FormatInt(int64(n)/u.bytes, 10) + u.name
		}
	}
	return "0"
}
