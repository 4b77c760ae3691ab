package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	mochi "github.com/mochi-mqtt/server/v2"
	mochilisten "github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farhop/farhop/broker"
)

// testBroker is another project's broker, so that pub and sub are held against
// the protocol and not against our reading of it. It lets everybody do
// everything, notes what happens, and sends receipts as a node would.
type testBroker struct {
	mochi.HookBase
	server *mochi.Server
	url    string

	mu          sync.Mutex
	change      chan struct{}    // guarded by mu; closed and replaced by every event
	published   []packets.Packet // guarded by mu; by clients
	subscribes  int              // guarded by mu
	acked       int              // guarded by mu
	disconnects int              // guarded by mu
}

func startBroker(t *testing.T) *testBroker {
	t.Helper()
	b := &testBroker{change: make(chan struct{})}
	b.server = mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if err := b.server.AddHook(b, nil); err != nil {
		t.Fatal(err)
	}
	l := mochilisten.NewTCP(mochilisten.Config{ID: "t", Address: "127.0.0.1:0"})
	if err := b.server.AddListener(l); err != nil {
		t.Fatal(err)
	}
	if err := b.server.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.server.Close() })
	b.url = "tcp://" + l.Address()
	return b
}

func (b *testBroker) ID() string { return "test" }

func (b *testBroker) Provides(hook byte) bool {
	return bytes.Contains([]byte{mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnPublished, mochi.OnSessionEstablished, mochi.OnSubscribed, mochi.OnQosComplete, mochi.OnDisconnect}, []byte{hook})
}

func (b *testBroker) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }
func (b *testBroker) OnACLCheck(*mochi.Client, string, bool) bool              { return true }

// OnSessionEstablished gives up the send quota: with one, this server locks
// itself up when it publishes and reads an acknowledgement at the same moment.
func (b *testBroker) OnSessionEstablished(cl *mochi.Client, _ packets.Packet) {
	cl.State.Inflight.ResetSendQuota(0)
}

func (b *testBroker) note(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.change)
	b.change = make(chan struct{})
}

func (b *testBroker) OnSubscribed(cl *mochi.Client, _ packets.Packet, _ []byte) {
	b.note(func() { b.subscribes++ })
}

func (b *testBroker) OnQosComplete(*mochi.Client, packets.Packet) { b.note(func() { b.acked++ }) }
func (b *testBroker) OnDisconnect(*mochi.Client, error, bool)     { b.note(func() { b.disconnects++ }) }

func (b *testBroker) OnPublished(cl *mochi.Client, pk packets.Packet) {
	if cl.Net.Inline {
		return
	}
	b.note(func() { b.published = append(b.published, pk) })
	for _, u := range pk.Properties.User {
		if u.Key == receiptProperty {
			text := `{"message": "luna-1.9f3a2.t1", "region": "earth", "state": "expired", "reason": "expired", "node": "earth-1", "expired": 2}`
			if strings.HasSuffix(string(pk.Payload), "last") {
				text = strings.Replace(text, "}", `, "last": true}`, 1)
			}
			go func() { _ = b.server.Publish(u.Val, []byte(text), false, 1) }()
		}
	}
}

