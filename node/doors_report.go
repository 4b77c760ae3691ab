package node

import (
	"strconv"
	"sync"
	"time"

	"github.com/farhop/farhop/node/dtn"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/bundle/bpa"
)

// reportTTL is the lifetime of a status report.
const reportTTL = 24 * time.Hour

// reporter makes status reports about bundles of other stacks, as far as they
// ask for them and configuration allows.
type reporter struct {
	d    *doors
	self addr.EID

	mu   sync.Mutex // guards what follows
	r    *bpa.Reporter
	last uint64 // creation time and number of the last report
	seq  uint64
}

// newReporter allows perMinute reports to an endpoint, none with 0.
func newReporter(d *doors, self addr.EID, perMinute int) (*reporter, error) {
	if perMinute == 0 {
		return &reporter{}, nil
	}
	r, err := bpa.NewReporter(bpa.ReporterConfig{PerSecond: float64(perMinute) / 60, Burst: max(perMinute/6, 1)})
	return &reporter{d: d, self: self, r: r}, err
}

func (r *reporter) on() bool { return r.r != nil }

// make reports that s happened to a bundle, when it asks for that.
func (r *reporter) make(raw []byte, s bpa.Status, code bpa.Code) {
	if !r.on() {
		return
	}
	v, err := bundle.Parse(raw)
	if err != nil {
		return
	}
	now := r.d.loop.clock.now()
	r.mu.Lock()
	rep, ok := r.r.Report(&v, s, code, now, r.d.dated)
	created := r.stamp(now)
	r.mu.Unlock()
	if !ok {
		return
	}
	p := bundle.Primary{
		Dest: v.Primary.ReportTo, Source: r.self, ReportTo: addr.None, Flags: bundle.FlagAdminRecord,
		Created: created, Lifetime: uint64(reportTTL / time.Millisecond),
	}
	b := bundle.AppendBundle(nil, bundle.AppendPrimary(nil, &p), bundle.AppendPayload(nil, rep.Append(nil)), bundle.Hop{NoAge: r.d.dated})
	a, why := r.d.gateway.In(dtn.Received{Bundle: b}, r.d.now())
	if why != bundle.OK {
		r.d.log.Debug("a status report has no way", "to", bundle.EIDText(p.Dest), "reason", why)
		return
	}
	r.d.act(a, func(bundle.Reason) {})
}

// stamp is a creation timestamp that no other report of this node has. The
// caller holds mu.
func (r *reporter) stamp(now time.Time) bundle.Timestamp {
	if !r.d.dated {
		r.seq++
		return bundle.Timestamp{Seq: r.d.stamp ^ uint64(now.UnixNano()) + r.seq}
	}
	t := bundle.DTNTime(now.UnixMilli())
	if t <= r.last {
		t = r.last
		r.seq++
	} else {
		r.seq = 0
	}
	r.last = t
	return bundle.Timestamp{Time: t, Seq: r.seq}
}

// StatusReport is the payload of a publication on ReportTopic.
type StatusReport struct {
	Bundle   string `json:"bundle"` // SOURCE TIME SEQUENCE, as in the property dtn-bundle
	Status   string `json:"status"` // received, forwarded, delivered or deleted: the last that is asserted
	Reason   string `json:"reason"`
	Code     uint64 `json:"code"`
	Fragment bool   `json:"fragment,omitempty"`
	Offset   uint64 `json:"offset,omitempty"`
	Length   uint64 `json:"length,omitempty"`
}

func reportOf(r bpa.Report) StatusReport {
	out := StatusReport{
		Bundle: bundle.EIDText(r.Source) + " " + strconv.FormatUint(r.Created.Time, 10) + " " + strconv.FormatUint(r.Created.Seq, 10),
		Reason: r.Code.String(), Code: uint64(r.Code), Fragment: r.Fragment, Offset: r.Offset, Length: r.FragBytes,
	}
	for s, name := range []string{"received", "forwarded", "delivered", "deleted"} {
		if r.Is[s] {
			out.Status = name
		}
	}
	return out
}
