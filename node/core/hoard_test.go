package core

import (
	"fmt"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// hoardRig is a core whose writes are durable at once.
type hoardRig struct {
	c       *Core
	now     time.Time
	token   uint64
	reasons map[uint64]bundle.Reason
}

func newHoardRig(room int, skip bool) *hoardRig {
	r := &hoardRig{now: time.Unix(1_700_000_000, 0), reasons: map[uint64]bundle.Reason{}}
	r.c = New(Config{
		Self: addr.MustNode("earth-1"), Region: addr.MustRegion("earth"), Incarnation: 1, Clock: true,
		Limits: storeforward.Config{MaxBytes: 1 << 30, MaxCount: room},
	})
	r.c.Configure(r.now, Settings{SkipFull: skip}, nil)
	r.settle()
	return r
}

func (r *hoardRig) settle() {
	for e := r.c.Take(); e != nil; e = r.c.Take() {
		for _, a := range e.Replies {
			r.reasons[a.Token] = a.Reason
		}
		if e.Write != nil {
			r.c.Persisted(r.now, e.Write.LSN)
		}
	}
}

func (r *hoardRig) open(client string, expiry uint32, filter string) {
	r.token += 2
	r.c.OpenSession(r.now, SessionOpen{Token: r.token, Client: client, Conn: r.token, Expiry: expiry, ReceiveMax: 10})
	r.c.Subscribe(r.now, r.token+1, client, []Subscription{{Filter: filter, QoS: 1}})
	r.token++
	r.settle()
}

func (r *hoardRig) publish(topic string) bundle.Reason {
	r.token++
	r.c.Submit(r.now, []Submission{{
		Token: r.token, Topic: topic, Service: ServiceMQTT, Class: bundle.Telemetry, QoS: 1, Client: "p", TTL: time.Hour,
		Blob: &store.Blob{B: []byte{0x41, 0}},
	}})
	r.settle()
	return r.reasons[r.token]
}

// TestHoarders: sessions that never read fill the store up to their share.
// What is for them is refused then: nothing that was accepted is missed. What is
// not for them has room.
func TestHoarders(t *testing.T) {
	r := newHoardRig(1000, false)
	for i := range 5 {
		r.open(fmt.Sprint("deaf-", i), NeverExpires, "deaf/#")
	}
	r.open("reader", 0, "deaf/#")
	r.open("late", NeverExpires, "late/#")
	accepted := 0
	for i := range 2000 {
		switch got := r.publish("deaf/x"); {
		case got == bundle.OK:
			accepted++
		case got != bundle.StoreFull:
			t.Fatalf("publish %d: %s", i, got)
		}
	}
	held := r.c.m.Stats().Messages
	if held < 800 || held != 5*accepted {
		t.Errorf("%d messages are held of %d accepted for five sessions; want all, and most of 900", held, accepted)
	}
	for _, d := range r.c.sessions {
		if q := r.c.m.Lookup(store.Queue{Kind: store.ToSession, Name: d.id, Class: bundle.Telemetry}); d.id != "reader" && d.id != "late" && (q == nil || q.Count != accepted) {
			t.Errorf("%s has %v, want all %d that were accepted", d.id, q, accepted)
		}
	}
	if got := r.publish("late/x"); got != bundle.OK {
		t.Errorf("a message for a session that has nothing waiting: %s", got)
	}
	if missed := r.c.Stats().Ended[bundle.QuotaExceeded]; missed != 0 {
		t.Errorf("%d passed over, want none", missed)
	}
}

// TestHoardersSkipped: where the operator chose so, sessions that hoard miss
// what others still get, and that is counted. What is for hoarders alone is
// refused.
func TestHoardersSkipped(t *testing.T) {
	r := newHoardRig(1000, true)
	for i := range 5 {
		r.open(fmt.Sprint("deaf-", i), NeverExpires, "#")
	}
	r.open("reader", 0, "live/#")
	for i := range 2000 {
		if got := r.publish("live/x"); got != bundle.OK {
			t.Fatalf("publish %d: %s, want that the reader gets it", i, got)
		}
	}
	if got := r.publish("other"); got != bundle.StoreFull {
		t.Errorf("a message for hoarders alone: %s, want %s", got, bundle.StoreFull)
	}
	held := r.c.m.Stats().Messages
	if count, _ := r.c.m.Free(bundle.Telemetry); count < 10 || held < 800 {
		t.Errorf("%d messages are held and %d more have room; want most of 900 held, and some room", held, count)
	}
	if missed := r.c.Stats().Ended[bundle.QuotaExceeded]; missed+uint64(held) != 5*2000 {
		t.Errorf("%d held and %d passed over, want 10,000 together", held, missed)
	}
	r.open("late", NeverExpires, "late/#")
	if got := r.publish("late/x"); got != bundle.OK {
		t.Errorf("a message for a session that has nothing waiting: %s", got)
	}
}

// TestManyFiltersOfOneSession: a session gets one copy, however many of its
// filters match.
func TestManyFiltersOfOneSession(t *testing.T) {
	r := newHoardRig(1000, false)
	r.open("a", NeverExpires, "#")
	var subs []Subscription
	for i := range 1 << 6 {
		f := ""
		for bit := range 6 {
			f += []string{"x/", "+/"}[i>>bit&1]
		}
		subs = append(subs, Subscription{Filter: f + "#", QoS: byte(i % 3)})
	}
	r.c.Subscribe(r.now, 9999, "a", subs)
	r.settle()
	if got := r.publish("x/x/x/x/x/x/y"); got != bundle.OK || r.c.m.Stats().Messages != 1 {
		t.Errorf("%s, %d copies, want one", got, r.c.m.Stats().Messages)
	}
}
