package admin

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
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

func TestRouteTable(t *testing.T) {
	var b strings.Builder
	for _, r := range routes() {
		guard := "token"
		if r.open {
			guard = "open"
		}
		fmt.Fprintf(&b, "%-4s %-21s %-5s %8d %s\n", r.method, r.path, guard, r.limit, r.about)
	}
	golden(t, "routes.txt", b.String())
}

func TestResponses(t *testing.T) {
	for _, c := range []struct {
		name, method, path, body string
		broken                   error
		code                     int
	}{
		{name: "status", method: "GET", path: "/api/v1/status", code: 200},
		{name: "nodes", method: "GET", path: "/api/v1/nodes", code: 200},
		{name: "routes", method: "GET", path: "/api/v1/routes", code: 200},
		{name: "why", method: "GET", path: "/api/v1/why/luna-1.9f3a2.t57", code: 200},
		{name: "why-bad", method: "GET", path: "/api/v1/why/nonsense", code: 400},
		{name: "queues", method: "GET", path: "/api/v1/queues", code: 200},
		{name: "peek", method: "POST", path: "/api/v1/queues/peek", body: `{"queue": "node earth-1", "limit": 5, "payload": true}`, code: 200},
		{name: "peek-bad", method: "POST", path: "/api/v1/queues/peek", body: `{"queue": "earth-1"}`, broken: Invalid("farhop queue", "queue %q", "earth-1"), code: 400},
		{name: "retry", method: "POST", path: "/api/v1/queues/retry", code: 200},
		{name: "purge", method: "POST", path: "/api/v1/queues/purge", body: `{"queue": "node earth-1", "class": "bulk", "older": "24h", "origin": "luna-1", "dry_run": true}`, code: 200},
		{name: "purge-unknown-key", method: "POST", path: "/api/v1/queues/purge", body: `{"queue": "node earth-1", "oldr": "24h"}`, code: 400},
		{name: "replay", method: "POST", path: "/api/v1/queues/replay", body: `{"session": "plc-7", "messages": [{"message": "luna-1.9f3a2.t57", "topic": "plant/1", "qos": 1, "payload": "MjEuNQ==", "class": "telemetry", "expires": "2031-05-06T13:00:00Z"}]}`, code: 200},
		{name: "sessions", method: "POST", path: "/api/v1/sessions", body: `{"client": "plc-*", "subscriptions": true}`, code: 200},
		{name: "kick", method: "POST", path: "/api/v1/sessions/kick", body: `{"client": "plc-7"}`, code: 200},
		{name: "end", method: "POST", path: "/api/v1/sessions/end", body: `{"client": "plc-7", "dry_run": true}`, code: 200},
		{name: "retained", method: "POST", path: "/api/v1/retained", body: `{"filter": "plant/#", "values": true, "marks": true}`, code: 200},
		{name: "remove", method: "POST", path: "/api/v1/retained/remove", body: `{"filter": "plant/#"}`, code: 200},
		{name: "invite", method: "POST", path: "/api/v1/invite", body: `{"region": "luna", "advertise": ["192.0.2.1:7330"], "life": "2h"}`, code: 200},
		{name: "invite-refused", method: "POST", path: "/api/v1/invite", body: `{"region": "luna"}`, broken: NotHere("ask earth-1", "this node holds no authority"), code: 409},
		{name: "invite-wrapped", method: "POST", path: "/api/v1/invite", body: `{"region": "luna"}`, broken: fmt.Errorf("make ticket: %w", Invalid("shorten it", "life is too long")), code: 400},
		{name: "fleet-push", method: "POST", path: "/api/v1/fleet", body: `{"file": "f.yaml", "data": "cm91dGVzOiBbXQ=="}`, code: 200},
		{name: "fleet", method: "GET", path: "/api/v1/fleet", code: 200},
		{name: "config", method: "GET", path: "/api/v1/config", code: 200},
		{name: "health", method: "GET", path: "/healthz", code: 200},
		{name: "unhealthy", method: "GET", path: "/healthz", broken: errTest, code: 503},
		{name: "unready", method: "GET", path: "/readyz", broken: errTest, code: 503},
		{name: "broken", method: "GET", path: "/api/v1/status", broken: errTest, code: 500},
		{name: "not-found", method: "GET", path: "/api/v1/nothing", code: 404},
		{name: "wrong-method", method: "DELETE", path: "/api/v1/fleet", code: 405},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, f := newServer(t)
			if c.broken != nil {
				f.fail(c.broken)
			}
			w := ask(s, c.method, c.path, c.body, nil)
			if w.Code != c.code {
				t.Errorf("status %d, want %d", w.Code, c.code)
			}
			if !json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("not JSON: %s", w.Header())
			}
			golden(t, "responses/"+c.name+".json", w.Body.String())
		})
	}
}

