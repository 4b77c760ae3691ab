package fec

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// train makes k random symbols of a size, as one slice and as many.
func train(r *rand.Rand, k, size int) ([]byte, [][]byte) {
	flat := make([]byte, k*size)
	for i := range flat {
		flat[i] = byte(r.Uint32())
	}
	symbols := make([][]byte, k)
	for i := range symbols {
		symbols[i] = flat[i*size : (i+1)*size]
	}
	return flat, symbols
}

// parityOf computes one parity symbol as the definition says.
func parityOf(symbols [][]byte, row uint8) []byte {
	out := make([]byte, len(symbols[0]))
	for c, s := range symbols {
		for i := range s {
			out[i] ^= mul(Coefficient(row, uint8(c)), s[i])
		}
	}
	return out
}

// TestDefinition compares both ways to make parity with the definition.
func TestDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var c Coder
	for _, k := range []int{1, 2, 3, 17, 100, 200, MaxData} {
		for _, size := range []int{1, 9, 64, 1221} {
			_, symbols := train(r, k, size)
			m := min(1+r.IntN(12), Spare(k))
			parity := make([][]byte, m)
			for i := range parity {
				parity[i] = make([]byte, size)
			}
			for _, i := range r.Perm(k) {
				if err := c.Add(k, i, symbols[i], parity); err != nil {
					t.Fatal(err)
				}
			}
			last := uint8(k) // the last row there is
			out := [][]byte{make([]byte, size)}
			if err := c.Rows(symbols, []uint8{last}, out); err != nil {
				t.Fatal(err)
			}
			for i := range parity {
				if !bytes.Equal(parity[i], parityOf(symbols, uint8(FirstRow-i))) {
					t.Errorf("k %d, size %d: row %d differs", k, size, FirstRow-i)
				}
			}
			if !bytes.Equal(out[0], parityOf(symbols, last)) {
				t.Errorf("k %d, size %d: row %d differs", k, size, last)
			}
		}
	}
}

// TestRepair loses as many symbols as there are parity symbols, any.
func TestRepair(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	var c Coder
	for range 60 {
		k := 1 + r.IntN(MaxData)
		size := 1 + r.IntN(40)
		data, symbols := train(r, k, size)
		want := bytes.Clone(data)
		n := 1 + r.IntN(min(k, Spare(k)))
		parity := make([]Parity, n)
		for i, p := range r.Perm(Spare(k))[:n] {
			row := uint8(FirstRow - p)
			parity[i] = Parity{Row: row, Data: parityOf(symbols, row)}
		}
		lost := map[int]bool{}
		for _, i := range r.Perm(k)[:n] {
			lost[i] = true
			clear(symbols[i])
		}
		have := func(i int) bool { return !lost[i] }
		if n > 1 {
			if err := c.Repair(bytes.Clone(data), k, have, parity[1:]); !errors.Is(err, ErrTooFew) {
				t.Fatalf("with too few: %v", err)
			}
		}
		if err := c.Repair(data, k, have, parity); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, want) {
			t.Fatalf("k %d, %d lost: other bytes", k, n)
		}
	}
}

func TestLimits(t *testing.T) {
	var c Coder
	for _, bad := range []struct{ k, m int }{{0, 1}, {MaxData + 1, 1}, {200, 57}, {5, 0}} {
		parity := make([][]byte, bad.m)
		for i := range parity {
			parity[i] = make([]byte, 8)
		}
		if err := c.Add(bad.k, 0, make([]byte, 8), parity); err == nil {
			t.Errorf("a code of %+v", bad)
		}
	}
}

// TestParity plays trains on channels and compares how many fail with what was
// planned.
func TestParity(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, c := range []struct {
		ch   Channel
		k    int
		turn int
		most int // parity that may be spent
	}{
		{Channel{0.01, 1}, 200, 1, 9},
		{Channel{0.01, 1}, 1, 1, 1},
		{Channel{0.01, 10}, 200, 35, 11},
		{Channel{0.1, 1}, 200, 4, 45},
		{Channel{0.1, 5}, 50, 18, 25},
		{Channel{0, 1}, 200, 4, 0},
	} {
		m, p := c.ch.Parity(c.k, c.turn, 255)
		if m > c.most || p > failure {
			t.Errorf("%+v: %d parity symbols, %v fail", c, m, p)
		}
		const trains = 2_000
		failed := 0
		memory := c.ch.memory(c.turn)
		for range trains {
			lost, bad := 0, r.Float64() < c.ch.Loss
			for range c.k + m {
				if bad {
					lost++
				}
				if r.Float64() >= memory { // the state is drawn anew
					bad = r.Float64() < c.ch.Loss
				}
			}
			if lost > m {
				failed++
			}
		}
		if expect := p * trains; math.Abs(float64(failed)-expect) > 5*math.Sqrt(expect+1) {
			t.Errorf("%+v: %d of %d trains fail, planned %.1f", c, failed, trains, expect)
		}
	}
	if m, p := (Channel{0.4, 1}).Parity(200, 4, 20); m != 20 || p < 0.5 {
		t.Errorf("limited: %d %v", m, p)
	}
}
