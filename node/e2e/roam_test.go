//go:build linux

package e2e

import (
	"fmt"
	"syscall"
	"testing"
)

// roam has a client with a session connect to a node, and waits until it is in.
func roam(d *daemon, id string, qos int, args ...string) *client {
	d.t.Helper()
	args = append([]string{"-c", "-i", id, "-t", "plant/#", "-q", fmt.Sprint(qos)}, args...)
	c := mosquitto(d.t, "mosquitto_sub", d, nil, args...)
	d.knows(d, "plant/#")
	return c
}

// allOf waits until connections of one client have all that was sent between
// them, and fails when something came twice.
func allOf(t *testing.T, sent []string, at ...*client) {
	t.Helper()
	var r tally
	until(t, func() string { return fmt.Sprintf("%d messages at the client: %s", len(sent), r) }, func() bool {
		var got []string
		for _, c := range at {
			got = append(got, c.lines()...)
		}
		r = compare(sent, got)
		return len(r.missing) == 0
	})
	if r.repeats > 0 || len(r.foreign) > 0 {
		t.Errorf("the client got %s", r)
	}
}

// TestRoam: a device with a session goes from node to node, while its old node
// is killed, its new one is, and the link between them is cut. What waited for
// it follows, once and in order.
func TestRoam(t *testing.T) {
	m := newMesh(t)
	var sent []string
	send := func(d *daemon, prefix string, n int) {
		more := numbered(prefix, n)
		publish(d, "plant/1", 2, more...)
		sent = append(sent, more...)
	}
	first := roam(m.earth, "dev", 2)
	m.relay.knows(m.earth, "plant/#")
	m.luna.knows(m.earth, "plant/#")
	send(m.relay, "here", 50)
	allOf(t, sent, first)
	first.kill()
	send(m.relay, "away", 300)
	send(m.luna, "far", 100)

	// Its queue is at earth; it comes to luna, and is let in before that.
	second := roam(m.luna, "dev", 2)
	allOf(t, sent, first, second)
	m.relay.knows(m.luna, "plant/#")
	send(m.earth, "after", 50)
	allOf(t, sent, first, second)

	// Both nodes are killed while it moves back.
	second.kill()
	send(m.relay, "again", 300)
	m.toLuna.Cut(true)
	third := roam(m.earth, "dev", 2)
	m.luna.kill()
	m.luna.run()
	m.toLuna.Cut(false)
	until(t, func() string { return "some of what waited at luna" }, func() bool { return len(third.lines()) > 0 })
	m.earth.kill() // the device keeps its QoS 2 states, and comes back
	m.earth.run()
	allOf(t, sent, first, second, third)

	// Its connection at earth stands still, and is ended when it is at luna. It
	// would come back if it could.
	if err := third.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	fourth := roam(m.luna, "dev", 2, "--will-topic", "will/dev", "--will-payload", "lost", "--will-qos", "1")
	send(m.relay, "late", 50)
	allOf(t, sent, first, second, third, fourth)

	// The same at luna: its connection there ends, and its will is not said.
	heirs := mosquitto(t, "mosquitto_sub", m.relay, nil, "-t", "will/#", "-q", "1")
	m.luna.knows(m.relay, "will/#")
	if err := fourth.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	fifth := roam(m.earth, "dev", 2)
	send(m.relay, "last", 50)
	allOf(t, sent, first, second, third, fourth, fifth)
	publish(m.luna, "will/end", 1, "end")
	until(t, func() string { return "the end at relay" }, func() bool { return len(heirs.lines()) > 0 })
	if got := heirs.lines(); len(got) > 1 || got[0] != "end" {
		t.Errorf("the will of a client that is elsewhere: %q", got)
	}
	for _, d := range []*daemon{m.earth, m.luna, m.relay} {
		if d.logged("level=ERROR") || d.logged("panic") {
			t.Errorf("%s has errors in its log:\n%s", d.name, tail(d.logs, 40))
		}
	}
}
