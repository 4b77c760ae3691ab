package auth

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/policy"
)

func TestConfigFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want string // all faults, "; " between them
	}{
		{"nothing", Config{}, ""},
		{"all", Config{
			Anonymous: true, Users: "u", ACL: "a", MTLS: MTLS{Enabled: true, ClientID: "name", User: true},
			JWT:  JWT{Keys: "k", Leeway: Duration(time.Minute)},
			HTTP: HTTP{URL: "https://auth.acme/mqtt", CA: "ca", Timeout: Duration(time.Second), MaxInFlight: 1, Cache: Duration(time.Hour), CacheEntries: 1, Unreachable: "ignore", Methods: []string{"SCRAM-SHA-256", "K8S"}},
		}, ""},
		{"client id", Config{MTLS: MTLS{Enabled: true, ClientID: "cn"}}, `mtls.client_id: unknown value "cn"; write any or name`},
		{"mtls off", Config{MTLS: MTLS{ClientID: "any"}}, "mtls: is not enabled; set enabled: true or remove the rest"},
		{"no keys", Config{JWT: JWT{Issuer: "x"}}, "jwt.keys: is missing; write the file with the keys of who issues the tokens"},
		{"leeway", Config{JWT: JWT{Keys: "k", Leeway: Duration(2 * time.Hour)}}, "jwt.leeway: 2h0m0s, want 0s to 1h0m0s"},
		{"no url", Config{HTTP: HTTP{Timeout: 1}}, "http.url: is missing; write the URL to ask, such as https://auth.example/mqtt"},
		{"url", Config{HTTP: HTTP{URL: "auth.acme"}}, `http.url: "auth.acme" is no https:// or http:// URL`},
		{"scheme", Config{HTTP: HTTP{URL: "ftp://auth.acme/"}}, `http.url: "ftp://auth.acme/" is no https:// or http:// URL`},
		{"password in url", Config{HTTP: HTTP{URL: "https://a:b@auth.acme/"}}, "http.url: has a password in it, which would show in logs; remove it"},
		{"plain", Config{HTTP: HTTP{URL: "http://auth.acme/"}}, "http.url: would send passwords readable to another machine; write https://, or set plain: true if the way is safe"},
		{"methods without url", Config{HTTP: HTTP{Methods: []string{"m"}}}, "http.url: is missing; write the URL to ask, such as https://auth.example/mqtt"},
		{
			"methods",
			Config{HTTP: HTTP{URL: "https://a", Methods: []string{"m", "", "m"}}},
			`http.methods[1]: "" is empty, too long or there twice; write the name as clients say it, such as SCRAM-SHA-256; ` +
				`http.methods[2]: "m" is empty, too long or there twice; write the name as clients say it, such as SCRAM-SHA-256`,
		},
		{"plain on purpose", Config{HTTP: HTTP{URL: "http://auth.acme/", Plain: true}}, ""},
		{"loopback", Config{HTTP: HTTP{URL: "http://[::1]:8080/"}}, ""},
		{
			"numbers",
			Config{HTTP: HTTP{URL: "https://a", Timeout: -1, MaxInFlight: 2000, Cache: Duration(48 * time.Hour), CacheEntries: -1, Unreachable: "allow"}},
			`http.timeout: -1ns, want 0s to 10m0s; http.cache: 48h0m0s, want 0s to 24h0m0s; http.max_in_flight: 2000, want 1 to 1024; http.cache_entries: -1, want 1 to 1000000; http.unreachable: unknown value "allow"; write deny or ignore`,
		},
		{
			"rule",
			Config{Access: []Rule{allowAll("a"), {From: []string{"*"}, MQTT: RuleMQTT{Publish: []string{"a#"}}}}},
			`access[1].action: is missing; write allow, deny or shadow; access[1].mqtt.publish: filter "a#": invalid topic syntax: a wildcard must be alone in its level, not in "a#"`,
		},
		{"no topic", Config{Access: []Rule{{Action: policy.Deny, From: []string{"*"}}}}, "access[0]: is about no topic; set publish, subscribe or both"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, f := range c.cfg.Faults() {
				got = append(got, f.Error())
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
			err := c.cfg.Validate()
			if f := (Fault{}); (err != nil) != (c.want != "") || err != nil && !errors.As(err, &f) {
				t.Errorf("Validate: %v", err)
			}
			if _, err := New(c.cfg, Deps{}); c.want != "" && err == nil {
				t.Error("New takes it")
			}
		})
	}
}

func TestGuarded(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want bool
	}{
		{Config{}, false},
		{Config{ACL: "a"}, false},
		{Config{Users: "u"}, true},
		{Config{Users: "u", Anonymous: true}, false},
		{Config{MTLS: MTLS{Enabled: true}}, true},
		{Config{JWT: JWT{Keys: "k"}}, true},
		{Config{HTTP: HTTP{URL: "https://a"}}, true},
	} {
		if c.cfg.Guarded() != c.want {
			t.Errorf("%+v: want %v", c.cfg, c.want)
		}
	}
}

func TestWithPaths(t *testing.T) {
	c := Config{Users: "u", ACL: "a", JWT: JWT{Keys: "k"}, HTTP: HTTP{CA: "c"}}.WithPaths(func(s string) string { return "dir/" + s })
	if c.Users != "dir/u" || c.ACL != "dir/a" || c.JWT.Keys != "dir/k" || c.HTTP.CA != "dir/c" {
		t.Errorf("%+v", c)
	}
	if c := (Config{}).WithPaths(func(string) string { return "x" }); c.Users != "" {
		t.Error("what is not set becomes set")
	}
}

// TestConfigText writes and reads the form that files have.
func TestConfigText(t *testing.T) {
	const text = `{"anonymous":false,"jwt":{"keys":"k","leeway":"1m0s"},"access":[{"action":"deny","from":["*"],"mqtt":{"publish":["a"]}}]}`
	var c Config
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(c); err != nil || string(b) != text {
		t.Errorf("%s, %v", b, err)
	}
	for _, s := range []string{"5", "-1s", "+1s", "", "soon", "1e3"} {
		if err := new(Duration).UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q is a duration", s)
		}
	}
}
