package parcel

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Limits of a file.
const (
	MaxRecord  = 5 << 20   // bytes of one record: a bundle of the largest size and its blocks
	MaxRecords = 1_000_000 // bundles, or pieces of a receipt
	MaxFile    = 4 << 30   // bytes
	version    = 1
	maxHeader  = 4 << 10
	maxSigned  = 32 << 10
	idSize     = 16
)

// Context is what signatures of files are made for.
const Context = "farhop parcel v1"

// Kind tells a parcel from a receipt.
type Kind byte

// The kinds of files.
const (
	Bundles Kind = 'B'
	Receipt Kind = 'R'
)

// magic begins every file; the kind follows.
const magic = "farhop\x00"

// Record types.
const (
	recHeader = 1
	recBundle = 2
	recTaken  = 3 // of receipts
	recEnd    = 9
)

// Header says where a file is from.
type Header struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`    // of the parcel, 32 hex digits; of a receipt, the one it is for
	Node    addr.Node `json:"node"`  // that made and signed the file
	Store   uint32    `json:"store"` // of a parcel: incarnation of the store; of a receipt: of the one the parcel is from
	From    addr.Node `json:"from,omitzero"`
	Created time.Time `json:"created"` // by the clock of Node
	Dated   bool      `json:"dated"`   // that clock is trusted
}

func (h *Header) validate(k Kind) error {
	switch {
	case h.Version != version:
		return fmt.Errorf("version %d, this farhop reads version %d: update it", h.Version, version)
	case len(h.ID) != 2*idSize || h.Node.IsZero() || h.Store > bundle.MaxIncarnation || h.Created.IsZero():
		return errors.New("a header without id, node, store or time")
	case k == Receipt && h.From.IsZero():
		return errors.New("a receipt that does not say for whose parcel it is")
	}
	return nil
}

// Error tells what is wrong with a file, and where.
type Error struct {
	Offset int64
	What   error
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("at byte %d: %v", e.Offset, e.What) }

// Unwrap gives what is wrong.
func (e *Error) Unwrap() error { return e.What }

// Item is a bundle in a parcel.
type Item struct {
	Seq    uint64 // arrival number of its message at the store it is from
	Class  bundle.Class
	Bundle []byte // a view, valid until the next one
}

// Key names a bundle at the store it is from: a message that goes to several
// nodes is in as many bundles.
type Key struct {
	Seq    uint64          // arrival number of the message
	Bundle bundle.Sequence // as its maker numbered it
}

func (k Key) compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Seq, o.Seq), cmp.Compare(k.Bundle, o.Bundle))
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// appendRecord appends type, length, body and the CRC32C of these.
func appendRecord(dst []byte, typ byte, body ...[]byte) []byte {
	start, size := len(dst), 0
	for _, b := range body {
		size += len(b)
	}
	dst = append(dst, typ)
	dst = binary.AppendUvarint(dst, uint64(size))
	for _, b := range body {
		dst = append(dst, b...)
	}
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli()))
}

func appendHeader(dst []byte, k Kind, h Header) ([]byte, error) {
	data, err := json.Marshal(h)
	if err == nil && len(data) > maxHeader {
		err = errors.New("header too large")
	}
	return appendRecord(append(append(dst, magic...), byte(k)), recHeader, data), err
}
