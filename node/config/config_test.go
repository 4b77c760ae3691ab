package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
)

// full is the file of a node that uses every key.
const full = `
node: {name: luna-1, region: luna/base}
mqtt:
  listen: 0.0.0.0:1883
  anonymous: false
  users: users.txt
  max_packet: 256KiB
  max_clients: 500
  server_keepalive: 10m
  sys_interval: 30s
  limits: {connect_rate: 5000, publish_rate: 100, sessions: 1000, subscriptions: 50, subscription_bytes: 64KiB, queue: 500, queue_bytes: 1MiB, pending: 100, pending_bytes: 2MiB, memory: 256MiB, window: 64, unreleased: 2000, full_session: skip}
  listeners:
  - url: tls://0.0.0.0:8883
    cert: server.pem
    key: server.key
    client_ca: devices.pem
    require_client_cert: true
    proxy: [10.0.0.0/8, "2001:db8::/32"]
    handshake_timeout: 40s
    max_handshakes: 100
  - {url: "ws://127.0.0.1:8083/mqtt", origins: ["https://panel.example.org"], max_message: 1MiB}
  - {url: "unix:///run/farhop/mqtt.sock", mode: 0600}
  - {url: "quic://:8883", cert: server.pem, key: server.key, idle_timeout: 2h, max_window: 1MiB}
  auth:
    mtls: {enabled: true, client_id: name, user: true}
    jwt:
      {keys: issuer.jwks, issuer: "https://id.acme.example", audience: mqtt, leeway: 30s, endless: true,
       user_claim: name, client_claim: devices, attributes_claim: facts, acl_claim: rules}
    http:
      {url: "https://auth.acme.example/mqtt", ca: acme.pem, plain: true, timeout: 2s, max_in_flight: 8,
       cache: 5m, cache_entries: 100, unreachable: ignore,
       methods: [SCRAM-SHA-256, K8S]}
    acl: acl.txt
    access:
    - {name: ours, action: allow, from: ["user:*"], mqtt: {publish: ["plant/${attr.site}/#"], subscribe: ["cmd/#"]}}
  bridges:
  - name: cloud
    domain: acme
    remote:
      {url: "mqtts://broker.example:8883", domain: far, version: "5", client_id: gateway, username: farhop, password: "s: e",
       password_file: cloud.pass, tls: {ca: ca.pem, cert: us.pem, key: us.key, server_name: b.example, alpn: [x-amzn-mqtt-ca]},
       max_qos: 0, inflight: 100, max_packet: 128KiB, mosquitto: true}
    local: {client_id: bridge, username: b, password: c, password_file: d}
    rules:
    - {direction: both, filter: "a/#", local_prefix: x/, remote_prefix: y/, qos: 1}
    share: farhop
    window: 100
    rate: 5000
    keepalive: 50s
    retry_min: 1s
    retry_max: 2m
    connect_timeout: 20s
    max_packet: 2MiB
    buffer: 16MiB
    remember: 1000
    remember_for: 20m
  - {name: "null", remote: {url: "mqtt://10.0.0.5:1883"}, rules: [{direction: in, filter: "#"}]}
mesh: {listen: "0.0.0.0:7330", advertise: [luna.example.net:7330, "[2001:db8::1]:7330"]}
admin: {listen: "0.0.0.0:7331", remote: true}
peers:
- address: 127.0.0.1:9001
  node: relay
  link: sat
  from: wwan0
  cost: 10
  classes: [alarm, control]
  owlt: 1.28s
  rate: 50Mbit
  contacts: {start: 2026-01-01T01:00:00+01:00, every: 2h, for: 40m}
- {address: 127.0.0.1:9002}
- {address: 127.0.0.1:9003, profile: moon, layer: salvo, rate: 50Mbit, return_rate: 256kbit, loss: 0.05%, burst: 10, mtu: 1480}
links:
- {node: truck, link: lte, profile: narrow, layer: auto, rate: 9600bit, loss: 50%, burst: 1, mtu: 256}
store: {engine: bbolt, max_bytes: 4GiB, max_messages: 5000, max_retained: 70, max_retained_bytes: 1MiB}
delivery:
  ttl: 90d
  order_wait: 0s
  max_message: 64KB
  retained_horizon: 20d
  batch: {max_bytes: 8KiB, wait: {alarm: 1ms, interactive: 2ms, telemetry: 20ms, bulk: 10s}}
services:
- name: historian
  endpoints: [{node: earth-1, address: "127.0.0.1:5432"}, {address: "db:5432"}]
  listen: [{address: "127.0.0.1:15432"}, {node: mars-1, address: ":15432"}]
routes:
- name: telemetry-up
  match: {topic: "plant/+/tele \"metry\" ü/#"}
  to: [earth, mars/base]
  class: telemetry
  ttl: 72h
  on_full: drop-oldest
- name: historian
  match: {service: historian}
  unreachable: drop
quotas:
- name: per-device
  match: {client: "plc-* \"ü\"", topic: "plant/#", region: luna/base, class: bulk}
  each: client
  max_bytes: 10MiB
  max_messages: 1000
- {name: relays, match: {peer: "relay-*"}, each: peer, max_messages: 5}
- {name: all, max_bytes: 1GiB}
dtn:
  node: ipn:17.0
  tls: {cert: door.pem, key: door.key, roots: roots.pem}
  listen:
  - {kind: tcpcl, address: ":4556", tls: required, auth: host, strangers: true}
  - {kind: stcp, address: "127.0.0.1:4557", peer: ion}
  peers:
  - name: hdtn
    kind: tcpcl
    address: hdtn.example.net:4556
    node: "ipn:2.0"
    serves: ["ipn:2.*", "dtn://hdtn/**"]
    tls: optional
    auth: chain
    server_name: door.example.net
    one_segment: true
    insecure: true
    cut_through: true
  - {name: dials-us, kind: tcpcl, node: "dtn://other/", tls: none}
  mappings: [{eid: ipn:17.5, topic: plant/1/temp}]
  exports:
  - {topic: "plant/#", to: "dtn://hdtn/in/{topic}", source: ipn:17.6, report_to: ipn:17.0, lifetime: 2h, hop_limit: 30}
  routes: [{to: ["ipn:3.*"], node: gw-2}]
  reports_per_minute: 30
log: {level: debug, format: json}
`

