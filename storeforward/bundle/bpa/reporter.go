package bpa

import (
	"errors"
	"fmt"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// ReporterConfig limits status reports. The zero value sends none: reports
// multiply traffic, and RFC 9171, section 5.1, has them off by default.
type ReporterConfig struct {
	PerSecond float64 // per report-to endpoint; 0: no reports at all
	Burst     int     // at once, per endpoint; 0: 1
	Endpoints int     // that are counted at one time; 0: 1024
}

// Bounds that keep times far from overflow.
const (
	leastRate = 1.0 / 86400
	mostRate  = 1e6
	mostBurst = 10_000
)

// Validate reports all faults of the configuration.
func (c ReporterConfig) Validate() error {
	var errs []error
	if c.PerSecond != 0 && !(c.PerSecond >= leastRate && c.PerSecond <= mostRate) {
		errs = append(errs, fmt.Errorf("reports per second %v: want 0, or %v (one per day) to %v", c.PerSecond, leastRate, mostRate))
	}
	if c.Burst < 0 || c.Burst > mostBurst || c.Endpoints < 0 {
		errs = append(errs, fmt.Errorf("burst and endpoints of reports: want 0 or more, a burst of at most %d", mostBurst))
	}
	return errors.Join(errs...)
}

// ReporterStats counts what became of the reports that were asked for.
type ReporterStats struct {
	Made    uint64
	Limited uint64 // over the rate of their endpoint, or of all of them together
	Barred  uint64 // about administrative or anonymous bundles, or to nobody
}

// Reporter decides which status reports are made. It is not safe for
// concurrent use.
type Reporter struct {
	c     ReporterConfig
	full  map[addr.EID]time.Time // when the allowance of an endpoint is whole again
	swept time.Time              // when endpoints were last forgotten
	stats ReporterStats
}

// NewReporter returns a Reporter.
func NewReporter(c ReporterConfig) (*Reporter, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Burst = max(c.Burst, 1)
	if c.Endpoints == 0 {
		c.Endpoints = 1024
	}
	return &Reporter{c: c, full: map[addr.EID]time.Time{}}, nil
}

// Stats returns the counters.
func (r *Reporter) Stats() ReporterStats { return r.stats }

// Report makes the report that s happened to a bundle, if its flags ask for it,
// the rules allow it and the rate of its report-to endpoint is not used up. It
// goes to that endpoint, as the payload of a bundle with FlagAdminRecord.
//
// s Received with code BlockUnsupported is asked for by flags of blocks instead
// (RFC 9171, section 5.6, step 4). Nothing is ever reported about
// administrative records, so that no report begets another, nor about anonymous
// bundles, nor to dtn:none.
//
// now only has to be monotonic for the rate; it is the time in the report when
// clock says that it is right and the bundle asks for times.
func (r *Reporter) Report(v *bundle.View, s Status, code Code, now time.Time, clock bool) (Report, bool) {
	p := &v.Primary
	if r.c.PerSecond == 0 || s < 0 || s >= numStatuses || !asked(v, s, code) {
		return Report{}, false
	}
	to := p.ReportTo
	if p.Flags&bundle.FlagAdminRecord != 0 || bundle.IsNull(p.Source) || bundle.IsNull(to) || bundle.IsLocalNode(to) {
		r.stats.Barred++
		return Report{}, false
	}
	if !r.take(bundle.Canonical(to), now) {
		r.stats.Limited++
		return Report{}, false
	}
	r.stats.Made++
	rep := Report{Code: code, Source: p.Source, Created: p.Created}
	rep.Is[s] = true
	if clock && p.Flags&bundle.FlagStatusTime != 0 {
		rep.At[s] = bundle.DTNTime(now.UnixMilli())
	}
	if p.Flags&bundle.FlagFragment != 0 {
		rep.Fragment, rep.Offset, rep.FragBytes = true, p.FragOffset, uint64(len(v.Payload.Data))
	}
	return rep, true
}

func asked(v *bundle.View, s Status, code Code) bool {
	if s != Received || code != BlockUnsupported {
		return v.Primary.Flags&requests[s] != 0
	}
	for i := range v.Blocks {
		if b := &v.Blocks[i]; !b.Known() && b.Flags&bundle.BlockReport != 0 {
			return true
		}
	}
	return false
}

// take draws one report from the allowance of an endpoint. The allowance is
// kept as the time at which it is whole again: each report moves that on by
// one interval, and it may lie at most Burst intervals ahead.
func (r *Reporter) take(to addr.EID, now time.Time) bool {
	interval := time.Duration(float64(time.Second) / r.c.PerSecond)
	whole, known := r.full[to]
	if !known {
		if len(r.full) >= r.c.Endpoints && now.Sub(r.swept) >= interval {
			r.forget(now)
		}
		if len(r.full) >= r.c.Endpoints {
			return false
		}
	}
	if whole.Before(now) {
		whole = now
	}
	if whole.Sub(now) > interval*time.Duration(r.c.Burst-1) {
		return false
	}
	r.full[to] = whole.Add(interval)
	return true
}

// forget drops the endpoints whose allowance is whole.
func (r *Reporter) forget(now time.Time) {
	r.swept = now
	for to, whole := range r.full {
		if !whole.After(now) {
			delete(r.full, to)
		}
	}
}
