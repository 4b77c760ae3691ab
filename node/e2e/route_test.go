//go:build linux

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
)

// waitsFor reports whether something waits in a queue.
func waitsFor(queue string) func(admin.Status) bool { return atLeast(queue, 1) }

func atLeast(queue string, n int) func(admin.Status) bool {
	return func(s admin.Status) bool {
		sum := 0
		for _, q := range s.Queues {
			if q.Queue == queue {
				sum += q.Bundles
			}
		}
		return sum >= n
	}
}

const telemetryUp = `routes:
- name: telemetry-up
  match: {topic: "plant/+/telemetry/#"}
  to: [earth]
  unreachable: store
  class: telemetry
  ttl: 72h
`

// resources reads what a farhop.yaml or a fleet revision may hold.
func resources(t *testing.T, text string) config.Resources {
	t.Helper()
	r, err := config.ParseResources("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRoute routes a topic to earth. It is stored on the way there although
// nobody subscribes, through an outage and a kill, and goes nowhere else.
func TestRoute(t *testing.T) {
	full(t)
	m := newMesh(t)
	m.luna.stop()
	m.luna.edit(func(c *config.Config) { c.Resources = resources(t, telemetryUp) })
	m.luna.run()
	m.luna.linked(true, m.relay)
	else1 := subscribe(m.relay, "relay-sub", "mine/#", 1)
	m.luna.knows(m.relay, "mine/#")

	m.toEarth.Cut(true)
	sent := numbered("t", 100)
	publish(m.luna, "plant/1/telemetry/temp", 1, sent...)
	m.luna.empty()
	m.relay.wait("the messages at the relay", func(s admin.Status) bool { return s.Store.Messages > 0 })
	m.relay.kill()
	m.relay.run()

	// The subscriber comes while earth is cut off: nobody else knows of it.
	sub := subscribe(m.earth, "historian", "plant/#", 1)
	m.toEarth.Cut(false)
	sub.once(sent)
	m.relay.empty()
	if got := else1.lines(); len(got) > 0 {
		t.Errorf("the relay's subscriber of other topics got %d messages", len(got))
	}

	// What no route and no interest wants is acknowledged and counted.
	publish(m.luna, "nobody/wants", 1, "x")
	if c := m.luna.status().Counters; c.Submitted["no-subscriber"] != 1 {
		t.Errorf("a message that nobody wants is not counted as no-subscriber: %v", c.Submitted)
	}
}

// TestFleet pushes revisions. A node that was away applies the newest one
// when it is back; one that cannot hold is refused before anything is sent.
func TestFleet(t *testing.T) {
	full(t)
	m := newMesh(t)
	m.luna.stop()
	file := filepath.Join(t.TempDir(), "plant.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.ReplaceAll(telemetryUp, "telemetry-up", "older"))
	m.relay.do("fleet", "push", file)
	write(telemetryUp)
	m.relay.do("fleet", "push", file)
	applied := func(d *daemon, at *daemon, want uint64) {
		t.Helper()
		until(t, text("revision at "+d.name+" as seen from "+at.name), func() bool {
			s, err := ask(at, (*admin.Client).FleetStatus)
			if err != nil || s.Revision != want {
				return false
			}
			for _, n := range s.Nodes {
				if n.Node.String() == d.name {
					return n.Applied == want
				}
			}
			return false
		})
	}
	applied(m.earth, m.relay, 2)
	m.luna.run()
	applied(m.luna, m.relay, 2)
	routes, err := ask(m.luna, (*admin.Client).Routes)
	if err != nil || len(routes) != 1 || routes[0].Name != "telemetry-up" || routes[0].Origin != "fleet" {
		t.Errorf("routes of luna: %+v, %v", routes, err)
	}
	m.luna.kill() // a revision in force outlives its node
	m.luna.run()
	applied(m.luna, m.luna, 2)

	if out := m.relay.do("fleet", "push", file); !strings.Contains(out, "holds the same already") {
		t.Errorf("the same again: %s", out)
	}
	now, err := ask(m.relay, (*admin.Client).FleetStatus)
	if err != nil {
		t.Fatal(err)
	}
	write(strings.Replace(telemetryUp, "unreachable: store", "unreachable: stor", 1))
	m.relay.refused([]string{"plant.yaml:5:", "not one of store, drop"}, "fleet", "push", file)
	write(telemetryUp + "  tll: 3h\n")
	m.relay.refused([]string{"plant.yaml:", "tll"}, "fleet", "push", file)
	write(strings.ReplaceAll(telemetryUp, "telemetry-up", "newer"))
	m.earth.refused([]string{"authority"}, "fleet", "push", file)
	applied(m.luna, m.relay, now.Revision) // and nothing after it

	m.luna.stop()
	m.luna.setState("fleet", func(signed []byte) []byte {
		at := bytes.Index(signed, []byte("earth"))
		if at < 0 {
			t.Fatalf("the kept revision does not hold its route: %q", signed)
		}
		copy(signed[at:], "venus")
		return signed
	})
	m.luna.refused([]string{"revision", "signature"}, "run")
}
