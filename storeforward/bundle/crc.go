package bundle

import (
	"encoding/binary"
	"hash/crc32"
)

// CRCType says how a block is protected (RFC 9171, section 4.2.1).
type CRCType uint8

// The CRC types. This codec writes CRC32C of its own accord, CRC16 where it
// replaces a block that had one, and verifies both.
const (
	CRCNone CRCType = 0
	CRC16   CRCType = 1 // X.25
	CRC32C  CRCType = 2 // Castagnoli
)

// size returns the bytes of a CRC value.
func (t CRCType) size() int {
	switch t {
	case CRC16:
		return 2
	case CRC32C:
		return 4
	case CRCNone:
	}
	return 0
}

// crc32cLen is the encoded length of a CRC32C: the head of a byte string and
// four bytes.
const crc32cLen = 5

// Never written after start.
var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	x25        = makeX25()
)

// makeX25 tabulates the reflected polynomial x^16 + x^12 + x^5 + 1.
func makeX25() (table [256]uint16) {
	for i := range table {
		c := uint16(i)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0x8408
			} else {
				c >>= 1
			}
		}
		table[i] = c
	}
	return table
}

func updateX25(c uint16, b []byte) uint16 {
	for _, v := range b {
		c = c>>8 ^ x25[byte(c)^v]
	}
	return c
}

// crcOK verifies the CRC value at raw[at:] of an encoded block. The sum runs
// over the whole block with the value itself taken as zero (RFC 9171, section
// 4.2.2).
func crcOK(t CRCType, raw []byte, at int) bool {
	end := at + t.size()
	switch t {
	case CRC16:
		c := updateX25(0xffff, raw[:at])
		c = updateX25(updateX25(c, []byte{0, 0}), raw[end:])
		return ^c == binary.BigEndian.Uint16(raw[at:])
	case CRC32C:
		c := ^crc32.Checksum(raw[:at], castagnoli)
		for range t.size() { // faster than a call for four zeros
			c = c>>8 ^ castagnoli[byte(c)]
		}
		if c = ^c; end < len(raw) { // the break of an array of indefinite length
			c = crc32.Update(c, castagnoli, raw[end:])
		}
		return c == binary.BigEndian.Uint32(raw[at:])
	case CRCNone:
	}
	return true
}

// zeros stand for a CRC while it is computed, with the head before them.
var zeros = [3][]byte{CRC16: {0x42, 0, 0}, CRC32C: {0x44, 0, 0, 0, 0}}

// BlockCRC returns the CRC for AppendCRC of a block that is encoded but for
// its CRC, in parts.
func BlockCRC(t CRCType, parts ...[]byte) uint32 {
	switch t {
	case CRC16:
		c := uint16(0xffff)
		for _, p := range parts {
			c = updateX25(c, p)
		}
		return uint32(^updateX25(c, zeros[CRC16]))
	case CRC32C:
		c := uint32(0)
		for _, p := range parts {
			c = crc32.Update(c, castagnoli, p)
		}
		return crc32.Update(c, castagnoli, zeros[CRC32C])
	case CRCNone:
	}
	return 0
}

// AppendCRC ends a block with its CRC.
func AppendCRC(dst []byte, t CRCType, crc uint32) []byte {
	switch t {
	case CRC16:
		return append(dst, 0x42, byte(crc>>8), byte(crc))
	case CRC32C:
		return append(dst, 0x44, byte(crc>>24), byte(crc>>16), byte(crc>>8), byte(crc))
	case CRCNone:
	}
	return dst
}
