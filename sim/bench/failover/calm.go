package failover

import (
	"context"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// calm lets all wires be full for a while. No node may find a link silent.
func (c Config) calm(ctx context.Context, t *triangle, f *flow) (r Report, err error) {
	begun, before := time.Now(), f.count()
	probes, err := t.from.watched(ctx, "probes")
	if err != nil {
		return r, err
	}
	if !pause(ctx, c.Time) {
		return r, context.Cause(ctx)
	}
	took, came := time.Since(begun).Seconds(), f.count()-before
	after, err := t.from.watched(ctx, "probes")
	if err != nil {
		return r, err
	}
	late, err := t.from.watched(ctx, "late-wakes")
	if err != nil {
		return r, err
	}
	r = Report{
		Every: float64(c.Every.Microseconds()) / 1000, Busy: c.Busy, Disk: proc.FileSystem(c.Dir), Seconds: took,
		Rate: float64(came) * floodSize * 8 / took / 1e6, Probes: (after - probes) / took, LateWakes: int(late),
	}
	if err := f.settle(ctx); err != nil {
		return r, err
	}
	return r, r.judge(t, f, nil)
}

func (f *flow) count() (n int) {
	for _, s := range f.all {
		n += s.count()
	}
	return n
}
