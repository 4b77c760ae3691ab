//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/dtn"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// stack is a node of another DTN stack, within the test.
type stack struct {
	*dtn.Door
	stop func()

	mu  sync.Mutex
	got map[string]int // payloads
}

// Receive implements dtn.Sink.
func (s *stack) Receive(r dtn.Received, done func(bundle.Reason)) {
	if v, err := bundle.Parse(r.Bundle); err == nil {
		s.mu.Lock()
		s.got[string(v.Payload.Data)]++
		s.mu.Unlock()
	}
	done(bundle.OK)
}

// PeerUp and PeerDown implement dtn.Sink.
func (s *stack) PeerUp(string)   {}
func (s *stack) PeerDown(string) {}

func (s *stack) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// newStack listens at one address and dials another, "" for none.
func newStack(t *testing.T, node uint64, listen, dial string) *stack {
	t.Helper()
	s := &stack{got: map[string]int{}}
	c := dtn.Config{Node: addr.IPN(node, 0), Sink: s, Log: slog.New(slog.DiscardHandler), Drain: time.Second}
	if listen != "" {
		c.Listeners = []dtn.Listener{{Kind: dtn.TCPCL, Address: listen, TLS: dtn.TLSNone, Strangers: true}}
	}
	if dial != "" {
		c.Peers = []dtn.Peer{{Name: "node", Kind: dtn.TCPCL, Address: dial, TLS: dtn.TLSNone}}
	}
	d, err := dtn.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s.Door = d
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("a door of the test: %v", err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// offer sends a bundle until it is acknowledged.
func (s *stack) offer(t *testing.T, to addr.EID, n int) {
	p := bundle.Primary{
		Dest: to, Source: addr.IPN(9, 1), ReportTo: addr.None, Lifetime: 3600_000,
		Created: bundle.Timestamp{Time: bundle.DTNTime(time.Now().UnixMilli()), Seq: uint64(n)},
	}
	raw := bundle.AppendBundle(nil, bundle.AppendPrimary(nil, &p), bundle.AppendPayload(nil, fmt.Appendf(nil, "bundle %d", n)), bundle.Hop{NoAge: true})
	until(t, text("a bundle to be acknowledged"), func() bool { return s.Send(t.Context(), "node", [][]byte{raw}) == nil })
}

// TestDoorsKilled: what a door acknowledged arrives at the peer of another,
// whatever is killed in between.
func TestDoorsKilled(t *testing.T) {
	const count = 300
	in, out := freePort(t), freePort(t)
	earth, luna := newDaemon(t, "earth-1"), newDaemon(t, "luna-1")
	patterns := []addr.Pattern{mustPattern(t, "ipn:2.*")}
	earth.init("earth")
	earth.edit(func(c *config.Config) {
		c.DTN.Listen = []config.DTNListener{{Kind: "tcpcl", Address: config.HostPort(in), TLS: "none", Strangers: true}}
		c.DTN.Routes = []config.DTNRoute{{To: patterns, Node: addr.MustNode("luna-1")}}
	})
	earth.run()
	luna.join(earth.invite("luna", earth.mesh))
	luna.edit(func(c *config.Config) {
		c.DTN.Peers = []config.DTNPeer{{Name: "far", Kind: "tcpcl", Address: config.HostPort(out), Serves: patterns, TLS: "none"}}
	})
	luna.run()
	s := newStack(t, 9, "", in)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := w; n < count; n += 8 {
				s.offer(t, addr.IPN(2, 1), n)
			}
		})
	}
	for range 2 {
		time.Sleep(150 * time.Millisecond)
		earth.kill()
		luna.kill()
		earth.run()
		luna.run()
	}
	wg.Wait()
	far := newStack(t, 2, out, "")
	until(t, text("some at the peer"), func() bool { return far.count() > 0 })
	luna.kill()
	luna.run()
	until(t, func() string { return fmt.Sprintf("all bundles at the peer, which has %d", far.count()) }, func() bool { return far.count() == count })
	for _, d := range []*daemon{earth, luna} {
		d.wait("empty queues", func(s admin.Status) bool { return len(s.Queues) == 0 })
	}
}

