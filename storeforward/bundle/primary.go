package bundle

import (
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/cbor"
)

// Bundle processing control flags (RFC 9171, section 4.2.3).
const (
	FlagFragment         = 1 << 0
	FlagAdminRecord      = 1 << 1
	FlagNoFragment       = 1 << 2
	FlagAckRequested     = 1 << 5
	FlagStatusTime       = 1 << 6
	FlagReportReception  = 1 << 14
	FlagReportForwarding = 1 << 16
	FlagReportDelivery   = 1 << 17
	FlagReportDeletion   = 1 << 18
)

// Timestamp is a creation timestamp (RFC 9171, section 4.2.7).
type Timestamp struct {
	Time uint64 // DTN time, ms since 2000-01-01 UTC without leap seconds; 0: the source had no clock
	Seq  uint64
}

// epochMS is the start of DTN time in Unix time, ms.
const epochMS = 946_684_800_000

// DTNTime returns Unix milliseconds as DTN time, 0 for times before 2000.
func DTNTime(unixMS int64) uint64 { return uint64(max(unixMS-epochMS, 0)) }

// UnixMS returns the creation time in Unix milliseconds; ok is false when the
// source had no clock or the time is beyond what an int64 holds.
func (t Timestamp) UnixMS() (ms int64, ok bool) {
	if t.Time == 0 || t.Time > 1<<62 {
		return 0, false
	}
	return int64(t.Time) + epochMS, true
}

// Primary is the primary block (RFC 9171, section 4.3.1).
type Primary struct {
	Flags      uint64
	CRCType    CRCType // as received; AppendPrimary writes CRC32C whatever it is
	Dest       addr.EID
	Source     addr.EID
	ReportTo   addr.EID // zero is written as dtn:none
	Created    Timestamp
	Lifetime   uint64 // ms from creation
	FragOffset uint64 // with FlagFragment only
	TotalLen   uint64 // with FlagFragment only
}

// ID returns the bundle's name when a farhop node made it; otherwise its Node
// is zero. Fragments of one bundle share it.
func (p *Primary) ID() ID {
	n, _, _ := p.Source.Node()
	return ID{Node: n, Seq: Sequence(p.Created.Seq)}
}

const version7 = 7

// AppendPrimary appends the primary block with CRC32C.
func AppendPrimary(dst []byte, p *Primary) []byte { return appendPrimary(dst, p, CRC32C) }

// AppendPrimaryAs is AppendPrimary with the block's own CRCType: for fragments
// of a received bundle and for what is reassembled from them.
func AppendPrimaryAs(dst []byte, p *Primary) []byte { return appendPrimary(dst, p, p.CRCType) }

func appendPrimary(dst []byte, p *Primary, t CRCType) []byte {
	start := len(dst)
	dst = cbor.AppendArray(dst, primaryItems(p.Flags, t))
	dst = cbor.AppendUint(dst, version7)
	dst = cbor.AppendUint(dst, p.Flags)
	dst = cbor.AppendUint(dst, uint64(t))
	dst = AppendEID(dst, p.Dest)
	dst = AppendEID(dst, p.Source)
	dst = AppendEID(dst, p.ReportTo)
	dst = AppendTimestamp(dst, p.Created)
	dst = cbor.AppendUint(dst, p.Lifetime)
	if p.Flags&FlagFragment != 0 {
		dst = cbor.AppendUint(cbor.AppendUint(dst, p.FragOffset), p.TotalLen)
	}
	return AppendCRC(dst, t, BlockCRC(t, dst[start:]))
}

// AppendTimestamp appends a creation timestamp.
func AppendTimestamp(dst []byte, t Timestamp) []byte {
	return cbor.AppendUint(cbor.AppendUint(cbor.AppendArray(dst, 2), t.Time), t.Seq)
}

// ReadTimestamp reads a creation timestamp.
func ReadTimestamp(r *cbor.Reader) Timestamp {
	at := r.Offset()
	n := r.Array()
	if n != 2 && n != cbor.Indefinite {
		r.Fail(at, "want a creation timestamp, an array of 2 items")
	}
	t := Timestamp{Time: r.Uint(), Seq: r.Uint()}
	closeArray(r, n)
	return t
}

// primaryItems returns the number of items in the array of a primary block.
func primaryItems(flags uint64, t CRCType) int {
	n := 8
	if t != CRCNone {
		n++
	}
	if flags&FlagFragment != 0 {
		n += 2
	}
	return n
}

// primary reads the primary block into v; old provides guesses for EIDs.
func (p *parser) primary(v *View, old *Primary) {
	r := &p.r
	p.section("4.3.1")
	start := r.Offset()
	n := r.Array()
	at := r.Offset()
	if r.Uint() != version7 {
		r.Fail(at, "not version 7 of the bundle protocol")
	}
	pr := &v.Primary
	pr.Flags = r.Uint()
	pr.CRCType = p.crcType()
	if n != cbor.Indefinite && n != primaryItems(pr.Flags, pr.CRCType) {
		r.Fail(start, "a primary block whose number of items contradicts its flags and CRC type")
	}
	p.section("4.2.5.1")
	pr.Dest = readEID(r, &old.Dest, &old.Source)
	pr.Source = readEID(r, &old.Source, &pr.Dest)
	pr.ReportTo = readEID(r, &pr.Source, &old.ReportTo)
	p.section("4.2.7")
	pr.Created = ReadTimestamp(r)
	p.section("4.3.1")
	pr.Lifetime = r.Uint()
	if pr.Flags&FlagFragment != 0 {
		pr.FragOffset, pr.TotalLen = r.Uint(), r.Uint()
	}
	v.PrimaryRaw = p.finish(start, n, pr.CRCType)
}