// await returns once is, which is called with mu held, is true.
func (b *testBroker) await(t *testing.T, is func() bool) {
	t.Helper()
	for {
		b.mu.Lock()
		ok, change := is(), b.change
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-change:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

func (b *testBroker) publish(t *testing.T, topic string, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if err := b.server.Publish(topic, []byte(p), false, 1); err != nil {
			t.Fatal(err)
		}
	}
}

// ending is how a call of the program ended.
type ending struct {
	code     int
	out, err string
}

// subscriber starts farhop sub and returns once it has subscribed, with a
// channel that tells how it ends.
func (b *testBroker) subscriber(t *testing.T, args ...string) <-chan ending {
	t.Helper()
	b.mu.Lock()
	before := b.subscribes
	b.mu.Unlock()
	done := make(chan ending, 1)
	go func() {
		code, out, err := call(t.Context(), "", append([]string{"sub", "--broker", b.url}, args...)...)
		done <- ending{code, out, err}
	}()
	b.await(t, func() bool { return b.subscribes > before })
	return done
}

func TestPub(t *testing.T) {
	for _, c := range []struct{ name, args, in, want string }{
		{"message", "-m 21.5", "", "plant/1=21.5"},
		{"empty message", "--message= --retain", "", "plant/1="},
		{"QoS 0", "-m x -q 0", "", "plant/1=x"},
		{"QoS 2", "-m x -q 2", "", "plant/1=x"},
		{"count", "-m x --count 3", "", "plant/1=x plant/1=x plant/1=x"},
		{"lines", "-l", "a\nb\n\nc", "plant/1=a plant/1=b plant/1= plant/1=c"},
		{"standard input", "-f -", "a\nb\n", "plant/1=a\nb\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := startBroker(t)
			code, _, stderr := call(t.Context(), c.in, append(strings.Fields("pub -t plant/1 --ttl 90s --broker "+b.url), strings.Fields(c.args)...)...)
			if code != 0 {
				t.Fatalf("%d %s", code, stderr)
			}
			b.await(t, func() bool { return len(b.published) == strings.Count(c.want, "=") })
			var got []string
			for _, pk := range b.published {
				got = append(got, pk.TopicName+"="+string(pk.Payload))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			first := b.published[0]
			asked := len(first.Properties.User) == 1 && first.Properties.User[0].Key == broker.IDProperty
			if asked != (first.FixedHeader.Qos > 0) || first.Properties.MessageExpiryInterval != 90 {
				t.Errorf("properties %+v", first.Properties)
			}
		})
	}
}

func TestPubReceipts(t *testing.T) {
	b := startBroker(t)
	if err := b.server.Subscribe("plant/#", 1, func(*mochi.Client, packets.Subscription, packets.Packet) {}); err != nil {
		t.Fatal(err)
	}
	pub := func(args string) (int, string, string) {
		return call(t.Context(), "", strings.Fields("pub -t plant/1 -m x --broker "+b.url+" "+args)...)
	}
	line := "receipt luna-1.9f3a2.t1 earth expired at earth-1: 0 delivered, 2 expired, 0 refused\n"
	if code, out, stderr := pub("--count 2 --receipts 2"); code != 0 || out != line+line {
		t.Errorf("%d %q %s", code, out, stderr)
	}
	want := `{"receipt":{"message":"luna-1.9f3a2.t1","region":"earth","state":"expired","reason":"expired","node":"earth-1","delivered":0,"expired":2,"refused":0}}`
	if code, out, stderr := pub("--receipts 1 --json"); code != 0 || !strings.Contains(out, want) {
		t.Errorf("%d %q %s", code, out, stderr)
	}
	if code, _, stderr := pub("--receipts 2 --wait 50ms"); code != exitNothing || !strings.Contains(stderr, "of 2 receipts came within 50ms") {
		t.Errorf("%d %s", code, stderr)
	}
	if code, out, stderr := pub("-m last --receipt --count 3 --wait 1h"); code != 0 || out != line+line+line {
		t.Errorf("all that can come: %d %q %s", code, out, stderr)
	}
	if code, _, stderr := pub("-m last --receipts 2 --wait 1h"); code != exitNothing || !strings.Contains(stderr, "1 of 2 receipts came, and no more will") {
		t.Errorf("more than can come: %d %s", code, stderr)
	}
}

func TestSub(t *testing.T) {
	b := startBroker(t)
	for _, c := range []struct{ name, args, want string }{
		{"text", "", "plant/1 a\tb\nplant/1 \\x1b[0m\\n\n"},
		{"payload", "--payload", "a\tb\n\\x1b[0m\\n\n"},
		{"QoS 0", "-q 0 --payload", "a\tb\n\\x1b[0m\\n\n"},
		{"JSON", "--json", `{"topic":"plant/1","payload":"a\tb","qos":1,"expiry_s":86400}` + "\n" + `{"topic":"plant/1","payload":"\u001b[0m\n","qos":1,"expiry_s":86400}` + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			done := b.subscriber(t, append(strings.Fields("-t plant/# -n 2"), strings.Fields(c.args)...)...)
			b.publish(t, "plant/1", "a\tb", "\x1b[0m\n", "too much")
			if e := <-done; e.code != 0 || e.out != c.want {
				t.Errorf("%d %s:\n got %q\nwant %q", e.code, e.err, e.out, c.want)
			}
		})
	}
}

func TestSubBinaryPayload(t *testing.T) {
	b := startBroker(t)
	done := b.subscriber(t, "-t", "plant/#", "-n", "1", "--json")
	b.publish(t, "plant/1", "\xff\x00")
	e := <-done
	var got received
	if err := json.Unmarshal([]byte(e.out), &got); err != nil || string(got.Base64) != "\xff\x00" || got.Payload != nil {
		t.Errorf("%q, %v", e.out, err)
	}
}

