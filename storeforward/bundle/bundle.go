// Package bundle is the stored and carried unit: Bundle Protocol version 7
// (RFC 9171) bytes, their identity, class and the reasons for which they end.
//
// A bundle is an immutable blob. What changes per hop (previous node, age,
// hop count) is cut out on receipt and spliced in again at transmit, so that
// forwarding never decodes or re-encodes the primary block or the payload.
// Parse and policy are separate: the codec says what the bytes are, never
// whether they are welcome. The package does no I/O and knows no clock.
package bundle

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/farhop/farhop/routing/addr"
)

// Class is the priority of a bundle. Classes are served strictly in order.
type Class uint8

// The classes, most urgent first.
const (
	Control     Class = iota // the mesh's own: revisions, joins, reports
	Alarm                    // overtakes everything a device sends
	Interactive              // someone waits for it
	Telemetry                // the default of MQTT messages
	Bulk                     // may wait for everything else
	NumClasses  = 5
)

var classNames = [NumClasses]string{"control", "alarm", "interactive", "telemetry", "bulk"}

// String returns the name used in configuration, metrics and logs.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "class-" + strconv.Itoa(int(c))
}

// ParseClass reads a class name.
func ParseClass(s string) (Class, error) {
	for c, name := range classNames {
		if s == name {
			return Class(c), nil
		}
	}
	return 0, fmt.Errorf("class %q: want one of %s", s, strings.Join(classNames[:], ", "))
}

// Classes is a set of classes.
type Classes uint8

// AllClasses holds every class.
const AllClasses Classes = 1<<NumClasses - 1

// Has reports whether c is in the set.
func (s Classes) Has(c Class) bool { return s>>c&1 == 1 }

// With returns the set with c in it.
func (s Classes) With(c Class) Classes { return s | 1<<c }

// Sequence is the creation sequence number (RFC 9171, section 4.2.7) that a
// farhop node gives its bundles. It packs the incarnation of the node's store
// (20 bits, random at creation), the class (3 bits) and a counter of that
// class (40 bits) which is persisted before use, so that a sequence number
// alone is never used twice by one source, with or without a clock.
type Sequence uint64

const (
	countBits = 40
	classBits = 3
	// MaxIncarnation is the largest incarnation a Sequence can carry.
	MaxIncarnation = 1<<20 - 1
	maxCount       = 1<<countBits - 1
)

// NewSequence packs a sequence number. Values out of range are cut.
func NewSequence(incarnation uint32, c Class, count uint64) Sequence {
	return Sequence(uint64(incarnation&MaxIncarnation)<<(countBits+classBits) | uint64(c&7)<<countBits | count&maxCount)
}

// Incarnation tells stores of the same node apart.
func (s Sequence) Incarnation() uint32 { return uint32(s>>(countBits+classBits)) & MaxIncarnation }

// Class returns the class the number was drawn for.
func (s Sequence) Class() Class { return Class(s>>countBits) & 7 }

// Count returns the counter, from 1, contiguous per (incarnation, class).
func (s Sequence) Count() uint64 { return uint64(s) & maxCount }

// ID names a bundle, or the message it carries: the node that made it and
// its sequence number. Its text, NODE.INCARNATION.CLASSCOUNT with the first
// letter of the class (luna-1.9f3a2.t57), is what operators see and type.
type ID struct {
	Node addr.Node
	Seq  Sequence
}

// IsZero reports whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the text form, "" for the zero ID.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	b := make([]byte, 0, addr.MaxName+32)
	b = append(append(b, id.Node.String()...), '.')
	for shift := 16; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[id.Seq.Incarnation()>>shift&15])
	}
	b = append(b, '.', id.Seq.Class().String()[0])
	return string(strconv.AppendUint(b, id.Seq.Count(), 10))
}

// ParseID reads the text form of an ID.
func ParseID(s string) (ID, error) {
	bad := func() (ID, error) {
		return ID{}, fmt.Errorf("message id %q: want NODE.INCARNATION.CLASSCOUNT, such as luna-1.9f3a2.t57", s)
	}
	parts := strings.Split(s, ".")
	if len(parts) != 3 || len(parts[2]) < 2 {
		return bad()
	}
	n, err := addr.ParseNode(parts[0])
	if err != nil {
		return bad()
	}
	inc, err := strconv.ParseUint(parts[1], 16, 20)
	if err != nil {
		return bad()
	}
	count, err := strconv.ParseUint(parts[2][1:], 10, countBits)
	if err != nil {
		return bad()
	}
	for c, name := range classNames {
		if name[0] == parts[2][0] {
			return ID{n, NewSequence(uint32(inc), Class(c), count)}, nil
		}
	}
	return bad()
}