func mustPattern(t *testing.T, s string) addr.Pattern {
	t.Helper()
	p, err := addr.ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// dtn7Conf is the configuration of dtn7-gold with one TCPCLv4 listener.
const dtn7Conf = `
[core]
store = "store"
inspect-all-bundles = true
node-id = "dtn://dtn7/"
[logging]
level = "debug"
[discovery]
ipv4 = false
ipv6 = false
[agents.webserver]
address = %q
rest = true
[routing]
algorithm = "epidemic"
[[listen]]
protocol = "tcpclv4"
endpoint = %q
`

// dtn7 starts dtn7-gold, and returns its addresses for applications and for
// TCPCLv4.
func dtn7(t *testing.T) (web, tcpcl string) {
	t.Helper()
	program := os.Getenv("FARHOP_DTN7")
	if program == "" {
		t.Skip("SKIPPED: dtn7-gold is missing, so nothing was proved about it: build it as docs/dtn-interop.md says and run with FARHOP_DTN7=/path/to/dtnd")
	}
	dir := t.TempDir()
	web, tcpcl = freePort(t), freePort(t)
	if err := os.WriteFile(filepath.Join(dir, "conf.toml"), fmt.Appendf(nil, dtn7Conf, web, tcpcl), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "conf.toml")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			t.Logf("dtn7 said:\n%s", tail(log.Name(), 40))
		}
	})
	return web, tcpcl
}

// rest calls dtn7's interface for applications.
func rest(t *testing.T, web, path string, in, out any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	until(t, func() string { return "an answer of dtn7 to " + path }, func() bool {
		resp, err := http.Post("http://"+web+"/rest/"+path, "application/json", bytes.NewReader(body))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err = io.ReadAll(resp.Body)
		return err == nil
	})
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatalf("dtn7 answers %s: %v", text, err)
	}
}

// TestDoorDTN7: MQTT at one node, dtn7-gold at the door of another, both ways.
func TestDoorDTN7(t *testing.T) {
	web, tcpcl := dtn7(t)
	var app struct{ Error, UUID string }
	rest(t, web, "register", map[string]string{"endpoint_id": "dtn://dtn7/inbox"}, &app)
	if app.Error != "" {
		t.Fatal(app.Error)
	}
	earth, luna := newDaemon(t, "earth-1"), newDaemon(t, "luna-1")
	earth.init("earth")
	earth.edit(func(c *config.Config) {
		c.DTN.Peers = []config.DTNPeer{{
			Name: "dtn7", Kind: "tcpcl", Address: config.HostPort(tcpcl), Node: dtnEID(t, "dtn://dtn7/"),
			Serves: []addr.Pattern{mustPattern(t, "dtn://dtn7/**")}, TLS: "none", OneSegment: true,
		}}
		c.DTN.Exports = []config.DTNExport{{Topic: "plant/#", To: "dtn://dtn7/inbox"}}
	})
	earth.run()
	luna.join(earth.invite("luna", earth.mesh))
	luna.run()
	luna.knows(earth, "plant/#")
	sub := subscribe(luna, "historian", "from/#", 1)
	earth.knows(luna, "from/#")
	publish(luna, "plant/1", 1, "hello dtn7")
	want := base64.StdEncoding.EncodeToString([]byte("hello dtn7"))
	until(t, text("the publication at dtn7's application"), func() bool {
		var got struct{ Bundles json.RawMessage }
		rest(t, web, "fetch", map[string]string{"uuid": app.UUID}, &got)
		return bytes.Contains(got.Bundles, []byte(want))
	})
	var built struct{ Error string }
	rest(t, web, "build", map[string]any{"uuid": app.UUID, "arguments": map[string]any{
		"destination": "dtn://earth-1/mqtt/from/dtn7", "source": "dtn://dtn7/inbox", "creation_timestamp_now": 1, "lifetime": "1h", "payload_block": "hello farhop",
	}}, &built)
	if built.Error != "" {
		t.Fatal(built.Error)
	}
	sub.once([]string{"hello farhop"})
}

func dtnEID(t *testing.T, s string) addr.EID {
	t.Helper()
	e, err := addr.ParseEID(s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
