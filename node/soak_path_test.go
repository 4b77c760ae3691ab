package node

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

// TestRebindWhileHalfOpen cuts the way back to a node that dialled, and gives
// the node another address while it is cut. quic-go asks the new address again
// and again whether it is real, after pauses that double: when the way is
// whole, the session may need as long again as it was cut, and no longer than
// the idle timeout, which ends it. Both ends must come to know, also the one
// that hears all the time and is not heard, and what it sends must arrive.
func TestRebindWhileHalfOpen(t *testing.T) {
	for _, cut := range []time.Duration{10 * time.Second, 2 * time.Minute, 5 * time.Minute, 9 * time.Minute, time.Hour} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newSoak(t, soakWorlds()[1], 1, "a", "b")
				w.dials(0, 1)
				defer w.start()()
				w.net.Rebind(w.nodes[0].home()) // what is sent to its home would arrive
				w.recovered("at the start")
				w.cut(1, 0, 1)
				time.Sleep(time.Second)
				w.net.Rebind(w.nodes[0].home())
				time.Sleep(cut)
				w.cut(1, 0, -1)
				w.most = cut
				w.nodes[1].send(w.nodes[0].name, bundle.Telemetry, 10)
				time.Sleep(time.Second) // it is accepted
				began := time.Now()
				w.recovered("after the cut")
				w.settled()
				t.Logf("up after %v", time.Since(began))
			})
		})
	}
}
