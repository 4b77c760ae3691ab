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
		Queues:   []Queue{{Queue: "node earth-1", Class: "telemetry", Bundles: 3, Bytes: 4096, InFlight: 2, Oldest: noon().Add(-time.Second), NextHop: earth, Up: true}},
		Counters: Counters{Submitted: map[string]uint64{"ok": 7, "store-full": 1}, Ended: map[string]uint64{"expired": 1}, Refused: map[string]uint64{}, HandedOn: 3, Delivered: 4},
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
		Queue: "node earth-1", Class: "telemetry", State: "held", Waits: "the link to earth-1, which is down", Arrived: noon(), Expires: noon().Add(time.Hour), Sent: 2,
	}}}, f.err()
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
