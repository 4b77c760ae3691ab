package emulator

import (
	"sync"
	"time"
)

// lane is one direction of the datagram half: a shaper, and the goroutine that
// delivers for it.
type lane struct {
	send  func(ps []*packet, failed []bool) // to the receiving sockets
	alarm *alarm                            // set, under mu, to the earliest arrival

	mu    sync.Mutex
	shape *shaper // guarded by mu
}

func newLane(c Config, p Profile, d Direction) (*lane, error) {
	a, err := newAlarm()
	if err != nil {
		return nil, err
	}
	return &lane{alarm: a, shape: newShaper(p, c.Seed, d, c.InFlight)}, nil
}

// offer hands datagrams to the shaper as of when they came, and clears those in ps that it took. The
// kernel missed some before them. short says that the emulator's memory was.
func (ln *lane) offer(now time.Time, ps []*packet, missed uint32) (short bool) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.shape.stats.Overrun += uint64(missed)
	head := false
	for i, p := range ps {
		v := ln.shape.offer(p.came, p)
		if v == verdictSent {
			head = head || ln.shape.wire.first() == p
			ps[i] = nil
		}
		short = short || v == verdictMemory
	}
	if head {
		ln.rearm(now)
	}
	return short
}

// Datagrams that arrive close together are delivered together, so that a fast
// link does not wake its machine for each: at most slackMost late, and by one
// part in slackShare of what they have travelled.
const (
	slackShare = 2000
	slackMost  = 500 * time.Microsecond
)

// rearm sets the alarm to the earliest arrival. The caller holds mu.
func (ln *lane) rearm(now time.Time) {
	if at, ok := ln.shape.wake(); ok {
		slack := min(at.Sub(ln.shape.wire.first().came)/slackShare, slackMost)
		ln.alarm.set(at.Sub(now) + max(slack, 0))
	}
}

// deliver hands arrived packets to done, batch by batch, once they were sent,
// until the alarm is closed. It is the only timer of its lane.
func (ln *lane) deliver(done func(ps []*packet)) {
	ready := make([]*packet, 0, batch)
	failed := make([]bool, batch)
	for ln.alarm.wait() {
		for {
			now := time.Now()
			ln.mu.Lock()
			ready = ln.shape.due(now, ready[:0])
			if len(ready) == 0 {
				ln.rearm(now)
			}
			ln.mu.Unlock()
			if len(ready) == 0 {
				break
			}
			// A receiver that refuses a datagram is a fact of the network, counted
			// and not an error.
			clear(failed)
			ln.send(ready, failed)
			ln.mu.Lock()
			for i, p := range ready {
				ln.shape.settle(p, !failed[i])
			}
			ln.mu.Unlock()
			done(ready)
		}
	}
}

// change alters the shaper at now and returns the packets it dropped.
func (ln *lane) change(now time.Time, f func(*shaper) []*packet) []*packet {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	dropped := f(ln.shape)
	ln.rearm(now)
	return dropped
}

// addStats fills d in, but for what TCP counts.
func (ln *lane) addStats(now time.Time, d *DirStats) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	carried := d.StreamBytes
	*d = ln.shape.stats
	d.StreamBytes, d.State, d.Open = carried, ln.shape.state, ln.shape.open(now)
}
