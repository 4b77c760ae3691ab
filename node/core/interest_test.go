package core_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/farhop/farhop/routing"
)

// advert is what n told last of of.
func advert(n *enode, of string) *routing.Advert {
	for _, a := range n.core.Snapshot().Adverts {
		if a.Node.String() == of {
			return a
		}
	}
	return &routing.Advert{}
}

func newPair() *env {
	e := newEnv()
	e.script(`node a
		node b
		link a b delay=10ms
		subscribe a dev base/#
		stabilize`)
	return e
}

// TestCoveredFilterTellsNothing: a filter below one that is told already sends
// nothing to the mesh, neither when it comes nor when it goes.
func TestCoveredFilterTellsNothing(t *testing.T) {
	e := newPair()
	before := advert(e.node("a"), "a").Seq
	for k := range 200 {
		e.do("subscribe a dev%d base/%d/+", k%7, k)
		e.do("stabilize")
	}
	for k := range 100 {
		e.do("unsubscribe a dev%d base/%d/+", k%7, k)
		e.do("stabilize")
	}
	e.do("tick 5s")
	if a := advert(e.node("b"), "a"); a.Seq != before || !slices.Equal(a.Interest, []string{"base/#"}) {
		t.Errorf("%d adverts for filters below base/#; b knows %v", a.Seq-before, a.Interest)
	}
	// Without the wide one, those below it count.
	e.do("unsubscribe a dev base/#")
	e.do("tick 1s")
	if a := advert(e.node("b"), "a"); len(a.Interest) != 100 {
		t.Errorf("b knows %d filters, want the 100 that base/# covered", len(a.Interest))
	}
}

// TestInterestChurn: 10,000 subscriptions that come and go cost the mesh a
// bounded number of adverts, and what is left is known soon after.
func TestInterestChurn(t *testing.T) {
	e := newPair()
	a := e.node("a")
	before, start := advert(a, "a").Seq, e.now
	for k := range 10_000 {
		verb := "subscribe"
		if k%2 == 1 {
			verb = "unsubscribe"
		}
		e.do("%s a dev churn/%d", verb, k/2%50)
		e.now = e.now.Add(2 * time.Millisecond)
		if a.core.Tick(e.now); k%10 == 0 {
			a.pump()
			e.do("stabilize")
		}
	}
	took := e.now.Sub(start)
	if n, most := advert(a, "a").Seq-before, uint64(20+took/time.Second); n > most {
		t.Errorf("%d adverts in %s of churn, want at most %d", n, took, most)
	}
	e.do("subscribe a dev last/#")
	e.do("tick 3s")
	if b := advert(e.node("b"), "a"); !slices.Equal(b.Interest, []string{"base/#", "last/#"}) {
		t.Errorf("after the churn b knows %v", b.Interest)
	}
	// After a quiet time news is told at once.
	e.do("tick 1m")
	e.do("subscribe a dev news/#")
	e.do("stabilize")
	if b := advert(e.node("b"), "a"); !slices.Contains(b.Interest, "news/#") {
		t.Errorf("after a quiet time b knows %v, want news/# at once", b.Interest)
	}
}

// TestManySubscribers: 3,000 devices with a filter each that all come at once
// cost a few adverts, and reach the other node.
func TestManySubscribers(t *testing.T) {
	e := newPair()
	before := advert(e.node("a"), "a").Seq
	for k := range 3000 {
		e.do("subscribe a m%d many/%d/cmd", k, k)
	}
	e.do("tick 15s")
	got := advert(e.node("b"), "a")
	if n := got.Seq - before; n > 24 {
		t.Errorf("%d adverts for 3,000 subscribers that came at once", n)
	}
	for _, k := range []int{0, 1500, 2999} {
		wanted := false
		for _, f := range got.Interest {
			wanted = wanted || f == fmt.Sprintf("many/%d/cmd", k) || f == "many/#"
		}
		if !wanted {
			t.Errorf("b does not know of many/%d/cmd", k)
		}
	}
}
