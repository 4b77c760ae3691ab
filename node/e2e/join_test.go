//go:build linux

package e2e

import (
	"testing"

	"github.com/farhop/farhop/node/config"
)

// TestJoinThroughRelay joins a node that reaches nobody but the relay, which
// does not hold the authority: its request travels to the issuer as messages
// do, through an outage of the way on which it is asked.
func TestJoinThroughRelay(t *testing.T) {
	full(t)
	earth, relay, luna := newDaemon(t, "earth-1"), newDaemon(t, "relay"), newDaemon(t, "luna-1")
	earth.init("earth")
	earth.run()
	up := wire(t, earth, 1, far)
	relay.join(earth.invite("leo", up.Addr().String()))
	relay.run()
	relay.linked(true, earth)
	down := wire(t, relay, 2, far)

	// No address of the ticket works: what counts is --via.
	ticket := earth.invite("luna", "127.0.0.1:9")
	up.Cut(true)
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		_, _, code := luna.try("", append([]string{"join", ticket, "--via", down.Addr().String()}, luna.listen()...)...)
		if code != 0 {
			t.Errorf("join: exit code %d", code)
		}
	}()
	relay.wait("a join request for earth", waitsFor("node earth-1"))
	up.Cut(false)
	<-joined
	c, err := config.Load(luna.dir + "/" + config.FileName)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Peers) != 1 || string(c.Peers[0].Address) != down.Addr().String() {
		t.Errorf("luna has the peers %+v, want the relay", c.Peers)
	}
	luna.run()
	luna.linked(true, relay)

	sub := subscribe(luna, "crew", "orders/#", 1)
	earth.knows(luna, "orders/#")
	sent := numbered("o", 20)
	publish(earth, "orders/1", 1, sent...)
	sub.once(sent)
}
