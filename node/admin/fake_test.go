package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// fake is a backend with one of everything.
type fake struct {
	broken atomic.Pointer[error] // what every call returns
	pushed FleetPushRequest
	asked  InviteRequest
	peeked PeekRequest
	purged PurgeRequest
	again  ReplayRequest
}

func (f *fake) fail(err error) { f.broken.Store(&err) }

func (f *fake) err() error {
	if e := f.broken.Load(); e != nil {
		return *e
	}
	return nil
}

func noon() time.Time { return time.Date(2031, 5, 6, 12, 0, 0, 0, time.UTC) }

func (f *fake) Status(context.Context) (Status, error) {
	luna, earth := addr.MustNode("luna-1"), addr.MustNode("earth-1")
	return Status{
		Node: luna, Region: addr.MustRegion("luna"), Mesh: strings.Repeat("0f", 16), Version: "v1.2.3",
		Now: noon(), UptimeS: 3600, ClockOK: true,
		Store: Store{Engine: "bolt", Messages: 3, Bytes: 4096, PeakBytes: 8192, FileBytes: 65536, MaxBytes: 1 << 30, MaxMessages: 1_000_000},
		MQTT:  MQTT{Listen: "127.0.0.1:1883", Clients: 2},
		Peers: []Peer{
			{Node: earth, Region: addr.MustRegion("earth"), Address: "192.0.2.1:7330", State: PeerUp, Kex: "X25519MLKEM768", RTTms: 2560.5, InFlight: 2, InFlightBytes: 400, SentBytes: 10, ReceivedBytes: 20, PacketsLost: 1, Since: noon().Add(-time.Minute), NextContact: noon().Add(time.Hour)},
			{Address: "192.0.2.2:7330", State: PeerDown, LastError: "no answer", Since: noon()},
		},
		Queues:   []Queue{{Queue: "node earth-1", Class: "telemetry", Bundles: 3, Bytes: 4096, InFlight: 2, Oldest: noon().Add(-time.Second), NextHop: earth, Up: true, Waits: "its turn on the link to earth-1"}},
		Counters: Counters{Submitted: map[string]uint64{"ok": 7, "store-full": 1}, Own: map[string]uint64{"ok": 2}, Ended: map[string]uint64{"expired": 1}, Refused: map[string]uint64{}, HandedOn: 3, Delivered: 4},
	}, f.err()
}

func (f *fake) Nodes(context.Context) ([]Node, error) {
	return []Node{{
		Node: addr.MustNode("earth-1"), Region: addr.MustRegion("earth"), Hops: 1, DelayMS: 1280, NextHop: addr.MustNode("earth-1"), Up: true,
		Interest: []string{"plant/#"}, Services: []Service{{Name: "historian", Up: true}}, FleetApplied: 4, FleetRefused: 5, FleetReason: "port taken",
	}}, f.err()
}

func (f *fake) Routes(context.Context) ([]Route, error) {
	earth := addr.MustRegion("earth")
	return []Route{{
		Route:  config.Route{Name: "telemetry-up", Match: config.Match{Topic: "plant/#"}, To: []addr.Region{earth}, Class: "alarm", TTL: config.Duration(72 * time.Hour)},
		Origin: "file", Hops: []Hop{{Region: earth, Node: addr.MustNode("earth-1"), NextHop: addr.MustNode("relay"), Up: true}},
	}}, f.err()
}

func (f *fake) Why(_ context.Context, id bundle.ID) (Why, error) {
	return Why{Message: id.String(), Node: addr.MustNode("luna-1"), Places: []Place{{
		Queue: "node earth-1", Class: "telemetry", Seq: 12, Batch: "luna-1.9f3a2.t51", Count: 9, State: "held", Waits: "the link to earth-1, which is down", Arrived: noon(), Expires: noon().Add(time.Hour), Sent: 2,
	}}}, f.err()
}

