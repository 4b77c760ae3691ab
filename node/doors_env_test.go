package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/dtn"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/bench/proc"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

func testEID(t testing.TB, s string) addr.EID {
	t.Helper()
	e, err := addr.ParseEID(s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func testPatterns(t testing.TB, list ...string) (out []addr.Pattern) {
	t.Helper()
	for _, s := range list {
		p, err := addr.ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// freeAddr is an address of this machine where nobody listens, nor has a
// connection while its node is down.
func freeAddr(t testing.TB) string {
	t.Helper()
	a, err := proc.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("gave up waiting: %s", what)
		}
	}
}

// doorNode is a node with doors, without a broker, that can be stopped and
// started again.
type doorNode struct {
	*Node
	t    testing.TB
	dir  string
	door string // address
	end  func()
}

func testLog(t testing.TB) *slog.Logger {
	w := io.Discard
	if os.Getenv("FARHOP_TEST_LOG") != "" {
		w = os.Stderr
	}
	return slog.New(slog.NewTextHandler(w, nil)).With("test", t.Name())
}

// newDoorNode makes a node: the first of its mesh, or one that joins via.
func newDoorNode(t testing.TB, region string, via *doorNode, change func(*config.DTN)) *doorNode {
	t.Helper()
	n := &doorNode{t: t, dir: filepath.Join(t.TempDir(), region), door: freeAddr(t)}
	mesh, api := freeAddr(t), freeAddr(t)
	var err error
	if via == nil {
		_, err = Init(t.Context(), InitOptions{Dir: n.dir, Region: region, Name: region + "-1", Mesh: mesh, Admin: api})
	} else {
		r, _ := addr.ParseRegion(region)
		inv, err2 := (backend{via.Node}).Invite(t.Context(), admin.InviteRequest{
			Region: r, Life: config.Duration(time.Hour), Advertise: []config.HostPort{via.cfg.Mesh.Listen},
		})
		if err2 != nil {
			t.Fatal(err2)
		}
		_, err = Join(t.Context(), JoinOptions{Dir: n.dir, Ticket: inv.Ticket, Name: region + "-1", Mesh: mesh, Admin: api})
	}
	if err != nil {
		t.Fatal(err)
	}
	n.configure(func(c *config.Config) {
		c.MQTT.Listen = ""
		c.DTN.Listen = []config.DTNListener{{Kind: "tcpcl", Address: config.HostPort(n.door), TLS: "none", Strangers: true}}
		change(&c.DTN)
	})
	n.start()
	t.Cleanup(func() { n.stop() })
	return n
}

func (n *doorNode) configure(change func(*config.Config)) {
	n.t.Helper()
	path := filepath.Join(n.dir, config.FileName)
	c, err := config.Load(path)
	if err == nil {
		change(&c)
		err = config.Save(path, c)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *doorNode) start() {
	n.t.Helper()
	var err error
	if n.Node, err = Open(n.dir, Options{Log: testLog(n.t), Version: "test"}); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	var once sync.Once
	n.end = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				n.t.Errorf("Run: %v", err)
			}
		})
	}
	eventually(n.t, "the node to be ready", func() bool {
		select {
		case <-n.ready:
			return true
		case err := <-done:
			n.t.Fatalf("Run: %v", err)
		default:
		}
		return false
	})
}

func (n *doorNode) stop() { n.end() }

