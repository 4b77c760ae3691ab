//go:build !linux

package emulator

import (
	"sync"
	"time"
)

// alarm wakes one waiting goroutine at a set time, as finely as the runtime's
// timers are.
type alarm struct {
	timer *time.Timer
	done  chan struct{}
	once  sync.Once
}

func newAlarm() (*alarm, error) {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &alarm{timer: t, done: make(chan struct{})}, nil
}

// set rings after d, at once if d is not positive, and forgets any earlier
// setting.
func (a *alarm) set(d time.Duration) { a.timer.Reset(max(d, 0)) }

// wait blocks until the alarm rings; false means it was closed.
func (a *alarm) wait() bool {
	select {
	case <-a.timer.C:
		return true
	case <-a.done:
		return false
	}
}

// close ends wait. Closing again is a no-op.
func (a *alarm) close() {
	a.once.Do(func() { close(a.done) })
	a.timer.Stop()
}