func (f *fake) Queues(ctx context.Context) (Queues, error) {
	s, err := f.Status(ctx)
	s.Queues[0].Resting, s.Queues[0].Waits = true, "room at earth-1, which refused for now"
	return Queues{Now: noon(), Queues: s.Queues, Quotas: []QuotaUse{
		{Quota: "per-device/plc-7", Bytes: 4096, Messages: 3, MaxBytes: 1 << 20}, {Quota: "gone", Bytes: 1, Messages: 1},
	}}, err
}

func (f *fake) Peek(_ context.Context, r PeekRequest) (Peek, error) {
	f.peeked = r
	earth := addr.MustNode("earth-1")
	return Peek{Queue: r.Queue, Now: noon(), More: true, Messages: []Waiting{
		{
			Seq: 12, Class: "telemetry", Message: "luna-1.9f3a2.t57", Service: "mqtt", Topic: "plant/1", Origin: addr.MustNode("luna-1"),
			Previous: earth, Hops: 2, QoS: 1, Retain: true, Size: 40, Received: noon().Add(-time.Minute), Expires: noon().Add(time.Hour),
			State: "in flight", Sent: 3, Content: []Publication{{
				Message: "luna-1.9f3a2.t57", Topic: "plant/1", QoS: 1, Retain: true, Expiry: true, Client: "plc-7", Text: true, ContentType: "text/plain",
				Response: "answers/7", Correlation: []byte{1, 2}, Properties: []Property{{"a", "1"}, {"a", "2"}}, Payload: []byte("21.5"),
			}},
		},
		{Seq: 13, Class: "bulk", Message: "luna-1.9f3a2.b1", Count: 40, Size: 900, State: "waiting", Unread: "its payload is gone"},
	}}, f.err()
}

func (f *fake) Retry(context.Context) (Retried, error) {
	return Retried{Resting: 2, Probed: 1}, f.err()
}

func (f *fake) Purge(_ context.Context, r PurgeRequest) (Purged, error) {
	f.purged = r
	return Purged{Ended: 3, Messages: 42, Bytes: 4096, Left: 7, AtLeast: true}, f.err()
}

func (f *fake) Replay(_ context.Context, r ReplayRequest) (Replayed, error) {
	f.again = r
	return Replayed{Verdicts: map[string]int{"ok": 2, "duplicate": 1}}, f.err()
}

func (f *fake) Invite(_ context.Context, r InviteRequest) (Invite, error) {
	f.asked = r
	return Invite{Ticket: "farhop1.abc", Region: r.Region, Expires: noon().Add(time.Duration(r.Life))}, f.err()
}

func (f *fake) FleetPush(_ context.Context, r FleetPushRequest) (FleetPushed, error) {
	f.pushed = r
	return FleetPushed{Revision: 5, Hash: strings.Repeat("ab", 32), Nodes: 2}, f.err()
}

func (f *fake) FleetStatus(context.Context) (FleetStatus, error) {
	return FleetStatus{Revision: 5, Hash: strings.Repeat("ab", 32), Pushed: noon(), Nodes: []FleetNode{
		{Node: addr.MustNode("earth-1"), Region: addr.MustRegion("earth"), Applied: 4, Refused: 5, Reason: "port taken", Up: true},
	}}, f.err()
}

func (f *fake) Config(context.Context) (config.Config, error) {
	c := config.Default()
	c.Node = config.Node{Name: addr.MustNode("luna-1"), Region: addr.MustRegion("luna")}
	return c, f.err()
}

func (f *fake) Healthy() error { return f.err() }
func (f *fake) Ready() error   { return f.err() }

// newServer returns a server over a fake that was not started.
func newServer(t *testing.T) (*Server, *fake) {
	t.Helper()
	f := &fake{}
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "farhop_test_total", Help: "A test."})
	reg.MustRegister(c)
	s, err := New(Config{Listen: "127.0.0.1:7331", Dir: t.TempDir(), Backend: f, Gatherer: reg, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s, f
}

// ask makes one request to the handler; edit may change it before it is sent.
func ask(s *Server, method, path, body string, edit func(*http.Request)) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, "http://127.0.0.1:7331"+path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+s.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if edit != nil {
		edit(req)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, req)
	return w
}

var errTest = errors.New("the disk is gone")
