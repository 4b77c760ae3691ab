package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

func TestGlobs(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"plc-7", "plc-7", true},
		{"plc-7", "plc-77", false},
		{"plc-*", "plc-", true},
		{"plc-*", "plc-a/b", true},
		{"*", "", true},
		{"", "", true},
		{"", "a", false},
		{"?", "é", true},
		{"??", "é", false},
		{"*é", "café", true},
		{"a*b*c", "aXbYbZc", true},
		{"a*b*c", "aXbYbZ", false},
		{"**a**", "bab", true},
		{"*?", "a", true},
		{"*?", "", false},
		{"a?c", "a*c", true},
		{"[a]", "[a]", true},
		{"*.*", "x.y.z", true},
		{"*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
		{"\xff*", "\xffx", true},
	} {
		if got := globs(c.pattern, c.text); got != c.want {
			t.Errorf("globs(%q, %q) is %t", c.pattern, c.text, got)
		}
	}
}

// opened returns taps with those given open, beside no node.
func opened(all ...*tap) *taps {
	s := &taps{loop: &loop{clock: newClock(time.Time{})}}
	s.store(all)
	return s
}

func newTap(filter string, payload bool) *tap {
	return &tap{filter: filter, payload: payload, ready: make(chan struct{}, 1), batches: map[batchKey][]*store.Header{}}
}

// A reader that is too slow loses events, in number and in bytes, and is told
// how many; a tap without payloads holds none.
func TestTapIsBounded(t *testing.T) {
	slow, large, plain := newTap("a/#", false), newTap("a/#", true), newTap("#", false)
	s := opened(slow, large, plain)
	m := &broker.Message{Topic: "a/1", Payload: make([]byte, admin.TapRingBytes/4)}
	for range admin.TapRing + 10 {
		s.Written("c", m, 1)
	}
	s.Written("c", &broker.Message{Topic: "$SYS/a"}, 0)
	s.Written("c", &broker.Message{Topic: "b"}, 0)
	for _, c := range []struct {
		t    *tap
		held int
		lost uint64
	}{{slow, admin.TapRing, 10}, {large, 4, admin.TapRing + 6}, {plain, admin.TapRing, 11}} {
		got := c.t.take()
		if len(got) != c.held || c.t.bytes != 0 {
			t.Errorf("%d events are held, want %d", len(got), c.held)
		}
		if payload := got[0].payload != nil; payload != c.t.payload {
			t.Errorf("payload is held: %t", payload)
		}
		opened(c.t).Written("c", m, 1)
		if next := c.t.take(); len(next) != 1 || next[0].told(false).Lost != c.lost {
			t.Errorf("lost %d, want %d", next[0].lost, c.lost)
		}
	}
}

// A payload that is too long is cut.
func TestTapTruncates(t *testing.T) {
	tp := newTap("a", true)
	s := opened(tp)
	s.Published(&broker.Message{Topic: "a", Payload: make([]byte, admin.MaxTapPayload+1), Client: "c"}, broker.Verdict{Reason: bundle.StoreFull}, 0)
	e := tp.take()[0].told(true)
	if !e.Truncated || len(e.Payload) != admin.MaxTapPayload || e.Size != admin.MaxTapPayload+1 || e.Event != "refused" || e.Reason != "store-full" || e.Client != "c" {
		t.Errorf("%d bytes of %d, truncated: %t, %s %s", len(e.Payload), e.Size, e.Truncated, e.Event, e.Reason)
	}
}

// What happens to a batch is told of each of its messages that are wanted. A
// tap forgets batches when they are over, and the oldest when there are too
// many, which counts as lost.
func TestTapBatches(t *testing.T) {
	tp := newTap("a/+", false)
	s := opened(tp)
	q := store.Queue{Kind: store.ToNode, Name: "earth"}
	id := func(n uint64) bundle.ID {
		return bundle.ID{Node: addr.MustNode("luna"), Seq: bundle.NewSequence(1, bundle.Telemetry, n)}
	}
	batched := func(first uint64, topics ...string) core.Sight {
		v := core.Sight{Kind: core.SightBatched, Header: &store.Header{Message: id(first), Count: uint16(len(topics))}, Queue: q}
		for n, topic := range topics {
			v.Members = append(v.Members, &store.Header{Message: id(first + uint64(n)), Topic: topic, QoS: 1})
		}
		return v
	}
	over := func(first uint64, kind core.SightKind, reason bundle.Reason) core.Sight {
		return core.Sight{Kind: kind, Header: &store.Header{Message: id(first), Count: 2}, Queue: q, Reason: reason, Node: addr.MustNode("relay")}
	}
	s.sights([]core.Sight{batched(1, "a/1", "b/1", "a/2"), batched(4, "b/1", "b/2"), batched(6, "a/3", "a/4")})
	s.sights([]core.Sight{over(1, core.SightHandedOn, bundle.OK), over(1, core.SightHandedOn, bundle.OK), over(4, core.SightEnded, bundle.Expired), over(6, core.SightEnded, bundle.Expired)})
	var got []string
	for _, g := range tp.take() {
		e := g.told(false)
		got = append(got, fmt.Sprintf("%s %s %s %s", e.Event, e.Topic, e.Queue, e.Reason))
	}
	if want := "[forwarded a/1 node earth  forwarded a/2 node earth  ended a/3 node earth expired ended a/4 node earth expired]"; fmt.Sprint(got) != want {
		t.Errorf("told %v, want %s", got, want)
	}
	if len(tp.batches)+len(tp.order)+tp.members != 0 {
		t.Errorf("%d batches are remembered", len(tp.batches))
	}
	many := make([]string, 1000)
	for i := range many {
		many[i] = "a/1"
	}
	for n := range uint64(maxMembers/1000 + 3) {
		s.sights([]core.Sight{batched(10+n*1000, many...)})
	}
	if tp.members > maxMembers || tp.lost != 3000 {
		t.Errorf("%d messages are remembered, %d lost", tp.members, tp.lost)
	}
}
