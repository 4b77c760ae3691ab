//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
)

// session asks for the session of a client, the zero Session for none.
func (d *daemon) session(id string) admin.Session {
	all, _ := ask(d, func(c *admin.Client, ctx context.Context) (admin.Sessions, error) {
		return c.Sessions(ctx, admin.SessionsRequest{Client: id, Exact: true, Subscriptions: true})
	})
	if len(all.Sessions) == 0 {
		return admin.Session{}
	}
	return all.Sessions[0]
}

// awaits waits until a session is as it should be.
func (d *daemon) awaits(id, what string, ok func(admin.Session) bool) {
	d.t.Helper()
	var s admin.Session
	until(d.t, func() string { return fmt.Sprintf("the session of %s to be %s, is %+v", id, what, s) }, func() bool {
		s = d.session(id)
		return ok(s)
	})
}

// background starts a farhop command that goes on. What it says on both of its
// outputs is in its lines.
func background(d *daemon, args ...string) *client {
	d.t.Helper()
	c := &client{t: d.t, what: fmt.Sprintf("farhop %v at %s", args, d.name), out: filepath.Join(d.t.TempDir(), "out"), ended: make(chan struct{})}
	f, err := os.Create(c.out)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	c.cmd = exec.Command(d.prefix[0], slices.Concat(d.prefix[1:], args, []string{"--dir", d.dir})...)
	c.cmd.Stdout, c.cmd.Stderr = f, f
	if err := start(c.cmd); err != nil {
		d.t.Fatal(err)
	}
	go func() { c.err = c.cmd.Wait(); close(c.ended) }()
	d.t.Cleanup(c.kill)
	return c
}

// TestPubSub: an operator sees who is connected and what waits for those who
// are away, also after a restart; disconnects; and ends a session, whose queue
// is accounted for. The node tells of itself to those who subscribe to $SYS.
func TestPubSub(t *testing.T) {
	d := newDaemon(t, "earth-1")
	d.init("earth")
	d.run()
	sub := subscribe(d, "historian", "plant/#", 1)
	d.awaits("historian", "connected", func(s admin.Session) bool {
		return s.Connected && s.Persistent && s.ExpiryS == nil && s.Version == "3.1.1" && s.Listener == "tcp" && strings.HasPrefix(s.Remote, "127.0.0.1:") &&
			len(s.Filters) == 1 && s.Filters[0] == admin.Subscription{Filter: "plant/#", QoS: 1}
	})
	if out := d.do("sessions", "kick", "historian"); !strings.Contains(out, "historian was disconnected") {
		t.Errorf("kick says %q", out)
	}
	d.awaits("historian", "connected again", func(s admin.Session) bool { return s.Connected })
	if _, text := d.get("/metrics"); !strings.Contains(text, `farhop_mqtt_disconnects_total{cause="administrative"} 1`) {
		t.Error("the disconnect is not counted")
	}
	sub.kill()
	publish(d, "plant/1", 1, "m1", "m2", "m3")
	d.awaits("historian", "away with 3 messages", func(s admin.Session) bool { return !s.Connected && s.Queued == 3 && s.Bytes > 0 && !s.Oldest.IsZero() })
	d.kill()
	d.run()
	d.awaits("historian", "as it was", func(s admin.Session) bool { return !s.Connected && s.Queued == 3 && !s.Oldest.IsZero() })
	if out := d.do("sessions", "--client", "hist*"); !strings.Contains(out, "historian") || !strings.Contains(out, "away") {
		t.Errorf("sessions says\n%s", out)
	}
	if _, stderr, code := d.try("", "sessions", "end", "historian"); code != 7 || !strings.Contains(stderr, "3 messages") {
		t.Errorf("end without --yes: exit code %d, %s", code, stderr)
	}
	d.do("sessions", "end", "historian", "--yes")
	d.wait("three ended messages", func(s admin.Status) bool { return s.Counters.Ended["session-ended"] == 3 })
	if _, _, code := d.try("", "sessions", "show", "historian"); code != 5 {
		t.Errorf("the session is still there: exit code %d", code)
	}
	d.empty()
	sys := mosquitto(t, "mosquitto_sub", d, nil, "-t", "$SYS/broker/clients/#", "-C", "4", "-F", "%t=%p")
	sys.done()
	if got := sys.lines(); !slices.Contains(got, "$SYS/broker/clients/connected=1") || !slices.Contains(got, "$SYS/broker/clients/disconnected=0") {
		t.Errorf("$SYS says %q", got)
	}
}

