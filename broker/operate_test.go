package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farhop/farhop/broker/auth"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
)

// sysTopics reads n publications of $SYS by topic.
func (c *client) sysTopics(n int, retain bool) map[string]string {
	c.t.Helper()
	got := map[string]string{}
	for range n {
		pk := c.next(packets.Publish)
		if pk.FixedHeader.Retain != retain || pk.FixedHeader.Qos != 0 {
			c.t.Errorf("%s has retain %t and QoS %d", pk.TopicName, pk.FixedHeader.Retain, pk.FixedHeader.Qos)
		}
		got[strings.TrimPrefix(pk.TopicName, sysBroker)] = string(pk.Payload)
	}
	return got
}

// TestSys: who subscribes to $SYS by name gets all of it at once, then again
// and again; wildcards that begin a filter do not match it, nobody can publish
// there, and nothing is asked of the node while nobody wants it.
func TestSys(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 100)
	w := start(t, func(c *Config) {
		c.SysInterval, c.Version = time.Second, "v1"
		c.Sys = func(context.Context) []SysValue {
			asked <- struct{}{}
			return []SysValue{{"store/messages/count", "7"}}
		}
	})
	all := w.connect("all", 5, nil)
	all.subscribe(0, "#", "+/broker/version", "$SYSX/#")
	if n := w.b.live.sys.Load(); n != 0 || len(asked) > 0 {
		t.Errorf("%d filters of $SYS, asked %d times, before anybody subscribed", n, len(asked))
	}
	some, persists := w.connect("some", 4, nil), w.connect("persists", 5, persistent)
	some.subscribe(1, sysPrefix+"#")
	own := w.b.sysOwn(time.Now())
	got := some.sysTopics(len(own)+1, true)
	for topic, want := range map[string]string{
		"version": "farhop v1", "clients/connected": "3", "clients/maximum": "3", "store/messages/count": "7", "subscriptions/count": "4", "retained/count": "0",
	} {
		if got[topic] != want {
			t.Errorf("%s is %q, want %q", topic, got[topic], want)
		}
	}
	again := some.sysTopics(len(own)+1, false)
	if !strings.HasSuffix(again["uptime"], " seconds") || again["bytes/received"] == "0" || again["publish/messages/sent"] == "0" {
		t.Errorf("told again: %v", again)
	}
	persists.subscribe(2, sysPrefix+"broker/version")
	if got := persists.sysTopics(1, true); got["version"] != "farhop v1" {
		t.Errorf("a persistent session got %v", got)
	}
	some.send(publish(sysBroker+"version", "mine", 0, 0))
	all.send(publish(sysBroker+"version", "mine", 1, 5))
	if pk := all.next(packets.Puback); pk.ReasonCode != codeNotAuthorized {
		t.Errorf("a publish to $SYS is answered %#x", pk.ReasonCode)
	}
	all.quiet()
	w.node.mu.Lock()
	defer w.node.mu.Unlock()
	if len(w.node.log) > 0 {
		t.Errorf("%d publications reached the node", len(w.node.log))
	}
}

// TestSysEnds: with its last subscriber the telling ends.
func TestSysEnds(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c := w.connect("c", 5, nil)
	c.subscribe(0, sysPrefix+"none", sysPrefix+"none/+")
	c.subscribe(1, sysPrefix+"none", "$share/g/"+sysPrefix+"none") // one again
	if n := w.b.live.sys.Load(); n != 3 {
		t.Errorf("%d filters of $SYS, want 3", n)
	}
	c.conn.Close()
	eventually(t, "no filters of $SYS are left", func() bool { return w.b.live.sys.Load() == 0 })
}

// TestSysRights: the access rules hold for $SYS.
func TestSysRights(t *testing.T) {
	t.Parallel()
	w := ruled(t, rule(policy.Allow, "#"),
		auth.Rule{Action: policy.Allow, From: []string{"client:ops"}, MQTT: auth.RuleMQTT{Subscribe: []string{sysPrefix + "#"}}},
		auth.Rule{Action: policy.Deny, From: []string{"*"}, MQTT: auth.RuleMQTT{Subscribe: []string{sysBroker + "store/#", sysBroker + "bytes/#"}}})
	if codes := w.connect("dev", 5, nil).subscribe(0, sysPrefix+"#"); codes[0] != codeNotAuthorized {
		t.Errorf("a stranger is answered %#x", codes)
	}
	ops := w.connect("ops", 5, nil)
	if codes := ops.subscribe(0, sysPrefix+"#"); codes[0] != 0 {
		t.Fatalf("the one it is allowed to is answered %#x", codes)
	}
	got := ops.sysTopics(len(w.b.sysOwn(time.Now()))-2, true)
	if got["version"] == "" || got["bytes/sent"] != "" {
		t.Errorf("got %v", got)
	}
	ops.quiet()
}

