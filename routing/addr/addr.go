// Package addr holds the names of the mesh: Node, Region and EID.
//
// All three are small comparable values in the manner of net/netip: the zero
// value means "none", a non-zero value is always valid, == compares, and they
// are usable as map keys and in text encodings. The package parses and prints
// names; it never resolves them and never does I/O.
//
//	r := addr.MustRegion("earth/eu")
//	r.Contains(addr.MustRegion("earth/eu/fra")) // true
package addr

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// MaxName is the longest node name and the longest region path, in bytes.
const MaxName = 63

// ErrName is the cause of every refusal of this package.
var ErrName = errors.New("invalid name")

// Node is the name of one running farhop, unique in its mesh: lower-case
// letters, digits, '-' and '_', at most MaxName bytes.
type Node struct{ s string }

// ParseNode reads a node name.
func ParseNode(s string) (Node, error) {
	if err := checkLabel(s); err != nil {
		return Node{}, fmt.Errorf("node name %q: %w", clip(s), err)
	}
	return Node{s}, nil
}

// MustNode is ParseNode for constants and tests; it panics on a bad name.
func MustNode(s string) Node { return must(ParseNode(s)) }

// String returns the name, or "" for the zero Node.
func (n Node) String() string { return n.s }

// IsZero reports whether n names no node.
func (n Node) IsZero() bool { return n.s == "" }

// Compare orders nodes by name.
func (n Node) Compare(o Node) int { return cmp.Compare(n.s, o.s) }

// MarshalText implements encoding.TextMarshaler.
func (n Node) MarshalText() ([]byte, error) { return []byte(n.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler; "" is the zero Node.
func (n *Node) UnmarshalText(b []byte) error { return unmarshal(n, b, ParseNode) }

// Region is a path of names, such as earth/eu/fra. A region contains itself
// and every region below it.
type Region struct{ s string }

// ParseRegion reads a region path.
func ParseRegion(s string) (Region, error) {
	if len(s) > MaxName {
		return Region{}, fmt.Errorf("region %q: %w: longer than %d bytes", clip(s), ErrName, MaxName)
	}
	for part := range strings.SplitSeq(s, "/") {
		if err := checkLabel(part); err != nil {
			return Region{}, fmt.Errorf("region %q: %w", clip(s), err)
		}
	}
	return Region{s}, nil
}

// MustRegion is ParseRegion for constants and tests; it panics on a bad path.
func MustRegion(s string) Region { return must(ParseRegion(s)) }

// String returns the path, or "" for the zero Region.
func (r Region) String() string { return r.s }

// IsZero reports whether r names no region.
func (r Region) IsZero() bool { return r.s == "" }

// Contains reports whether o is r or lies below r. The zero Region contains
// nothing.
func (r Region) Contains(o Region) bool {
	return r.s != "" && strings.HasPrefix(o.s, r.s) && (len(o.s) == len(r.s) || o.s[len(r.s)] == '/')
}

// Last returns the last name of the path: "fra" of earth/eu/fra.
func (r Region) Last() string { return r.s[strings.LastIndexByte(r.s, '/')+1:] }

// Compare orders regions by path.
func (r Region) Compare(o Region) int { return cmp.Compare(r.s, o.s) }

// MarshalText implements encoding.TextMarshaler.
func (r Region) MarshalText() ([]byte, error) { return []byte(r.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler; "" is the zero Region.
func (r *Region) UnmarshalText(b []byte) error { return unmarshal(r, b, ParseRegion) }

func checkLabel(s string) error {
	if s == "" {
		return fmt.Errorf("%w: empty", ErrName)
	}
	if len(s) > MaxName {
		return fmt.Errorf("%w: longer than %d bytes", ErrName, MaxName)
	}
	for i := range len(s) {
		c := s[i]
		if c < 'a' && (c < '0' || c > '9') && c != '-' && c != '_' || c > 'z' {
			return fmt.Errorf("%w: %q is not one of a-z 0-9 - _", ErrName, rune(c))
		}
	}
	if s[0] == '-' {
		return fmt.Errorf("%w: starts with '-'", ErrName)
	}
	return nil
}

func clip(s string) string {
	if len(s) > MaxName+8 {
		return s[:MaxName+8] + "..."
	}
	return s
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func unmarshal[T any](dst *T, b []byte, parse func(string) (T, error)) error {
	if len(b) == 0 {
		var zero T
		*dst = zero
		return nil
	}
	v, err := parse(string(b))
	if err == nil {
		*dst = v
	}
	return err
}
