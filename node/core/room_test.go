package core_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// However work comes in, and wherever it goes on to, the store is never handed
// more puts than it has room for; and once there is room again everything that
// was acknowledged comes, once and in order.
func TestRoomIsNeverExceeded(t *testing.T) {
	refused := 0
	for seed := range uint64(12) {
		l := newLaws(t, seed, 64, 1000)
		if seed%2 == 1 {
			l.e.do("settings batch=8000 batch-wait=20ms order-wait=10m")
		}
		rng := rand.New(rand.NewPCG(seed, 8))
		for range 150 {
			node := []string{"a", "r", "b", "d"}[rng.IntN(4)]
			switch rng.IntN(6) {
			case 0:
				l.e.do("room %s left=%d", node, rng.IntN(4)*rng.IntN(300_000))
			case 1:
				l.next++
				out := l.e.do("publish a plant/1 m%d size=%d", l.next, rng.IntN(40_000))
				refused += strings.Count(out, "store-full")
			default:
				l.disturb(rng)
			}
		}
		for _, n := range l.e.nodes {
			l.e.do("room %s", n.name.String())
		}
		l.calm()
		l.judge()
		if l.e.overfull > 0 {
			t.Errorf("seed %d: %d batches exceed the room", seed, l.e.overfull)
		}
		if t.Failed() {
			return
		}
	}
	if refused == 0 {
		t.Error("nothing was ever refused")
	}
}

// What is taken counts at once, wherever it goes and however many come in one
// turn: also with many recipients, before it is in a batch of the store, and
// while it waits for company.
func TestRoomCountsWhatIsUnderWay(t *testing.T) {
	const budget = 40_000 // beyond what telemetry leaves to the classes above
	crowd := crowdAt("b", 100)
	tests := []struct {
		name, setup, node string
		publish           string
		times             int
		refusals          string // of stats
	}{
		{"one by one", pair, "a", "publish a plant/1 m size=3000", 40, "Submitted store-full"},
		{"in one turn", pair, "a", "publish a plant/1 m size=3000 n=40", 1, "Submitted store-full"},
		{"for many", pair + crowd, "b", "publish b plant/1 m n=40", 1, "Submitted store-full"},
		{"of a peer, for many", pair + crowd, "b", "publish a plant/1 m n=40", 1, "Refused store-full"},
		{"in batches", pair + "\n settings batch=60000 batch-wait=5s\n stabilize", "a", "publish a plant/1 m size=300 n=10", 30, "Submitted store-full"},
		{
			"of a peer, in transit", "node a\n node r\n node b\n link a r\n link r b\n subscribe b ops plant/# auto\n stabilize", "r",
			"publish a plant/1 m size=3000 n=40", 1, "Refused store-full",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := newEnv()
			e.script(test.setup)
			e.do("room %s left=%d", test.node, 256<<10+budget)
			for range test.times {
				e.do("%s", test.publish)
			}
			e.script("stabilize\n tick 6s")
			if n := e.node(test.node).puts; n == 0 || n > budget {
				t.Errorf("%d bytes were put, of %d", n, budget)
			}
			if out := e.do("stats %s", test.node); !strings.Contains(out, test.refusals) {
				t.Errorf("nothing was refused:\n%s", out)
			}
		})
	}
}

// crowdAt lets so many sessions of a node subscribe to plant/#.
func crowdAt(node string, n int) (script string) {
	for k := range n {
		script += fmt.Sprintf("\n connect %[1]s c%[2]d\n subscribe %[1]s c%[2]d plant/#", node, k)
	}
	return script + "\n stabilize"
}

// A small message is refused when its places in many queues find no room.
func TestRoomCountsRecipientsFirst(t *testing.T) {
	for _, from := range []string{"a", "b"} {
		e := newEnv()
		e.script(pair + crowdAt("b", 400))
		e.script(fmt.Sprintf("room b left=%d\n publish %s plant/1 m\n stabilize", 256<<10+15_000, from))
		if n := e.node("b").puts; n > 0 {
			t.Errorf("published at %s: %d bytes were put, of 15000", from, n)
		}
	}
}

