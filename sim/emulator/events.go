package emulator

import (
	"context"
	"errors"
	"time"

	"github.com/farhop/farhop/sim/emulator/desc"
)

// ConfigOf returns the configuration of a described link.
func ConfigOf(d desc.Link) Config {
	return Config{
		Network: d.Network, Listen: d.Listen, To: d.To, Seed: d.Seed,
		Up: d.Up, Down: d.Down, RebindEvery: d.RebindEvery, Events: d.Events,
	}
}

// Do does one step to the link now.
func (l *Link) Do(s desc.Step) error {
	switch s.Do {
	case desc.Cut:
		l.SetState(StateCut, StateCut)
	case desc.Blackhole:
		l.SetState(StateBlackhole, StateBlackhole)
	case desc.HalfOpen:
		if s.Direction == desc.Up {
			l.SetState(StateCut, StateOpen)
		} else {
			l.SetState(StateOpen, StateCut)
		}
	case desc.Heal:
		l.SetState(StateOpen, StateOpen)
	case desc.Rebind:
		_, err := l.Rebind()
		return err
	default:
		return errors.New("link emulator: nothing is called " + string(s.Do))
	}
	return nil
}

// SetRebindEvery changes how often the link rebinds, counted from its opening;
// 0 is never.
func (l *Link) SetRebindEvery(d time.Duration) {
	l.mu.Lock()
	l.rebindEvery = max(d, 0)
	l.mu.Unlock()
	notify(l.replan)
}

// events returns what is planned now.
func (l *Link) events() []desc.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rebindEvery == 0 {
		return l.cfg.Events
	}
	often := desc.Event{At: l.rebindEvery, Every: l.rebindEvery, Do: desc.Rebind}
	return append([]desc.Event{often}, l.cfg.Events...)
}

// runEvents does what is planned until ctx ends. A step that comes late is done
// late, but none is left out.
func (l *Link) runEvents(ctx context.Context) error {
	done := time.Duration(-1)
	for {
		at, todo := desc.NextStep(l.events(), done)
		var when time.Time // zero: nothing is planned
		if len(todo) > 0 {
			when = l.opened.Add(at)
		}
		changed, err := l.waitPlan(ctx, when)
		if err != nil {
			return nil // the link is closed
		}
		if changed {
			done = max(done, time.Since(l.opened)) // a new plan does not reach back
			continue
		}
		for _, s := range todo {
			if err := l.Do(s); err != nil {
				l.log.Warn("event of the link failed", "do", string(s.Do), "err", err)
			}
		}
		done = at
	}
}

// waitPlan waits until when, for ever if it is zero; changed says that the plan
// has changed first.
func (l *Link) waitPlan(ctx context.Context, when time.Time) (changed bool, err error) {
	var ring <-chan time.Time
	if !when.IsZero() {
		timer := time.NewTimer(time.Until(when))
		defer timer.Stop()
		ring = timer.C
	}
	select {
	case <-ring:
		return false, nil
	case <-l.replan:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
