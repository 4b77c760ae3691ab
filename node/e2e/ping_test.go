//go:build linux

package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/admin"
)

// pinged reads what farhop ping --json printed.
func pinged(t *testing.T, out string) (events []admin.PingEvent, answered, lost int) {
	t.Helper()
	var sum struct{ Answered, Lost int }
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, line := range lines[:len(lines)-1] {
		var e admin.PingEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		events = append(events, e)
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sum); err != nil {
		t.Fatalf("%v: %q", err, lines[len(lines)-1])
	}
	return events, sum.Answered, sum.Lost
}

// TestPing asks across two links, through an outage, and what nobody answers.
func TestPing(t *testing.T) {
	m := newMesh(t)
	m.earth.reaches(m.luna, true)
	events, answered, lost := pinged(t, m.earth.do("ping", "luna-1", "--count", "3", "--interval", "100ms", "--json"))
	if answered != 3 || lost != 0 {
		t.Errorf("%d answered, %d lost, want 3 and 0", answered, lost)
	}
	for _, e := range events {
		least := 4 * float64(far.Delay.Milliseconds()) * 0.9 // there and back over two links
		if e.Event == admin.PingAnswer && (e.There != 2 || e.Back != 2 || e.RTTms < least || e.Path.NextHop.String() != "relay" || e.Path.Layer == "") {
			t.Errorf("%+v %+v", e, e.Path)
		}
	}
	m.toLuna.Cut(true)
	m.earth.reaches(m.luna, false)
	if out, stderr, code := m.earth.try("", "ping", "luna-1", "--count", "1", "--timeout", "300ms"); code != 5 || !strings.Contains(stderr, "luna-1 did not answer") {
		t.Errorf("exit code %d, %q %q", code, out, stderr)
	}
	done := make(chan string)
	go func() {
		out, _, _ := m.earth.try("", "ping", "luna-1", "--count", "2", "--interval", "50ms", "--json")
		done <- out
	}()
	m.relay.wait("a question to wait for luna-1", func(s admin.Status) bool {
		for _, q := range s.Queues {
			if q.Queue == "node luna-1" && q.Class == "interactive" && q.Bundles == 2 {
				return true
			}
		}
		return false
	})
	m.toLuna.Cut(false)
	if events, answered, _ = pinged(t, <-done); answered != 2 || events[0].Path.Up {
		t.Errorf("%d answered after the outage, want 2: %+v", answered, events)
	}

	if _, stderr, code := m.earth.try("", "ping", "mars-1"); code != 1 || !strings.Contains(stderr, "no node") {
		t.Errorf("an unknown node: exit code %d, %q", code, stderr)
	}
}
