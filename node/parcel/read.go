package parcel

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"

	"github.com/farhop/farhop/storeforward/bundle"
)

// Verify judges the signature of a file over its digest.
type Verify func(h Header, digest, signature []byte) error

// Reader is what is done with a file.
type Reader struct {
	Verify Verify                   // required
	Begin  func(Kind, Header) error // nil: nothing
	Item   func(Item) error         // for each bundle, in order; nil: nothing
	Taken  func(Key) error          // for each bundle of a receipt; nil: nothing
}

// Whole is what a file holds that was read to its end.
type Whole struct {
	Kind    Kind
	Header  Header
	Bundles int
	Taken   int
	Size    int64
}

// scanner reads records and knows where it is.
type scanner struct {
	r    *bufio.Reader
	at   int64 // offset of the next byte
	sum  hash.Hash
	buf  []byte
	head []byte // type and length of the record
}

// Read reads a file to its end. What it calls is told before the signature is
// known to be good: read twice, and believe it the second time. Errors are of
// type Error, but for those of the functions.
func Read(from io.Reader, do Reader) (w Whole, err error) {
	s := &scanner{r: bufio.NewReaderSize(from, 64<<10), sum: sha256.New()}
	defer func() { w.Size = s.at }()
	if err := s.begin(&w); err != nil {
		return w, err
	}
	if do.Begin != nil {
		if err := do.Begin(w.Kind, w.Header); err != nil {
			return w, err
		}
	}
	for records := uint64(0); ; records++ {
		start := s.at
		digest := s.sum.Sum(nil)
		typ, body, err := s.record()
		if err != nil {
			return w, err
		}
		switch {
		case typ == recEnd:
			return w, s.end(&w, do.Verify, digest, records, body, start)
		case records >= MaxRecords || s.at > MaxFile:
			return w, &Error{start, errors.New("more than a file may hold")}
		case typ == recBundle && w.Kind == Bundles:
			err = w.item(body, do.Item)
		case typ == recTaken && w.Kind == Receipt:
			err = w.taken(body, do.Taken)
		default:
			err = fmt.Errorf("a record of type %d, which has no place here: %w", typ, errMalformed)
		}
		if errors.Is(err, errMalformed) {
			return w, &Error{start, err}
		} else if err != nil {
			return w, err
		}
	}
}

var errMalformed = errors.New("malformed")

// begin reads what identifies the file, and its header.
func (s *scanner) begin(w *Whole) error {
	var first [len(magic) + 1]byte
	if _, err := io.ReadFull(s.r, first[:]); err != nil || string(first[:len(magic)]) != magic {
		return &Error{0, errors.New("no file of farhop bundle export")}
	}
	s.at = int64(len(first))
	_, _ = s.sum.Write(first[:]) // never fails (hash.Hash)
	w.Kind = Kind(first[len(magic)])
	if w.Kind != Bundles && w.Kind != Receipt {
		return &Error{int64(len(magic)), fmt.Errorf("a file of kind %q, which this farhop does not know", w.Kind)}
	}
	start := s.at
	typ, body, err := s.record()
	if err != nil {
		return err
	}
	if typ != recHeader || len(body) > maxHeader {
		return &Error{start, errors.New("no header")}
	}
	err = json.Unmarshal(body, &w.Header)
	if err == nil {
		err = w.Header.validate(w.Kind)
	}
	if err != nil {
		return &Error{start, err}
	}
	return nil
}

// record reads one record. Its body is valid until the next one.
func (s *scanner) record() (typ byte, body []byte, err error) {
	start := s.at
	bad := func(err error) (byte, []byte, error) {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the file is cut off")
		}
		return 0, nil, &Error{start, err}
	}
	if typ, err = s.r.ReadByte(); err != nil {
		return bad(err)
	}
	size, err := binary.ReadUvarint(s.r)
	if err != nil {
		return bad(err)
	}
	if size > MaxRecord {
		return bad(fmt.Errorf("a record of %d bytes, %d is the limit", size, MaxRecord))
	}
	s.head = binary.AppendUvarint(append(s.head[:0], typ), size)
	if s.buf, err = readGrowing(s.r, s.buf[:0], int(size)+4); err != nil {
		return bad(err)
	}
	body = s.buf[:size]
	sum := crc32.Update(crc32.Checksum(s.head, castagnoli()), castagnoli(), body)
	if binary.BigEndian.Uint32(s.buf[size:]) != sum {
		return bad(errors.New("a record is damaged: its checksum is wrong"))
	}
	_, _ = s.sum.Write(s.head) // never fails (hash.Hash)
	_, _ = s.sum.Write(s.buf)
	s.at += int64(len(s.head) + len(s.buf))
	return typ, body, nil
}

// readGrowing takes memory as bytes come: a length alone claims little.
func readGrowing(r io.Reader, buf []byte, n int) ([]byte, error) {
	for len(buf) < n {
		step := min(n-len(buf), max(64<<10, len(buf)))
		at := len(buf)
		buf = slices.Grow(buf, step)[:at+step]
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			return buf[:at], err
		}
	}
	return buf, nil
}

// end judges the last record, and that it is the last.
func (s *scanner) end(w *Whole, verify Verify, digest []byte, records uint64, body []byte, start int64) error {
	count, n := binary.Uvarint(body)
	switch {
	case n <= 0 || len(body)-n > maxSigned:
		return &Error{start, errMalformed}
	case count != records:
		return &Error{start, fmt.Errorf("%d records where %d were written", records, count)}
	}
	if err := verify(w.Header, digest, body[n:]); err != nil {
		return &Error{start, fmt.Errorf("not signed by %s of this mesh: %w", w.Header.Node, err)}
	}
	if _, err := s.r.ReadByte(); !errors.Is(err, io.EOF) {
		return &Error{s.at, errors.New("something follows the end")}
	}
	return nil
}

func (w *Whole) item(body []byte, f func(Item) error) error {
	seq, n := binary.Uvarint(body)
	if n <= 0 || len(body) <= n || body[n] >= bundle.NumClasses || seq == 0 {
		return errMalformed
	}
	w.Bundles++
	if f == nil {
		return nil
	}
	return f(Item{Seq: seq, Class: bundle.Class(body[n]), Bundle: body[n+1:]})
}

func (w *Whole) taken(body []byte, f func(Key) error) error {
	count, n := binary.Uvarint(body)
	if n <= 0 || count > uint64(len(body)) {
		return errMalformed
	}
	body = body[n:]
	last := uint64(0)
	for range count {
		d, n := binary.Uvarint(body)
		b, n2 := binary.Uvarint(body[max(n, 0):])
		if n <= 0 || n2 <= 0 || last+d < last || last+d == 0 {
			return errMalformed
		}
		body, last = body[n+n2:], last+d
		if w.Taken++; w.Taken > MaxRecords {
			return errMalformed
		}
		if f != nil {
			if err := f(Key{last, bundle.Sequence(b)}); err != nil {
				return err
			}
		}
	}
	if len(body) > 0 {
		return errMalformed
	}
	return nil
}