func TestOpenRoutes(t *testing.T) {
	s, _ := newServer(t)
	noToken := func(r *http.Request) { r.Header.Del("Authorization") }
	for path, want := range map[string]string{
		"/metrics":  "farhop_test_total 0",
		"/":         "<title>farhop</title>",
		"/page.css": "color-scheme",
		"/page.js":  "api/v1/status",
		"/readyz":   `"ok": true`,
	} {
		if w := ask(s, "GET", path, "", noToken); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("GET %s: %d, %.80q", path, w.Code, w.Body)
		}
	}
}

// The page must name nothing that its own policy forbids: no inline script or
// style, nothing of another server.
func TestPageKeepsItsPolicy(t *testing.T) {
	s, _ := newServer(t)
	w := ask(s, "GET", "/", "", nil)
	for _, bad := range []string{"<script>", "<style", " style=", " onclick=", "http://", "https://"} {
		if strings.Contains(w.Body.String(), bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
}

func TestRefusals(t *testing.T) {
	s, _ := newServer(t)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	origin := func(h, o string) func(*http.Request) {
		return func(r *http.Request) { r.Host = h; r.Header.Set("Origin", o) }
	}
	for _, c := range []struct {
		name string
		edit func(*http.Request)
		code int
	}{
		{"no token", header("Authorization", ""), 401},
		{"wrong token", header("Authorization", "Bearer "+strings.Repeat("0", 64)), 401},
		{"empty token", header("Authorization", "Bearer "), 401},
		{"other scheme", header("Authorization", "Basic "+s.token), 401},
		{"bare token", header("Authorization", s.token), 401},
		{"scheme in lower case", header("Authorization", "bearer "+s.token), 200},
		{"localhost", host("localhost:7331"), 200},
		{"localhost without port", host("localhost"), 200},
		{"IPv6 loopback", host("[::1]:7331"), 200},
		{"mapped loopback", host("[::ffff:127.0.0.1]:7331"), 200},
		{"no host", host(""), 403},
		{"rebound name", host("evil.example:7331"), 403},
		{"name with a known start", host("localhost.evil.example"), 403},
		{"other address", host("192.0.2.1:7331"), 403},
		{"own page", origin("127.0.0.1:7331", "http://127.0.0.1:7331"), 200},
		{"other port's page", origin("127.0.0.1:7331", "http://127.0.0.1:8080"), 403},
		{"other site", origin("127.0.0.1:7331", "https://evil.example"), 403},
		{"opaque origin", origin("127.0.0.1:7331", "null"), 403},
		{"empty origin", origin("127.0.0.1:7331", ""), 403},
		{"rebound page", origin("evil.example", "http://evil.example"), 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ask(s, "GET", "/api/v1/status", "", c.edit)
			if w.Code != c.code {
				t.Errorf("status %d, want %d: %s", w.Code, c.code, w.Body)
			}
			if w.Code != 200 && strings.Contains(w.Body.String(), "luna-1") {
				t.Error("a refusal tells of the node")
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Error("other sites are let in")
			}
		})
	}
}

func TestHostsOffLoopback(t *testing.T) {
	s, _ := newServer(t)
	for _, c := range []struct {
		listen, host string
		ok           bool
	}{
		{":7331", "192.0.2.1:7331", true},
		{"0.0.0.0:7331", "192.0.2.1:7331", true},
		{"[::]:7331", "[2001:db8::1]:7331", true},
		{":7331", "evil.example:7331", false},
		{"gateway.lan:7331", "Gateway.lan:7331", true},
		{"gateway.lan:7331", "192.0.2.1:7331", false},
		{"192.0.2.1:7331", "192.0.2.1:7331", true},
		{"192.0.2.1:7331", "192.0.2.2:7331", false},
	} {
		s.cfg.Listen = c.listen
		if got := s.hostAllowed(c.host); got != c.ok {
			t.Errorf("listening on %s, host %s: %v", c.listen, c.host, got)
		}
	}
}
