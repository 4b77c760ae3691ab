package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

// call runs the program and returns what it wrote.
func call(ctx context.Context, stdin string, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(ctx, args, strings.NewReader(stdin), &out, &err)
	return code, out.String(), err.String()
}

// fakeNode answers with one of everything, in all states.
type fakeNode struct{ empty bool }

func noon() time.Time { return time.Date(2031, 5, 6, 12, 0, 0, 0, time.UTC) }

func (f fakeNode) Status(context.Context) (admin.Status, error) {
	luna := addr.MustRegion("luna")
	s := admin.Status{Node: addr.MustNode("luna-1"), Region: luna, Mesh: strings.Repeat("0f", 16), Version: "v1.2.3", Now: noon(), UptimeS: 3725, ClockOK: !f.empty, Store: admin.Store{Engine: "bolt", MaxBytes: 1 << 30}}
	if f.empty {
		return s, nil
	}
	room := int64(12 << 30)
	s.Store = admin.Store{Engine: "bolt", Messages: 1, Bytes: 3 << 20, PeakBytes: 100 << 20, FileBytes: 1 << 20, MaxBytes: 1 << 30, RoomBytes: &room}
	earth, at := addr.MustNode("earth-1"), func(d time.Duration) time.Time { return noon().Add(d) }
	s.MQTT = admin.MQTT{Listen: "127.0.0.1:1883", Listeners: []string{"unix:///run/farhop/mqtt.sock"}, Clients: 2, Bridges: []admin.Bridge{
		{Name: "cloud", Remote: "mqtts://broker.example:8883", State: "connected", Since: at(-time.Hour), RTTms: 31, Out: admin.BridgeTraffic{Forwarded: 70, Dropped: map[string]uint64{"loop": 2, "hops": 1}}, In: admin.BridgeTraffic{Forwarded: 5}, Warnings: []string{"the remote broker takes QoS 1 at most"}},
		{Name: "site-7", Remote: "mqtt://10.0.0.5:1883", State: "waiting", Since: at(-5 * time.Second), LastError: "connection refused"},
	}}
	s.Peers = []admin.Peer{
		{Node: earth, Region: addr.MustRegion("earth"), Address: "192.0.2.1:7330", State: admin.PeerUp, Kex: "X25519MLKEM768", Layer: "salvo", Profile: "moon", Loss: 0.0123, RTTms: 2560, InFlight: 2, InFlightBytes: 4000, SentBytes: 1 << 20, ReceivedBytes: 10, PacketsLost: 3, LastError: "old news", Since: at(-90 * time.Second)},
		{Address: "192.0.2.2:7330", State: admin.PeerDown, LastError: "no answer\x1b[31m", Since: at(-26 * time.Hour)},
		{Node: addr.MustNode("sat-1"), Address: "192.0.2.3:7330", State: admin.PeerClosed, RTTms: 0.51, NextContact: at(50 * time.Minute)},
		{Node: addr.MustNode("ship"), Address: "192.0.2.4:7330", State: admin.PeerSilent, RTTms: 600, Since: at(-40 * time.Second)},
	}
	s.Queues = []admin.Queue{
		{Queue: "node earth-1", Class: "telemetry", Bundles: 3, Bytes: 4096, InFlight: 2, Oldest: at(-72 * time.Hour), NextHop: earth, Up: true},
		{Queue: "node ship", Class: "alarm", Bundles: 1, Bytes: 64, Oldest: at(-time.Minute), NextHop: addr.MustNode("ship")},
		{Queue: "session plc-7", Class: "telemetry", Bundles: 1, Bytes: 1},
	}
	s.Counters = admin.Counters{Submitted: map[string]uint64{"ok": 7, "store-full": 1}, Own: map[string]uint64{"ok": 5}, Ended: map[string]uint64{"expired": 1}, Refused: map[string]uint64{"store-full": 2}, Delivered: 4}
	return s, nil
}

