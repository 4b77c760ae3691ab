package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/farhop/farhop/storeforward/bundle"
)

func TestDecodeRefuses(t *testing.T) {
	s, f := newServer(t)
	for _, c := range []struct {
		name, kind, body string
		code             int
	}{
		{"unknown key", "application/json", `{"region": "luna", "lifetime": "2h"}`, 400},
		{"second value", "application/json", `{"region": "luna"} {}`, 400},
		{"garbage after", "application/json", `{"region": "luna"}]`, 400},
		{"empty", "application/json", ``, 400},
		{"bad region", "application/json", `{"region": "Luna!"}`, 400},
		{"life without unit", "application/json", `{"region": "luna", "life": "2"}`, 400},
		{"life as number", "application/json", `{"region": "luna", "life": 2}`, 400},
		{"form", "application/x-www-form-urlencoded", `region=luna`, 415},
		{"simple request of a page", "text/plain", `{"region": "luna"}`, 415},
		{"no type", "", `{"region": "luna"}`, 415},
		{"too large", "application/json", `{"region": "` + strings.Repeat("a", smallBody) + `"}`, 413},
		{"charset", "application/json; charset=utf-8", `{"region": "luna"}`, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.asked = InviteRequest{}
			w := ask(s, "POST", "/api/v1/invite", c.body, func(r *http.Request) { r.Header.Set("Content-Type", c.kind) })
			if w.Code != c.code {
				t.Errorf("status %d, want %d: %s", w.Code, c.code, w.Body)
			}
			if asked := !reflect.ValueOf(f.asked).IsZero(); asked != (c.code == 200) {
				t.Errorf("the backend was asked: %v", asked)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"region": "luna", "advertise": ["192.0.2.1:7330"], "life": "2h"}`)
	f.Add(`{"file": "f.yaml", "data": "cm91dGVzOiBbXQ=="}`)
	f.Add(`{"region": "", "life": ""}`)
	f.Add(`[1`)
	f.Fuzz(func(t *testing.T, body string) {
		request := func() *http.Request {
			r := httptest.NewRequest("POST", "/", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			return r
		}
		if v, err := decode[InviteRequest](request()); err == nil && v.Life < 0 {
			t.Errorf("negative life %v", v.Life)
		}
		if v, err := decode[FleetPushRequest](request()); err == nil && len(v.Data) > len(body) {
			t.Errorf("%d bytes out of %d", len(v.Data), len(body))
		}
	})
}

func FuzzHeaders(f *testing.F) {
	f.Add("127.0.0.1:7331", "", "Bearer x")
	f.Add("[::1", "http://[::1", "bearer")
	f.Add("evil.example", "http://evil.example", "")
	f.Fuzz(func(t *testing.T, host, origin, auth string) {
		s := &Server{cfg: Config{Listen: "127.0.0.1:7331"}, token: "secret"}
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		r.Header["Origin"] = []string{origin}
		r.Header["Authorization"] = []string{auth}
		if s.authorized(r) == nil && !strings.EqualFold(auth, "Bearer secret") {
			t.Errorf("%q is accepted", auth)
		}
		if s.hostAllowed(host) && strings.Contains(host, "evil") {
			t.Errorf("%q is accepted", host)
		}
		_ = originAllowed(r)
	})
}

// A node that knows nothing yet answers with lists, not with null.
func TestEmptyAnswersHaveLists(t *testing.T) {
	s, _ := newServer(t)
	s.cfg.Backend = nothing{&fake{}}
	for path, body := range map[string]string{"status": "", "nodes": "", "routes": "", "fleet": "", "why/luna-1.9f3a2.t57": "", "queues": "", "queues/peek": "{}", "sessions": "{}", "retained": "{}"} {
		method := "GET"
		if body != "" {
			method = "POST"
		}
		w := ask(s, method, "/api/v1/"+path, body, nil)
		if w.Code != 200 || !strings.Contains(w.Body.String(), "[]") || strings.Contains(strings.NewReplacer(`ed": null`, "", `own": null`, "").Replace(w.Body.String()), "null") {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
}

// nothing is the backend of a node that has just started.
type nothing struct{ Backend }

func (nothing) Status(context.Context) (Status, error)           { return Status{}, nil }
func (nothing) Nodes(context.Context) ([]Node, error)            { return nil, nil }
func (nothing) Routes(context.Context) ([]Route, error)          { return nil, nil }
func (nothing) FleetStatus(context.Context) (FleetStatus, error) { return FleetStatus{}, nil }
func (nothing) Queues(context.Context) (Queues, error)           { return Queues{}, nil }
func (nothing) Peek(context.Context, PeekRequest) (Peek, error)  { return Peek{}, nil }
func (nothing) Why(context.Context, bundle.ID) (Why, error)      { return Why{}, nil }

func (nothing) Sessions(context.Context, SessionsRequest) (Sessions, error) {
	return Sessions{}, nil
}

func (nothing) Retained(context.Context, RetainedRequest) (Retained, error) {
	return Retained{}, nil
}