// A retained message is state, and large: it counts as well, in the turn in
// which it comes.
func TestRoomCountsRetainedMessages(t *testing.T) {
	e := newEnv()
	e.script(fmt.Sprintf("node a\n stabilize\n room a left=%d", 256<<10+40_000))
	before := e.node("a").cost
	out := e.do("publish a plant/1 m size=9000 retain n=9") + e.do("publish a plant/2 m size=9000 retain qos=0 n=9") + e.do("stabilize")
	if n := e.node("a").cost - before; n < 20_000 || n > 41_000 || !strings.Contains(out, "store-full") {
		t.Errorf("%d bytes were written of 40000:\n%s", n, out)
	}
}

// What is held back for the sake of order and given up stays where it is until
// there is room, and keeps its order.
func TestHeldBackWaitsForRoom(t *testing.T) {
	e := newEnv()
	e.script(pair)
	b := e.node("b")
	for xid, dseq := range []uint64{1, 3, 4, 6} {
		id := bundle.NewSequence(9, bundle.Telemetry, dseq)
		b.core.Receive(e.now, 1, []core.Frame{&core.Incoming{
			XID: uint64(xid + 1), Class: bundle.Telemetry, Origin: addr.MustNode("x"), Bundle: id, DSeq: dseq,
			Message: bundle.ID{Node: addr.MustNode("x"), Seq: id}, Node: b.name, Service: core.ServiceMQTT, QoS: 1, Topic: "plant/1",
			Life: 1 << 40, Blob: blob(fmt.Sprintf("m%d", dseq), "plant/1", 0), Size: 10,
		}})
		b.pump()
		b.sync()
	}
	e.script("lose b a\n room b left=300")
	if out := e.do("tick 11m") + e.do("tick 11m"); strings.Contains(out, "delivers") {
		t.Errorf("moved on without room:\n%s", out)
	}
	e.do("room b left=800") // for one of them
	if out := e.do("tick 11m"); !strings.Contains(out, "delivers m3") || strings.Contains(out, "delivers m4") {
		t.Errorf("want m3 alone:\n%s", out)
	}
	e.do("room b")
	out := e.do("tick 11m") + e.do("tick 11m")
	if m4, m6 := strings.Index(out, "delivers m4"), strings.Index(out, "delivers m6"); m4 < 0 || m6 < m4 {
		t.Errorf("want m4, then m6:\n%s", out)
	}
	if e.overfull > 0 || strings.Contains(e.do("view b"), "order") {
		t.Errorf("%d batches exceed the room; left behind:\n%s", e.overfull, e.do("view b"))
	}
}

// What waits for a subscriber in its region, or is handed on between services,
// waits for room as well.
func TestMovesWaitForRoom(t *testing.T) {
	e := newEnv()
	e.script(`
		node a region=luna
		node b region=earth
		link a b delay=10ms
		stabilize
		publish a plant/1 m only=earth
		send b b door one
		stabilize
		room b left=50
		subscribe b ops plant/#`)
	e.do("open b other 7")
	if out := e.do("readdress b door other") + e.do("stabilize"); strings.Contains(out, "delivers") {
		t.Errorf("moved on without room:\n%s", out)
	}
	out := e.do("room b") + e.do("stabilize")
	for _, want := range []string{"b delivers m to ops", "b delivers one to other"} {
		if !strings.Contains(out, want) {
			t.Errorf("with room again, want %q:\n%s", want, out)
		}
	}
}

// Publishers that try again and again on a full disk do not fill it.
func TestRefusalsWriteNothing(t *testing.T) {
	e := newEnv()
	e.script("node a\n subscribe a ops plant/#\n connect a plc\n stabilize\n room a left=1000")
	before := e.node("a").cost
	for range 50 {
		e.script("publish a plant/1 m client=plc\n publish a plant/1 m qos=2 client=plc packet=7\n disconnect a plc\n connect a plc\n stabilize")
	}
	if n := e.node("a").cost - before; n > 0 {
		t.Errorf("refusals wrote %d bytes", n)
	}
}
