package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// Plan says how long a load is measured.
type Plan struct {
	Warm  time.Duration // after the first message arrived
	Time  time.Duration // that is measured
	Stall time.Duration // without an arrival, which ends the load
	// Drain is how long it may take, after the last publish, until everything
	// has arrived without an arrival in between.
	Drain time.Duration
	// CPU reads the processor time of the broker; nil measures none.
	CPU func() (time.Duration, error)
}

// Result is what a load found.
type Result struct {
	In, Out   uint64        // messages published and arrived in the measured time
	Time      time.Duration // that was measured
	CPU       time.Duration // of the broker, in that time
	Own       time.Duration // of this process, in that time
	Stalled   bool          // nothing came any more; Time ends with the last arrival
	After     uint64        // messages that had arrived when it stalled
	Missing   uint64        // of all, also outside the measured time: never came, as far as that is known
	Wrong     uint64        // came again, or after a later one of the same publisher
	Undrained uint64        // had not come at the end; they are missing, unless it stalled
}

// mark is the state of a load at one moment.
type mark struct {
	at       time.Time
	in, out  uint64
	cpu, own time.Duration
}

func (l *Load) mark(p Plan) (m mark, err error) {
	m = mark{at: time.Now(), in: l.in, out: l.out, own: proc.OwnCPU()}
	if p.CPU != nil {
		m.cpu, err = p.CPU()
	}
	return m, err
}

// Run publishes, measures, and waits until everything has arrived. A broker
// that stalls is no error: the result says so.
func (l *Load) Run(ctx context.Context, p Plan) (r Result, err error) {
	var first time.Time
	warm := func(now time.Time) bool {
		if first.IsZero() && l.out > 0 {
			first = now
		}
		return !first.IsZero() && now.Sub(first) >= p.Warm
	}
	err = l.drive(ctx, true, p.Stall, warm)
	from, markErr := l.mark(p)
	if err = errors.Join(err, markErr); err == nil {
		err = l.drive(ctx, true, p.Stall, func(now time.Time) bool { return now.Sub(from.at) >= p.Time })
	}
	stalled := errors.Is(err, ErrStalled)
	if err != nil && !stalled {
		return r, fmt.Errorf("load: after %d messages: %w", l.out, err)
	}
	to, err := l.mark(p)
	if err != nil {
		return r, fmt.Errorf("load: %w", err)
	}
	r = Result{In: to.in - from.in, Out: to.out - from.out, Time: to.at.Sub(from.at), CPU: to.cpu - from.cpu, Own: to.own - from.own}
	if stalled {
		r.Stalled, r.After = true, l.out
		if r.Time = l.progress.Sub(from.at); r.Out == 0 {
			r.Time = 0
		}
		l.count(&r)
		return r, nil
	}
	err = l.drive(ctx, false, p.Drain, func(time.Time) bool { return l.quiet() && l.complete() })
	if err != nil && !errors.Is(err, ErrStalled) {
		return r, fmt.Errorf("load: after %d messages: %w", l.out, err)
	}
	l.count(&r)
	r.Missing += r.Undrained
	return r, nil
}

// complete reports whether every message is accounted for.
func (l *Load) complete() bool {
	for _, p := range l.pubs {
		for _, s := range p.to {
			if s.next[p.index] != p.number {
				return false
			}
		}
	}
	return true
}

// count adds up what went wrong.
func (l *Load) count(r *Result) {
	for _, s := range l.subs {
		r.Missing += s.missing
		r.Wrong += s.wrong
	}
	for _, p := range l.pubs {
		for _, s := range p.to {
			r.Undrained += p.number - s.next[p.index]
		}
	}
}
