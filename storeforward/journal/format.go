package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

// The format. All fixed numbers are little endian.
const (
	formatVersion = 1
	segMagic      = "FHJOURN\n"
	segHeadLen    = 128
	blockMagic    = "FBk\x1e"
	blockHeadLen  = 32

	blockTarget = 16 << 10 // a block is closed when it holds so much
	inlineMax   = 8 << 10  // larger values stand behind their block, under a checksum of their own
	sampleSpan  = 20 << 10 // the sparse index has one place per so many bytes
)

// Kinds of segments.
const (
	hot  = 1 // written by the committer
	cold = 2 // written by the cleaner, in place of others
)

// Flags of a block.
const (
	flagFirst  = 1 << 0 // a group begins here
	flagLast   = 1 << 1 // a group ends here
	flagsKnown = flagFirst | flagLast
)

const noneSynced = 1<<24 - 1 // as a distance: nothing is known to be synced

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errShort    = errors.New("record ends early")
	errTrailing = errors.New("bytes behind the last record")
	errValue    = errors.New("value out of range")
	errHead     = errors.New("not the head of a segment")
	errBlock    = errors.New("not a valid block")
)

// identity tells the buffers of the world apart. Every checksum starts from
// it, so that neither a file of another buffer nor bytes that a stranger put
// into a payload pass for blocks of this one.
type identity struct {
	id          [16]byte
	incarnation uint32
	created     int64 // ms
}

func (id identity) time() time.Time { return time.UnixMilli(id.created) }

// segHead is the head of a segment file.
//
//	0   magic (8)       8  version (2)   10 kind (1)  11 zero (1)
//	12  incarnation (4) 16 identity (16) 32 creation, ms (8)
//	40  number (8)      48 last number it stands for (8)
//	56  first block; of a cold one, how often it was rewritten (8)
//	64  end of the segment before, 0 unknown (8)
//	72  highest Seq ever used, as of its start (8)
//	80  nonce (8)       88 length of a cold segment (8)
//	96  zero (28)       124 CRC-32C of all before (4)
type segHead struct {
	identity
	kind       byte
	num, last  uint64
	firstBlock uint64
	prevEnd    int64
	high       uint64
	nonce      uint64
	length     int64
}

func (h *segHead) append(b []byte) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = append(b, segMagic...)
	b = le.AppendUint16(b, formatVersion)
	b = append(b, h.kind, 0)
	b = le.AppendUint32(b, h.incarnation)
	b = append(b, h.id[:]...)
	for _, v := range []uint64{
		uint64(h.created), h.num, h.last, h.firstBlock, uint64(h.prevEnd), h.high, h.nonce, uint64(h.length),
	} {
		b = le.AppendUint64(b, v)
	}
	b = append(b, make([]byte, segHeadLen-4-(len(b)-start))...)
	return le.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// parseSegHead reads a head. ErrNewer is for a head that is sound and of a
// later version; anything else that is wrong is errHead.
func parseSegHead(b []byte) (h segHead, err error) {
	le := binary.LittleEndian
	if len(b) < segHeadLen || string(b[:8]) != segMagic ||
		le.Uint32(b[segHeadLen-4:]) != crc32.Checksum(b[:segHeadLen-4], castagnoli) {
		return h, errHead
	}
	if v := le.Uint16(b[8:]); v != formatVersion {
		return h, fmt.Errorf("%w: format %d, this one reads up to %d", ErrNewer, v, formatVersion)
	}
	h.kind, h.incarnation = b[10], le.Uint32(b[12:])
	copy(h.id[:], b[16:])
	h.created = int64(le.Uint64(b[32:]))
	h.num, h.last, h.firstBlock = le.Uint64(b[40:]), le.Uint64(b[48:]), le.Uint64(b[56:])
	h.prevEnd, h.high = int64(le.Uint64(b[64:])), le.Uint64(b[72:])
	h.nonce, h.length = le.Uint64(b[80:]), int64(le.Uint64(b[88:]))
	if h.kind != hot && h.kind != cold || h.last < h.num || h.incarnation > bundle.MaxIncarnation || h.prevEnd < 0 || h.length < 0 {
		return h, errHead
	}
	return h, nil
}

// seed is what the checksums of a segment's blocks start from: blocks that an
// earlier life of the file left behind do not match.
func (h *segHead) seed() uint32 {
	b := make([]byte, 0, 40)
	b = append(append(b, h.id[:]...), h.kind)
	b = binary.LittleEndian.AppendUint64(b, h.num)
	b = binary.LittleEndian.AppendUint64(b, h.last)
	return crc32.Checksum(b, castagnoli)
}

