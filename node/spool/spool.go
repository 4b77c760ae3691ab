// Package spool keeps bytes on disk that are too many for memory, for as long as
// somebody waits for what comes before them: blocks that arrived out of order
// over a far link. It is one file, which has no name any more once it is open:
// what is in it ends with its owner, also when the machine fails. So nothing is
// synced.
//
//	f := spool.New(dir, 4<<30)
//	at, err := f.Take(len(block)) // room for it
//	err = f.Write(at, 0, block)
//	err = f.Read(at, block)
//	f.Free(at)
//
// It is for one goroutine.
package spool

import (
	"errors"
	"fmt"
	"os"
)

// unit is what room is given in, bytes.
const unit = 64 << 10

// ErrFull is returned where more would have to be kept than was allowed.
var ErrFull = errors.New("the spool is full")

// File is a spool. Nothing is on disk before the first Take.
type File struct {
	dir   string
	most  int64
	file  *os.File
	units uint32   // in the file
	free  []uint32 // of them, those with nothing in them
	used  int64    // bytes of units that are taken
	peak  int64
}

// Span is room in a File.
type Span struct {
	units  []uint32
	length int
}

// New makes a spool in a directory, of at most so many bytes.
func New(dir string, most int64) *File { return &File{dir: dir, most: most} }

// Used is how many bytes are taken, and Peak how many were at most.
func (f *File) Used() int64 { return f.used }

// Peak is the most that Used was.
func (f *File) Peak() int64 { return f.peak }

// Take finds room for n bytes.
func (f *File) Take(n int) (Span, error) {
	count := (n + unit - 1) / unit
	if f.used+int64(count)*unit > f.most {
		return Span{}, fmt.Errorf("%w: %d bytes are in it, at most %d", ErrFull, f.used, f.most)
	}
	if err := f.open(); err != nil {
		return Span{}, err
	}
	s := Span{units: make([]uint32, count), length: n}
	for i := range s.units {
		if last := len(f.free) - 1; last >= 0 {
			s.units[i], f.free = f.free[last], f.free[:last]
			continue
		}
		s.units[i] = f.units
		f.units++
	}
	f.used += int64(count) * unit
	f.peak = max(f.peak, f.used)
	return s, nil
}

// open makes the file, and takes its name away.
func (f *File) open() error {
	if f.file != nil {
		return nil
	}
	file, err := os.CreateTemp(f.dir, "spool-*")
	if err != nil {
		return fmt.Errorf("spool: %w; look after %s", err, f.dir)
	}
	if err := os.Remove(file.Name()); err != nil {
		return errors.Join(fmt.Errorf("spool: %w", err), file.Close())
	}
	f.file = file
	return nil
}

// Write keeps bytes from an offset of a span on.
func (f *File) Write(s Span, offset int, b []byte) error {
	return s.each(offset, len(b), func(at int64, lo, hi int) error {
		if _, err := f.file.WriteAt(b[lo:hi], at); err != nil {
			return fmt.Errorf("spool: %w; free space on the disk of %s", err, f.dir)
		}
		return nil
	})
}

// Read fills b with the first bytes of a span. All of them were written.
func (f *File) Read(s Span, b []byte) error {
	return s.each(0, len(b), func(at int64, lo, hi int) error {
		if _, err := f.file.ReadAt(b[lo:hi], at); err != nil {
			return fmt.Errorf("spool: %w; look after the disk of %s", err, f.dir)
		}
		return nil
	})
}

// each calls do with the pieces that n bytes from an offset on lie in: where in
// the file, and which of the bytes.
func (s Span) each(offset, n int, do func(at int64, lo, hi int) error) error {
	if offset < 0 || offset+n > s.length {
		return fmt.Errorf("spool: bytes %d to %d of %d", offset, offset+n, s.length)
	}
	for lo := 0; lo < n; {
		in := (offset + lo) % unit
		hi := min(lo+unit-in, n)
		if err := do(int64(s.units[(offset+lo)/unit])*unit+int64(in), lo, hi); err != nil {
			return err
		}
		lo = hi
	}
	return nil
}

// Free gives room back. When nothing is taken any more the disk has all of it
// back.
func (f *File) Free(s Span) {
	f.free = append(f.free, s.units...)
	if f.used -= int64(len(s.units)) * unit; f.used == 0 && f.file != nil {
		_ = f.file.Truncate(0) // else it stays as large as it is until the end
		f.free, f.units = f.free[:0], 0
	}
}

// Close gives all of it back.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}
