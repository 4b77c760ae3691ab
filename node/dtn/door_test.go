package dtn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

func TestExchange(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   Kind
		change func(a, b *Config)
		size   int
		count  int
	}{
		{"tcpcl small", TCPCL, nil, 100, 200},
		{"tcpcl one byte beyond a segment", TCPCL, func(a, _ *Config) { a.Limits.Segment = 256 }, 256, 10},
		{"tcpcl peer with small segments", TCPCL, func(_, b *Config) { b.Limits.SegmentMRU = 64 }, 10_000, 5},
		{"tcpcl one segment", TCPCL, func(a, b *Config) { a.Peers[0].OneSegment, a.Limits.Segment = true, 64 }, 2 << 20, 3},
		{"tcpcl large", TCPCL, nil, 3 << 20, 4},
		{"tcpcl a window of one", TCPCL, func(a, b *Config) { a.Limits.InFlight, b.Limits.InFlight = 1, 1 }, 5000, 20},
		{"tcpcl without keepalive", TCPCL, func(a, _ *Config) { a.Keepalive = -1 }, 100, 3},
		{"stcp", STCP, nil, 100_000, 20},
		{"mtcp", MTCP, nil, 100_000, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t, c.kind, c.change)
			var sent [][]byte
			for i := range c.count {
				raw := makeBundle(t, "dtn://a/x", "dtn://b/y", uint64(i), bytes.Repeat([]byte{byte(i)}, c.size))
				sent = append(sent, raw)
				if err := a.Send(t.Context(), "b", [][]byte{raw[:10], nil, raw[10:]}); err != nil {
					t.Error(err)
				}
			}
			b.sink.until(t, "all bundles", func() bool { return len(b.sink.got) == c.count })
			b.sink.wantSame(t, sent...)
			st := a.Peers()[0]
			if st.BundlesOut != int64(c.count) || !st.Up || st.InFlight != 0 {
				t.Errorf("state %+v", st)
			}
			if r := b.sink.first(); r.Peer != "a" || r.Kind != c.kind || r.Authenticated {
				t.Errorf("received as %+v", r)
			}
		})
	}
}

