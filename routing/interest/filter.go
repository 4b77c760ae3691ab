// Package interest holds MQTT topic filters: what is well formed, what matches
// what, and which filters stand for many.
//
// It owns the rules of MQTT 5, section 4.7, a Trie from filters to whoever
// subscribed, and Summary, the short form of a node's or a region's interest
// that is gossiped. It knows no clients, sessions or nodes: the values in a
// Trie are the caller's. It does no I/O, and nothing in it is safe for
// concurrent use (the loop owns its tries). Callers are broker, routing,
// routing/policy and node.
//
//	var t interest.Trie[addr.Node]
//	t.Add("plant/+/telemetry/#", addr.MustNode("earth-1"))
//	t.Match("plant/7/telemetry/temp", func(n addr.Node) { ... })
package interest

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of one topic name or topic filter.
const (
	MaxLength = 65535 // bytes, the longest MQTT string (MQTT 5, 1.5.4)
	MaxLevels = 128   // bounds the depth of a Trie; ours, MQTT has none
)

// ErrSyntax is the cause of every refusal of this package.
var ErrSyntax = errors.New("invalid topic syntax")

const sharePrefix = "$share/"

// ValidTopic says why s cannot be the topic name of a PUBLISH, or nil: it
// must be 1 to MaxLength bytes of UTF-8 without NUL, without the wildcards
// '+' and '#', of at most MaxLevels levels (MQTT 5, 4.7.1 and 4.7.3).
func ValidTopic(s string) error {
	if err := validString("topic", s); err != nil {
		return err
	}
	if i := strings.IndexAny(s, "+#"); i >= 0 {
		return fmt.Errorf("topic %q: %w: %q is a wildcard, only filters may have one", clip(s), ErrSyntax, s[i])
	}
	return nil
}

// ValidFilter says why s cannot be the filter of a SUBSCRIBE, or nil. '+'
// stands alone in its level, '#' stands alone in the last level (MQTT 5,
// 4.7.1), and what starts with "$share/" has a group and a filter (4.8.2).
func ValidFilter(s string) error {
	if err := validString("filter", s); err != nil {
		return err
	}
	rest := s
	if strings.HasPrefix(s, sharePrefix) || s == "$share" {
		var ok bool
		if _, rest, ok = ParseShare(s); !ok {
			return fmt.Errorf("filter %q: %w: a shared subscription is $share/GROUP/FILTER, without wildcards in GROUP", clip(s), ErrSyntax)
		}
	}
	for more := true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if len(level) > 1 && strings.ContainsAny(level, "+#") {
			return fmt.Errorf("filter %q: %w: a wildcard must be alone in its level, not in %q", clip(s), ErrSyntax, clip(level))
		}
		if level == "#" && more {
			return fmt.Errorf("filter %q: %w: '#' must be the last level", clip(s), ErrSyntax)
		}
	}
	return nil
}

func validString(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%s: %w: empty", what, ErrSyntax)
	case len(s) > MaxLength:
		return fmt.Errorf("%s %q: %w: %d bytes, more than %d", what, clip(s), ErrSyntax, len(s), MaxLength)
	case strings.Count(s, "/") >= MaxLevels:
		return fmt.Errorf("%s %q: %w: more than %d levels", what, clip(s), ErrSyntax, MaxLevels)
	case !utf8.ValidString(s):
		return fmt.Errorf("%s %q: %w: not UTF-8", what, clip(s), ErrSyntax)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%s %q: %w: has a NUL", what, clip(s), ErrSyntax)
	}
	return nil
}

// clip keeps hostile strings out of logs at full length.
func clip(s string) string {
	const longest = 80
	if len(s) > longest {
		return s[:longest] + "..."
	}
	return s
}

// ParseShare takes "$share/GROUP/FILTER" apart (MQTT 5, 4.8.2). ok is false
// when s is no shared subscription or a malformed one; ValidFilter tells
// which. The filter is returned as written, not validated.
func ParseShare(s string) (group, rest string, ok bool) {
	s, ok = strings.CutPrefix(s, sharePrefix)
	if !ok {
		return "", "", false
	}
	group, rest, _ = strings.Cut(s, "/")
	if group == "" || rest == "" || strings.ContainsAny(group, "+#") {
		return "", "", false
	}
	return group, rest, true
}

// Match reports whether a valid filter matches a valid topic name. "a/#"
// matches "a"; a leading wildcard never matches a topic that starts with '$'
// (MQTT 5, 4.7.2); a level may be empty, so "/a" has two. A "$share/" filter
// matches nothing: take it apart with ParseShare first.
func Match(filter, topic string) bool {
	if filter == "" || topic == "" || topic[0] == '$' && isWild(filter[0]) {
		return false
	}
	for {
		f, fRest, fMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, tRest, tMore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		switch {
		case fMore && tMore:
			filter, topic = fRest, tRest
		case fMore:
			return fRest == "#"
		default:
			return !tMore
		}
	}
}

// Covers reports whether a matches every topic that b matches. "+/#" and "#"
// cover each other: every topic has a first level.
func Covers(a, b string) bool {
	if a == "" || b == "" || b[0] == '$' && isWild(a[0]) {
		return false
	}
	a, b = canonical(a), canonical(b)
	for {
		x, xRest, xMore := strings.Cut(a, "/")
		y, yRest, yMore := strings.Cut(b, "/")
		switch {
		case x == "#":
			return true
		case y == "#", x != "+" && x != y:
			return false
		case xMore && yMore:
			a, b = xRest, yRest
		case xMore:
			return xRest == "#"
		default:
			return !yMore
		}
	}
}

// canonical folds the one pair of filters that mean the same.
func canonical(filter string) string {
	if filter == "+/#" {
		return "#"
	}
	return filter
}

func isWild(c byte) bool { return c == '+' || c == '#' }
