package core

import (
	"slices"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/contact"
)

// holed is a rig whose peer does not answer what it is asked from one second on
// until some time.
func holed(until time.Duration) *lifeRig {
	r := newLifeRig(time.Millisecond)
	r.answer = func(sent time.Duration) (time.Duration, bool) {
		return time.Millisecond, sent < time.Second || sent >= until
	}
	return r
}

// TestSilentSessionGetsAnother: once for each silence, and it is told when the
// session carries again.
func TestSilentSessionGetsAnother(t *testing.T) {
	r := holed(time.Minute)
	r.run(12*time.Second, false)
	if len(r.told) != 1 || len(r.renew) != 0 {
		t.Fatalf("after 12 s: silences %v, renewals %v; want the silence alone", r.told, r.renew)
	}
	r.run(46*time.Second, false)
	if want := []Renew{{Link: 1}}; !slices.Equal(r.renew, want) {
		t.Fatalf("after 58 s: renewals %v, want %v", r.renew, want)
	}
	r.run(12*time.Second, false)
	if want := []Renew{{Link: 1}, {Link: 1, Over: true}}; !slices.Equal(r.renew, want) {
		t.Errorf("after the silence: renewals %v, want %v", r.renew, want)
	}
	if s := r.c.LinkStats(); s.Renewals != 1 || len(r.c.links) != 1 {
		t.Errorf("%d renewals counted and %d links, want 1 and 1", s.Renewals, len(r.c.links))
	}
}

// TestHalfHeardSession: who is heard and does not hear us is told of, but not
// when the way was whole in between, or is whole again for a moment.
func TestHalfHeardSession(t *testing.T) {
	heard := func(r *lifeRig) bool { return slices.Contains(r.renew, Renew{Link: 1, Heard: true}) }
	r := holed(5 * time.Minute)
	r.pings = func(at time.Duration) bool { return at < time.Minute }
	r.run(40*time.Second, false)
	if !heard(r) {
		t.Errorf("the peer is heard for 40 s and does not hear us: renewals %v", r.renew)
	}
	r = holed(5 * time.Minute)
	r.pings = func(at time.Duration) bool {
		return at > 100*time.Second && at < 102*time.Second || at > 200*time.Second && at < 202*time.Second
	}
	r.run(4*time.Minute, false)
	if want := []Renew{{Link: 1}}; !slices.Equal(r.renew, want) {
		t.Errorf("heard for a moment, twice: renewals %v, want %v", r.renew, want)
	}
}

// TestScheduledSessionIsKept: a link with a plan waits for its contacts.
func TestScheduledSessionIsKept(t *testing.T) {
	r := newLifeRig(time.Millisecond)
	r.answer = func(time.Duration) (time.Duration, bool) { return 0, false }
	r.c.LinkUp(r.now, Link{ID: 2, Node: addr.MustNode("peer"), Schedule: contact.Schedule{Start: r.now, Every: time.Hour, For: time.Hour}})
	r.l = r.c.links[2]
	r.l.bytes = 1 // custody of it is owed, so it is probed
	r.c.probe(r.l)
	r.run(9*time.Second, true)
	if len(r.told) == 0 || len(r.renew) > 0 {
		t.Errorf("silences %v, renewals %v; want a silence alone", r.told, r.renew)
	}
}