// TestKick: an operator ends a connection with 0x98. The session goes on, the
// will is published, and nobody comes in while the operator does more.
func TestKick(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	witness := w.connect("witness", 5, nil)
	witness.subscribe(0, "will/#")
	dying := func(pk *packets.Packet) {
		persistent(pk)
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "will/d", []byte("gone")
		pk.Connect.WillProperties.WillDelayInterval = 3600
	}
	d := w.connect("d", 5, dying)
	conn, ok := w.b.Connection("d")
	if !ok || conn.Version != "5" || conn.Transport != "tcp" || !strings.HasPrefix(conn.Remote, "127.0.0.1:") || conn.Conn == 0 {
		t.Errorf("the connection is %+v, %t", conn, ok)
	}
	if was, err := w.b.Kick(t.Context(), "d", nil); !was || err != nil {
		t.Errorf("kicked: %t, %v", was, err)
	}
	if pk := d.ends(); pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != codeAdministrative {
		t.Errorf("the last packet is %+v", pk)
	}
	witness.quiet() // the will waits for its delay
	d = w.connect("d", 5, dying)
	was, err := w.b.Kick(t.Context(), "d", func() error {
		if _, still := w.b.Connection("d"); still {
			t.Error("the connection is not gone")
		}
		w.node.endSession("d")
		return nil
	})
	if !was || err != nil {
		t.Errorf("kicked: %t, %v", was, err)
	}
	d.ends()
	if pk := witness.next(packets.Publish); pk.TopicName != "will/d" { // its session ended
		t.Errorf("got %s", pk.TopicName)
	}
	failed := errors.New("not now")
	if was, err := w.b.Kick(t.Context(), "nobody", func() error { return failed }); was || !errors.Is(err, failed) {
		t.Errorf("nobody: %t, %v", was, err)
	}
	if _, ok := w.b.Connection("nobody"); ok {
		t.Error("nobody is connected")
	}
}

// watcher notes what it is shown.
type watcher struct {
	mu  sync.Mutex
	got []string
}

func (w *watcher) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, fmt.Sprintf(format, args...))
}

func (w *watcher) Published(m *Message, v Verdict, live int) {
	w.note("%s published %s: %s, %d live", m.Client, m.Topic, v.Reason, live)
}

func (w *watcher) Written(client string, m *Message, qos byte) {
	w.note("%s got %s at QoS %d", client, m.Topic, qos)
}

func (w *watcher) Lost(client string, m *Message, cause string) {
	w.note("%s lost %s: %s", client, m.Topic, cause)
}

func (w *watcher) saw(line string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.got, line)
}

// TestWatch: a watcher sees every publish with its verdict, every delivery, and
// what is dropped; and nothing once it is gone.
func TestWatch(t *testing.T) {
	t.Parallel()
	w, seen := start(t, nil), &watcher{}
	sub := w.connect("sub", 5, func(pk *packets.Packet) { pk.Properties.MaximumPacketSize = 40 })
	sub.subscribe(1, "a/#")
	pub := w.connect("pub", 5, nil)
	w.b.Watch(seen)
	pub.send(publish("a/0", "x", 0, 0))
	pub.send(publish("a/1", "x", 1, 1))
	pub.send(publish("b/1", "x", 1, 2))
	pub.send(publish("a/2", "x", 2, 3))
	pub.send(publish("$SYS/a", "x", 1, 4))
	pub.send(publish("a/large", strings.Repeat("x", 100), 1, 5))
	for _, want := range []string{
		"pub published a/0: ok, 1 live", "pub published a/1: ok, 1 live", "pub published b/1: no-subscriber, 0 live", "pub published a/2: ok, 1 live",
		"pub published $SYS/a: not-allowed, 0 live", "sub got a/0 at QoS 0", "sub got a/1 at QoS 1", "sub lost a/large: client-maximum-packet-size",
	} {
		eventually(t, want, func() bool { return seen.saw(want) })
	}
	w.b.Watch(nil)
	w.node.mu.Lock()
	w.node.reason = bundle.StoreFull
	w.node.mu.Unlock()
	pub2 := w.connect("pub2", 5, nil)
	pub2.send(publish("a/3", "x", 1, 6))
	pub2.next(packets.Puback)
	if seen.saw("pub2 published a/3: ok, 1 live") {
		t.Error("a watcher that is gone still sees")
	}
}

// TestNobodyWatches: the way of a message takes no memory for a watcher that
// is not there.
func TestNobodyWatches(t *testing.T) {
	_, theirs := net.Pipe()
	c, _, _ := lone(t, theirs)
	m := &Message{Topic: "a/1", Payload: []byte("x"), Client: "pub"}
	if n := testing.AllocsPerRun(1000, func() {
		if !c.shortcut(m, 0) {
			t.Fatal("it went the long way")
		}
	}); n != 0 {
		t.Errorf("%v allocations for a message", n)
	}
}
