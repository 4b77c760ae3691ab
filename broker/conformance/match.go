package conformance

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// matches holds a received packet against the fields that a case expects and
// gives the variables that they bind. The text says what differs, "" for
// nothing.
func matches(r received, name string, want []field, vars map[string]string) (string, map[string]string) {
	if typeNames[r.kind] != name {
		return "another packet", nil
	}
	bind := map[string]string{}
	lists := map[string][]string{}
	for _, f := range want {
		got := r.all(f.key)
		if f.key == "size" {
			got = []string{strconv.Itoa(r.size)}
		}
		switch {
		case f.op == "!":
			if len(got) > 0 {
				return fmt.Sprintf("%s is there", f.key), nil
			}
		case strings.HasPrefix(f.value, "?"):
			v := absent[f.key]
			if len(got) > 0 {
				v = got[0]
			}
			if old, ok := vars[f.value[1:]]; ok && old != v {
				return fmt.Sprintf("%s is %s, want %s", f.key, v, old), nil
			}
			bind[f.value[1:]] = v
		case f.key == "user-property" || f.key == "subscription-id":
			lists[f.key] = append(lists[f.key], f.value)
		default:
			if len(got) == 0 {
				return fmt.Sprintf("%s is missing", f.key), nil
			}
			if one(f, got[0]) == (f.op == "!=") {
				return fmt.Sprintf("%s is %s, want %s%s", f.key, show(got[0]), strings.TrimSuffix(f.op, "="), f.value), nil
			}
		}
	}
	for key, list := range lists {
		got := r.all(key)
		if key == "subscription-id" { // their order is not significant, MQTT-3.3.4-4
			slices.Sort(got)
			slices.Sort(list)
		}
		if !slices.Equal(got, list) {
			return fmt.Sprintf("%s is %q, want %q", key, got, list), nil
		}
	}
	return "", bind
}

// one reports whether a value is as the case wants it: one of several between
// bars, a range A..B, a beginning AB*, or the value itself.
func one(f field, got string) bool {
	if f.key == "codes" {
		return codes(f.value, got)
	}
	for alternative := range strings.SplitSeq(f.value, "|") {
		low, high, isRange := strings.Cut(alternative, "..")
		prefix, isPrefix := strings.CutSuffix(alternative, "*")
		text, err := literal(alternative)
		switch {
		case isRange && within(got, low, high), isPrefix && strings.HasPrefix(got, prefix), err == nil && text == got:
			return true
		}
		if n, err := strconv.ParseUint(alternative, 0, 32); err == nil && strconv.FormatUint(n, 10) == got && f.key != "payload" {
			return true
		}
	}
	return false
}

func within(got, low, high string) bool {
	n, err1 := strconv.Atoi(got)
	a, err2 := strconv.Atoi(low)
	b, err3 := strconv.Atoi(high)
	return err1 == nil && err2 == nil && err3 == nil && a <= n && n <= b
}

// codes compares lists of reason codes: 0,1,0x80|0x8F.
func codes(want, got string) bool {
	return slices.EqualFunc(strings.Split(want, ","), strings.Split(got, ","), func(w, g string) bool {
		return one(field{key: "code", value: w}, g)
	})
}
