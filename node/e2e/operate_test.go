//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
)

// TestObserve asks a node the way monitoring and scripts do.
func TestObserve(t *testing.T) {
	d := newDaemon(t, "earth-1")
	d.init("earth")
	d.run()
	sub := subscribe(d, "historian", "plant/#", 1)
	sent := numbered("m", 7)
	publish(d, "plant/1/temp", 1, sent...)
	sub.once(sent)
	// The core counts a delivery before the store has committed its end, and a
	// publisher may end before the node has read its DISCONNECT.
	d.wait("all deliveries acknowledged and out of the store, and the subscriber alone", func(s admin.Status) bool {
		return s.Counters.Delivered == 7 && s.Store.Messages == 0 && s.MQTT.Clients == 1
	})

	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := d.get(path); code != 200 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	code, body := d.get("/metrics")
	for _, line := range []string{
		`farhop_submitted_total{reason="ok"} 7`, "farhop_delivered_total 7", "farhop_store_messages 0",
		"farhop_mqtt_clients 1", `farhop_mqtt_publishes_total{qos="1"} 7`, "process_resident_memory_bytes ", "go_goroutines ",
	} {
		if code != 200 || !strings.Contains(body, "\n"+line) {
			t.Errorf("/metrics (%d) has no line %q", code, line)
		}
	}
	if code, _ := d.get("/api/v1/status"); code != 401 {
		t.Errorf("the API without a token answers %d, want 401", code)
	}

	var status map[string]any
	if err := json.Unmarshal([]byte(d.do("status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"node", "region", "mesh", "version", "now", "uptime_s", "clock_ok", "store", "mqtt", "peers", "queues", "counters"} {
		if _, ok := status[key]; !ok {
			t.Errorf("status --json has no %s", key)
		}
	}
	for _, key := range []string{"peers", "queues"} {
		if _, list := status[key].([]any); !list {
			t.Errorf("%s is %v, want a list even when it is empty", key, status[key])
		}
	}
	for _, command := range []string{"peers", "links", "nodes", "routes", "queue"} {
		if out := d.do(command, "--json"); !json.Valid([]byte(out)) {
			t.Errorf("%s --json is no JSON: %s", command, out)
		}
		if out := d.do(command); out == "" {
			t.Errorf("%s says nothing", command)
		}
	}
}

// TestTerm stops a node with SIGTERM while devices are connected and publish.
// It ends by itself, and what it acknowledged is there afterwards.
func TestTerm(t *testing.T) {
	d := endings(t, 6, (*daemon).stop)
	if d.logged("level=ERROR") || d.logged("panic") {
		t.Errorf("stopped with errors:\n%s", tail(d.logs, 30))
	}
	if d.logged("was not closed cleanly") {
		t.Errorf("the store was not closed:\n%s", tail(d.logs, 30))
	}
}

// TestKillAlone ends it with SIGKILL.
func TestKillAlone(t *testing.T) {
	full(t)
	endings(t, 6, (*daemon).kill)
}

// endings ends and starts a node several times while devices with sessions
// publish to it and listen: QoS 2 comes once, QoS 1 at least once, and no more
// often than what may be in flight to and from it.
func endings(t *testing.T, times int, end func(*daemon)) *daemon {
	const n = 900
	d := newDaemon(t, "earth-1")
	d.init("earth")
	d.run()
	exactly := []*listener{listen(d, "historian", "plant/2", 2), listen(d, "archive", "plant/2", 2)}
	atLeast := listen(d, "dashboard", "plant/1", 1)
	once, more := numbered("once", n), numbered("more", n)
	talkers := []*talker{talk(d, "sensor-2", "plant/2", 2, 2*time.Millisecond, once...), talk(d, "sensor-1", "plant/1", 1, 2*time.Millisecond, more...)}
	for i := range times {
		target := (i + 1) * n / (times + 2)
		until(t, text(fmt.Sprintf("%d messages", target)), func() bool { return len(exactly[0].lines()) >= target })
		end(d)
		d.run()
	}
	for _, k := range talkers {
		k.done()
	}
	for _, l := range exactly {
		if r := l.receive(once); r.repeats > 0 || len(r.foreign) > 0 || !r.ordered {
			t.Errorf("%s: %s", l.id, r)
		}
	}
	if r := atLeast.receive(more); r.repeats > times*(talkerWindow+brokerWindow) || len(r.foreign) > 0 || !r.ordered {
		t.Errorf("%s: %s", atLeast.id, r)
	}
	d.empty()
	return d
}

// TestClockBehind runs a node whose clock is behind the time it was sure of,
// as after a battery is lost: it says so, and works.
func TestClockBehind(t *testing.T) {
	earth, luna := newDaemon(t, "earth-1"), newDaemon(t, "luna-1")
	earth.init("earth")
	earth.run()
	luna.join(earth.invite("luna", earth.mesh))
	luna.run()
	luna.linked(true, earth)
	luna.stop()
	// A clock cannot be turned back for one process. To a node it is the same
	// when the time it kept is turned forward.
	floor, err := time.Now().Add(24 * time.Hour).UTC().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	luna.setState("floor", func([]byte) []byte { return floor })
	luna.run()
	luna.linked(true, earth)
	if got := luna.status(); got.ClockOK || got.Now.Before(time.Now().Add(23*time.Hour)) {
		t.Errorf("clock ok: %t, now %s; want the kept time and a warning", got.ClockOK, got.Now)
	}
	if !luna.logged("level=WARN", "clock") {
		t.Error("no warning in the log")
	}
	if out := luna.do("status"); !strings.Contains(out, "clock not trusted") {
		t.Errorf("status does not tell of the clock:\n%s", out)
	}
	for i, way := range []struct{ from, to *daemon }{{luna, earth}, {earth, luna}} {
		topic := fmt.Sprintf("way/%d", i)
		// Under one name the session would go back and forth between two clients.
		sub := subscribe(way.to, fmt.Sprintf("historian-%d", i), topic, 1)
		way.from.knows(way.to, topic)
		sent := numbered("m", 10)
		publish(way.from, topic, 1, sent...)
		sub.once(sent)
	}
}

// setState changes what a stopped node keeps under one of its own keys.
func (d *daemon) setState(key string, change func([]byte) []byte) {
	d.t.Helper()
	key = core.StatePrefix + key
	ended := make(chan error, 1)
	s, err := journal.Open(journal.Config{
		Dir: filepath.Join(d.dir, "store"), Log: slog.New(slog.DiscardHandler), Done: func(_ store.LSN, err error) { ended <- err },
	})
	if err != nil {
		d.t.Fatal(err)
	}
	var old []byte
	err = s.State(key, func(_ string, value []byte) error { old = bytes.Clone(value); return nil })
	if err == nil {
		s.Append(&store.Batch{LSN: 1, Sets: []store.Set{{Key: key, Value: change(old)}}})
		err = <-ended
	}
	if err := errors.Join(err, s.Close()); err != nil {
		d.t.Fatal(err)
	}
}
