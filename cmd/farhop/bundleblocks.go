package main

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/bundle/bpa"
)

// maxShown is the most bytes of a block's data that are printed.
const maxShown = 4096

// bundleHead is what the primary block says, and what follows from it.
type bundleHead struct {
	ID          string        `json:"id,omitempty"` // of a bundle that a farhop node made
	Version     int           `json:"version"`
	Flags       uint64        `json:"flags"`
	FlagNames   []string      `json:"flag_names"`
	Destination string        `json:"destination"`
	Source      string        `json:"source"`
	ReportTo    string        `json:"report_to"`
	Created     createdInfo   `json:"created"`
	Lifetime    uint64        `json:"lifetime_ms"`
	Expires     string        `json:"expires,omitempty"` // by the clock of its source
	Fragment    *fragmentInfo `json:"fragment,omitempty"`
	Shortest    bool          `json:"deterministic_encoding"`
}

type createdInfo struct {
	Time uint64 `json:"time_ms"` // since 2000; 0: no clock
	Seq  uint64 `json:"seq"`
	UTC  string `json:"utc,omitempty"`
}

type fragmentInfo struct {
	Offset uint64 `json:"offset"`
	Bytes  int    `json:"bytes"`
	Total  uint64 `json:"total"`
}

// FlagText names the flags for people.
func (h *bundleHead) FlagText() string {
	if len(h.FlagNames) == 0 {
		return ""
	}
	return "; " + strings.Join(h.FlagNames, ", ")
}

type flagName struct {
	bit  uint64
	name string
}

var bundleFlags = []flagName{
	{bundle.FlagFragment, "fragment"},
	{bundle.FlagAdminRecord, "administrative-record"},
	{bundle.FlagNoFragment, "must-not-fragment"},
	{bundle.FlagAckRequested, "acknowledgement-requested"},
	{bundle.FlagStatusTime, "status-time-requested"},
	{bundle.FlagReportReception, "report-reception"},
	{bundle.FlagReportForwarding, "report-forwarding"},
	{bundle.FlagReportDelivery, "report-delivery"},
	{bundle.FlagReportDeletion, "report-deletion"},
}

var blockFlags = []flagName{
	{bundle.BlockReplicate, "replicate"},
	{bundle.BlockReport, "report"},
	{bundle.BlockDeleteBundle, "delete-bundle"},
	{bundle.BlockDiscard, "discard"},
}

// namesOf names the bits that have a name, and the rest as a number.
func namesOf(table []flagName, flags uint64) []string {
	out := []string{}
	for _, f := range table {
		if flags&f.bit != 0 {
			out = append(out, f.name)
			flags &^= f.bit
		}
	}
	if flags != 0 {
		out = append(out, "unassigned-0x"+strconv.FormatUint(flags, 16))
	}
	return out
}

func headOf(v *bundle.View) *bundleHead {
	if v.PrimaryRaw == nil {
		return nil
	}
	p := &v.Primary
	h := &bundleHead{
		Version: 7, Flags: p.Flags, FlagNames: namesOf(bundleFlags, p.Flags),
		Destination: bundle.EIDText(p.Dest), Source: bundle.EIDText(p.Source), ReportTo: bundle.EIDText(p.ReportTo),
		Created: createdInfo{Time: p.Created.Time, Seq: p.Created.Seq}, Lifetime: p.Lifetime, Shortest: v.Shortest,
	}
	if v.HasMesh {
		h.ID = p.ID().String()
	}
	const year9999 = 253_402_300_799_000 // later ones have no RFC 3339 form
	if ms, ok := p.Created.UnixMS(); ok && ms < year9999 {
		h.Created.UTC = utcText(ms)
		if p.Lifetime < uint64(year9999-ms) {
			h.Expires = utcText(ms + int64(p.Lifetime))
		}
	}
	if p.Flags&bundle.FlagFragment != 0 {
		h.Fragment = &fragmentInfo{p.FragOffset, len(v.Payload.Data), p.TotalLen}
	}
	return h
}

