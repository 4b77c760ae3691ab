package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/farhop/farhop/storeforward/vfs"
)

// bbolt takes keys of 1 to 32,768 bytes, ours have any length. A record is
// stored under 'k' and its key; one longer than maxKey under 'k', its first
// maxKey bytes and a hash of it, with the rest before the value:
//
//	CRC-32C u32 | length of the rest uvarint | rest | value
//
// The CRC covers the whole key and the value.
const maxKey = 32_000

// The bucket of all records, and the key of the total in it.
var (
	bucketName = []byte("farhop index 1") // the version: another one is another file
	totalKey   = []byte("total")
)

const keyMark = 'k'

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// total tells whether records are missing: their number, and the sum of their
// checksums.
type total struct{ records, sum uint64 }

func storedKey(key string) []byte {
	b := append(make([]byte, 0, 1+len(key)), keyMark)
	if len(key) <= maxKey {
		return append(b, key...)
	}
	hash := sha256.Sum256([]byte(key))
	return append(append(b, key[:maxKey]...), hash[:]...)
}

func checksum(key string, value []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte(key))
	sum = crc32.Update(sum, castagnoli, []byte{0xFF}) // ends the key
	return crc32.Update(sum, castagnoli, value)
}

func appendValue(b []byte, key string, value []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, checksum(key, value))
	rest := key[min(len(key), maxKey):]
	b = binary.AppendUvarint(b, uint64(len(rest)))
	b = append(b, rest...)
	return append(b, value...)
}

// parse returns the key and value of a stored record. value points into it.
func parse(k, v []byte) (key string, value []byte, sum uint32, err error) {
	if len(k) == 0 || k[0] != keyMark || len(v) < 5 {
		return "", nil, 0, fmt.Errorf("%w: a record out of place", ErrDamaged)
	}
	sum, rest := binary.LittleEndian.Uint32(v), v[4:]
	n, used := binary.Uvarint(rest)
	if used <= 0 || n > uint64(len(rest)-used) {
		return "", nil, 0, fmt.Errorf("%w: a record of %d bytes", ErrDamaged, len(v))
	}
	key, value = string(k[1:]), rest[used:]
	if n > 0 {
		key = key[:min(len(key), maxKey)] + string(value[:n])
		value = value[n:]
	}
	if checksum(key, value) != sum || n > 0 && !bytes.Equal(storedKey(key), k) {
		return "", nil, 0, fmt.Errorf("%w: wrong checksum of key %.40q", ErrDamaged, key)
	}
	return key, value, sum, nil
}

// apply makes one change and accounts for it.
func (t *total) apply(b *bolt.Bucket, c *Change) error {
	k := storedKey(c.Key)
	if old := b.Get(k); old != nil {
		_, _, sum, err := parse(k, old)
		if err != nil {
			return err
		}
		t.records--
		t.sum -= uint64(sum)
		if c.Value == nil {
			return b.Delete(k)
		}
	}
	if c.Value == nil {
		return nil
	}
	v := appendValue(make([]byte, 0, len(c.Value)+8), c.Key, c.Value)
	t.records++
	t.sum += uint64(binary.LittleEndian.Uint32(v))
	return b.Put(k, v)
}

func putTotal(b *bolt.Bucket, t total) error {
	v := binary.LittleEndian.AppendUint64(nil, t.records)
	v = binary.LittleEndian.AppendUint64(v, t.sum)
	return b.Put(totalKey, binary.LittleEndian.AppendUint32(v, crc32.Checksum(v, castagnoli)))
}

// verify reads every record and compares with the total.
func (f *File) verify(tx *bolt.Tx) error {
	b := tx.Bucket(bucketName)
	if b == nil {
		return fmt.Errorf("%w: no bucket %q", ErrDamaged, bucketName)
	}
	v := b.Get(totalKey)
	if len(v) != 20 || crc32.Checksum(v[:16], castagnoli) != binary.LittleEndian.Uint32(v[16:]) {
		return fmt.Errorf("%w: no total", ErrDamaged)
	}
	want := total{records: binary.LittleEndian.Uint64(v), sum: binary.LittleEndian.Uint64(v[8:])}
	var got total
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if bytes.Equal(k, totalKey) {
			continue
		}
		_, _, sum, err := parse(k, v)
		if err != nil {
			return err
		}
		got.records++
		got.sum += uint64(sum)
	}
	if got != want {
		return fmt.Errorf("%w: it has %d records, %d were written", ErrDamaged, got.records, want.records)
	}
	f.total = got
	return nil
}

func each(b *bolt.Bucket, prefix string, do func(key string, value []byte) error) error {
	seek := append([]byte{keyMark}, prefix[:min(len(prefix), maxKey)]...)
	c := b.Cursor()
	for k, v := c.Seek(seek); k != nil && bytes.HasPrefix(k, seek); k, v = c.Next() {
		key, value, _, err := parse(k, v)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		if err := do(key, slices.Clone(value)); err != nil {
			return err
		}
	}
	return nil
}

// copyAll writes the records into a new bucket, in order, so that its pages
// are full.
func copyAll(to, from *bolt.Bucket) error {
	to.FillPercent = 1
	c := from.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if err := to.Put(k, v); err != nil {
			return err
		}
	}
	return nil
}

// full marks the errors of a disk, or a file, that has no more room.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, berrors.ErrMaxSizeReached) {
		return fmt.Errorf("%w: %w", vfs.ErrFull, err)
	}
	return err
}

// syncDir makes new names in a directory survive a power cut.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // has no such call
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
