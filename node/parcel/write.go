package parcel

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"slices"

	"github.com/farhop/farhop/storeforward/bundle"
)

// Sign signs the digest of a file for Context.
type Sign func(digest []byte) ([]byte, error)

// Writer writes a file. It buffers nothing and syncs nothing.
type Writer struct {
	w     io.Writer
	sum   hash.Hash
	buf   []byte
	count uint64
	size  int64
}

// NewWriter begins a file with its header.
func NewWriter(w io.Writer, k Kind, h Header) (*Writer, error) {
	h.Version = version
	if err := h.validate(k); err != nil {
		return nil, err
	}
	p := &Writer{w: w, sum: sha256.New()}
	head, err := appendHeader(nil, k, h)
	if err != nil {
		return nil, err
	}
	return p, p.write(head)
}

// ErrFull says that a file has as much as it may.
var ErrFull = errors.New("the file is full")

// Bundle adds a bundle.
func (p *Writer) Bundle(seq uint64, c bundle.Class, data []byte) error {
	if p.count >= MaxRecords || p.size+int64(len(data)) > MaxFile-1<<20 || len(data) > MaxRecord-64 {
		return ErrFull
	}
	var head [16]byte
	n := append(binary.AppendUvarint(head[:0], seq), byte(c))
	p.count++
	p.buf = appendRecord(p.buf[:0], recBundle, n, data)
	return p.write(p.buf)
}

// Taken adds bundles to a receipt. It sorts them.
func (p *Writer) Taken(keys []Key) error {
	slices.SortFunc(keys, Key.compare)
	for part := range slices.Chunk(keys, 1<<16) {
		body := binary.AppendUvarint(nil, uint64(len(part)))
		last := uint64(0)
		for _, k := range part {
			body = binary.AppendUvarint(binary.AppendUvarint(body, k.Seq-last), uint64(k.Bundle))
			last = k.Seq
		}
		p.count++
		p.buf = appendRecord(p.buf[:0], recTaken, body)
		if err := p.write(p.buf); err != nil {
			return err
		}
	}
	return nil
}

// Size is how many bytes were written.
func (p *Writer) Size() int64 { return p.size }

// Count is how many records were written, the header not counted.
func (p *Writer) Count() uint64 { return p.count }

// End signs the file.
func (p *Writer) End(sign Sign) error {
	sig, err := sign(p.sum.Sum(nil))
	if err != nil {
		return err
	}
	return p.write(appendRecord(nil, recEnd, binary.AppendUvarint(nil, p.count), sig))
}

func (p *Writer) write(b []byte) error {
	_, _ = p.sum.Write(b) // never fails (hash.Hash)
	n, err := p.w.Write(b)
	p.size += int64(n)
	return err
}
