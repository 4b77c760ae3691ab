package core_test

import (
	"strings"
	"testing"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// A peer that breaks the rules of a session loses it, or is refused.
func TestReceiveGuards(t *testing.T) {
	other := addr.MustNode("elsewhere")
	tests := []struct {
		name string
		edit func(*core.Incoming)
		want string
	}{
		{"in order", func(*core.Incoming) {}, "b -> a ack telemetry/1"},
		{"transfer left out", func(in *core.Incoming) { in.XID = 2 }, "closes a link: transfer 2 of class telemetry where 1 was due"},
		{"transfer repeated", func(in *core.Incoming) { in.XID = 0 }, "closes a link: transfer 0 of class telemetry where 1 was due"},
		{"round and round", func(in *core.Incoming) { in.Hops, in.Node = core.MaxHops, other }, "b -> a refuse telemetry/1 hop-limit"},
		{"the last hop but one", func(in *core.Incoming) { in.Hops, in.Node = core.MaxHops-1, other }, "b -> a ack telemetry/1"},
		{"unreadable", func(in *core.Incoming) { in.Bad = bundle.Malformed }, "b -> a refuse telemetry/1 malformed"},
		{"no place in an order", func(in *core.Incoming) { in.DSeq = 0 }, "b -> a refuse telemetry/1 malformed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := newEnv()
			e.script(pair)
			b := e.node("b")
			in := &core.Incoming{
				XID: 1, Class: bundle.Telemetry, Origin: addr.MustNode("x"), Bundle: bundle.NewSequence(9, bundle.Telemetry, 1), DSeq: 1,
				Message: bundle.ID{Node: addr.MustNode("x"), Seq: bundle.NewSequence(9, bundle.Telemetry, 1)}, Node: b.name,
				Service: core.ServiceMQTT, QoS: 1, Topic: "plant/1", Life: 1000, Blob: blob("m", "plant/1", 0), Size: 10,
			}
			test.edit(in)
			e.out.Reset()
			b.core.Receive(e.now, 1, []core.Frame{in})
			b.pump()
			b.sync()
			if out := e.out.String(); !strings.Contains(out, test.want) {
				t.Errorf("want %q, got:\n%s", test.want, out)
			}
		})
	}
}

// What arrives at a node that has not yet read back what it held before a
// restart, and the restart after that.
func TestHeldBackOverTwoRestarts(t *testing.T) {
	e := newEnv()
	e.script(stuckAtR)
	e.script("publish a plant/1 m0\n stabilize\n publish a plant/1 m1" + detain)
	// b holds m2 to m5 back; its acknowledgement is lost with the crash.
	e.script("publish a plant/1 m2\n publish a plant/1 m3\n publish a plant/1 m4\n publish a plant/1 m5")
	e.script("sync a\n deliver a b\n sync b\n crash b")
	e.script("up a b\n deliver a b\n up r b\n deliver r b\n connect b ops")
	out := e.do("stabilize")
	for _, m := range []string{"m1", "m2", "m3", "m4", "m5"} {
		if n := strings.Count(out, "b delivers "+m+" "); n != 1 {
			t.Errorf("%s was delivered %d times:\n%s", m, n, out)
		}
	}
	if out := e.do("view b"); strings.Contains(out, "order") {
		t.Errorf("something is still held back:\n%s", out)
	}
	e.script("crash b\n up a b\n stabilize\n connect b ops auto\n stabilize\n publish a plant/1 m6")
	if out := e.do("stabilize"); !strings.Contains(out, "delivers m6") {
		t.Errorf("m6 waits for what came long ago:\n%s%s", out, e.do("view b"))
	}
}

// A node that lost its store does not wait for what it once had.
func TestWipedNodeBeginsWhereItsPeersAre(t *testing.T) {
	e := newEnv()
	e.script(pair)
	e.script("publish a plant/1 x n=5000\n stabilize\n crash b wipe\n sync b\n up a b\n stabilize\n subscribe b ops plant/# auto\n stabilize")
	e.do("publish a plant/1 m1")
	if out := e.do("stabilize"); !strings.Contains(out, "delivers m1") {
		t.Errorf("m1 is not delivered:\n%s", out)
	}
}

// Sessions leave nothing behind.
func TestEndedSessionsLeaveNoQueues(t *testing.T) {
	e := newEnv()
	e.script("node a\n stabilize")
	for range 20 {
		e.script("connect a ops\n subscribe a ops plant/#\n publish a plant/1 m\n stabilize\n disconnect a ops expiry=0\n stabilize")
	}
	for k := range 20 {
		e.script(strings.ReplaceAll("connect a c%\n subscribe a c% plant/#\n publish a plant/1 m\n stabilize\n disconnect a c% expiry=0\n stabilize", "%", string(rune('a'+k))))
	}
	if n := e.node("a").core.Queues(); n > 1 {
		t.Errorf("%d queues are left", n)
	}
}

// What was given up and comes after all comes once.
func TestLateMessageComesOnce(t *testing.T) {
	e := newEnv()
	e.script(pair)
	b := e.node("b")
	receive := func(xid, dseq uint64) string {
		e.out.Reset()
		b.core.Receive(e.now, 1, []core.Frame{&core.Incoming{
			XID: xid, Class: bundle.Telemetry, Origin: addr.MustNode("x"), Bundle: bundle.NewSequence(9, bundle.Telemetry, dseq), DSeq: dseq,
			Message: bundle.ID{Node: addr.MustNode("x"), Seq: bundle.NewSequence(9, bundle.Telemetry, dseq)}, Node: b.name,
			Service: core.ServiceMQTT, QoS: 1, Topic: "plant/1", Life: 1 << 40, Blob: blob("m", "plant/1", 0), Size: 10,
		}})
		b.pump()
		b.sync()
		out := e.out.String()
		e.do("lose b a") // a knows nothing of these transfers
		return out
	}
	receive(1, 1)
	receive(2, 4)
	e.do("tick 11m")
	for k, dseq := range []uint64{3, 2} {
		if out := receive(uint64(3+2*k), dseq); !strings.Contains(out, "b delivers") {
			t.Errorf("number %d is not delivered:\n%s", dseq, out)
		}
		if out := receive(uint64(4+2*k), dseq); strings.Contains(out, "b delivers") {
			t.Errorf("number %d is delivered again:\n%s", dseq, out)
		}
	}
}

// What has left a queue stands nowhere, though a store that writes its
// removals lazily may still show it.
func TestStandingsOfWhatIsGone(t *testing.T) {
	e := newEnv()
	e.script(pair)
	a := e.node("a")
	stands := func(k int) (found, behind bool) {
		seq := uint64(k)
		all, through := a.core.Standings(store.Queue{Kind: store.ToNode, Name: "b", Class: bundle.Telemetry}, []uint64{seq})
		_, found = all[seq]
		return found, seq > through
	}
	e.script("publish a plant/1 m0\n sync a")
	waits := false
	for k := 1; k < 10 && !waits; k++ {
		waits, _ = stands(k)
	}
	if !waits {
		t.Fatal("nothing waits")
	}
	e.script("stabilize")
	for k := 1; k < 10; k++ {
		if found, behind := stands(k); found || behind {
			t.Errorf("message %d: found %v, behind the window %v", k, found, behind)
		}
	}
}
