package bpa

import (
	"fmt"
	"strconv"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// Code is the reason in a status report (RFC 9171, section 9.5).
type Code uint64

// The codes. Others are passed on as numbers.
const (
	NoInformation          Code = 0
	LifetimeExpired        Code = 1
	Unidirectional         Code = 2
	TransmissionCanceled   Code = 3
	DepletedStorage        Code = 4
	DestinationUnavailable Code = 5
	NoKnownRoute           Code = 6
	NoTimelyContact        Code = 7
	Unintelligible         Code = 8
	HopLimitExceeded       Code = 9
	TrafficPared           Code = 10
	BlockUnsupported       Code = 11
)

var codeNames = [...]string{
	"no additional information", "lifetime expired", "forwarded over unidirectional link", "transmission canceled",
	"depleted storage", "destination endpoint unavailable", "no known route to destination", "no timely contact with next node",
	"block unintelligible", "hop limit exceeded", "traffic pared", "block unsupported",
}

// String returns the meaning of the code.
func (c Code) String() string {
	if c < Code(len(codeNames)) {
		return codeNames[c]
	}
	return "code " + strconv.FormatUint(uint64(c), 10)
}

// CodeOf returns what a status report says of a bundle that ended for a reason
// of ours.
func CodeOf(r bundle.Reason) Code {
	switch r {
	case bundle.Expired:
		return LifetimeExpired
	case bundle.Purged:
		return TransmissionCanceled
	case bundle.StoreFull, bundle.QuotaExceeded, bundle.DiskFailed, bundle.Displaced:
		return DepletedStorage
	case bundle.NoSubscriber, bundle.SessionEnded:
		return DestinationUnavailable
	case bundle.NoRoute:
		return NoKnownRoute
	case bundle.Malformed, bundle.Damaged:
		return Unintelligible
	case bundle.HopLimit:
		return HopLimitExceeded
	case bundle.TooLarge, bundle.NotAllowed, bundle.Duplicate, bundle.ShuttingDown:
		return TrafficPared
	case bundle.OK:
	}
	return NoInformation
}

// Status is something that happened to a bundle, in the order of a report.
type Status int

// The statuses.
const (
	Received Status = iota
	Forwarded
	Delivered
	Deleted
	numStatuses
)

// requests are the flags of a bundle that ask for a report.
var requests = [numStatuses]uint64{
	bundle.FlagReportReception, bundle.FlagReportForwarding, bundle.FlagReportDelivery, bundle.FlagReportDeletion,
}

// Report is a bundle status report (RFC 9171, section 6.1.1).
type Report struct {
	Is        [numStatuses]bool
	At        [numStatuses]uint64 // DTN time, ms; 0: not said
	Code      Code
	Source    addr.EID // of the bundle reported on
	Created   bundle.Timestamp
	Fragment  bool
	Offset    uint64 // of the fragment
	FragBytes uint64 // of the fragment's payload
}

// recordReport is the type of a status report among administrative records
// (RFC 9171, section 9.7).
const recordReport = 1

// Append appends the report as an administrative record: the payload of a
// bundle with FlagAdminRecord.
func (r Report) Append(dst []byte) []byte {
	dst = cbor.AppendUint(cbor.AppendArray(dst, 2), recordReport)
	items := 4
	if r.Fragment {
		items = 6
	}
	dst = cbor.AppendArray(cbor.AppendArray(dst, items), int(numStatuses))
	for i, is := range r.Is {
		if is && r.At[i] != 0 {
			dst = cbor.AppendUint(cbor.AppendBool(cbor.AppendArray(dst, 2), true), r.At[i])
		} else {
			dst = cbor.AppendBool(cbor.AppendArray(dst, 1), is)
		}
	}
	dst = bundle.AppendEID(cbor.AppendUint(dst, uint64(r.Code)), r.Source)
	dst = bundle.AppendTimestamp(dst, r.Created)
	if r.Fragment {
		dst = cbor.AppendUint(cbor.AppendUint(dst, r.Offset), r.FragBytes)
	}
	return dst
}

// Record is an administrative record (RFC 9171, section 6.1).
type Record struct {
	Type    uint64
	Report  Report // of type 1
	Content []byte // encoded, a view
}

// IsReport reports whether the record is a status report.
func (r Record) IsReport() bool { return r.Type == recordReport }

// ParseRecord reads the payload of an administrative bundle. Records of other
// types than status reports are returned unread: RFC 9713 registers some.
func ParseRecord(payload []byte) (Record, error) {
	r := cbor.NewReader(payload)
	n := r.Array()
	if n != 2 && n != cbor.Indefinite {
		r.Fail(0, "want an administrative record, an array of 2 items")
	}
	rec := Record{Type: r.Uint()}
	start := r.Offset()
	if rec.IsReport() {
		rec.Report = readReport(&r)
	} else {
		r.Skip()
	}
	if r.Err() == nil {
		rec.Content = r.Since(start)
	}
	closeArray(&r, n)
	r.End()
	if err := r.Err(); err != nil {
		return Record{}, fmt.Errorf("malformed administrative record (RFC 9171, section 6.1): %w", err)
	}
	return rec, nil
}

func readReport(r *cbor.Reader) (rep Report) {
	at := r.Offset()
	n := r.Array()
	if n != 4 && n != 6 && n != cbor.Indefinite {
		r.Fail(at, "want a status report, an array of 4 or 6 items")
	}
	readStatuses(r, &rep)
	rep.Code = Code(r.Uint())
	rep.Source = bundle.ReadEID(r)
	rep.Created = bundle.ReadTimestamp(r)
	if n == 6 || n == cbor.Indefinite && r.Peek() == cbor.KindUint {
		rep.Fragment, rep.Offset, rep.FragBytes = true, r.Uint(), r.Uint()
	}
	closeArray(r, n)
	return rep
}

// readStatuses reads the four assertions, and steps over more of later
// versions ("at least four").
func readStatuses(r *cbor.Reader, rep *Report) {
	at := r.Offset()
	n := r.Array()
	if n >= 0 && n < int(numStatuses) {
		r.Fail(at, "want at least 4 statuses")
	}
	for i := range rep.Is {
		at := r.Offset()
		k := r.Array()
		if rep.Is[i] = r.Bool(); k == 2 || k == cbor.Indefinite && r.Peek() == cbor.KindUint {
			rep.At[i] = r.Uint()
		} else if k != 1 && k != cbor.Indefinite {
			r.Fail(at, "want a status, an array of 1 or 2 items")
		}
		closeArray(r, k)
	}
	if n != cbor.Indefinite {
		r.SkipN(n - int(numStatuses))
		return
	}
	for r.Err() == nil && !r.Break() {
		r.Skip()
	}
}

// closeArray consumes the break of an array read with length n.
func closeArray(r *cbor.Reader, n int) {
	if n == cbor.Indefinite && !r.Break() {
		r.Fail(r.Offset(), "more items than the structure has")
	}
}
