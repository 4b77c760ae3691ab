package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	bolt "go.etcd.io/bbolt"

	"github.com/farhop/farhop/storeforward/boltcheck"
)

// bbolt keeps at least two, and up to four, values per leaf whatever their
// size, and rewrites a leaf in one contiguous run of pages. With large values
// a small drop would copy its large neighbours, and fail on a full disk. So
// values are cut into pieces of which four fit a page.
//
// The first piece has the base key; piece n has the base key and n as four
// bytes, big endian. No base key is a prefix of another, so the pieces of a
// value stand together and in order. A piece is a record of its own, under
// its own checksum; the body of the first starts with the length of the
// whole.

const (
	pieceSuffix = 4
	minPiece    = 128
)

var (
	errPieces = errors.New("pieces do not add up")
	errKey    = errors.New("key is malformed")
)

// pieceLen is how much of a value one piece holds.
func pieceLen(pageSize, baseLen int) int {
	perKey := (pageSize-boltcheck.PageHead)/4 - boltcheck.ElementSize
	return max(perKey-baseLen-pieceSuffix-recordHead-binary.MaxVarintLen32, minPiece)
}

func pieceKey(base []byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(base), n)
}

// seqKey is the base key of a message: its arrival number, so that bbolt's
// order is arrival order.
func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

func parseSeqKey(key []byte) (uint64, error) {
	if len(key) != 8 {
		return 0, errKey
	}
	return binary.BigEndian.Uint64(key), nil
}

// A state key ends with 0 1 and has 0 255 for a zero byte within: that keeps
// the order of keys, and none is a prefix of another.
func stateKey(key string) []byte { return append(statePrefix(key), 0, 1) }

// statePrefix is how all keys that start with prefix begin.
func statePrefix(prefix string) []byte {
	return bytes.ReplaceAll([]byte(prefix), []byte{0}, []byte{0, 255})
}

func parseStateKey(b []byte) (string, error) {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != 0 {
			out = append(out, b[i])
			continue
		}
		i++
		switch {
		case i < len(b) && b[i] == 255:
			out = append(out, 0)
		case i == len(b)-1 && b[i] == 1:
			return string(out), nil
		default:
			return "", errKey
		}
	}
	return "", errKey
}

// arena holds the records of one commit: bbolt keeps references to values
// until the commit ends, so they must not move, and a fresh allocation for
// each would be garbage at once.
type arena struct {
	buf  []byte
	page int // bytes of a page of the file, 0: not asked yet
}

const arenaBlock = 256 << 10

// record appends one record and returns it.
func (a *arena) record(key, prefix, body []byte) []byte {
	n := recordHead + len(prefix) + len(body)
	if cap(a.buf)-len(a.buf) < n {
		a.buf = make([]byte, 0, max(n, arenaBlock))
	}
	start := len(a.buf)
	a.buf = append(append(beginRecord(a.buf), prefix...), body...)
	endRecord(a.buf, start, key)
	return a.buf[start:len(a.buf):len(a.buf)]
}

// reset starts over once bbolt holds no reference any more.
func (a *arena) reset() { a.buf = a.buf[:0] }

// putValue writes body under base. fresh promises that nothing is there yet.
func putValue(b *bolt.Bucket, a *arena, base, body []byte, fresh bool) error {
	var old [][]byte
	if !fresh {
		old = pieceKeys(b, base)
	}
	var buf [binary.MaxVarintLen64]byte
	prefix := buf[:binary.PutUvarint(buf[:], uint64(len(body)))]
	if a.page == 0 {
		a.page = b.Tx().DB().Info().PageSize
	}
	size := pieceLen(a.page, len(base))
	n := 0
	for key := base; ; key = pieceKey(base, uint32(n)) {
		piece := body[:min(size, len(body))]
		body = body[len(piece):]
		if err := b.Put(key, a.record(key, prefix, piece)); err != nil {
			return err
		}
		n, prefix = n+1, nil
		if len(body) == 0 {
			break
		}
	}
	for _, key := range old[min(n, len(old)):] {
		if err := b.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// deleteValue removes a value, if it is there.
func deleteValue(b *bolt.Bucket, base []byte) error {
	for _, key := range pieceKeys(b, base) {
		if err := b.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// pieceKeys lists the keys of a value without trusting what it says.
func pieceKeys(b *bolt.Bucket, base []byte) (keys [][]byte) {
	c := b.Cursor()
	for key, _ := c.Seek(base); key != nil && bytes.HasPrefix(key, base); key, _ = c.Next() {
		keys = append(keys, bytes.Clone(key))
	}
	return keys
}

// getValue returns the body of a value, nil when there is none. It may alias
// the file: it is valid until the transaction ends.
func getValue(b *bolt.Bucket, base []byte) ([]byte, error) {
	val := b.Get(base)
	if val == nil {
		return nil, nil
	}
	body, rest, err := openFirst(base, val)
	if err != nil || rest == 0 {
		return body, err
	}
	w := walker{c: b.Cursor()}
	w.key, w.val = w.c.Seek(base)
	_, body, err = w.next()
	return body, err
}

// openFirst opens the first piece of a value: what it holds, never nil, and
// how much the other pieces must hold.
func openFirst(base, val []byte) (body []byte, rest uint64, err error) {
	rec, err := openRecord(base, val)
	if err != nil {
		return nil, 0, err
	}
	r := reader{b: rec}
	total := r.uvarint(math.MaxInt32)
	if r.err != nil {
		return nil, 0, r.err
	}
	if uint64(len(r.b)) > total {
		return nil, 0, errPieces
	}
	return r.b, total - uint64(len(r.b)), nil
}

// walker steps through the values of a bucket.
type walker struct {
	c        *bolt.Cursor
	key, val []byte // the next piece, nil at the end
}

// walk starts at the first base key that is not before from.
func walk(b *bolt.Bucket, from []byte) *walker {
	w := &walker{c: b.Cursor()}
	if from == nil {
		w.key, w.val = w.c.First()
	} else {
		w.key, w.val = w.c.Seek(from)
	}
	return w
}

// next returns the next value; base is nil at the end. On an error base is
// the key of the piece that is damaged.
func (w *walker) next() (base, body []byte, err error) {
	if w.key == nil {
		return nil, nil, nil
	}
	base = w.key
	body, rest, err := openFirst(base, w.val)
	w.key, w.val = w.c.Next()
	if err != nil || rest == 0 {
		return base, body, err
	}
	body = append(make([]byte, 0, len(body)+int(min(rest, arenaBlock))), body...)
	for n := uint32(1); rest > 0; n++ {
		if !bytes.Equal(w.key, pieceKey(base, n)) {
			return base, nil, fmt.Errorf("piece %d: %w", n, errPieces)
		}
		piece, err := openRecord(w.key, w.val)
		if err == nil && (len(piece) == 0 || uint64(len(piece)) > rest) {
			err = errPieces
		}
		if err != nil {
			return w.key, nil, err
		}
		body = append(body, piece...)
		rest -= uint64(len(piece))
		w.key, w.val = w.c.Next()
	}
	return base, body, nil
}
