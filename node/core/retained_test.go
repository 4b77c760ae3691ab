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