func (f fakeNode) Nodes(context.Context) ([]admin.Node, error) {
	luna, earth := addr.MustNode("luna-1"), addr.MustNode("earth-1")
	return []admin.Node{
		{Node: earth, Region: addr.MustRegion("earth"), Hops: 1, DelayMS: 1280, NextHop: earth, Up: true, Ways: []admin.ClassWay{{Class: "telemetry", NextHop: addr.MustNode("port"), Hops: 3, DelayMS: 1400, Up: true}, {Class: "bulk", NextHop: earth, Hops: 1, DelayMS: 1280}}, Interest: []string{"a", "b/#"}, InterestMore: 5, Services: []admin.Service{{Name: "historian", Up: true}, {Name: "ssh"}}, FleetApplied: 4, FleetRefused: 5, FleetReason: "port taken"},
		{Node: luna, Region: addr.MustRegion("luna"), Self: true, FleetApplied: 5},
		{Node: addr.MustNode("mars-1"), Region: addr.MustRegion("mars")},
		{Node: addr.MustNode("ship"), Region: addr.MustRegion("sea"), Hops: 2, DelayMS: 300, NextHop: earth},
	}, nil
}

func (f fakeNode) Routes(context.Context) ([]admin.Route, error) {
	if f.empty {
		return nil, nil
	}
	earth, mars := addr.MustRegion("earth"), addr.MustRegion("mars")
	return []admin.Route{
		{Route: config.Route{Name: "up", Match: config.Match{Topic: "plant/#"}, To: []addr.Region{earth, mars}, Class: "alarm", TTL: config.Duration(72 * time.Hour)}, Origin: "file", Hops: []admin.Hop{
			{Region: earth, Node: addr.MustNode("earth-1"), NextHop: addr.MustNode("relay"), Up: true}, {Region: mars},
		}},
		{Route: config.Route{Name: "hist", Match: config.Match{Service: "historian"}, To: []addr.Region{earth}, Unreachable: policy.Drop}, Origin: "fleet", Hops: []admin.Hop{
			{Region: earth, Node: addr.MustNode("earth-1"), NextHop: addr.MustNode("relay")},
		}},
	}, nil
}

func (f fakeNode) Why(_ context.Context, id bundle.ID) (admin.Why, error) {
	w := admin.Why{Message: id.String(), Node: addr.MustNode("luna-1")}
	if !f.empty {
		w.Places = []admin.Place{
			{Queue: "node earth-1", Class: "telemetry", State: "held", Waits: "the link to earth-1, which is down", Arrived: noon(), Expires: noon().Add(time.Hour), Sent: 2},
			{Queue: "session plc-7", Class: "telemetry", State: "held", Waits: `client "plc-7" to connect`, Arrived: noon(), Expires: noon().Add(time.Hour)},
		}
	}
	return w, nil
}

func (f fakeNode) Invite(_ context.Context, r admin.InviteRequest) (admin.Invite, error) {
	if f.empty {
		return admin.Invite{}, admin.NotHere("run it on earth-1", "this node holds no authority")
	}
	return admin.Invite{Ticket: "farhop1.abc", Region: r.Region, Expires: noon().Add(time.Duration(r.Life))}, nil
}

func (f fakeNode) FleetPush(_ context.Context, r admin.FleetPushRequest) (admin.FleetPushed, error) {
	return admin.FleetPushed{Revision: 5, Hash: "ab", Nodes: 3, Unchanged: f.empty}, nil
}

func (f fakeNode) FleetStatus(context.Context) (admin.FleetStatus, error) {
	if f.empty {
		return admin.FleetStatus{}, nil
	}
	earth := addr.MustRegion("earth")
	return admin.FleetStatus{Revision: 5, Hash: "ab", Pushed: noon(), Nodes: []admin.FleetNode{
		{Node: addr.MustNode("earth-1"), Region: earth, Applied: 4, Refused: 5, Reason: "port taken", Up: true},
		{Node: addr.MustNode("earth-2"), Region: earth, Applied: 5, Up: true},
		{Node: addr.MustNode("earth-3"), Region: earth, Applied: 4, Up: true},
		{Node: addr.MustNode("earth-4"), Region: earth},
	}}, nil
}

func (f fakeNode) Config(context.Context) (config.Config, error) {
	c := config.Default()
	c.Node = config.Node{Name: addr.MustNode("luna-1"), Region: addr.MustRegion("luna")}
	return c, nil
}

func (fakeNode) Healthy() error { return nil }
func (fakeNode) Ready() error   { return nil }

