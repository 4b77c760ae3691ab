package bridge

import (
	"math"
	"sync"
	"time"
)

// roundTrip is the measured round trip to the remote, smoothed as RFC 6298
// does. Safe for concurrent use.
type roundTrip struct {
	mu          sync.Mutex
	mean, swing time.Duration
}

func (r *roundTrip) add(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d = max(d, 1)
	if r.mean == 0 {
		r.mean, r.swing = d, d/2
		return
	}
	r.swing += ((r.mean - d).Abs() - r.swing) / 4
	r.mean += (d - r.mean) / 8
}

// get returns the mean, 0 before the first measurement.
func (r *roundTrip) get() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mean
}

// patience is how long an answer may take: some round trips, and a second for
// the broker itself.
func (r *roundTrip) patience() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return 4*r.mean + 4*r.swing + time.Second
}

const (
	minWindow = 256 // messages; costs nothing, and the first measurement may be of a proxy nearby
	minKeep   = 15 * time.Second
	firstWait = 100 * time.Millisecond // before the second attempt on a short path
)

// window is how many messages keep the path full at the configured rate, with
// a quarter to spare for its swings.
func (c Config) window(rtt time.Duration) int {
	if c.Window != 0 {
		return c.Window
	}
	return int(min(max(rtt.Seconds()*float64(c.Rate)*1.25, minWindow), math.MaxUint16))
}

// silence is how long a connection may be silent before the bridge asks twice:
// thirty round trips, within bounds. What the broker is told is KeepAlive, for
// it counts whole packets, and a large one takes its time on a thin link.
func (c Config) silence(rtt time.Duration) time.Duration {
	return min(max(30*rtt, minKeep), c.KeepAlive)
}

// pause is how long to wait after the nth failure in a row, from 1, before
// jitter.
func (c Config) pause(n int, rtt time.Duration) time.Duration {
	d := max(2*rtt, firstWait, c.RetryMin)
	for range min(n-1, 30) {
		if d *= 2; d >= c.RetryMax {
			break
		}
	}
	return min(d, c.RetryMax)
}

// step is how long one step of connecting may take. Nobody knows how long a
// path is before it has been gone, so after attempts that ran out of time the
// next get more, up to what TCP itself tries, and then begin anew: where nobody
// answers, a short attempt finds sooner that somebody does again.
func (c Config) step(late int, rtt *roundTrip) time.Duration {
	return max(c.ConnectTimeout<<(late%4), 2*rtt.patience())
}
