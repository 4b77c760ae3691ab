package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	mochi "github.com/mochi-mqtt/server/v2"
	mochilisten "github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farhop/farhop/broker"
)

// startBroker runs another project's broker, so that pub and sub are held
// against the protocol and not against our reading of it.
func startBroker(t *testing.T, hooks ...mochi.Hook) (s *mochi.Server, url string) {
	t.Helper()
	s = mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	for _, h := range append(hooks, &allow{}) {
		if err := s.AddHook(h, nil); err != nil {
			t.Fatal(err)
		}
	}
	l := mochilisten.NewTCP(mochilisten.Config{ID: "t", Address: "127.0.0.1:0"})
	if err := s.AddListener(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, "tcp://" + l.Address()
}

// allow lets everybody do everything.
type allow struct{ mochi.HookBase }

func (allow) ID() string                                               { return "allow" }
func (allow) Provides(b byte) bool                                     { return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck }
func (allow) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }
func (allow) OnACLCheck(*mochi.Client, string, bool) bool              { return true }

// recorder notes publishes, and answers receipts as a node would.
type recorder struct {
	mochi.HookBase
	server *mochi.Server
	mu     sync.Mutex
	got    []packets.Packet // guarded by mu
}

func (r *recorder) ID() string           { return "recorder" }
func (r *recorder) Provides(b byte) bool { return b == mochi.OnPublished }

func (r *recorder) OnPublished(cl *mochi.Client, pk packets.Packet) {
	if cl.Net.Inline {
		return
	}
	r.mu.Lock()
	r.got = append(r.got, pk)
	r.mu.Unlock()
	for _, u := range pk.Properties.User {
		if u.Key == receiptProperty {
			const text = `{"message": "luna-1.9f3a2.t1", "node": "earth-1", "reason": "ok", "latency_ms": 1280.4}`
			go func() { _ = r.server.Publish(u.Val, []byte(text), false, 1) }()
		}
	}
}

func (r *recorder) payloads() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, pk := range r.got {
		all = append(all, pk.TopicName+"="+string(pk.Payload))
	}
	return strings.Join(all, " ")
}

func TestPub(t *testing.T) {
	for _, c := range []struct{ name, args, in, want string }{
		{"message", "-m 21.5", "", "plant/1=21.5"},
		{"empty message", "-m= --retain", "", "plant/1="},
		{"QoS 0", "-m x -q 0", "", "plant/1=x"},
		{"QoS 2", "-m x -q 2", "", "plant/1=x"},
		{"count", "-m x --count 3", "", "plant/1=x plant/1=x plant/1=x"},
		{"lines", "-l", "a\nb\n\nc", "plant/1=a plant/1=b plant/1= plant/1=c"},
		{"standard input", "-f -", "a\nb\n", "plant/1=a\nb\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &recorder{}
			s, url := startBroker(t, r)
			r.server = s
			code, _, stderr := call(t.Context(), c.in, append(strings.Fields("pub -t plant/1 --ttl 90s --broker "+url), strings.Fields(c.args)...)...)
			if got := r.payloads(); code != 0 || got != c.want {
				t.Fatalf("%d %s: %q, want %q", code, stderr, got, c.want)
			}
			first := r.got[0]
			asked := len(first.Properties.User) == 1 && first.Properties.User[0].Key == broker.IDProperty
			if asked != (first.FixedHeader.Qos > 0) || first.Properties.MessageExpiryInterval != 90 {
				t.Errorf("properties %+v", first.Properties)
			}
		})
	}
}

func TestPubReceipts(t *testing.T) {
	r := &recorder{}
	s, url := startBroker(t, r)
	r.server = s
	if err := s.Subscribe("plant/#", 1, func(*mochi.Client, packets.Subscription, packets.Packet) {}); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := call(t.Context(), "", "pub", "-t", "plant/1", "-m", "x", "--count", "2", "--receipts", "2", "--broker", url)
	line := "receipt luna-1.9f3a2.t1 earth-1 ok after 1.3s\n"
	if code != 0 || out != line+line {
		t.Errorf("%d %q %s", code, out, stderr)
	}
	code, out, stderr = call(t.Context(), "", "pub", "-t", "plant/1", "-m", "x", "--receipts", "1", "--json", "--broker", url)
	if code != 0 || !strings.Contains(out, `{"receipt":{"message":"luna-1.9f3a2.t1","node":"earth-1","reason":"ok","latency_ms":1280.4}}`) {
		t.Errorf("%d %q %s", code, out, stderr)
	}
	code, _, stderr = call(t.Context(), "", "pub", "-t", "plant/1", "-m", "x", "--receipts", "2", "--wait", "50ms", "--broker", url)
	if code != exitNothing || !strings.Contains(stderr, "1 of 2 receipts came within 50ms") {
		t.Errorf("%d %s", code, stderr)
	}
}

