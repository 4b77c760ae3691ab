package node

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

// TestRebindWhileHalfOpen cuts one way between two nodes, or both, and gives
// the node that dialled another address while they are cut. quic-go asks the new
// address again and again whether it is real, after pauses that double, and then
// not at all: the session may stay dead until its idle timeout, also when
// nothing waits for it that would show it. When the ways are whole both ends
// must have a session that carries, within what the profile's row adds up to and
// however long the cut was, and what is sent then must arrive.
func TestRebindWhileHalfOpen(t *testing.T) {
	worlds := soakWorlds()
	for i, cut := range []time.Duration{10 * time.Second, 2 * time.Minute, 5 * time.Minute, 9 * time.Minute, time.Hour} {
		for _, ways := range []string{"back", "there", "both"} {
			for dialer := range 2 {
				for sender := -1; sender < 2; sender++ {
					world := worlds[(i+dialer)%len(worlds)]
					name := fmt.Sprintf("%s-%v-%s-dialled-%d-sent-%d", world.name, cut, ways, dialer, sender)
					t.Run(name, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { rebindWhileHalfOpen(t, world, cut, ways, dialer, sender) })
					})
				}
			}
		}
	}
}

// rebindWhileHalfOpen has nodes[dialer] dial; sender submits a bundle as soon as
// the ways are whole, -1: nobody does.
func rebindWhileHalfOpen(t *testing.T, world soakWorld, cut time.Duration, ways string, dialer, sender int) {
	w := newSoak(t, world, 1, "a", "b")
	near, far := dialer, 1-dialer
	w.dials(near, far)
	defer w.start()()
	w.net.Rebind(w.nodes[near].home()) // what is sent to its home would arrive
	w.recovered("at the start")
	turn := func(by int) {
		if ways != "there" {
			w.cut(far, near, by)
		}
		if ways != "back" {
			w.cut(near, far, by)
		}
	}
	turn(1)
	time.Sleep(time.Second)
	w.net.Rebind(w.nodes[near].home())
	time.Sleep(cut)
	turn(-1)
	if sender >= 0 {
		w.nodes[sender].send(w.nodes[1-sender].name, bundle.Telemetry, 10)
		time.Sleep(time.Second) // it is accepted
	}
	w.most = 0
	w.recovered("after the cut")
	w.settled()
	t.Logf("up after %v", w.slow)
}