// queued is how many bundles wait in a queue.
func (n *doorNode) queued(text string) (count int) {
	n.t.Helper()
	v, err := n.loop.view(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, q := range v.Queues {
		if core.QueueText(q.Queue) == text {
			count += q.Count
		}
	}
	return count
}

func (n *doorNode) stats() core.Stats {
	n.t.Helper()
	v, err := n.loop.view(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return v.Stats
}

// subscribe makes a session that outlives its connection and is away.
func (n *doorNode) subscribe(client, filter string) {
	n.t.Helper()
	_, err := n.mqtt.OpenSession(n.t.Context(), broker.SessionOpen{Client: client, Conn: 1, Expiry: core.NeverExpires, ReceiveMax: 10})
	if err == nil {
		err = n.mqtt.Subscribe(n.t.Context(), client, []broker.Subscription{{Filter: filter, QoS: 1}})
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.mqtt.CloseSession(client, 1, core.NeverExpires)
}

// publications are what waits for a session.
func (n *doorNode) publications(client string) (out []admin.Publication) {
	n.t.Helper()
	items, err := n.store.Scan(store.Queue{Kind: store.ToSession, Name: client, Class: bundle.Telemetry}, 0, 100)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, it := range items {
		block, err := n.store.Read(it.Header.Seq)
		if err != nil {
			n.t.Fatal(err)
		}
		p, err := publications(it.Header, block)
		if err != nil {
			n.t.Fatal(err)
		}
		out = append(out, p...)
	}
	return out
}

func (n *doorNode) publish(topic, payload string, expiry uint32) {
	n.t.Helper()
	got := make(chan broker.Verdict, 1)
	n.mqtt.Publish(&broker.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Expiry: expiry, Client: "plc"}, func(v broker.Verdict) { got <- v })
	if v := <-got; v.Reason != bundle.OK {
		n.t.Fatalf("publish %s: %s", topic, v.Reason)
	}
}

// stack is a node of another DTN stack.
type stack struct {
	*dtn.Door
	t      testing.TB
	listen string
	stop   func()

	mu     sync.Mutex // guards what follows
	got    [][]byte
	up     map[string]bool
	refuse bundle.Reason
}

func (s *stack) Receive(r dtn.Received, done func(bundle.Reason)) {
	s.mu.Lock()
	why := s.refuse
	if why == bundle.OK {
		s.got = append(s.got, r.Bundle)
	}
	s.mu.Unlock()
	done(why)
}

func (s *stack) PeerUp(p string)   { s.turn(p, true) }
func (s *stack) PeerDown(p string) { s.turn(p, false) }

func (s *stack) turn(p string, up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up[p] = up
}

func (s *stack) isUp(p string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up[p]
}

func (s *stack) answer(why bundle.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = why
}

func (s *stack) bundles() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]byte{}, s.got...)
}

// newStack starts a foreign node that listens at address, "" for nowhere, and
// dials to, "" for nobody.
func newStack(t testing.TB, id, address, to string, limits dtn.Limits) *stack {
	t.Helper()
	s := &stack{t: t, listen: address, up: map[string]bool{}}
	c := dtn.Config{Node: testEID(t, id), Sink: s, Log: testLog(t), Limits: limits, Drain: time.Second}
	if address != "" {
		c.Listeners = []dtn.Listener{{Kind: dtn.TCPCL, Address: address, TLS: dtn.TLSNone, Strangers: true}}
	}
	if to != "" {
		c.Peers = []dtn.Peer{{Name: "node", Kind: dtn.TCPCL, Address: to, TLS: dtn.TLSNone}}
	}
	d, err := dtn.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s.Door = d
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	var once sync.Once
	s.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(s.stop)
	if to != "" {
		eventually(t, "a session with the node", func() bool { return s.isUp("node") })
	}
	return s
}

// send hands a bundle to the node and returns its answer.
func (s *stack) send(raw []byte) error { return s.Send(s.t.Context(), "node", [][]byte{raw}) }

func (s *stack) mustSend(raws ...[]byte) {
	s.t.Helper()
	for _, raw := range raws {
		if err := s.send(raw); err != nil {
			s.t.Fatal(err)
		}
	}
}

// refusedBy reports whether an answer is a final refusal.
func refusedBy(err error) bool {
	r, ok := errors.AsType[*dtn.RefusedError](err)
	return ok && !r.Retry()
}

// foreign makes a bundle.
func foreign(t testing.TB, from, to string, seq uint64, payload []byte, change func(*bundle.Primary, *bundle.Hop)) []byte {
	t.Helper()
	p := bundle.Primary{
		Dest: testEID(t, to), Source: testEID(t, from), ReportTo: addr.None, Lifetime: 3600_000,
		Created: bundle.Timestamp{Time: bundle.DTNTime(time.Now().UnixMilli()), Seq: seq},
	}
	h := bundle.Hop{NoAge: true}
	if change != nil {
		change(&p, &h)
	}
	return bundle.AppendBundle(nil, bundle.AppendPrimary(nil, &p), bundle.AppendPayload(nil, payload), h)
}
