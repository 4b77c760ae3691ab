// Package fec holds the erasure code of salvo, and how much of it a link
// needs.
//
// A train has k data symbols of equal size, at most 240, and parity symbols
// that are named by their row, 255 and down. Parity is data multiplied with a
// Cauchy matrix whose elements depend on row and column alone, so that a sender
// can make fresh parity at any time without having decided how much there will
// be, and any k symbols suffice. The arithmetic on whole symbols is that of
// github.com/klauspost/reedsolomon, given these matrices.
//
// Nothing here keeps the data of a train. The package does no I/O.
package fec

import (
	"errors"
	"fmt"

	"github.com/klauspost/reedsolomon"
)

const (
	// MaxData is the largest k.
	MaxData = 240
	// FirstRow is the row of the first parity symbol; the next has the row
	// before it. The last one is k.
	FirstRow = 255

	maxCached = 64 // coders kept
)

// ErrTooFew is returned when less than k symbols are there.
var ErrTooFew = errors.New("fec: too few symbols to repair the train")

// Coder computes parity. It keeps matrices that are used often, and is for one
// goroutine at a time. The zero value is ready.
type Coder struct {
	coders map[[2]int]reedsolomon.Encoder
	views  [][]byte
}

// Spare is how many parity symbols a train of k can have.
func Spare(k int) int { return 256 - k }

// coder returns the code of k data symbols and the first m rows.
func (c *Coder) coder(k, m int) (reedsolomon.Encoder, error) {
	key := [2]int{k, m}
	if e := c.coders[key]; e != nil {
		return e, nil
	}
	e, err := newCoder(k, firstRows(m))
	if err != nil {
		return nil, err
	}
	if c.coders == nil || len(c.coders) >= maxCached {
		c.coders = make(map[[2]int]reedsolomon.Encoder)
	}
	c.coders[key] = e
	return e, nil
}

func firstRows(m int) []uint8 {
	rows := make([]uint8, m)
	for i := range rows {
		rows[i] = uint8(FirstRow - i)
	}
	return rows
}

func newCoder(k int, rows []uint8) (reedsolomon.Encoder, error) {
	if k < 1 || k > MaxData || len(rows) < 1 || len(rows) > Spare(k) {
		return nil, fmt.Errorf("fec: no code of %d data and %d parity symbols", k, len(rows))
	}
	matrix := make([][]byte, len(rows))
	for i, r := range rows {
		matrix[i] = make([]byte, k)
		for j := range matrix[i] {
			matrix[i][j] = Coefficient(r, uint8(j))
		}
	}
	return withMatrix(k, matrix)
}

func withMatrix(k int, matrix [][]byte) (reedsolomon.Encoder, error) {
	e, err := reedsolomon.New(k, len(matrix), reedsolomon.WithCustomMatrix(matrix),
		reedsolomon.WithMaxGoroutines(1), reedsolomon.WithInversionCache(false))
	if err != nil {
		return nil, fmt.Errorf("fec: %w", err)
	}
	return e, nil
}

// Add adds data symbol index of a train of k to its parity: the first
// len(parity) rows, which are zero before the first symbol. Each symbol is
// added once.
func (c *Coder) Add(k, index int, data []byte, parity [][]byte) error {
	e, err := c.coder(k, len(parity))
	if err != nil {
		return err
	}
	if err := e.EncodeIdx(data, index, parity); err != nil {
		return fmt.Errorf("fec: %w", err)
	}
	return nil
}

// Rows computes parity rows from all data symbols: data[i] is symbol i, and
// out[j] becomes the parity of rows[j].
func (c *Coder) Rows(data [][]byte, rows []uint8, out [][]byte) error {
	e, err := newCoder(len(data), rows)
	if err != nil {
		return err
	}
	c.views = append(append(c.views[:0], data...), out...)
	err = e.Encode(c.views)
	clear(c.views)
	if err != nil {
		return fmt.Errorf("fec: %w", err)
	}
	return nil
}

// Parity is a parity symbol that arrived.
type Parity struct {
	Row  uint8
	Data []byte
}

// Repair fills in the data symbols that are missing: those i for which have(i)
// is false, and whose bytes are zero. data holds all k symbols, one after the
// other; the symbols in parity are used up.
func (c *Coder) Repair(data []byte, k int, have func(i int) bool, parity []Parity) error {
	size := len(data) / k
	symbols := make([][]byte, k)
	var columns []uint8
	for i := range symbols {
		symbols[i] = data[i*size : (i+1)*size]
		if !have(i) {
			columns = append(columns, uint8(i))
		}
	}
	n := len(columns)
	if n == 0 {
		return nil
	}
	if len(parity) < n {
		return ErrTooFew
	}
	// What the missing symbols contribute to each row: parity less the rest.
	rows := make([]uint8, n)
	rest := make([][]byte, n)
	flat := make([]byte, n*size)
	for i, p := range parity[:n] {
		rows[i] = p.Row
		rest[i], flat = flat[:size], flat[size:]
	}
	if err := c.Rows(symbols, rows, rest); err != nil {
		return err
	}
	for i, p := range parity[:n] {
		xor(rest[i], p.Data)
	}
	// And from that the missing symbols themselves.
	e, err := withMatrix(n, invert(rows, columns))
	if err != nil {
		return err
	}
	for _, i := range columns {
		rest = append(rest, symbols[i])
	}
	if err := e.Encode(rest); err != nil {
		return fmt.Errorf("fec: %w", err)
	}
	return nil
}

func xor(dst, src []byte) {
	for i := range dst {
		dst[i] ^= src[i]
	}
}