// blockHead is the head of a block.
//
//	0  magic (4)
//	4  CRC-32C of bytes 8 to 32 and the body (4)
//	8  length of the body (4)
//	12 length of the tail (4)
//	16 CRC-32C of the tail (4)
//	20 flags (1), distance to the highest block known synced (3)
//	24 number (8)
//
// The body follows, then the tail.
type blockHead struct {
	body, tail int
	tailSum    uint32
	flags      byte
	number     uint64
	synced     uint64 // 0: none known
}

// size is what the block takes in the file.
func (h *blockHead) size() int64 { return blockHeadLen + int64(h.body) + int64(h.tail) }

// sealBlock fills in the head of a block: b is head and body.
func sealBlock(b []byte, seed uint32, h *blockHead) {
	le := binary.LittleEndian
	copy(b, blockMagic)
	le.PutUint32(b[8:], uint32(h.body))
	le.PutUint32(b[12:], uint32(h.tail))
	le.PutUint32(b[16:], h.tailSum)
	distance := uint32(noneSynced)
	if d := h.number - h.synced; h.synced != 0 && d < noneSynced {
		distance = uint32(d)
	}
	le.PutUint32(b[20:], uint32(h.flags)<<24|distance)
	le.PutUint64(b[24:], h.number)
	le.PutUint32(b[4:], crc32.Update(seed, castagnoli, b[8:blockHeadLen+h.body]))
}

// parseBlockHead reads a head without checking the body. room is how many
// bytes there are in the file from the head on.
func parseBlockHead(b []byte, room int64) (h blockHead, err error) {
	le := binary.LittleEndian
	if len(b) < blockHeadLen || string(b[:4]) != blockMagic {
		return h, errBlock
	}
	h.body, h.tail = int(le.Uint32(b[8:])), int(le.Uint32(b[12:]))
	h.tailSum, h.number = le.Uint32(b[16:]), le.Uint64(b[24:])
	rest := le.Uint32(b[20:])
	h.flags = byte(rest >> 24)
	if d := uint64(rest & noneSynced); d != noneSynced && d < h.number {
		h.synced = h.number - d
	}
	if h.flags&^flagsKnown != 0 || h.body < 0 || h.tail < 0 || h.size() > room {
		return h, errBlock
	}
	return h, nil
}

// bodySound checks the checksum of a block whose head and body are in b.
func bodySound(b []byte, seed uint32, h *blockHead) bool {
	return len(b) >= blockHeadLen+h.body &&
		binary.LittleEndian.Uint32(b[4:]) == crc32.Update(seed, castagnoli, b[8:blockHeadLen+h.body])
}

// Names of files: the number in hexadecimal; for what the cleaner wrote, the
// first and the last it stands for, and how often they were rewritten.
const (
	hotSuffix  = ".seg"
	coldSuffix = ".cold"
	newSuffix  = ".new" // being written; a leftover means nothing
)

func hotName(num uint64) string { return fmt.Sprintf("%016x%s", num, hotSuffix) }

func coldName(num, last, gen uint64) string {
	return fmt.Sprintf("%016x-%016x.%x%s", num, last, gen, coldSuffix)
}

// parseName returns what a file name of a segment says; false for any other.
func parseName(name string) (h segHead, ok bool) {
	if s, found := strings.CutSuffix(name, hotSuffix); found {
		num, err := strconv.ParseUint(s, 16, 64)
		return segHead{kind: hot, num: num, last: num}, err == nil && name == hotName(num)
	}
	s, found := strings.CutSuffix(name, coldSuffix)
	if !found {
		return h, false
	}
	h.kind = cold
	var err error
	rest, gen, _ := strings.Cut(s, ".")
	first, last, _ := strings.Cut(rest, "-")
	for _, part := range []struct {
		text string
		into *uint64
	}{{first, &h.num}, {last, &h.last}, {gen, &h.firstBlock}} {
		*part.into, err = strconv.ParseUint(part.text, 16, 64)
		if err != nil {
			return h, false
		}
	}
	return h, h.num <= h.last && name == h.fileName()
}

// fileName is the name of the segment's file.
func (h *segHead) fileName() string {
	if h.kind == cold {
		return coldName(h.num, h.last, h.firstBlock)
	}
	return hotName(h.num)
}
