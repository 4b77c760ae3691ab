// Package packet holds the bytes of salvo, the rate-paced convergence layer:
// the header of its packets, their keys, and the frames within. docs/salvo.md
// describes the bytes.
//
// A packet is a header of nine bytes, the frames, sealed with AES-128-GCM, and
// a tag of sixteen bytes. Data packets go from the sender of blocks to their
// receiver, report packets the other way. Nothing of a packet is looked at
// before it is authentic, but its header.
//
//	seal := packet.NewSealer(keys)
//	b := packet.AppendConfirm(buf[:packet.HeaderLen], packet.Confirm{Report: 7})
//	out := seal.Seal(b)
//	...
//	plain, number, err := open.Open(out)
//
// The package does no I/O and keeps no state but packet numbers and keys.
package packet

import (
	"encoding/binary"
	"strconv"
)

const (
	// Version of the bytes, in the first byte of a packet.
	Version = 1
	// HeaderLen is the number of bytes before the sealed ones.
	HeaderLen = 9
	// TagLen is the number of bytes behind them.
	TagLen = 16
	// Overhead is what a packet has beyond its frames.
	Overhead = HeaderLen + TagLen
)

// Kind says which way a packet goes.
type Kind byte

// The kinds of packets.
const (
	Data   Kind = 0 // from the sender of blocks
	Report Kind = 1 // from their receiver
)

// Direction says who sends the blocks that a packet is about. Of two nodes one
// is the initiator, by the handshake that gave the secret: the TLS client.
type Direction byte

// The directions of blocks.
const (
	Forward  Direction = 0 // the initiator sends them
	Backward Direction = 1 // the other one
)

// Head is the header of a packet. It is authentic only after Opener.Open.
type Head struct {
	Kind        Kind
	Direction   Direction
	Association uint32
	Number      uint32 // the low 32 bits of the packet number
}

// Peek reads the header, so that a packet finds its association. It reports
// false for what is no packet of this version. The two top bits of the first
// byte are 0, which no packet of QUIC has (RFC 9000, section 17).
func Peek(b []byte) (Head, bool) {
	if len(b) < Overhead || b[0]&^3 != Version<<3 {
		return Head{}, false
	}
	return Head{
		Kind:        Kind(b[0] & 1),
		Direction:   Direction(b[0] >> 1 & 1),
		Association: binary.BigEndian.Uint32(b[1:]),
		Number:      binary.BigEndian.Uint32(b[5:]),
	}, true
}

// first is the first byte of a packet.
func first(k Kind, d Direction) byte { return Version<<3 | byte(d)<<1 | byte(k) }

// Drop is a reason to drop a packet. It is an error, and needs no memory.
type Drop byte

// The reasons to drop a packet.
const (
	Truncated Drop = iota // shorter than any packet
	Foreign               // another version, association, kind or direction
	Replayed              // number seen before
	Old                   // number too far behind what was seen
	Forged                // not sealed with our key, or changed under way
	Malformed             // authentic, but no frames that we know
	NumDrops
)

var dropNames = [...]string{"truncated", "foreign", "replayed", "old", "forged", "malformed"}

// String returns the name used in metrics.
func (d Drop) String() string {
	if int(d) < len(dropNames) {
		return dropNames[d]
	}
	return "drop-" + strconv.Itoa(int(d))
}

// Error implements error.
func (d Drop) Error() string { return "salvo packet dropped: " + d.String() }
