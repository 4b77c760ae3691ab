//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/farhop/farhop/node/admin"
)

const jobs = "$share/workers/job/#"

// member starts a member of the group, with a session that outlives its
// connection or without one.
func member(d *daemon, id string, keeps bool) *client {
	d.t.Helper()
	args := []string{"-i", id, "-t", jobs, "-q", "1"}
	if keeps {
		args = append(args, "-c")
	}
	return mosquitto(d.t, "mosquitto_sub", d, nil, args...)
}

// workOf waits until members have all that was sent between them, and fails
// when two have the same.
func workOf(t *testing.T, sent []string, members ...*client) {
	t.Helper()
	var r tally
	until(t, func() string { return fmt.Sprintf("%d messages at the group: %s", len(sent), r) }, func() bool {
		var all []string
		for _, m := range members {
			all = append(all, m.lines()...)
		}
		r = compare(sent, all)
		return len(r.missing) == 0
	})
	if r.repeats > 0 || len(r.foreign) > 0 {
		t.Errorf("the group got %s", r)
	}
}

// TestSharedAcrossMesh: a group has members at two nodes, and each message
// reaches one of them, from whichever of three nodes it comes. Members are
// stopped and killed: what they had not taken goes to the others; with nobody
// left it waits.
func TestSharedAcrossMesh(t *testing.T) {
	m := newMesh(t)
	kept, far := member(m.earth, "kept", true), member(m.luna, "far", true)
	quick := member(m.earth, "quick", false)
	for _, d := range []*daemon{m.relay, m.earth, m.luna} {
		d.knows(m.earth, jobs)
		d.knows(m.luna, jobs)
	}
	m.earth.awaits("quick", "a member", func(s admin.Session) bool { return s.Connected && s.Subscriptions == 1 })
	everyone := subscribe(m.relay, "everyone", "job/#", 1)
	m.earth.knows(m.relay, "job/#")
	m.luna.knows(m.relay, "job/#")
	var sent []string
	send := func(d *daemon, prefix string, n int) {
		more := numbered(prefix, n)
		publish(d, "job/1", 1, more...)
		sent = append(sent, more...)
	}

	send(m.relay, "relay", 100)
	workOf(t, sent, kept, far, quick)
	send(m.luna, "luna", 100)
	workOf(t, sent, kept, far, quick)
	before := len(far.lines())
	send(m.earth, "earth", 100)
	workOf(t, sent, kept, far, quick)
	if n := len(far.lines()); n != before {
		t.Errorf("luna's member got %d messages of earth, which has members of its own", n-before)
	}
	if len(kept.lines()) == 0 || len(quick.lines()) == 0 {
		t.Errorf("earth's members got %d and %d messages, which take turns", len(kept.lines()), len(quick.lines()))
	}

	// Both members of earth are stopped with what they are sent, and die.
	for _, c := range []*client{kept, quick} {
		if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	send(m.earth, "stopped", 100)
	kept.kill()
	quick.kill()
	workOf(t, sent, kept, far, quick)
	send(m.earth, "dead", 50)
	workOf(t, sent, kept, far, quick)

	// Nobody is left. One who comes anywhere gets what waits.
	far.kill()
	send(m.relay, "nobody", 50)
	late := member(m.relay, "late", false)
	workOf(t, sent, kept, far, quick, late)
	// They may have waited at more than one node: there is no order between those.
	if got := late.lines(); !slices.Equal(slices.Sorted(slices.Values(got)), numbered("nobody", 50)) {
		t.Errorf("the last member got %d messages, not the 50 that waited", len(got))
	}
	everyone.once(sent)
}

// TestSharedNodeKilled: a node with a member is killed. What it had not been
// sent goes to the member at another node; what it was is its own, and comes
// when it is back. Nothing comes twice.
func TestSharedNodeKilled(t *testing.T) {
	m := newMesh(t)
	kept, far := member(m.earth, "kept", true), member(m.luna, "far", true)
	m.relay.knows(m.earth, jobs)
	m.relay.knows(m.luna, jobs)
	sent := numbered("before", 50)
	publish(m.relay, "job/1", 1, sent...)
	workOf(t, sent, kept, far)
	for _, d := range []*daemon{m.relay, m.earth, m.luna} {
		d.empty() // else what it has may come again
	}

	m.earth.kill()
	m.relay.linked(false, m.earth)
	had := len(kept.lines())
	more := numbered("killed", 50)
	publish(m.relay, "job/1", 1, more...)
	sent = append(sent, more...)
	workOf(t, sent, kept, far)
	if n := len(kept.lines()); n != had {
		t.Errorf("the member of the node that is down got %d messages", n-had)
	}

	m.relay.empty()
	m.luna.empty()

	// With both down it waits at the relay, for whoever is back first.
	m.luna.kill()
	m.relay.linked(false, m.luna)
	more = numbered("waits", 50)
	publish(m.relay, "job/1", 1, more...)
	sent = append(sent, more...)
	m.relay.wait("the messages to wait for the group", atLeast("service "+jobs, 1))
	// It would come back by itself, and what it acknowledged and had not shown
	// when it is killed is nowhere.
	kept.kill()
	m.earth.run()
	again := member(m.earth, "kept", true)
	workOf(t, sent, kept, far, again)
	m.relay.empty()
}

// TestSharedLiveMemberKilled: the member that is connected has no session that
// outlives its connection, another one is away. Its node dies with what it was
// given and did not take: that was acknowledged, and the other gets it.
func TestSharedLiveMemberKilled(t *testing.T) {
	m := newMesh(t)
	away := member(m.luna, "away", true)
	m.earth.knows(m.luna, jobs)
	away.kill()
	quick := member(m.earth, "quick", false)
	m.luna.knows(m.earth, jobs)
	before := numbered("before", 20)
	publish(m.earth, "job/1", 1, before...)
	workOf(t, before, quick)
	if err := quick.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	had := len(quick.lines())
	sent := numbered("killed", 100)
	publish(m.earth, "job/1", 1, sent...)
	m.earth.kill()
	quick.kill()
	if n := len(quick.lines()); n != had {
		t.Fatalf("the member that was stopped took %d messages", n-had)
	}
	m.earth.run()
	workOf(t, sent, member(m.luna, "away", true))
	m.earth.empty()
}