// serve runs the API over a fake node and returns its data directory.
func serve(t *testing.T, f fakeNode) string {
	t.Helper()
	dir := t.TempDir()
	c, _ := f.Config(t.Context())
	c.Admin.Listen = "127.0.0.1:0"
	if err := config.Save(filepath.Join(dir, config.FileName), c); err != nil {
		t.Fatal(err)
	}
	s, err := admin.New(admin.Config{Listen: "127.0.0.1:0", Dir: dir, Backend: f, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return dir
}

// What the commands say of a node, as people see it.
func TestLook(t *testing.T) {
	files := t.TempDir()
	if err := os.WriteFile(filepath.Join(files, "plant.yaml"), []byte("routes: []\nservices: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	calls := []string{
		"status", "peers", "links", "nodes", "routes", "queue", "why luna-1.9f3a2.t57",
		"ping mars-1", "ping mars-1 --class alarm --timeout 1s -n 1", "ping nobody", "ping", "ping mars-1 --class x", "ping mars-1 --interval 1ms",
		"netcheck", "netcheck earth-1 --quick",
		"invite --region luna --life 2h", "fleet push plant.yaml", "fleet status",
	}
	for name, f := range map[string]fakeNode{"full": {}, "empty": {empty: true}} {
		t.Run(name, func(t *testing.T) {
			golden(t, "look-"+name+".txt", transcript(t, serve(t, f), files, calls))
		})
	}
}

// transcript is what calls of the program show and how they end, against the
// node in dir. Words that end with .yaml, .json or .jsonl are names of files.
func transcript(t *testing.T, dir, files string, calls []string) string {
	t.Helper()
	var got strings.Builder
	for _, line := range calls {
		words := strings.Fields(line)
		for i, w := range words {
			if slices.Contains([]string{".yaml", ".json", ".jsonl"}, filepath.Ext(w)) {
				words[i] = filepath.Join(files, w)
			}
		}
		code, out, err := call(t.Context(), "", append(words, "--dir", dir)...)
		got.WriteString("$ farhop " + line + "\n" + out)
		if err != "" {
			got.WriteString("--- stderr\n" + err)
		}
		if code != 0 {
			fmt.Fprintf(&got, "--- exit code %d\n", code)
		}
		got.WriteByte('\n')
	}
	if files == "" {
		return got.String()
	}
	return strings.ReplaceAll(got.String(), files+"/", "")
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (rewrite with: go test -rewrite, and read the diff):\n%s", path, got)
	}
}

// --json prints one JSON value and nothing else, also for a node that knows
// nothing yet.
func TestLookJSON(t *testing.T) {
	for _, f := range []fakeNode{{}, {empty: true}} {
		dir := serve(t, f)
		for _, line := range []string{"status", "peers", "links", "nodes", "routes", "queue", "why luna-1.9f3a2.t57", "config show", "fleet status", "config check", "version"} {
			_, out, _ := call(t.Context(), "", append(strings.Fields(line), "--json", "--dir", dir)...)
			if !json.Valid([]byte(out)) || strings.TrimSpace(out) == "null" {
				t.Errorf("farhop %s --json: %q", line, out)
			}
		}
	}
}

func TestStatusURL(t *testing.T) {
	dir := serve(t, fakeNode{})
	token, err := os.ReadFile(filepath.Join(dir, admin.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	code, out, _ := call(t.Context(), "", "status", "--url", "--dir", dir)
	if code != 0 || !strings.HasPrefix(out, "http://127.0.0.1:") || !strings.HasSuffix(out, "/#token="+string(token)) {
		t.Errorf("%d %q", code, out)
	}
}

// What config show prints is a farhop.yaml.
func TestConfigShow(t *testing.T) {
	code, out, _ := call(t.Context(), "", "config", "show", "--dir", serve(t, fakeNode{}))
	want, _ := fakeNode{}.Config(t.Context())
	if got, err := config.Parse("shown", []byte(out)); code != 0 || err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%d, %v: %+v", code, err, got)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code, _, stderr := call(ctx, "", "status", "--dir", serve(t, fakeNode{})); code != exitInterrupted || stderr != "farhop: interrupted\n" {
		t.Errorf("%d %q", code, stderr)
	}
}
