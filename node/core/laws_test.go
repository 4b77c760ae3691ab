package core_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
)

// laws watches a world and judges it at the end: what was acknowledged comes,
// once, and in the order it was published.
type laws struct {
	t     *testing.T
	seed  uint64
	e     *env
	next  int
	acked map[string]bool
	got   map[string]map[string]bool // by client
	last  map[string]int             // number of the last message of a client
}

var lawClients = map[string]string{"ops": "b", "log": "d", "far": "r"}

const lawWorld = `
	node a window=%[1]d count=%[2]d
	node r window=%[1]d count=%[2]d
	node b window=%[1]d count=%[2]d
	node d window=%[1]d count=%[2]d
	link a r delay=10ms window=200
	link r b delay=15ms window=200
	link a d delay=20ms window=200
	link d b delay=5ms window=200
	subscribe b ops plant/# qos=1 auto
	subscribe d log plant/# qos=2 auto
	subscribe r far plant/+ qos=1 auto
	stabilize
	publish a plant/1 m0
	tick 5s`

func newLaws(t *testing.T, seed uint64, window, count int) *laws {
	l := &laws{
		t: t, seed: seed, e: newEnv(), acked: map[string]bool{}, got: map[string]map[string]bool{}, last: map[string]int{},
	}
	for c := range lawClients {
		l.got[c] = map[string]bool{}
	}
	l.e.onReply = func(what string, r bundle.Reason) {
		if label, ok := strings.CutPrefix(what, "publish "); ok && r == bundle.OK {
			l.acked[label] = true
		}
	}
	l.e.onDeliver = l.delivered
	l.e.script(fmt.Sprintf(lawWorld, window, count))
	return l
}

func (l *laws) delivered(client, label string, d core.Delivery) {
	if l.got[client][label] {
		if !d.Dup {
			l.t.Errorf("seed %d: %s got %s twice, and was not told", l.seed, client, label)
		}
		return
	}
	l.got[client][label] = true
	var n int
	if _, err := fmt.Sscanf(label, "m%d", &n); err != nil {
		l.t.Fatal(err)
	}
	if n < l.last[client] {
		l.t.Errorf("seed %d: %s got m%d after m%d", l.seed, client, n, l.last[client])
	}
	l.last[client] = max(l.last[client], n)
}

var lawLinks = []string{"a r", "r b", "a d", "d b"}

// disturb does one random thing.
func (l *laws) disturb(rng *rand.Rand) {
	link := lawLinks[rng.IntN(len(lawLinks))]
	node := []string{"a", "r", "b", "d"}[rng.IntN(4)]
	client := []string{"ops", "log", "far"}[rng.IntN(3)]
	switch rng.IntN(14) {
	case 0:
		l.e.do("crash %s", node)
	case 1:
		l.e.do("down %s", link)
	case 2, 3:
		l.e.do("up %s", link)
	case 4:
		l.e.do("cut %s", link)
	case 5, 6:
		l.e.do("heal %s", link)
	case 7:
		l.e.do("disconnect %s %s", lawClients[client], client)
	case 8:
		l.e.do("connect %s %s auto receive=%d", lawClients[client], client, 1+rng.IntN(6))
	case 9:
		l.e.do("sync %s", node)
	case 10:
		l.e.do("deliver")
	case 11:
		l.e.do("tick %dms", rng.IntN(3000))
	default:
		for range 1 + rng.IntN(6) {
			l.next++
			l.e.do("publish a plant/1 m%d qos=%d", l.next, 1+l.next%2)
		}
	}
}

// calm repairs everything and gives it time.
func (l *laws) calm() {
	for _, link := range lawLinks {
		l.e.do("heal %s", link)
		l.e.do("up %s", link)
	}
	for c, n := range lawClients {
		l.e.do("connect %s %s auto receive=3", n, c)
	}
	l.e.do("tick 60s")
}

func TestLawsHoldInSmallStores(t *testing.T) { playLaws(t, 64, 60) }

func playLaws(t *testing.T, window, count int) {
	for seed := range uint64(25) {
		playSeed(t, seed, window, count)
		if t.Failed() {
			return
		}
	}
}

func playSeed(t *testing.T, seed uint64, window, count int) {
	l := newLaws(t, seed, window, count)
	rng := rand.New(rand.NewPCG(seed, 5))
	for range 120 {
		l.disturb(rng)
	}
	l.calm()
	l.judge()
}

// In these worlds a node is half full of messages that came too early, and
// those that they wait for stand at a neighbour behind what it refused: they
// came round by another way.
func TestAwaitedBehindRefused(t *testing.T) {
	for _, w := range []struct {
		seed  uint64
		count int
	}{{5040, 60}, {5064, 60}, {5126, 60}, {3, 40}, {13, 40}, {34, 30}} {
		playSeed(t, w.seed, 64, w.count)
	}
}

func (l *laws) judge() {
	for _, n := range l.e.nodes {
		if s := n.core.View().Totals; s.Messages != 0 || s.Bytes != 0 || s.Cached != 0 {
			l.t.Errorf("seed %d: %s still holds %+v\n%s", l.seed, n.name, s, l.e.do("view %s", n.name.String()))
		}
	}
	for n := range l.next + 1 {
		label := fmt.Sprintf("m%d", n)
		for c := range lawClients {
			if l.acked[label] && !l.got[c][label] {
				l.t.Errorf("seed %d: %s never got %s", l.seed, c, label)
			}
		}
	}
}

// A bundle that was held back over a restart keeps its payload.
func TestHeldBackKeepsPayload(t *testing.T) {
	e := newEnv()
	e.script(stuckAtR)
	e.script("publish a plant/1 m0\n stabilize\n publish a plant/1 m1" + detain)
	e.script("publish a plant/1 m2\n stabilize\n crash b\n up a b\n stabilize\n connect b ops\n up r b")
	if out := e.do("stabilize"); strings.Contains(out, "no such message") || !strings.Contains(out, "delivers m2") {
		t.Errorf("m2 lost its payload:\n%s", out)
	}
}
