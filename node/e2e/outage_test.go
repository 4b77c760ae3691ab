//go:build linux

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
)

// TestOutage publishes while the way is cut: everything arrives once, in
// order, after it is whole again.
func TestOutage(t *testing.T) {
	full(t)
	m := newMesh(t)
	sub := subscribe(m.earth, "historian", "plant/#", 1)
	m.luna.knows(m.earth, "plant/#")

	before, during := numbered("before", 20), numbered("during", 1000)
	publish(m.luna, "plant/1/temp", 1, before...)
	sub.once(before)

	m.toLuna.Cut(true)
	publish(m.luna, "plant/1/temp", 1, during...)
	// Many to a bundle, as they came together.
	if n := m.luna.status().Store.Messages; n == 0 || n >= len(during) {
		t.Errorf("luna keeps %d bundles during the outage, for %d messages", n, len(during))
	}
	if got := len(sub.lines()); got != len(before) {
		t.Errorf("%d messages have arrived during the outage, want those %d of before", got, len(before))
	}
	m.toLuna.Cut(false)
	sub.once(append(before, during...))
	for _, d := range []*daemon{m.luna, m.relay, m.earth} {
		d.empty()
	}
}

// victim is the node of a mesh that is killed.
type victim func(*mesh) *daemon

func relay(m *mesh) *daemon     { return m.relay }
func receiver(m *mesh) *daemon  { return m.earth }
func publisher(m *mesh) *daemon { return m.luna }

// MQTT lets a QoS 1 sender repeat what was in flight when its connection was
// lost (MQTT 3.1.1, 4.4): that many messages for each loss.
const (
	clientWindow = 20 // of mosquitto_pub
	brokerWindow = 32 // of a node, towards a client that does not say how much it takes
)

// TestKill kills a node twice with SIGKILL while messages flow. Nothing is
// lost whoever dies. Nothing is repeated either, but by a QoS 1 sender next to
// the node that died.
func TestKill(t *testing.T) {
	full(t)
	for _, c := range []struct {
		name    string
		who     victim
		qos     int
		repeats int // allowed for each kill
	}{
		{"relay qos 1", relay, 1, 0},
		{"relay qos 2", relay, 2, 0},
		{"receiver qos 1", receiver, 1, brokerWindow},
		{"receiver qos 2", receiver, 2, 0},
		{"publisher qos 1", publisher, 1, clientWindow},
		{"publisher qos 2", publisher, 2, 0},
	} {
		t.Run(c.name, func(t *testing.T) { killing(t, c.who, c.qos, c.repeats) })
	}
}

// flow starts a subscriber at earth and a publisher at luna: those of mosquitto,
// and for QoS 2 our own, see exact.
func flow(m *mesh, qos int, sent []string) (sub interface {
	lines() []string
	receive(sent []string) tally
}, pub interface{ done() },
) {
	const topic, pause = "plant/1/temp", 3 * time.Millisecond
	if qos < 2 {
		sub = subscribe(m.earth, "historian", "plant/#", qos)
	} else {
		sub = listen(m.earth, "historian", "plant/#", qos)
	}
	m.luna.knows(m.earth, "plant/#")
	if qos < 2 {
		return sub, stream(m.luna, "sensor", topic, qos, pause, sent...)
	}
	return sub, talk(m.luna, "sensor", topic, qos, pause, sent...)
}

func killing(t *testing.T, who victim, qos, repeats int) {
	const kills, n = 2, 900
	m := newMesh(t)
	sent := numbered("m", n)
	sub, pub := flow(m, qos, sent)
	for i := range kills {
		target := (i + 1) * n / (kills + 2)
		until(t, func() string {
			return fmt.Sprintf("%d of %d messages before a kill, have %d", target, n, len(sub.lines()))
		},
			func() bool { return len(sub.lines()) >= target })
		if len(sub.lines()) == n {
			t.Error("all messages came before the kill, this tests nothing")
		}
		who(m).kill()
		who(m).run()
	}
	pub.done()
	sub.receive(sent)
	for _, d := range []*daemon{m.luna, m.relay, m.earth} {
		d.empty()
	}
	r := compare(sent, sub.lines()) // copies that came late
	t.Logf("%d kills: %s", kills, r)
	if r.repeats > repeats*kills || len(r.foreign) > 0 {
		t.Errorf("got %s; at most %d repeats are MQTT's", r, repeats*kills)
	}
	if !r.ordered && repeats == 0 {
		t.Error("first copies are out of order")
	}
	for _, d := range []*daemon{m.luna, m.relay, m.earth} {
		c := d.status().Counters
		if c.GapsGivenUp > 0 || c.OutOfOrder > 0 {
			t.Errorf("%s: %+v", d.name, c)
		}
	}
}

// TestKillWithDeviceAway kills the receiver's node twice while messages flow
// to it and their device is away. Nothing is in flight to a device then, so
// MQTT has no excuse: at QoS 1 too, each message comes once.
func TestKillWithDeviceAway(t *testing.T) {
	full(t)
	const kills, n = 2, 600
	m := newMesh(t)
	subscribe(m.earth, "historian", "plant/#", 1).kill()
	m.luna.knows(m.earth, "plant/#")
	sent := numbered("m", n)
	pub := stream(m.luna, "sensor", "plant/1/temp", 1, 3*time.Millisecond, sent...)
	for i := range kills {
		target := (i + 1) * n / (kills + 2)
		m.earth.wait(fmt.Sprintf("%d messages in the store", target), func(s admin.Status) bool {
			return s.Store.Messages >= target
		})
		m.earth.kill()
		m.earth.run()
	}
	pub.done()
	subscribe(m.earth, "historian", "plant/#", 1).once(sent)
	for _, d := range []*daemon{m.luna, m.relay, m.earth} {
		d.empty()
	}
}
