package bridge

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestFarRemotes has remotes at the end of paths of up to a minute and a half,
// in virtual time and with the configuration a user starts with. A bridge
// connects, carries both ways, stays on one connection while nothing happens,
// and comes back after it was cut.
func TestFarRemotes(t *testing.T) {
	for _, c := range []struct {
		rtt      time.Duration
		attempts uint64 // until it knows how long the path is
	}{
		{2600 * time.Millisecond, 1},
		{20 * time.Second, 1},
		{90 * time.Second, 3},
	} {
		t.Run(c.rtt.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { far(t, c.rtt, c.attempts) })
		})
	}
}

func far(t *testing.T, rtt time.Duration, attempts uint64) {
	const n = 100
	rules := []Rule{{Direction: Out, Filter: "up"}, {Direction: Out, Filter: "up2"}, {Direction: In, Filter: "down"}}
	b := newBetween(t, nil, rules, func(ctx context.Context, wg *sync.WaitGroup, there *peer) (net.Conn, time.Duration, error) {
		return dialPath(ctx, wg, there, rtt/2, 0)
	})
	here, there := b.here, b.there
	here.send("up", 1, sequence(n)...)
	here.send("up2", 2, sequence(n)...)
	there.send("down", 2, sequence(n)...)
	b.start(t)

	time.Sleep(8*rtt + 5*time.Minute)
	if s := b.Status(); s.State != Connected || s.Attempts != attempts || s.Links != 1 || s.RTT < rtt/2 || s.RTT > 2*rtt {
		t.Errorf("the bridge is not as it should be: %+v", s)
	}
	time.Sleep(time.Hour) // nothing happens, and keepalive keeps it
	if s := b.Status(); s.State != Connected || s.Links != 1 {
		t.Errorf("after a quiet hour: %+v", s)
	}
	here.mu.Lock()
	here.send("up", 1, "late")
	here.mu.Unlock()
	(<-b.links).Close() // and what is new goes over the next connection
	time.Sleep(10*rtt + 5*time.Minute)
	if s := b.Status(); s.State != Connected || s.Links != 2 {
		t.Errorf("after a cut: %+v", s)
	}
	if !here.settled() || !there.settled() {
		t.Error("not all is acknowledged to its source")
	}
	var out, in []string
	for _, topic := range []string{"up ", "up2 "} {
		for _, s := range sequence(n) {
			out = append(out, topic+s)
		}
	}
	for _, s := range sequence(n) {
		in = append(in, "down "+s)
	}
	if got := there.got(); !slices.Equal(got, append(out, "up late")) {
		t.Errorf("there came %d messages: %.200q", len(got), got)
	}
	if got := here.got(); !slices.Equal(got, in) {
		t.Errorf("here came %d messages: %.200q", len(got), got)
	}
	b.end()
}

// TestThinLink has a message take more than a minute on its way, each way, to
// a remote that is near. The answers to pings wait behind it, and no silence
// is taken for the end.
func TestThinLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 4000 // bytes/s
		b := newBetween(t, nil, []Rule{{Direction: Out, Filter: "up"}, {Direction: In, Filter: "down"}},
			func(ctx context.Context, wg *sync.WaitGroup, there *peer) (net.Conn, time.Duration, error) {
				return dialPath(ctx, wg, there, 25*time.Millisecond, rate)
			})
		here, there := b.here, b.there
		large := strings.Repeat("x", 75*rate)
		here.send("up", 1, large, "small")
		there.send("down", 2, large, "small")
		b.start(t)
		time.Sleep(time.Hour)
		if !here.settled() || !there.settled() || len(there.got()) != 2 || len(here.got()) != 2 {
			t.Errorf("%d messages out and %d in, of 2 each", len(there.got()), len(here.got()))
		}
		if s := b.Status(); s.State != Connected || s.Links > 4 {
			t.Errorf("status %+v", s)
		}
		b.end()
	})
}