// What a count kept from being printed is not acknowledged, and what was
// printed is: the next call with the same session gets the rest.
func TestSubSessionLosesNothing(t *testing.T) {
	b := startBroker(t)
	args := []string{"-t", "plant/#", "--payload", "--client", "ops", "-n"}
	done := b.subscriber(t, append(args, "2")...)
	b.publish(t, "plant/1", "0", "1", "2", "3", "4", "5", "6", "7")
	if e := <-done; e.code != 0 || e.out != "0\n1\n" {
		t.Fatalf("%d %q %s", e.code, e.out, e.err)
	}
	b.await(t, func() bool { return b.disconnects >= 1 && b.acked >= 2 }) // the publisher disconnects, too
	if b.acked != 2 {
		t.Fatalf("%d messages are acknowledged", b.acked)
	}
	e := <-b.subscriber(t, append(args, "6")...)
	rest := strings.Fields(e.out)
	slices.Sort(rest) // this broker resends in any order
	if e.code != 0 || strings.Join(rest, "") != "234567" {
		t.Errorf("%d %q %s", e.code, e.out, e.err)
	}
}

func TestSubEnds(t *testing.T) {
	b := startBroker(t)
	code, _, stderr := call(t.Context(), "", "sub", "-t", "a", "-n", "1", "--wait", "50ms", "--broker", b.url)
	if code != exitNothing || !strings.Contains(stderr, "0 of 1 message came within 50ms") {
		t.Errorf("--wait with a count: %d %s", code, stderr)
	}
	if code, _, stderr := call(t.Context(), "", "sub", "-t", "a", "--wait", "50ms", "--broker", b.url); code != 0 {
		t.Errorf("--wait alone: %d %s", code, stderr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	var out, errs bytes.Buffer
	go func() { done <- run(ctx, []string{"sub", "-t", "b", "--broker", b.url}, nil, &out, &errs) }()
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("stopped: %d %s", code, errs.String())
	}
	first := b.subscriber(t, "-t", "c", "--client", "twin")
	second := b.subscriber(t, "-t", "d", "--client", "twin", "-n", "1")
	if e := <-first; e.code != exitFailed || !strings.Contains(e.err, "the broker ended the connection") {
		t.Errorf("taken over: %d %s", e.code, e.err)
	}
	b.publish(t, "d", "x")
	if e := <-second; e.code != 0 {
		t.Errorf("taking over: %d %s", e.code, e.err)
	}
}

// A message that cannot be printed is an error, and is not acknowledged.
func TestSubClosedPipe(t *testing.T) {
	b := startBroker(t)
	r, w := io.Pipe()
	r.Close()
	done := make(chan int, 1)
	var errs bytes.Buffer
	go func() { done <- run(t.Context(), []string{"sub", "-t", "a", "--broker", b.url}, nil, w, &errs) }()
	b.await(t, func() bool { return b.subscribes == 1 })
	b.publish(t, "a", "x")
	if code := <-done; code != exitFailed || !strings.Contains(errs.String(), "print a message") {
		t.Errorf("%d %s", code, errs.String())
	}
}

func TestReceiptText(t *testing.T) {
	for want, r := range map[string]receipt{
		"receipt a.1.t1 earth delivered at e-1 after 1.3s":                                   {Message: "a.1.t1", Region: "earth", State: "delivered", Reason: "ok", Node: "e-1", Delivered: 1, Latency: 1280},
		"receipt - luna refused (store-full) at l-1":                                         {Region: "luna", State: "refused", Reason: "store-full", Node: "l-1", Refused: 1},
		"receipt a.1.t2 earth delivered (expired) at e-1: 2 delivered, 1 expired, 0 refused": {Message: "a.1.t2", Region: "earth", State: "delivered", Reason: "expired", Node: "e-1", Delivered: 2, Expired: 1},
		"receipt a.1.t3 earth unknown":                                                       {Message: "a.1.t3", Region: "earth", State: "unknown", Reason: "ok"},
	} {
		if got := r.text(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// A receipt that comes before the answer to its publish is held back until it
// is known when that was.
func TestReceiptBeforeAnswer(t *testing.T) {
	var out strings.Builder
	no := false
	r := newReceipts(&app{out: &out}, &pubFlags{json: &no})
	r.take(&paho.Publish{Topic: r.topic, Payload: []byte(`{"message":"a.1.t1","region":"earth","state":"delivered","reason":"ok"}`)})
	if out.Len() > 0 {
		t.Errorf("printed %q", out.String())
	}
	r.sent("a.1.t1", time.Now().Add(-2*time.Minute))
	if want := "receipt a.1.t1 earth delivered after 2m"; !strings.HasPrefix(out.String(), want) {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}