func utcText(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// blockInfo is one block.
type blockInfo struct {
	Name      string   `json:"name"` // "unknown" for types this program does not read
	Type      *uint64  `json:"type,omitempty"`
	Number    uint64   `json:"number"`
	Flags     uint64   `json:"flags"`
	FlagNames []string `json:"flag_names"`
	CRC       crcInfo  `json:"crc"`
	Offset    int      `json:"offset"` // in the bundle
	Length    int      `json:"length"` // of the encoded block
	DataLen   int      `json:"data_length"`
	Data      string   `json:"data,omitempty"` // hexadecimal, at most 4,096 bytes of it
	Truncated bool     `json:"data_truncated,omitempty"`
	Value     any      `json:"value,omitempty"` // what the data say, where it is known
}

type crcInfo struct {
	Type  string `json:"type"`
	Value string `json:"value,omitempty"`
	Wrong bool   `json:"wrong,omitempty"`
}

var crcNames = map[bundle.CRCType]string{bundle.CRCNone: "none", bundle.CRC16: "crc16", bundle.CRC32C: "crc32c"}

// crcOf finds the checksum at the end of an encoded block.
func crcOf(t bundle.CRCType, raw []byte) crcInfo {
	if raw[0] == 0x9f { // an array of indefinite length ends in a break
		raw = raw[:len(raw)-1]
	}
	n := map[bundle.CRCType]int{bundle.CRC16: 2, bundle.CRC32C: 4}[t]
	return crcInfo{Type: crcNames[t], Value: hex.EncodeToString(raw[len(raw)-n:])}
}

var blockNames = map[uint64]string{
	bundle.TypePayload: "payload", bundle.TypePrevNode: "previous-node", bundle.TypeAge: "age", bundle.TypeHopCount: "hop-count",
	bundle.TypeMesh: "mesh", bundle.TypeIntegrity: "integrity", bundle.TypeConfidentiality: "confidentiality",
}

// blocksOf lists the blocks of v; the last has a wrong checksum when badCRC.
func blocksOf(v *bundle.View, badCRC bool) []blockInfo {
	out := []blockInfo{}
	if v.PrimaryRaw == nil {
		return out
	}
	p := &v.Primary
	at := 1 // behind the head of the outer array
	out = append(out, blockInfo{
		Name: "primary", Flags: p.Flags, FlagNames: namesOf(bundleFlags, p.Flags), CRC: crcOf(p.CRCType, v.PrimaryRaw),
		Offset: at, Length: len(v.PrimaryRaw),
	})
	at += len(v.PrimaryRaw)
	for i := range v.Blocks {
		b := &v.Blocks[i]
		info := blockInfo{
			Name: orDash(blockNames[b.Type], "unknown"), Type: &b.Type, Number: b.Number, Flags: b.Flags, FlagNames: namesOf(blockFlags, b.Flags),
			CRC: crcOf(b.CRCType, b.Raw), Offset: at, Length: len(b.Raw), DataLen: len(b.Data), Truncated: len(b.Data) > maxShown,
			Data: hex.EncodeToString(b.Data[:min(len(b.Data), maxShown)]), Value: valueOf(v, b),
		}
		out = append(out, info)
		at += len(b.Raw)
	}
	out[len(out)-1].CRC.Wrong = badCRC
	return out
}

// valueOf says what the data of a block mean. Of a type that repeats, the View
// knows the first.
func valueOf(v *bundle.View, b *bundle.Block) any {
	switch b.Type {
	case bundle.TypePrevNode:
		return bundle.EIDText(v.Prev)
	case bundle.TypeAge:
		return map[string]int64{"age_ms": v.Age.Milliseconds()}
	case bundle.TypeHopCount:
		return map[string]uint8{"limit": v.HopLimit, "count": v.HopCount}
	case bundle.TypeMesh:
		if v.HasMesh {
			return map[string]any{"dseq": v.Mesh.DSeq, "message": v.Mesh.Message.String(), "qos": v.Mesh.QoS}
		}
	case bundle.TypePayload:
		if v.Primary.Flags&(bundle.FlagAdminRecord|bundle.FlagFragment) == bundle.FlagAdminRecord {
			return recordOf(b.Data)
		}
	}
	return nil
}

// recordOf says what an administrative record reports.
func recordOf(data []byte) any {
	rec, err := bpa.ParseRecord(data)
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	if !rec.IsReport() {
		return map[string]uint64{"record_type": rec.Type}
	}
	r := rec.Report
	var statuses []string
	for i, name := range []string{"received", "forwarded", "delivered", "deleted"} {
		if r.Is[i] {
			statuses = append(statuses, name)
		}
	}
	out := map[string]any{
		"record_type": rec.Type, "status": statuses, "report_code": uint64(r.Code), "reason": r.Code.String(),
		"source": bundle.EIDText(r.Source), "created": createdInfo{Time: r.Created.Time, Seq: r.Created.Seq},
	}
	if r.Fragment {
		out["fragment"] = map[string]uint64{"offset": r.Offset, "bytes": r.FragBytes}
	}
	return out
}

// cells are the columns of a block in the table for people.
func (b *blockInfo) cells() []string {
	typ, content, crc := "", "", b.CRC.Type
	if b.CRC.Wrong {
		crc += " WRONG"
	}
	if b.Type != nil {
		typ = strconv.FormatUint(*b.Type, 10)
	}
	switch x := b.Value.(type) {
	case nil:
		const most = 24
		content = b.Data[:min(len(b.Data), most)]
		if len(b.Data) > most {
			content += "..."
		}
	case map[string]int64:
		content = spanText(time.Duration(x["age_ms"]) * time.Millisecond)
	case map[string]uint8:
		content = fmt.Sprintf("hop %d of %d", x["count"], x["limit"])
	default:
		content = strings.TrimPrefix(fmt.Sprint(x), "map")
	}
	return []string{
		b.Name, typ, strconv.FormatUint(b.Number, 10), strings.Join(b.FlagNames, ","), crc,
		strconv.Itoa(b.Offset), strconv.Itoa(b.Length), content,
	}
}
