package seqset

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A container is written as its kind and then:
//
//	array:  for each member a uvarint, how far it is above the one before + 1
//	        (the first: above zero); sparse: the same
//	runs:   for each run two uvarints, its first member as above, counted from
//	        the last of the run before, and its length - 1
//	bitmap: 8 KiB, the bit of number n being bit n%8 of byte n/8

// ErrContainer is returned for bytes that no AppendContainer wrote.
var ErrContainer = errors.New("not an encoded container of message numbers")

// AppendContainer appends the members of one container, encoded, to b: a few
// bytes for runs, one or two a member, or 8 KiB. Without such a container
// it returns b as it is.
func (s *Set) AppendContainer(b []byte, base uint64) []byte {
	i, ok := s.at(base)
	if !ok {
		return b
	}
	c := &s.containers[i]
	b = append(b, byte(c.kind()))
	next := uint64(0)
	switch c.kind() {
	case runs:
		for i := 0; i < len(c.items); i += 2 {
			first, last := uint64(c.items[i]), uint64(c.items[i+1])
			b = binary.AppendUvarint(b, first-next)
			b = binary.AppendUvarint(b, last-first)
			next = last + 1
		}
	case bitmap:
		for _, w := range c.items[:bitmapWords] {
			b = binary.LittleEndian.AppendUint16(b, w)
		}
	case sparse:
		for i := range len(c.items) / 2 {
			v := uint64(c.pair(i))
			b = binary.AppendUvarint(b, v-next)
			next = v + 1
		}
	default:
		for _, v := range c.items {
			b = binary.AppendUvarint(b, uint64(v)-next)
			next = uint64(v) + 1
		}
	}
	return b
}

// LoadContainer puts in place what AppendContainer returned, instead of any
// members the container had; it counts as saved. data is not kept. The error
// is ErrContainer, and the set then as it was.
func (s *Set) LoadContainer(base uint64, data []byte) error {
	c, err := decode(data)
	if err != nil {
		return fmt.Errorf("container %d: %w", base, err)
	}
	if base%c.width() != 0 {
		return fmt.Errorf("%w: base %d is no multiple of %d", ErrContainer, base, c.width())
	}
	c.meta |= base | savedBit
	i, ok := s.find(base)
	next := i // what may stand within the range
	if ok {
		next++
	}
	if ok && s.containers[i].base() != base ||
		next < len(s.containers) && s.containers[next].base()-base < c.width() {
		return fmt.Errorf("%w: container %d overlaps with another", ErrContainer, base)
	}
	if ok {
		s.count -= s.containers[i].count()
		s.containers[i] = c
	} else {
		s.insert(i, c)
	}
	s.count += c.count()
	return nil
}

func decode(data []byte) (c container, err error) {
	if len(data) < 2 {
		return c, fmt.Errorf("%w: %d bytes", ErrContainer, len(data))
	}
	kind, data := uint64(data[0]), data[1:]
	switch kind {
	case array:
		c.items, err = decodeArray(data)
	case runs:
		c.items, err = decodeRuns(data)
	case bitmap:
		c.items, err = decodeBitmap(data)
	case sparse:
		c.items, err = decodeSparse(data)
	default:
		err = fmt.Errorf("%w: kind %d", ErrContainer, kind)
	}
	c.meta = kind
	return c, err
}

// number reads a uvarint that, added to next, is still below width.
func number(data []byte, next, width int) (value int, rest []byte, err error) {
	v, n := binary.Uvarint(data)
	if n <= 0 || v >= uint64(width-next) {
		return 0, nil, fmt.Errorf("%w: a number out of range after %d", ErrContainer, next)
	}
	return next + int(v), data[n:], nil
}

// numbers returns how many uvarints end in data.
func numbers(data []byte) (n int) {
	for _, b := range data {
		if b < 0x80 {
			n++
		}
	}
	return n
}

func decodeArray(data []byte) ([]uint16, error) {
	n := numbers(data)
	if n > maxItems {
		return nil, fmt.Errorf("%w: %d members in an array", ErrContainer, n)
	}
	items := make([]uint16, 0, n)
	for next := 0; len(data) > 0; {
		v, rest, err := number(data, next, Width)
		if err != nil {
			return nil, err
		}
		items = append(items, uint16(v))
		data, next = rest, v+1
	}
	return items, nil
}

func decodeSparse(data []byte) ([]uint16, error) {
	n := numbers(data)
	if 2*n > maxItems {
		return nil, fmt.Errorf("%w: %d members in a sparse container", ErrContainer, n)
	}
	items := make([]uint16, 0, 2*n)
	for next := 0; len(data) > 0; {
		v, rest, err := number(data, next, wide)
		if err != nil {
			return nil, err
		}
		items = append(items, uint16(v>>16), uint16(v))
		data, next = rest, v+1
	}
	return items, nil
}

func decodeRuns(data []byte) ([]uint16, error) {
	var items []uint16
	for next := 0; len(data) > 0; {
		first, rest, err := number(data, next, Width)
		if err != nil {
			return nil, err
		}
		last, rest, err := number(rest, first, Width)
		if err != nil {
			return nil, err
		}
		if next > 0 && first == next {
			return nil, fmt.Errorf("%w: runs that touch at %d", ErrContainer, first)
		}
		items = append(items, uint16(first), uint16(last))
		data, next = rest, last+1
	}
	if len(items) > maxItems {
		return nil, fmt.Errorf("%w: %d runs", ErrContainer, len(items)/2)
	}
	return exact(items), nil
}

func decodeBitmap(data []byte) ([]uint16, error) {
	if len(data) != 2*bitmapWords {
		return nil, fmt.Errorf("%w: a bitmap of %d bytes", ErrContainer, len(data))
	}
	c := container{items: make([]uint16, bitmapWords+1)}
	n := 0
	for i := range bitmapWords {
		c.items[i] = binary.LittleEndian.Uint16(data[2*i:])
	}
	c.meta = bitmap
	c.spans(func(first, last uint16) { n += int(last-first) + 1 })
	if n == 0 {
		return nil, fmt.Errorf("%w: an empty bitmap", ErrContainer)
	}
	c.items[bitmapWords] = uint16(n - 1)
	return c.items, nil
}