func TestBothWays(t *testing.T) {
	a, b := pair(t, TCPCL, nil)
	var wg sync.WaitGroup
	for i := range 50 {
		raw := makeBundle(t, "dtn://a/x", "dtn://b/y", uint64(i), make([]byte, 70_000))
		for from, to := range map[*Door]string{a.Door: "b", b.Door: "a"} {
			wg.Go(func() {
				if err := from.Send(t.Context(), to, [][]byte{raw}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if na, nb := len(a.sink.bundles()), len(b.sink.bundles()); na != 50 || nb != 50 {
		t.Errorf("%d and %d bundles arrived, want 50", na, nb)
	}
	if held := a.Stats().Held + b.Stats().Held; held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
}

// TestAckAfterCommit holds the verdicts back: no Send may return before.
func TestAckAfterCommit(t *testing.T) {
	a, b := pair(t, TCPCL, nil)
	b.sink.set(func() { b.sink.hold = true })
	const n = 5
	results := make(chan error, n)
	for i := range n {
		raw := makeBundle(t, "dtn://a/x", "dtn://b/y", uint64(i), []byte("payload"))
		go func() { results <- a.Send(t.Context(), "b", [][]byte{raw}) }()
	}
	b.sink.until(t, "all bundles while no verdict is known", func() bool { return len(b.sink.waits) == n })
	if len(results) != 0 || a.Peers()[0].InFlight != n || a.Peers()[0].BundlesOut != 0 {
		t.Fatalf("%d transfers were acknowledged before their commit", len(results))
	}
	// Commits in another order: answers still leave in the order of arrival.
	for i := n - 1; i >= 0; i-- {
		b.sink.waits[i](bundle.OK)
	}
	for range n {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func TestRefusals(t *testing.T) {
	a, b := pair(t, TCPCL, nil)
	raw := makeBundle(t, "dtn://a/x", "dtn://b/y", 1, []byte("payload"))
	for _, c := range []struct {
		why   bundle.Reason
		code  byte
		ok    bool
		retry bool
	}{
		{why: bundle.OK, ok: true},
		{why: bundle.Duplicate, ok: true},
		{why: bundle.StoreFull, code: refuseNoResources, retry: true},
		{why: bundle.QuotaExceeded, code: refuseNoResources, retry: true},
		{why: bundle.DiskFailed, code: refuseNoResources, retry: true},
		{why: bundle.TooLarge, code: refuseNoResources, retry: true},
		{why: bundle.ShuttingDown, code: refuseTerminating, retry: true},
		{why: bundle.NotAllowed, code: refuseNotAcceptable},
		{why: bundle.Malformed, code: refuseNotAcceptable},
		{why: bundle.NoRoute, code: refuseNotAcceptable},
	} {
		t.Run(c.why.String(), func(t *testing.T) {
			b.sink.set(func() { b.sink.answer = func(int, Received) bundle.Reason { return c.why } })
			err := a.Send(t.Context(), "b", [][]byte{raw})
			if c.ok {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			r, ok := errors.AsType[*RefusedError](err)
			if !ok || r.Code != c.code || r.Retry() != c.retry || !errors.Is(err, ErrRefused) {
				t.Errorf("Send: %v, want refusal %#x", err, c.code)
			}
		})
	}
	if s := b.Peers()[0]; s.RefusedFor[refuseNoResources] != 4 || s.RefusedFor[refuseNotAcceptable] != 3 {
		t.Errorf("counted %v", s.RefusedFor)
	}
}

// TestWant refuses in the middle: "completed" counts as delivered, and the
// rest of the transfer is not read as something else.
func TestWant(t *testing.T) {
	var asked int
	answers := []bundle.Reason{bundle.Duplicate, bundle.NotAllowed, bundle.OK}
	a, b := pair(t, TCPCL, func(a, b *Config) {
		a.Limits.Segment = 1 << 10
		b.Want = func(r Received) bundle.Reason { asked++; return answers[asked-1] }
	})
	raw := makeBundle(t, "dtn://a/x", "dtn://b/y", 1, make([]byte, 500_000))
	if err := a.Send(t.Context(), "b", [][]byte{raw}); err != nil {
		t.Errorf("a duplicate: %v", err)
	}
	if err := a.Send(t.Context(), "b", [][]byte{raw}); !errors.Is(err, ErrRefused) {
		t.Errorf("not allowed: %v", err)
	}
	if err := a.Send(t.Context(), "b", [][]byte{raw}); err != nil {
		t.Errorf("wanted: %v", err)
	}
	b.sink.wantSame(t, raw)
	if n := b.Stats().Held; n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

func TestTooLarge(t *testing.T) {
	a, b := pair(t, TCPCL, func(_, b *Config) { b.Limits.TransferMRU, b.Limits.Buffer = 1000, 4000 })
	mru, ok := a.MRU("b")
	if !ok || mru != 1000 {
		t.Fatalf("MRU %d %v, want 1000", mru, ok)
	}
	big := makeBundle(t, "dtn://a/x", "dtn://b/y", 1, make([]byte, 2000))
	err := a.Send(t.Context(), "b", [][]byte{big})
	if e, ok := errors.AsType[*TooLargeError](err); !ok || e.MRU != 1000 || !errors.Is(err, ErrTooLarge) {
		t.Errorf("Send: %v", err)
	}
	small := makeBundle(t, "dtn://a/x", "dtn://b/y", 1, make([]byte, 200))
	if err := a.Send(t.Context(), "b", [][]byte{small}); err != nil {
		t.Error(err)
	}
	b.sink.wantSame(t, small)
}

// TestOneSegment: what does not fit a segment of the peer is too large.
func TestOneSegment(t *testing.T) {
	a, _ := pair(t, TCPCL, func(a, b *Config) { a.Peers[0].OneSegment, b.Limits.SegmentMRU = true, 5000 })
	if mru, _ := a.MRU("b"); mru != 5000 {
		t.Errorf("MRU %d", mru)
	}
	if err := a.Send(t.Context(), "b", [][]byte{make([]byte, 5001)}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestSendErrors(t *testing.T) {
	a, _ := pair(t, TCPCL, nil)
	if err := a.Send(t.Context(), "nobody", [][]byte{{1}}); !errors.Is(err, ErrUnknownPeer) {
		t.Error(err)
	}
	if err := a.Send(t.Context(), "b", [][]byte{{}, nil}); err == nil {
		t.Error("an empty bundle was sent")
	}
}

// TestReceiverDies ends the receiving door while transfers wait for their
// verdict: every one of them fails, and all go to the one that comes back.
func TestReceiverDies(t *testing.T) {
	a, b := pair(t, TCPCL, func(a, b *Config) { b.Drain = time.Millisecond })
	b.sink.set(func() { b.sink.hold = true })
	const n = 20
	var bundles [][]byte
	results := make(chan error, n)
	for i := range n {
		raw := makeBundle(t, "dtn://a/x", "dtn://b/y", uint64(i), make([]byte, 100_000))
		bundles = append(bundles, raw)
		go func() { results <- a.Send(t.Context(), "b", [][]byte{raw}) }()
	}
	b.sink.until(t, "all bundles", func() bool { return len(b.sink.waits) == n })
	address := b.Addresses()[0]
	b.stop()
	for range n {
		if err := <-results; !errors.Is(err, ErrSessionLost) {
			t.Errorf("Send returned %v though nothing was acknowledged", err)
		}
	}
	for _, done := range b.sink.waits {
		done(bundle.OK) // verdicts for a session that is gone
	}
	if held := b.Stats().Held; held != 0 {
		t.Errorf("%d bytes are held after all verdicts", held)
	}
	a.sink.until(t, "the loss", func() bool { return a.sink.up["b"] == 0 })
	if err := a.Send(t.Context(), "b", [][]byte{bundles[0]}); !errors.Is(err, ErrNoSession) {
		t.Errorf("Send without a session: %v", err)
	}

	again := newSink()
	start(t, Config{
		Node: eid(t, "dtn://b/"), Sink: again,
		Listeners: []Listener{{Kind: TCPCL, Address: address, TLS: TLSNone}},
		Peers:     []Peer{{Name: "a", Kind: TCPCL, Node: eid(t, "dtn://a/"), TLS: TLSNone}},
	})
	a.sink.until(t, "the new session", func() bool { return a.sink.up["b"] == 1 })
	for _, raw := range bundles {
		if err := a.Send(t.Context(), "b", [][]byte{raw}); err != nil {
			t.Fatal(err)
		}
	}
	again.wantSame(t, bundles...)
}

// TestPeacefulEnd stops the sender's door while transfers are under way: what
// had begun is finished.
func TestPeacefulEnd(t *testing.T) {
	a, b := pair(t, TCPCL, func(a, b *Config) { a.Drain, b.Drain = 20*time.Second, 20*time.Second })
	b.sink.set(func() { b.sink.hold = true })
	result := make(chan error, 1)
	raw := makeBundle(t, "dtn://a/x", "dtn://b/y", 1, make([]byte, 1<<20))
	go func() { result <- a.Send(context.Background(), "b", [][]byte{raw}) }()
	b.sink.until(t, "the bundle", func() bool { return len(b.sink.waits) == 1 })
	stopped := make(chan struct{})
	go func() { a.stop(); close(stopped) }()
	for a.MRUok("b") {
		time.Sleep(time.Millisecond)
	}
	b.sink.waits[0](bundle.OK)
	if err := <-result; err != nil {
		t.Errorf("a transfer under way at the end: %v", err)
	}
	<-stopped
	b.sink.until(t, "the end at b", func() bool { return b.sink.up["a"] == 0 })
	if e := b.Peers()[0].LastError; e != "" {
		t.Errorf("b takes the end for a failure: %s", e)
	}
}

// MRUok reports whether a peer can be sent to.
func (d *Door) MRUok(peer string) bool { _, ok := d.MRU(peer); return ok }

func TestCancelledSend(t *testing.T) {
	a, b := pair(t, TCPCL, func(a, _ *Config) { a.Limits.InFlight = 2 })
	b.sink.set(func() { b.sink.hold = true })
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error, 4)
	for i := range 4 {
		raw := makeBundle(t, "dtn://a/x", "dtn://b/y", uint64(i), []byte("payload"))
		go func() { results <- a.Send(ctx, "b", [][]byte{raw}) }()
	}
	b.sink.until(t, "the window of two", func() bool { return len(b.sink.waits) == 2 })
	cancel()
	for range 4 {
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("Send: %v", err)
		}
	}
	b.sink.mu.Lock()
	b.sink.hold = false
	waits := b.sink.waits
	b.sink.mu.Unlock()
	for _, done := range waits {
		done(bundle.OK)
	}
	// The session and its window survive.
	for i := range 5 {
		if err := a.Send(t.Context(), "b", [][]byte{makeBundle(t, "dtn://a/x", "dtn://b/y", uint64(10+i), nil)}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIdle ends a session without transfers, and dials again.
func TestIdle(t *testing.T) {
	a, _ := pair(t, TCPCL, func(_, b *Config) { b.Idle = 50 * time.Millisecond })
	a.sink.until(t, "the end of the idle session", func() bool { return a.sink.up["b"] == 0 })
	a.sink.until(t, "the next session", func() bool { return a.sink.up["b"] == 1 })
}

// TestStoreFullHoldsPlain: over STCP and MTCP a full store stops the reading
// instead of losing the bundle.
func TestStoreFullHoldsPlain(t *testing.T) {
	for _, k := range []Kind{STCP, MTCP} {
		t.Run(string(k), func(t *testing.T) {
			a, b := pair(t, k, nil)
			b.sink.set(func() {
				b.sink.answer = func(n int, _ Received) bundle.Reason {
					if n < 2 {
						return bundle.StoreFull
					}
					return bundle.OK
				}
			})
			raw := makeBundle(t, "dtn://a/x", "dtn://b/y", 1, []byte("payload"))
			if err := a.Send(t.Context(), "b", [][]byte{raw}); err != nil {
				t.Fatal(err)
			}
			b.sink.until(t, "the third offer", func() bool { return len(b.sink.got) == 3 })
			b.sink.wantSame(t, raw, raw, raw)
		})
	}
}

func TestValidate(t *testing.T) {
	good := func() Config {
		return Config{
			Node: eid(t, "dtn://b/"), Sink: newSink(), Log: logger(t),
			Listeners: []Listener{{Kind: STCP, Address: "127.0.0.1:4556"}},
			Peers:     []Peer{{Name: "x", Kind: TCPCL, Address: "127.0.0.1:4556", TLS: TLSNone}},
		}
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"an endpoint for a node id":       func(c *Config) { c.Node = eid(t, "dtn://b/x") },
		"an ipn service for a node id":    func(c *Config) { c.Node = eid(t, "ipn:1.1") },
		"no sink":                         func(c *Config) { c.Sink = nil },
		"stcp open to the network":        func(c *Config) { c.Listeners[0].Address = "0.0.0.0:4556" },
		"stcp on all addresses":           func(c *Config) { c.Listeners[0].Address = ":4556" },
		"tcpcl without TLS to a far host": func(c *Config) { c.Peers[0].Address = "hdtn.example:4556" },
		"optional TLS to a far host":      func(c *Config) { c.Peers[0].Address, c.Peers[0].TLS = "hdtn.example:4556", TLSOptional },
		"TLS without roots":               func(c *Config) { c.Peers[0].TLS = TLSRequired },
		"TLS listener without key":        func(c *Config) { c.Listeners[0].Kind = TCPCL },
		"a name twice":                    func(c *Config) { c.Peers = append(c.Peers, c.Peers[0]) },
		"a peer nobody dials":             func(c *Config) { c.Peers[0].Address = "" },
		"stcp that is not dialled":        func(c *Config) { c.Peers[0] = Peer{Name: "x", Kind: STCP, Node: eid(t, "ipn:1.0")} },
		"another kind":                    func(c *Config) { c.Peers[0].Kind = "ltp" },
		"another policy":                  func(c *Config) { c.Peers[0].TLS = "maybe" },
		"no buffer":                       func(c *Config) { c.Limits.Buffer = 10 },
		"keepalive of half a second":      func(c *Config) { c.Keepalive = 1500 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			c := good()
			change(&c)
			err := c.Validate()
			if err == nil {
				t.Error("accepted")
			}
			if _, err2 := New(c); fmt.Sprint(err2) != fmt.Sprintf("dtn door: %v", err) {
				t.Errorf("New: %v", err2)
			}
		})
	}
	c := good()
	c.Listeners[0].Address, c.Listeners[0].Insecure = "0.0.0.0:4556", true
	if err := c.Validate(); err != nil {
		t.Errorf("insecure was set: %v", err)
	}
}
