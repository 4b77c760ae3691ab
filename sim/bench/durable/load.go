package durable

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// Queues is how many destinations the bundles of a load have.
const Queues = 100

// Limits of a load.
const (
	minSize      = 64
	maxSize      = 1 << 20
	maxProducers = 4096
)

// frozenBytes is what the primary block and the immutable extension blocks of
// a bundle of this size take; the payload block has the rest. The blocks of a
// node's own bundles have about 100 bytes.
func frozenBytes(size int) int { return min(96, size/2) }

// Bundle is one bundle of a load. Its bytes are shared and never change.
type Bundle struct {
	Queue   int    // destination, below Queues
	Frozen  []byte // primary block and immutable extension blocks
	Payload []byte // payload block; its first four bytes tell which one it is
}

// Size is what the floor and the share count: the bytes of the bundle.
func (b Bundle) Size() int { return len(b.Frozen) + len(b.Payload) }

// Load makes bundles of one size out of a pool of random bytes, which no
// engine can compress, and recognises them again.
type Load struct {
	size     int
	frozen   [][]byte
	payloads [][]byte
}

// NewLoad makes a load of bundles of so many bytes.
func NewLoad(size int) (*Load, error) {
	if size < minSize || size > maxSize {
		return nil, fmt.Errorf("size: %d, want %d to %d", size, minSize, maxSize)
	}
	l := &Load{size: size}
	random := rand.NewChaCha8([32]byte{1})
	fill := func(n int) []byte {
		b := make([]byte, n)
		_, _ = random.Read(b) // never fails
		return b
	}
	for i := range min(256, max(8, 4<<20/size)) {
		l.frozen = append(l.frozen, fill(frozenBytes(size)))
		p := fill(size - frozenBytes(size))
		binary.BigEndian.PutUint32(p, uint32(i))
		l.payloads = append(l.payloads, p)
	}
	return l, nil
}

// Size is the bytes of each bundle.
func (l *Load) Size() int { return l.size }

// Bundle returns bundle n of a producer.
func (l *Load) Bundle(producer, n int) Bundle {
	i := (producer*7 + n) % len(l.payloads)
	return Bundle{Queue: (producer*31 + n) % Queues, Frozen: l.frozen[i], Payload: l.payloads[i]}
}

// Check reports whether a payload block read back is one of the load.
func (l *Load) Check(payload []byte) error {
	if len(payload) < 4 {
		return fmt.Errorf("a payload of %d bytes came back, which nobody put", len(payload))
	}
	i := binary.BigEndian.Uint32(payload)
	if i >= uint32(len(l.payloads)) || string(l.payloads[i]) != string(payload) {
		return fmt.Errorf("a payload came back changed (number %d)", i)
	}
	return nil
}
