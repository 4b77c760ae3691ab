package core_test

import (
	"strings"
	"testing"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

const pair = `
	node a
	node b
	link a b delay=50ms
	subscribe b ops plant/# auto
	stabilize`

// Two ways from a to b, the shorter one by r, which holds the messages that
// were published first and lost its links.
const stuckAtR = `
	node a
	node r
	node b
	link a b delay=50ms
	link a r delay=10ms
	link r b delay=10ms
	subscribe b ops plant/# auto
	stabilize`

const detain = `
	sync a
	deliver a r
	sync r
	deliver r a
	down a r
	down r b
	lose r a
	stabilize`

// Control never waits behind data: also not when it has to become durable
// first, as everything has.
func TestControlPassesAFullWindow(t *testing.T) {
	e := newEnv()
	e.script(strings.Replace(pair, "delay=50ms", "delay=50ms window=20", 1))
	e.script("publish a plant/1 x n=4 class=bulk\n sync a\n send a b fleet ctl")
	if out := e.do("sync a"); !strings.Contains(out, "transfer control/1 ctl") {
		t.Errorf("the control message waits behind data:\n%s", out)
	}
}

// No class has more than 4096 bundles in flight on a link, so that each repeat
// after a lost acknowledgement falls into the windows of the far side.
func TestFlightsOfAClassAreBounded(t *testing.T) {
	e := newEnv()
	e.script(`
		node a
		node r
		node b
		node c
		link a r
		link r b
		link r c
		subscribe b ops one/#
		subscribe c ops two/#
		stabilize
		publish a one/1 x n=3000
		publish a two/1 y n=3000
		sync a`)
	if n := e.node("a").core.View().Links[0].Flights; n > 4096 {
		t.Errorf("%d bundles of one class are in flight", n)
	}
}

// An obituary that came early survives a restart: it was acknowledged.
func TestObituarySurvivesRestart(t *testing.T) {
	e := newEnv()
	e.script(stuckAtR)
	e.script("publish a plant/1 m0\n stabilize")
	e.script("publish a plant/1 m1" + detain)
	e.script(`
		cut a b
		publish a plant/1 m2 ttl=1s
		sync a
		down a b
		tick 2s
		heal a b
		up a b
		stabilize
		crash b
		up a b
		up r b
		stabilize`)
	e.script("publish a plant/1 m3\n stabilize\n connect b ops auto\n stabilize")
	if s := e.node("b").core.View(); s.Totals.Messages > 0 {
		t.Errorf("b waits for a message whose obituary it acknowledged:\n%s", e.do("view b"))
	}
}

// A PUBREL leaves only when it is durable that the device answered PUBREC,
// also when the device reconnects in between (MQTT 5, 4.3.3).
func TestReleaseWaitsForTheDisk(t *testing.T) {
	e := newEnv()
	out := e.script(`
		node a
		subscribe a ops plant/# qos=2
		stabilize
		publish a plant/1 m1 qos=2
		sync a
		settle a ops received
		connect a ops`)
	if strings.Contains(out, "releases") {
		t.Errorf("released before it was durable:\n%s", out)
	}
	if out = e.do("sync a"); !strings.Contains(out, "releases") {
		t.Errorf("not released when durable:\n%s", out)
	}
}

// What a device answered with PUBREC is released even if its life ended: the
// device keeps the packet id until PUBREL (MQTT 5, 4.3.3).
func TestReceivedOutlivesItsExpiry(t *testing.T) {
	for _, how := range []string{"connect a ops", "crash a\n load a\n tick 1s\n connect a ops"} {
		e := newEnv()
		out := e.script(`
			node a
			subscribe a ops plant/# qos=2
			stabilize
			publish a plant/1 m1 qos=2 ttl=5s
			sync a
			settle a ops received
			sync a
			tick 10s
			` + how)
		if !strings.Contains(out, "releases m1") {
			t.Errorf("%q: the device never gets PUBREL:\n%s", how, out)
		}
	}
}

// A peer that refuses a bundle and its obituary does not get the obituary
// again and again.
func TestRefusedObituaryEnds(t *testing.T) {
	e := newEnv()
	e.script(pair)
	e.script("publish a plant/1 m1\n sync a\n inject b a refuse class=telemetry xid=1 reason=not-allowed\n sync a")
	if out := e.do("inject b a refuse class=telemetry xid=2 reason=not-allowed") + e.do("sync a"); strings.Contains(out, "obituary") {
		t.Errorf("sent again:\n%s", out)
	}
}

// The order holds from the first message of a publisher on.
func TestFirstMessagesKeepTheirOrder(t *testing.T) {
	e := newEnv()
	e.script(stuckAtR)
	e.script("publish a plant/1 m1" + detain)
	out := e.do("publish a plant/1 m2") + e.script("stabilize")
	out += e.script("up r b\n stabilize")
	if m1, m2 := strings.Index(out, "b delivers m1"), strings.Index(out, "b delivers m2"); m2 >= 0 && m2 < m1 || m2 >= 0 && m1 < 0 {
		t.Errorf("m2 before m1:\n%s", out)
	}
}

// A second copy that arrives very late is still a copy.
func TestVeryLateCopyIsDropped(t *testing.T) {
	e := newEnv()
	e.script(stuckAtR)
	// r has m1 and sent it on; neither its own ack to a nor b's ack to r came.
	e.script(`
		publish a plant/1 m1
		sync a
		deliver a r
		sync r
		deliver r b
		down a r
		down r b
		stabilize`)
	for range 3 {
		e.script("publish a plant/1 x n=3000\n stabilize")
	}
	if out := e.do("up r b") + e.do("stabilize"); strings.Contains(out, "delivers m1") {
		t.Errorf("delivered twice:\n%s", out)
	}
}

// A node whose store was lost begins with boot 1 again. The mesh must believe
// it all the same.
func TestWipedNodeIsBelieved(t *testing.T) {
	e := newEnv()
	e.script(`
		node a
		node b
		node c
		link a b
		link b c
		subscribe c ops plant/#
		stabilize
		crash c
		up b c
		stabilize
		crash c wipe
		sync c
		up b c
		stabilize
		subscribe c ops other/#
		stabilize
		publish a other/1 m1`)
	if out := e.do("stabilize"); !strings.Contains(out, "delivers m1") {
		t.Errorf("the new interest of c is not known:\n%s", out)
	}
}

// A request that cannot be granted any more is answered.
func TestHaltedNodeAnswers(t *testing.T) {
	e := newEnv()
	e.script("node a\n subscribe a ops plant/#\n stabilize\n fail a\n publish a plant/1 m1\n sync a")
	if out := e.do("subscribe a ops other/#"); !strings.Contains(out, bundle.DiskFailed.String()) {
		t.Errorf("no answer: %q", out)
	}
}

// A leg that is out of order again and again is watched once.
func TestHeldLegsAreWatchedOnce(t *testing.T) {
	e := newEnv()
	e.script(pair)
	b := e.node("b")
	in := func(n uint64) core.Frame {
		return &core.Incoming{
			XID: 0, Class: bundle.Telemetry, Origin: addr.MustNode("x"), Bundle: bundle.NewSequence(9, bundle.Telemetry, n), DSeq: n,
			Message: bundle.ID{Node: addr.MustNode("x"), Seq: bundle.NewSequence(9, bundle.Telemetry, n)}, Node: b.name,
			Service: core.ServiceMQTT, QoS: 1, Topic: "plant/1", Life: 1000, Blob: blob("m", "plant/1", 0), Size: 10,
		}
	}
	xid := uint64(0)
	receive := func(n uint64) {
		f := in(n)
		xid++
		f.(*core.Incoming).XID = xid
		b.core.Receive(e.now, 1, []core.Frame{f})
		b.pump()
	}
	receive(1)
	for n := uint64(2); n < 200; n += 2 {
		receive(n + 1)
		receive(n)
	}
	if n := b.core.HeldLegs(); n > 1 {
		t.Errorf("one leg is watched %d times", n)
	}
}

// A window smaller than what is held back neither stalls nor breaks the order.
func TestLawsHoldInTinyWindows(t *testing.T) { playLaws(t, 4, 1000) }

// A store that is full of what came early still takes what is due: that is
// what lets the rest go.
func TestFullOfHeldBackTakesWhatIsDue(t *testing.T) {
	e := newEnv()
	e.script(strings.Replace(stuckAtR, "node b", "node b count=5", 1))
	e.script("publish a plant/1 m0\n stabilize\n publish a plant/1 m1" + detain)
	e.script("publish a plant/1 x n=8\n tick 3s\n up r b\n tick 10s")
	if out := e.do("view b") + e.do("view r") + e.do("view a"); strings.Contains(out, "order a/1") {
		t.Errorf("b has no room for the message that all others wait for:\n%s", out)
	}
}
