package config

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/policy"
)

// fullMQTT is the section mqtt of full.
func fullMQTT() MQTT {
	prefix := func(s string) Prefix { return Prefix{netip.MustParsePrefix(s)} }
	none, one := 0, 1
	return MQTT{
		Listen: "0.0.0.0:1883", Users: "users.txt", MaxPacket: 256 << 10, MaxClients: 500, ServerKeepAlive: Duration(10 * time.Minute), SysInterval: Duration(30 * time.Second),
		Limits: Limits{5000, 100, 1000, 50, 64 << 10, 500, 1 << 20, 100, 2 << 20, 256 << 20, 64, 2000, "skip"},
		Listeners: []Listener{
			{
				URL: "tls://0.0.0.0:8883", Cert: "server.pem", Key: "server.key", ClientCA: "devices.pem", RequireClientCert: true,
				Proxy: []Prefix{prefix("10.0.0.0/8"), prefix("2001:db8::/32")}, HandshakeTimeout: Duration(40 * time.Second), MaxHandshakes: 100,
			},
			{URL: "ws://127.0.0.1:8083/mqtt", Origins: []string{"https://panel.example.org"}, MaxMessage: 1 << 20},
			{URL: "unix:///run/farhop/mqtt.sock", Mode: 0o600},
			{URL: "quic://:8883", Cert: "server.pem", Key: "server.key", IdleTimeout: Duration(2 * time.Hour), MaxWindow: 1 << 20},
		},
		Auth: Auth{
			MTLS: AuthMTLS{true, "name", true},
			JWT:  AuthJWT{"issuer.jwks", "https://id.acme.example", "mqtt", Duration(30 * time.Second), true, "name", "devices", "facts", "rules"},
			HTTP: AuthHTTP{"https://auth.acme.example/mqtt", "acme.pem", true, Duration(2 * time.Second), 8, Duration(5 * time.Minute), 100, "ignore", []string{"SCRAM-SHA-256", "K8S"}},
			ACL:  "acl.txt",
			Access: []AccessRule{{
				"ours", policy.Allow,
				[]string{"user:*"},
				AccessTopics{[]string{"plant/${attr.site}/#"}, []string{"cmd/#"}},
			}},
		},
		Bridges: []Bridge{
			{
				Name: "cloud", Domain: "acme",
				Remote: BridgeRemote{
					"mqtts://broker.example:8883", "far", "5",
					BridgeLogin{"gateway", "farhop", "s: e", "cloud.pass"},
					BridgeTLS{"ca.pem", "us.pem", "us.key", "b.example", []string{"x-amzn-mqtt-ca"}},
					&none, 100, 128 << 10, true,
				},
				Local: BridgeLogin{"bridge", "b", "c", "d"},
				Rules: []BridgeRule{{"both", "a/#", "x/", "y/", &one}},
				Share: "farhop", Window: 100, Rate: 5000, KeepAlive: Duration(50 * time.Second), RetryMin: Duration(time.Second),
				RetryMax: Duration(2 * time.Minute), ConnectTimeout: Duration(20 * time.Second), MaxPacket: 2 << 20, Buffer: 16 << 20,
				Remember: 1000, RememberFor: Duration(20 * time.Minute),
			},
			{Name: "null", Remote: BridgeRemote{URL: "mqtt://10.0.0.5:1883"}, Rules: []BridgeRule{{Direction: "in", Filter: "#"}}},
		},
	}
}

// TestFullIsFull: full has every key of the section, so that what a test says
// of it is said of all.
func TestFullIsFull(t *testing.T) {
	m := fullMQTT()
	m.Anonymous = true
	set := make(map[string]bool)
	visit(reflect.ValueOf(m), "mqtt", set)
	for field, is := range set {
		if !is {
			t.Errorf("%s is nowhere set", field)
		}
	}
}

// visit notes which fields have a value other than zero somewhere.
func visit(v reflect.Value, path string, set map[string]bool) {
	_, text := reflect.TypeAssert[interface{ MarshalText() ([]byte, error) }](v)
	switch {
	case text || v.Kind() != reflect.Struct && v.Kind() != reflect.Slice:
		set[path] = set[path] || !v.IsZero()
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			visit(v.Field(i), path+"."+v.Type().Field(i).Name, set)
		}
	default:
		set[path] = set[path] || v.Len() > 0
		for i := range v.Len() {
			visit(v.Index(i), path+"[]", set)
		}
	}
}

// TestListenOfListeners: the default of mqtt.listen is for those who name no
// listener at all.
func TestListenOfListeners(t *testing.T) {
	const head = "node: {name: a, region: b}\n"
	for name, c := range map[string]struct {
		mqtt string
		want HostPort
	}{
		"nothing":         {"", "127.0.0.1:1883"},
		"empty list":      {"mqtt: {listeners: []}", "127.0.0.1:1883"},
		"listeners":       {"mqtt: {listeners: [{url: \"tcp://127.0.0.1:1883\"}]}", ""},
		"both":            {"mqtt: {listen: 127.0.0.1:1884, listeners: [{url: \"tcp://127.0.0.1:1883\"}]}", "127.0.0.1:1884"},
		"none on purpose": {"mqtt: {listen: \"\"}", ""},
	} {
		if got := parse(t, head+c.mqtt).MQTT.Listen; got != c.want {
			t.Errorf("%s: listens at %q, want %q", name, got, c.want)
		}
	}
}

func TestChecks(t *testing.T) {
	const data = "node: {name: a, region: b}\nmqtt:\n  users: u\n  listeners:\n  - url: tls://127.0.0.1:1\n    handshake_timeout: 1s\n"
	check := func(c Config) []Fault {
		return []Fault{
			{Field: "mqtt.users", Problem: c.Path(c.MQTT.Users) + " is not there"},
			{Field: "mqtt.listeners[0].handshake_timeout", Problem: "is for others"},
			{Field: "mqtt.listeners[0].cert", Problem: "is told already"},
			{Field: "mqtt.listeners[0]", Problem: "is told already"},
		}
	}
	const want = `f.yaml:3: mqtt.users: u is not there
f.yaml:5: mqtt.listeners[0].cert: tls needs a certificate and its key; set cert and key to PEM files
f.yaml:6: mqtt.listeners[0].handshake_timeout: is for others`
	if _, err := Parse("f.yaml", []byte(data), check); err == nil || strings.ReplaceAll(err.Error(), "/", "") != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestRedacted(t *testing.T) {
	c := Config{MQTT: fullMQTT()}
	text, err := json.Marshal(c.Redacted())
	if err != nil || bytes.Contains(text, []byte("s: e")) || !bytes.Contains(text, []byte("cloud.pass")) {
		t.Errorf("%s, %v", text, err)
	}
	if !reflect.DeepEqual(c.MQTT, fullMQTT()) {
		t.Error("the original was changed")
	}
}

// TestRenderedHintsOfMQTT takes the commented lines within the section.
func TestRenderedHintsOfMQTT(t *testing.T) {
	text := strings.ReplaceAll(string(Render(Default())), "\n  # ", "\n  ")
	text = strings.Replace(text, "name: \"\"\n  region: \"\"", "name: a\n  region: b", 1)
	got := parse(t, text).MQTT
	if len(got.Listeners) != 1 || len(got.Bridges) != 1 || got.Auth.ACL == "" || got.Users == "" {
		t.Errorf("hints missing: %+v in\n%s", got, text)
	}
}