func parse(t *testing.T, data string) Config {
	t.Helper()
	c, err := Parse(FileName, []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParseEveryKey(t *testing.T) {
	start := Instant{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	want := Config{
		Node:  Node{addr.MustNode("luna-1"), addr.MustRegion("luna/base")},
		MQTT:  fullMQTT(),
		Mesh:  Mesh{"0.0.0.0:7330", []HostPort{"luna.example.net:7330", "[2001:db8::1]:7330"}},
		Admin: Admin{"0.0.0.0:7331", true},
		Peers: []Peer{
			{"127.0.0.1:9001", addr.MustNode("relay"), LinkProps{
				OWLT: Duration(1280 * time.Millisecond), Rate: 50e6, Contacts: &Contacts{start, Duration(2 * time.Hour), Duration(40 * time.Minute)},
			}, Uplink{"sat", 10, []ClassName{"alarm", "control"}}, "wwan0"},
			{Address: "127.0.0.1:9002"},
			{Address: "127.0.0.1:9003", LinkProps: LinkProps{
				Profile: "moon", Layer: "salvo", Rate: 50e6, ReturnRate: 256e3, Loss: percent / 20, Burst: 10, MTU: 1480,
			}},
		},
		Links: []Link{{addr.MustNode("truck"), LinkProps{Profile: "narrow", Layer: "auto", Rate: 9600, Loss: 50 * percent, Burst: 1, MTU: 256}, Uplink{Name: "lte"}}},
		Store: Store{"bbolt", 4 << 30, 5000, 70, 1 << 20},
		Delivery: Delivery{Duration(90 * day), 0, 64000, Duration(20 * day), Batch{8 << 10, BatchWait{
			Duration(time.Millisecond), Duration(2 * time.Millisecond), Duration(20 * time.Millisecond), Duration(10 * time.Second),
		}}},
		Resources: Resources{
			Services: []Service{{
				"historian",
				[]Endpoint{{addr.MustNode("earth-1"), "127.0.0.1:5432"}, {addr.Node{}, "db:5432"}},
				[]Endpoint{{addr.Node{}, "127.0.0.1:15432"}, {addr.MustNode("mars-1"), ":15432"}},
			}},
			Routes: []Route{
				{
					Name: "telemetry-up", Match: Match{Topic: `plant/+/tele "metry" ü/#`}, To: []addr.Region{addr.MustRegion("earth"), addr.MustRegion("mars/base")},
					Class: "telemetry", TTL: Duration(72 * time.Hour), OnFull: policy.DropOldest,
				},
				{Name: "historian", Match: Match{Service: "historian"}, Unreachable: policy.Drop},
			},
			Quotas: []Quota{
				{"per-device", QuotaMatch{`plc-* "ü"`, "plant/#", addr.MustRegion("luna/base"), "bulk", ""}, policy.EachClient, 10 << 20, 1000},
				{Name: "relays", Match: QuotaMatch{Peer: "relay-*"}, Each: policy.EachPeer, MaxMessages: 5},
				{Name: "all", MaxBytes: 1 << 30},
			},
		},
		DTN: fullDTN(t),
		Log: Log{"debug", "json"},
	}
	if got := parse(t, full); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDefaults(t *testing.T) {
	c := parse(t, "node: {name: a, region: b}")
	want := Default()
	want.Node = c.Node
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v", c)
	}
	if err := c.Validate(); err != nil {
		t.Errorf("the defaults are not valid: %v", err)
	}
	if !c.MQTT.Listen.Loopback() || !c.Admin.Listen.Loopback() {
		t.Error("a default listener without credentials leaves loopback")
	}
}

func TestValidateWithoutAFile(t *testing.T) {
	c := parse(t, full)
	c.MQTT.Users, c.MQTT.Auth, c.MQTT.Listeners, c.Peers[0].Address, c.Mesh.Listen, c.Routes[0].Class, c.Log.Level = "", Auth{}, nil, "nowhere", "0.0.0.0", "urgent", ""
	c.Quotas[0].Match.Class, c.Quotas[1].MaxMessages, c.Store.Engine, c.Delivery.Batch.Wait.Bulk = "urgent", 0, "paper", -1
	want := strings.Join([]string{
		`mqtt.listen: 0.0.0.0:1883 is reachable from other machines and asks nobody for a password; set mqtt.users to a password file, or mqtt.anonymous: true to let everybody in`,
		`mesh.listen: "0.0.0.0" is not HOST:PORT; write it as 127.0.0.1:1883, example.net:7330 or [::1]:7330`,
		`peers[0].address: "nowhere" is not HOST:PORT; write it as 127.0.0.1:1883, example.net:7330 or [::1]:7330`,
		`store.engine: unknown value "paper"; write one of journal, bbolt`,
		`delivery.batch.wait.bulk: -1ns is less than 0s; write at least that`,
		`log.level: unknown value ""; write one of debug, info, warn, error`,
		`routes[0].class: class "urgent": want one of control, alarm, interactive, telemetry, bulk`,
		`quotas[1]: limits nothing; set max_bytes, max_messages or both`,
		`quotas[0].match.class: class "urgent": want one of control, alarm, interactive, telemetry, bulk`,
	}, "\n")
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestRenderReadsBack(t *testing.T) {
	noBroker := "node: {name: a, region: b}\nmqtt: {listen: \"\"}"
	for name, data := range map[string]string{"full": full, "defaults": "node: {name: a, region: b}", "no broker": noBroker, "odd names": "node: {name: \"null\", region: b}\nmqtt: {users: \"true\"}"} {
		c := parse(t, data)
		text := Render(c)
		again, err := Parse("rendered", text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if !reflect.DeepEqual(again, c) {
			t.Errorf("%s:\n%s\ngot  %+v\nwant %+v", name, text, again, c)
		}
		if string(Render(again)) != string(text) {
			t.Errorf("%s: rendered differently the second time", name)
		}
	}
}

// TestRenderedExamplesAreValid takes the example lines out of their comments.
func TestRenderedExamplesAreValid(t *testing.T) {
	c := Default()
	c.Node = Node{addr.MustNode("earth-1"), addr.MustRegion("earth")}
	var b strings.Builder
	inExample := false
	for l := range strings.Lines(string(Render(c))) {
		text, comment := strings.CutPrefix(l, "# ")
		key := strings.HasSuffix(text, ":\n") && !strings.Contains(text, " ")
		inExample = comment && (inExample || key)
		if !inExample {
			text = l
		}
		b.WriteString(text)
	}
	got := parse(t, b.String())
	if len(got.Peers) != 1 || len(got.Links) != 1 || len(got.Services) != 1 || len(got.Routes) != 1 || len(got.Quotas) != 1 || len(got.DTN.Peers) != 1 {
		t.Errorf("examples missing in\n%s", b.String())
	}
}

func TestLoadAndSave(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "farhop init") {
		t.Errorf("a missing file: %v", err)
	}
	c := parse(t, full)
	if err := Save(path, c); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "users.txt"); got.Path(got.MQTT.Users) != want || got.Path(want) != want || got.Path("") != "" {
		t.Errorf("users at %s, want %s", got.Path(got.MQTT.Users), want)
	}
	if got.Dir = ""; !reflect.DeepEqual(got, c) {
		t.Errorf("loaded %+v", got)
	}
	c.Log.Level = "loud"
	if err := Save(path, c); err == nil {
		t.Error("an invalid configuration was saved")
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("#", MaxFile+10)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "is it the right file?") {
		t.Errorf("a huge file: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPolicy(t *testing.T) {
	routes := parse(t, full).Policy()
	table, err := policy.NewTable(routes)
	if err != nil {
		t.Fatal(err)
	}
	r, ok := table.ForTopic(`plant/1/tele "metry" ü`)
	if !ok || r.Name != "telemetry-up" || !r.HasClass || r.Class != bundle.Telemetry || r.TTL != 72*time.Hour || r.OnFull != policy.DropOldest || len(r.To) != 2 {
		t.Errorf("got %+v, %v", r, ok)
	}
	if r, ok := table.ForService("historian"); !ok || r.HasClass || r.Unreachable != policy.Drop {
		t.Errorf("got %+v, %v", r, ok)
	}
}

func TestQuotaRules(t *testing.T) {
	quotas, err := policy.NewQuotas(parse(t, full).QuotaRules())
	if err != nil {
		t.Fatal(err)
	}
	want := []policy.Quota{
		{Name: "per-device", Client: `plc-* "ü"`, Topic: "plant/#", Region: addr.MustRegion("luna/base"), Class: bundle.Bulk, HasClass: true, Each: policy.EachClient, Bytes: 10 << 20, Count: 1000},
		{Name: "relays", Peer: "relay-*", Each: policy.EachPeer, Count: 5},
		{Name: "all", Bytes: 1 << 30},
	}
	got := quotas.List()
	for i := range got {
		if !got[i].HasClass {
			got[i].Class = 0
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestBatchWaitOf(t *testing.T) {
	w := parse(t, full).Delivery.Batch.Wait
	for class, want := range map[bundle.Class]time.Duration{
		bundle.Control: 0, bundle.Alarm: time.Millisecond, bundle.Interactive: 2 * time.Millisecond,
		bundle.Telemetry: 20 * time.Millisecond, bundle.Bulk: 10 * time.Second, bundle.NumClasses: 0,
	} {
		if got := w.Of(class); got != want {
			t.Errorf("%s waits %s, want %s", class, got, want)
		}
	}
}

// TestEngine: nothing is written down that would stop a store from being
// found by its files.
func TestEngine(t *testing.T) {
	if e := Default().Store.Engine; e != "" || !strings.Contains(string(Render(Default())), "\n  # engine: journal\n") {
		t.Errorf("the default engine is %q", e)
	}
	for _, e := range append(StoreEngines(), "") {
		c := parse(t, "node: {name: a, region: b}\nstore: {engine: \""+e+"\"}")
		if again := parse(t, string(Render(c))); c.Store.Engine != e || again.Store.Engine != e {
			t.Errorf("%q is read as %q and %q", e, c.Store.Engine, again.Store.Engine)
		}
	}
}
