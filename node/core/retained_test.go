package core_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// gives hands a node a retained message of another one, with a stamp of the
// caller's choice.
func gives(e *env, to *enode, from, topic, label string, stamp core.Stamp, left, age time.Duration) error {
	text := fmt.Sprintf("%s %s @%d  ", label, topic, stamp)
	data := core.AppendGive(topic, stamp, addr.MustNode(from), left.Milliseconds(), []byte(text))
	err := to.core.Compare(e.now, addr.MustNode(from), age, data, func(b []byte) (string, uint8, error) {
		return topicOf(&store.Blob{B: b}), 1, nil
	})
	to.pump()
	return err
}

// TestStampsOfTheFuture: a message from a node whose clock is years ahead is
// in order by its stamp, and can be replaced; but our clock does not follow.
func TestStampsOfTheFuture(t *testing.T) {
	e := newEnv()
	e.script("node a\nnode b\nlink a b\nsubscribe a ops plant/# auto\nstabilize\ntick 1s")
	a := e.node("a")
	near := core.Stamp(e.now.Add(30*time.Minute).UnixMilli()) << 16
	far := core.Stamp(e.now.Add(40*365*24*time.Hour).UnixMilli()) << 16
	for _, g := range []struct {
		topic, label string
		stamp        core.Stamp
	}{{"plant/near", "n", near}, {"plant/far", "f", far}, {"plant/last", "l", core.MaxStamp - 1}} {
		if err := gives(e, a, "b", g.topic, g.label, g.stamp, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.core.Stats().StampsAhead; n != 2 {
		t.Errorf("%d stamps ahead, want 2", n)
	}
	if s := a.core.Stamp(e.now, "plant/other"); s <= near || s > near+16 {
		t.Errorf("the clock is at %v after %v, want just after what it could follow", s.Time(), near.Time())
	}
	if s := a.core.Stamp(e.now, "plant/far"); s != far+1 {
		t.Errorf("the next stamp of a topic of the future is %v, want %v", s, far+1)
	}
	for _, topic := range []string{"near", "far", "last"} {
		e.do("publish a plant/%s mine-%s retain", topic, topic)
	}
	e.do("stabilize")
	want := "plant/far mine-far\nplant/last mine-last\nplant/near mine-near\n"
	if got := e.do("retained a"); got != want {
		t.Errorf("a has\n%swant\n%s", got, want)
	}
	if err := gives(e, a, "b", "plant/x", "x", core.MaxStamp+1, 0, 0); err == nil {
		t.Error("a stamp beyond the last one is taken")
	}
}

// TestStampsAfterCrash: a node that starts again stamps later than it ever did,
// even when its clock was set back, and no later than that: else what it
// publishes in the next minute would win over what others delete in it.
func TestStampsAfterCrash(t *testing.T) {
	e := newEnv()
	e.script("node a\nsubscribe a ops plant/# auto\npublish a plant/1 one retain\nstabilize\ntick 1s")
	a, now := e.node("a"), core.Stamp(e.now.UnixMilli())<<16
	drawn := a.core.Stamp(e.now, "plant/2")
	e.script("publish a plant/3 three retain\nstabilize\ncrash a")
	again := a.core.Stamp(e.now, "plant/2")
	if again <= drawn || again > now+16 {
		t.Errorf("after a crash the stamp is of %v; before it was of %v", again.Time(), drawn.Time())
	}
	e.script("publish a plant/4 four retain\nstabilize\ncrash a")
	if s := a.core.Stamp(e.now.Add(-time.Hour), "plant/2"); s <= again || s > now+32 {
		t.Errorf("after a crash that set the clock back the stamp is of %v; before it was of %v", s.Time(), again.Time())
	}
}

// TestRetainedByTheReply: the broker keeps what its own client published when
// that is answered. What another node published before is no news then, though
// it became durable with it; what it published after is.
func TestRetainedByTheReply(t *testing.T) {
	e := newEnv()
	e.script("node a\nnode b\nlink a b\nsubscribe a ops plant/# auto\npublish a plant/2 old retain\nstabilize\ntick 1s")
	a, now := e.node("a"), core.Stamp(e.now.UnixMilli())<<16
	for _, topic := range []string{"plant/1", "plant/2"} {
		if err := gives(e, a, "b", topic, "theirs", now, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	e.do("publish a plant/1 mine retain client=dev")
	var kept []string
	e.onKeep = func(_ *enode, k core.Keep) { kept = append(kept, k.Topic+" "+labelOf(k.Blob)) }
	a.sync()
	if want := []string{"plant/2 theirs"}; !slices.Equal(kept, want) {
		t.Errorf("the broker is told to keep %q, want %q", kept, want)
	}
	kept = nil
	e.do("publish a plant/1 again retain client=dev")
	if err := gives(e, a, "b", "plant/1", "later", now+1<<30, 0, 0); err != nil {
		t.Fatal(err)
	}
	a.sync()
	if want := []string{"plant/1 later"}; !slices.Equal(kept, want) {
		t.Errorf("the broker is told to keep %q, want %q", kept, want)
	}
}

// TestRetainedReplies: retained messages of a topic are answered in the order
// of their stamps, also when one joins a batch and the next does not.
func TestRetainedReplies(t *testing.T) {
	e := newEnv()
	e.script("settings batch=65536 batch-wait=20ms\nnode a\nnode b\nlink a b\nsubscribe b ops plant/# auto\nstabilize\ntick 1s")
	var got []string
	e.onReply = func(what string, _ bundle.Reason) { got = append(got, what) }
	a := e.node("a")
	for n, qos := range []uint8{1, 0, 1} {
		s := core.Submission{
			Token: a.newToken("publish %d", n), Topic: "plant/1", Service: core.ServiceMQTT, Class: bundle.Telemetry, QoS: qos, Retain: true, Client: "dev",
		}
		a.stamp(&s, fmt.Sprint(n), false)
		a.core.Submit(e.now, []core.Submission{s})
	}
	a.pump()
	e.do("stabilize")
	if want := []string{"publish 0", "publish 1", "publish 2"}; !slices.Equal(got, want) {
		t.Errorf("answered %q, want %q", got, want)
	}
}

// TestRetainedAges: what is given has aged on its way, on which clocks do not
// matter. What expired there replaced what was before it all the same.
func TestRetainedAges(t *testing.T) {
	e := newEnv()
	e.script("node a\nnode b\nlink a b\nsubscribe a ops plant/# auto\npublish a plant/1 old retain\npublish a plant/2 old retain\nstabilize\ntick 1s")
	a, now := e.node("a"), core.Stamp(e.now.UnixMilli())<<16
	if err := gives(e, a, "b", "plant/1", "short", now, time.Minute, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := gives(e, a, "b", "plant/2", "over", now, time.Minute, 2*time.Minute); err != nil {
		t.Fatal(err)
	}
	e.do("stabilize")
	if got := e.do("retained a"); got != "plant/1 short\n" {
		t.Errorf("a has %q", got)
	}
	e.do("tick 41s")
	if got := e.do("retained a"); got != "" {
		t.Errorf("a has %q after a minute", got)
	}
}

// TestRetainedInSlices: comparing thousands of topics takes several turns of
// the loop, and several bundles; all arrive, each once.
func TestRetainedInSlices(t *testing.T) {
	e := newEnv()
	e.script("node a\nnode b\nlink a b delay=5ms\nstabilize")
	const n = 9000
	for i := range n {
		e.do("publish a plant/%d v%d retain", i, i)
		if i%500 == 0 {
			e.do("stabilize")
		}
	}
	e.do("tick 10s")
	got := 0
	e.onKeep = func(k *enode, _ core.Keep) {
		if k.name.String() == "b" {
			got++
		}
	}
	e.script("subscribe b ops plant/# qos=0 auto\ntick 5m")
	b := e.node("b")
	if len(b.broker) != n || got != n {
		t.Errorf("b has %d messages, of %d that came; want %d", len(b.broker), got, n)
	}
	steps := b.core.Stats().Compared
	e.do("tick 2h")
	if more := b.core.Stats().Compared - steps; more > 1 {
		t.Errorf("%d steps more when all is there", more)
	}
}

// TestParseRetainedOld reads what nodes without stamps kept.
func TestParseRetainedOld(t *testing.T) {
	old := append([]byte{0, 0, 1, 0xb9, 1, 2, 3, 4}, "block"...)
	r, err := core.ParseRetained(old)
	if err != nil || !r.Old || r.Stamp != 0 || string(r.Block) != "block" || r.Ends != 0x1b901020304 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"", "\x00", "\x01", "\x01\x07\x00\x00\x01a", "\x01\x00\x00\x00\x02a", "\x01\x00\x00\x00\x01A", "\x02\x00\x00\x00\x01a"} {
		if r, err := core.ParseRetained([]byte(bad)); err == nil {
			t.Errorf("%q is read as %+v", bad, r)
		}
	}
}

// FuzzParseRetained: what parses is written back to the same.
func FuzzParseRetained(f *testing.F) {
	f.Add([]byte("\x01\x00\x05\x07\x01ablock"))
	f.Add([]byte("\x01\x01\x05\x07\x01a"))
	f.Add(append(make([]byte, 8), "block"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := core.ParseRetained(b)
		if err != nil || r.Old {
			return
		}
		again, err := core.ParseRetained(core.AppendRetained(r))
		if err != nil || again.Stamp != r.Stamp || again.Node != r.Node || again.Ends != r.Ends || !bytes.Equal(again.Block, r.Block) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}

// FuzzCompare: whatever a peer sends as a step of a comparison, the node
// refuses it or goes on, and what it refuses changes nothing.
func FuzzCompare(f *testing.F) {
	for _, s := range core.SampleSteps() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e := newEnv()
		e.script("node a\nnode b\nlink a b\nsubscribe a ops plant/# auto\npublish a plant/1 v retain\nstabilize")
		a := e.node("a")
		err := a.core.Compare(e.now, addr.MustNode("b"), 0, slices.Clone(data), func(b []byte) (string, uint8, error) {
			return topicOf(&store.Blob{B: b}), 1, nil
		})
		if canonical, ok := core.Reencode(data); ok != (err == nil) || ok && !core.SameStep(data, canonical) {
			t.Fatalf("%v, written back as %x", err, canonical)
		}
		a.pump()
		e.do("stabilize")
		if got := e.do("retained a"); err != nil && got != "plant/1 v\n" || !strings.Contains(got, "plant/1") && len(a.broker) == 0 && err != nil {
			t.Fatalf("after %v a has %q", err, got)
		}
	})
}
