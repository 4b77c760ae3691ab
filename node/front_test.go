package node

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/farhop/farhop/broker/auth"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/policy"
)

// TestFrontFields holds the written form of listeners, methods and bridges
// against that of their packages: every field has the same name on both sides,
// and what is written arrives.
func TestFrontFields(t *testing.T) {
	t.Run("listener", func(t *testing.T) {
		var l config.Listener
		fillFields(reflect.ValueOf(&l).Elem(), new(int))
		got := flat(listenConfig(l, 1<<10))
		maps.Copy(got, flat(tlsFiles(config.Config{}, l, nil)))
		got["require_client_cert"] = got["require"]
		for _, own := range []string{"tls", "reset_key", "log", "registerer", "require"} { // of the node, not of the file
			delete(got, own)
		}
		sameFields(t, flat(l), got)
	})
	t.Run("auth", func(t *testing.T) {
		var c config.Config
		fillFields(reflect.ValueOf(&c.MQTT.Auth).Elem(), new(int))
		c.MQTT.Users, c.MQTT.Anonymous = "the users", true
		want := flat(c.MQTT.Auth)
		want["users"], want["anonymous"] = c.MQTT.Users, "true"
		sameFields(t, want, flat(authConfig(c)))
	})
	t.Run("bridge", func(t *testing.T) {
		var b config.Bridge
		fillFields(reflect.ValueOf(&b).Elem(), new(int))
		sameFields(t, flat(b), flat(bridgeConfig(config.Config{}, b)))
	})
}

func sameFields(t *testing.T, want, got map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if v, ok := got[name]; !ok || v != want[name] {
			t.Errorf("%s is written as %q and arrives as %q (%t)", name, want[name], v, ok)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s cannot be written in %s", name, config.FileName)
		}
	}
}

