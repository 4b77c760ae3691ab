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

// TestRebindAtFirstWords cuts the way back to a node that dialled just after
// its session came up, and gives the node another address when it has sent all
// that it may without being heard. Its handshake is not confirmed, so quic-go
// repeats nothing of what it sent: the other end goes on answering an address
// that is no more, and hears of no other. What waited goes by the third node,
// so nobody needs the session, and it has to be made anew all the same.
func TestRebindAtFirstWords(t *testing.T) {
	for _, after := range []time.Duration{0, 20, 40, 80, 160} {
		after *= time.Millisecond
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { rebindAtFirstWords(t, after) })
		})
	}
}

func rebindAtFirstWords(t *testing.T, after time.Duration) {
	w := newSoak(t, soakWorlds()[1], 1, "a", "b", "c")
	w.dials(0, 1)
	w.dials(0, 2)
	w.dials(1, 2)
	defer w.start()()
	a, b := w.nodes[0], w.nodes[1]
	w.net.Rebind(a.home()) // what is sent to its home would arrive
	w.recovered("at the start")
	a.shut(false)
	a.start() // to a peer it knows: up after one round trip
	for a.manager.Session(b.name) == nil {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(after)
	w.cut(1, 0, 1)
	for range 40 {
		a.send(b.name, bundle.Telemetry, 10_000)
	}
	time.Sleep(time.Second)
	w.net.Rebind(a.home())
	w.cut(1, 0, -1)
	w.slow = 0
	w.recovered("after the cut")
	w.settled()
	t.Logf("up after %v", w.slow)
}