// subscriber runs farhop sub; result waits for its end.
func subscriber(t *testing.T, s *mochi.Server, args ...string) (result func() (code int, stdout, stderr string)) {
	t.Helper()
	before := s.Info.Clone().Subscriptions
	type end struct {
		code     int
		out, err string
	}
	done := make(chan end, 1)
	go func() {
		code, out, err := call(t.Context(), "", append([]string{"sub"}, args...)...)
		done <- end{code, out, err}
	}()
	for s.Info.Clone().Subscriptions == before && len(done) == 0 {
		if err := pause(t.Context(), 1e6); err != nil {
			t.Fatal(err)
		}
	}
	return func() (int, string, string) { e := <-done; return e.code, e.out, e.err }
}

func publish(t *testing.T, s *mochi.Server, topic string, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if err := s.Publish(topic, []byte(p), false, 1); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSub(t *testing.T) {
	s, url := startBroker(t)
	for _, c := range []struct {
		name, args, want string
	}{
		{"text", "", "plant/1 a\tb\nplant/1 \\x1b[0m\\n\n"},
		{"payload", "--payload", "a\tb\n\\x1b[0m\\n\n"},
		{"QoS 0", "-q 0 --payload", "a\tb\n\\x1b[0m\\n\n"},
		{"JSON", "--json", `{"topic":"plant/1","payload":"a\tb","qos":1}` + "\n" + `{"topic":"plant/1","payload":"\u001b[0m\n","qos":1}` + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			result := subscriber(t, s, append(strings.Fields("-t plant/# -n 2 --broker "+url), strings.Fields(c.args)...)...)
			publish(t, s, "plant/1", "a\tb", "\x1b[0m\n", "too much")
			if code, out, stderr := result(); code != 0 || out != c.want {
				t.Errorf("%d %s:\n got %q\nwant %q", code, stderr, out, c.want)
			}
		})
	}
}

func TestSubBinaryPayload(t *testing.T) {
	s, url := startBroker(t)
	result := subscriber(t, s, "-t", "plant/#", "-n", "1", "--json", "--broker", url)
	publish(t, s, "plant/1", "\xff\x00")
	_, out, _ := result()
	var got received
	if err := json.Unmarshal([]byte(out), &got); err != nil || string(got.Base64) != "\xff\x00" || got.Payload != nil {
		t.Errorf("%q, %v", out, err)
	}
}

// What a count kept from being printed is not acknowledged: the next call with
// the same session gets it, and nothing twice.
func TestSubSessionLosesNothing(t *testing.T) {
	s, url := startBroker(t)
	args := []string{"-t", "plant/#", "--payload", "--client", "ops", "--broker", url}
	result := subscriber(t, s, append(args, "-n", "2")...)
	var all []string
	for i := range 9 {
		all = append(all, fmt.Sprint(i))
	}
	publish(t, s, "plant/1", all...)
	var got strings.Builder
	for {
		code, out, stderr := result()
		got.WriteString(out)
		if code != 0 {
			t.Fatalf("%d %s after %q", code, stderr, got.String())
		}
		if len(strings.Fields(got.String())) >= len(all) {
			break
		}
		result = func() (int, string, string) {
			return call(t.Context(), "", append([]string{"sub", "-n", fmt.Sprint(min(2, len(all)-len(strings.Fields(got.String()))))}, args...)...)
		}
	}
	if want := strings.Join(all, "\n") + "\n"; got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
}

func TestSubEnds(t *testing.T) {
	s, url := startBroker(t)
	code, _, stderr := call(t.Context(), "", "sub", "-t", "a", "-n", "1", "--wait", "50ms", "--broker", url)
	if code != exitNothing || !strings.Contains(stderr, "0 of 1 message came within 50ms") {
		t.Errorf("--wait with a count: %d %s", code, stderr)
	}
	if code, _, stderr := call(t.Context(), "", "sub", "-t", "a", "--wait", "50ms", "--broker", url); code != 0 {
		t.Errorf("--wait alone: %d %s", code, stderr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs bytes.Buffer
	done := make(chan int, 1)
	go func() { done <- run(ctx, []string{"sub", "-t", "b", "--broker", url}, nil, &out, &errs) }()
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("stopped: %d %s", code, errs.String())
	}
	result := subscriber(t, s, "-t", "c", "--client", "twin", "--broker", url)
	other := subscriber(t, s, "-t", "d", "--client", "twin", "-n", "1", "--broker", url)
	if code, _, stderr := result(); code != exitFailed || !strings.Contains(stderr, "the broker ended the connection") {
		t.Errorf("taken over: %d %s", code, stderr)
	}
	publish(t, s, "d", "x")
	if code, _, stderr := other(); code != 0 {
		t.Errorf("taking over: %d %s", code, stderr)
	}
}

// A message that could not be printed is an error, and is not acknowledged.
func TestSubClosedPipe(t *testing.T) {
	s, url := startBroker(t)
	r, w := io.Pipe()
	r.Close()
	before := s.Info.Clone().Subscriptions
	done := make(chan int, 1)
	var errs bytes.Buffer
	go func() { done <- run(t.Context(), []string{"sub", "-t", "a", "--broker", url}, nil, w, &errs) }()
	for s.Info.Clone().Subscriptions == before {
		if err := pause(t.Context(), 1e6); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, s, "a", "x")
	if code := <-done; code != exitFailed || !strings.Contains(errs.String(), "print a message") {
		t.Errorf("%d %s", code, errs.String())
	}
}