// TestListenersAlone: the commands find a node that has listeners and no
// mqtt.listen.
func TestListenersAlone(t *testing.T) {
	d := newDaemon(t, "earth-1")
	d.init("earth")
	socket := filepath.Join(t.TempDir(), "mqtt.sock")
	d.edit(func(c *config.Config) {
		c.MQTT.Listen, c.MQTT.Listeners = "", []config.Listener{{URL: "ws://127.0.0.1:0/mqtt"}, {URL: "unix://" + socket}}
	})
	d.run()
	sub := background(d, "sub", "-t", "load/#", "--latency", "-n", "50", "--json")
	until(t, text("the subscriber"), func() bool { return d.status().MQTT.Clients == 1 })
	until(t, text("its subscription"), func() bool {
		all, _ := ask(d, func(c *admin.Client, ctx context.Context) (admin.Sessions, error) {
			return c.Sessions(ctx, admin.SessionsRequest{})
		})
		return len(all.Sessions) == 1 && all.Sessions[0].Subscriptions == 1
	})
	out := d.do("pub", "-t", "load/1", "-m", "x", "--repeat", "50", "--rate", "1000", "--latency", "--json")
	sub.done()
	for _, said := range []string{out, strings.Join(sub.lines(), "\n")} {
		var got struct {
			Latency struct {
				Count int     `json:"count"`
				P50   float64 `json:"p50_ms"`
				Max   float64 `json:"max_ms"`
			} `json:"latency"`
		}
		if err := json.Unmarshal([]byte(said), &got); err != nil || got.Latency.Count != 50 || got.Latency.P50 <= 0 || got.Latency.P50 > got.Latency.Max {
			t.Errorf("%v: %s", err, said)
		}
	}
	d.stop()
	d.edit(func(c *config.Config) { c.MQTT.Listeners = c.MQTT.Listeners[:1] })
	if _, stderr, code := d.try("", "pub", "-t", "a", "-m", "x"); code != 1 || !strings.Contains(stderr, "the node listens at ws://127.0.0.1:0/mqtt") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// events are those of a farhop tap --json, once the tap is open.
func events(c *client) (out []admin.TapEvent) {
	for i, line := range c.lines() {
		if i == 0 {
			continue // "tap on ..."
		}
		var e admin.TapEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			c.t.Fatalf("%s: %v: %s", c.what, err, line)
		}
		out = append(out, e)
	}
	return out
}

// tells waits until a tap has told of an event.
func tells(c *client, what string, is func(admin.TapEvent) bool) {
	c.t.Helper()
	until(c.t, func() string { return fmt.Sprintf("%s to tell of %s, told %+v", c.what, what, events(c)) }, func() bool {
		return slices.ContainsFunc(events(c), is)
	})
}

// TestTap: an operator sees a publish with its verdict, the node it is handed
// to, its arrival, its delivery and its end; and what is removed of retained
// messages at one node is gone everywhere.
func TestTap(t *testing.T) {
	m := newMesh(t)
	subscribe(m.earth, "historian", "plant/#", 1)
	m.luna.knows(m.earth, "plant/#")
	from, to := background(m.luna, "tap", "plant/#", "--json", "--payload"), background(m.earth, "tap", "plant/+", "--json")
	for _, c := range []*client{from, to} {
		until(t, text("an open tap"), func() bool { return len(c.lines()) > 0 })
	}
	publish(m.luna, "plant/1", 1, "hello")
	publish(m.luna, "other/1", 1, "unseen")
	var id string
	tells(from, "the publish", func(e admin.TapEvent) bool {
		id = e.Message
		return e.Event == "accepted" && e.Reason == "ok" && e.Topic == "plant/1" && string(e.Payload) == "hello" && slices.Contains(e.To, "node "+m.earth.name) && e.Message != ""
	})
	tells(from, "its way", func(e admin.TapEvent) bool {
		return e.Event == "forwarded" && e.Message == id && e.Node.String() == m.relay.name && e.Queue == "node "+m.earth.name
	})
	tells(to, "its arrival", func(e admin.TapEvent) bool {
		return e.Event == "arrived" && e.Message == id && e.Node.String() == m.luna.name && e.Size == 5 && e.Payload == nil && slices.Contains(e.To, "session historian")
	})
	for _, event := range []string{"delivered", "acknowledged"} {
		tells(to, event, func(e admin.TapEvent) bool { return e.Event == event && e.Message == id && e.Client == "historian" })
	}
	m.toLuna.Cut(true)
	m.luna.do("pub", "-t", "plant/2", "-m", "late", "--ttl", "1s")
	tells(from, "its end", func(e admin.TapEvent) bool {
		return e.Event == "ended" && e.Topic == "plant/2" && e.Reason == "expired"
	})
	m.toLuna.Cut(false)
	for _, e := range slices.Concat(events(from), events(to)) {
		if e.Topic == "other/1" || e.Lost > 0 {
			t.Errorf("told of %+v", e)
		}
	}

	retain(m.luna, "plant/3", 1, "on")
	retain(m.luna, "plant/old/4", 1, "off")
	agrees(m.earth, "plant/#", "plant/3=on", "plant/old/4=off")
	var kept admin.RetainedMessage
	if err := json.Unmarshal([]byte(m.earth.do("retained", "get", "plant/3", "--json")), &kept); err != nil ||
		kept.Node.String() != m.luna.name || kept.Content == nil || string(kept.Content.Payload) != "on" || kept.Published.IsZero() {
		t.Errorf("%v: %+v", err, kept)
	}
	if _, stderr, code := m.earth.try("", "retained", "rm", "plant/old/#"); code != 7 || !strings.Contains(stderr, "1 retained message") {
		t.Errorf("rm without --yes: exit code %d, %s", code, stderr)
	}
	m.earth.do("retained", "rm", "plant/old/#", "--yes")
	agrees(m.luna, "plant/#", "plant/3=on")
	agrees(m.earth, "plant/#", "plant/3=on")
	if out := m.earth.do("retained", "ls", "plant/#", "--marks"); !strings.Contains(out, "deleted") {
		t.Errorf("the mark of what was removed is not shown:\n%s", out)
	}
}