// fill gives every field a value of its own.
func fillFields(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		if p, ok := reflect.TypeAssert[*config.Prefix](v.Addr()); ok {
			p.Prefix = netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", *n))
			return
		}
		for _, field := range v.Fields() {
			fillFields(field, n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillFields(v.Index(0), n)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillFields(v.Elem(), n)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(fmt.Sprint("value ", *n))
	case reflect.Uint8, reflect.Uint32:
		v.SetUint(uint64(*n))
	default:
		v.SetInt(1<<20 + int64(*n))
	}
}

// flat returns all values by the names they have in the file.
func flat(v any) map[string]string {
	out := make(map[string]string)
	flatten(reflect.ValueOf(v), "", out)
	return out
}

func flatten(v reflect.Value, path string, out map[string]string) {
	switch v.Kind() {
	case reflect.Struct:
		if p, ok := reflect.TypeAssert[fmt.Stringer](v); ok {
			out[path] = p.String()
			return
		}
		for i := range v.NumField() {
			flatten(v.Field(i), nameIn(path, v.Type().Field(i)), out)
		}
	case reflect.Slice:
		for i := range v.Len() {
			flatten(v.Index(i), fmt.Sprintf("%s[%d]", path, i), out)
		}
	case reflect.Pointer:
		if v.IsNil() || v.Elem().Kind() == reflect.Struct {
			out[path] = ""
			return
		}
		flatten(v.Elem(), path, out)
	case reflect.Bool:
		out[path] = fmt.Sprint(v.Bool())
	case reflect.Uint8, reflect.Uint32:
		out[path] = fmt.Sprint(v.Uint())
	case reflect.Int, reflect.Int64:
		out[path] = fmt.Sprint(v.Int())
	default:
		out[path] = v.String()
	}
}

// nameIn is the name of a field by its tags, or what its Go name would have.
func nameIn(path string, f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json")+f.Tag.Get("yaml"), ",")
	if f.Anonymous {
		return path
	}
	if name == "" {
		var b strings.Builder
		for i, r := range f.Name {
			if i > 0 && unicode.IsUpper(r) && unicode.IsLower(rune(f.Name[i-1])) {
				b.WriteByte('_')
			}
			b.WriteRune(unicode.ToLower(r))
		}
		name = strings.Replace(b.String(), "clientca", "client_ca", 1)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// TestFrontRoom: whatever a client may send goes through a WebSocket and over a
// bridge.
func TestFrontRoom(t *testing.T) {
	c := config.Default()
	for _, packet := range []config.Size{1 << 10, 1 << 20, 200 << 20} {
		c.MQTT.MaxPacket = packet
		if got := listenConfig(config.Listener{}, packet).MaxMessage; got < int64(packet) || got < webSocketMessage {
			t.Errorf("a WebSocket takes %d bytes where packets have %d", got, packet)
		}
		if got := bridgeConfig(c, config.Bridge{}).MaxPacket; got <= int(packet) {
			t.Errorf("a bridge takes %d bytes where packets have %d", got, packet)
		}
	}
}

func TestBoundURL(t *testing.T) {
	bound := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40123}
	for at, want := range map[string]string{
		"tcp://127.0.0.1:0":      "tcp://127.0.0.1:40123",
		"ws://127.0.0.1:0/a/b":   "ws://127.0.0.1:40123/a/b",
		"tls://0.0.0.0:8883":     "tls://0.0.0.0:8883",
		"unix:///run/mqtt.sock":  "unix:///run/mqtt.sock",
		"quic://[::1]:0":         "quic://127.0.0.1:40123",
		"ws://127.0.0.1:80/is:0": "ws://127.0.0.1:80/is:0",
	} {
		if got := boundURL(at, bound); got != want {
			t.Errorf("%s is %s, want %s", at, got, want)
		}
	}
}

// TestHousehold: a bridge of the node comes in by the secret alone, and may do
// all that the rules deny nobody.
func TestHousehold(t *testing.T) {
	a, err := auth.New(auth.Config{Access: []auth.Rule{
		{Action: policy.Allow, From: []string{"user:alice"}, MQTT: auth.RuleMQTT{Publish: []string{"a/#"}}},
		{Action: policy.Deny, From: []string{"*"}, MQTT: auth.RuleMQTT{Publish: []string{"secret/#"}}},
		{Action: policy.Deny, From: []string{"user:bridge:site"}, MQTT: auth.RuleMQTT{Publish: []string{"site/#"}}},
	}}, auth.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := everything()
	if err != nil {
		t.Fatal(err)
	}
	h := household{next: a.Chain, secret: "s3cret", all: all}
	for name, c := range map[string]struct {
		client auth.Client
		in     bool
	}{
		"a bridge":       {auth.Client{User: "bridge:cloud", HasUser: true, Password: []byte("s3cret")}, true},
		"wrong secret":   {auth.Client{User: "bridge:cloud", HasUser: true, Password: []byte("s3cre")}, false},
		"no secret":      {auth.Client{User: "bridge:cloud", HasUser: true}, false},
		"another's name": {auth.Client{User: "alice", HasUser: true, Password: []byte("s3cret")}, false},
	} {
		if _, err := h.Authenticate(t.Context(), c.client); (err == nil) != c.in || err != nil && !errors.Is(err, auth.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct {
		bridge, topic string
		may           bool
	}{{"cloud", "a/b", true}, {"cloud", "other", true}, {"cloud", "secret/x", false}, {"site", "site/1", false}, {"cloud", "site/1", true}} {
		id, err := h.Authenticate(t.Context(), auth.Client{ID: "x", User: bridgeUser + c.bridge, HasUser: true, Password: []byte("s3cret")})
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Rules.Allow(id, c.topic, true); got != c.may {
			t.Errorf("bridge %s may publish to %s: %t", c.bridge, c.topic, got)
		}
	}
}

// TestCheckFrontOfNothing: the defaults have no fault, and every kind of
// listener can be written.
func TestCheckFrontOfNothing(t *testing.T) {
	c := config.Default()
	if faults := Check(c); len(faults) > 0 {
		t.Errorf("%v", faults)
	}
	for _, at := range []string{"tcp://:1", "ws://:1/mqtt", "unix:///x"} {
		c.MQTT.Listeners = append(c.MQTT.Listeners, config.Listener{URL: at})
	}
	for _, at := range []string{"tls://:1", "wss://:1/mqtt", "quic://:1"} {
		c.MQTT.Listeners = append(c.MQTT.Listeners, config.Listener{URL: at, Cert: "a.pem", Key: "a.key"})
	}
	if faults := checkFront(c); len(faults) > 0 {
		t.Errorf("%v", faults)
	}
}
