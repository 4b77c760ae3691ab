package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// oracle is an authentication server: it writes down what it is asked and
// answers what the test says.
type oracle struct {
	*httptest.Server
	asked atomic.Int32

	mu   sync.Mutex
	last map[string]any // guarded by mu
	say  func(w http.ResponseWriter, r *http.Request)
}

func newOracle(t *testing.T, say func(http.ResponseWriter, *http.Request)) *oracle {
	o := &oracle{say: say}
	o.Server = httptest.NewServer(http.HandlerFunc(o.serve))
	t.Cleanup(o.Close)
	return o
}

func (o *oracle) serve(w http.ResponseWriter, r *http.Request) {
	var q map[string]any
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || json.NewDecoder(r.Body).Decode(&q) != nil {
		http.Error(w, "no question", http.StatusBadRequest)
		return
	}
	o.mu.Lock()
	o.last = q
	o.mu.Unlock()
	o.asked.Add(1)
	o.say(w, r)
}

func says(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

func TestCallbackAnswers(t *testing.T) {
	status := func(code int) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(`{"result":"allow"}`))
		}
	}
	for _, c := range []struct {
		name string
		say  func(http.ResponseWriter, *http.Request)
		want error
		text string
	}{
		{"allow", says(`{"result":"allow"}`), nil, ""},
		{"deny", says(`{"result":"deny"}`), ErrRefused, "by http://127"},
		{"ignore", says(`{"result":"ignore"}`), ErrRefused, "no authentication method knows"},
		{"nothing", says(``), ErrUnavailable, "not the JSON"},
		{"more", says(`{"result":"allow"}{}`), ErrUnavailable, "not the JSON"},
		{"true", says(`{"result":true}`), ErrUnavailable, "not the JSON"},
		{"another result", says(`{"result":"Allow"}`), ErrUnavailable, `result "Allow", want allow, deny or ignore`},
		{"created", status(201), ErrUnavailable, "status 201"},
		{"failed", status(500), ErrUnavailable, "status 500"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusTemporaryRedirect) }, ErrUnavailable, "status 307"},
		{"flood", says(strings.Repeat(" ", maxAnswer) + `{"result":"allow"}`), ErrUnavailable, "answer of more than 65536 bytes"},
		{"bad acl", says(`{"result":"allow","acl":[{"action":"allow","publish":["a#"]}]}`), ErrUnavailable, "acl: access rule"},
		{"bad attributes", says(`{"result":"allow","attributes":[]}`), ErrUnavailable, "attributes: want an object"},
		{"cut", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(`{"result":"allow"}`))
		}, ErrUnavailable, "unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, o := newFixture(t), newOracle(t, c.say)
			a := f.auth(Config{HTTP: HTTP{URL: o.URL, Cache: Duration(time.Minute)}})
			for range 2 {
				_, err := a.Chain.Authenticate(t.Context(), user("alice", "x"))
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || err != nil && !strings.Contains(err.Error(), c.text) {
					t.Errorf("got %v, want %q", err, c.text)
				}
			}
			if got := o.asked.Load(); errors.Is(c.want, ErrUnavailable) != (got == 2) {
				t.Errorf("asked %d times: answers are kept, failures are not", got)
			}
		})
	}
}

func TestCallbackIdentityAndQuestion(t *testing.T) {
	f := newFixture(t)
	o := newOracle(t, says(`{"result":"allow","user":"ALICE","attributes":{"site":"x"},"acl":[{"action":"allow","publish":["${user}/${attr.site}"]}]}`))
	a := f.auth(Config{HTTP: HTTP{URL: o.URL}})
	id, err := a.Chain.Authenticate(t.Context(), Client{ID: "c", User: "alice", HasUser: true, Password: []byte("p\xff"), Names: []string{"n"}, Remote: "192.0.2.7:1234", Transport: "tls"})
	if err != nil {
		t.Fatal(err)
	}
	if id.User != "ALICE" || id.Client != "c" || !a.Rules.Allow(id, "ALICE/x", true) || a.Rules.Allow(id, "alice/x", true) {
		t.Errorf("got %+v", id)
	}
	got, err := json.Marshal(o.last)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"client":"c","names":["n"],"password_base64":"` + base64.StdEncoding.EncodeToString([]byte("p\xff")) + `","remote":"192.0.2.7:1234","transport":"tls","user":"alice"}`
	if string(got) != want {
		t.Errorf("asked %s\nwant  %s", got, want)
	}
}

func TestCallbackCache(t *testing.T) {
	f, o := newFixture(t), newOracle(t, says(`{"result":"allow"}`))
	a := f.auth(Config{HTTP: HTTP{URL: o.URL, Cache: Duration(time.Minute), CacheEntries: 2}})
	ask := func(c Client, want int32) {
		t.Helper()
		if _, err := a.Chain.Authenticate(t.Context(), c); err != nil || o.asked.Load() != want {
			t.Errorf("asked %d times, want %d: %v", o.asked.Load(), want, err)
		}
	}
	one := user("alice", "x")
	one.Remote = "192.0.2.7:1"
	ask(one, 1)
	one.Remote = "192.0.2.7:2" // another port is the same place
	ask(one, 1)
	f.total("farhop_mqtt_auth_callback_total{result=cached} 1")
	f.advance(time.Minute)
	ask(one, 2)
	other := one
	other.Remote = "192.0.2.8:2"
	ask(other, 3)
	other.Password = []byte("y")
	ask(other, 4) // in place of the oldest
	ask(one, 5)
	ask(other, 5)
	if c := a.http.cache; len(c.entries) != 2 || len(c.oldest) != 2 {
		t.Errorf("%d entries, %d keys", len(c.entries), len(c.oldest))
	}
	f.total("farhop_mqtt_auth_callback_total{result=answered} 5")
}

func TestCallbackUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	l.Close()
	for _, c := range []struct {
		unreachable string
		password    string
		want        error
	}{
		{"", "x", ErrUnavailable},
		{RefuseAll, "x", ErrUnavailable},
		{Ignore, "x", ErrRefused}, // nobody else knows the client
	} {
		f := newFixture(t)
		a := f.auth(Config{HTTP: HTTP{URL: url, Unreachable: c.unreachable}})
		if _, err := a.Chain.Authenticate(t.Context(), user("alice", c.password)); !errors.Is(err, c.want) {
			t.Errorf("%q: %v, want %v", c.unreachable, err, c.want)
		}
		f.total("farhop_mqtt_auth_callback_total{result=failed} 1")
		if f.logged("gave no answer") != 1 {
			t.Error("the operator hears nothing of it")
		}
	}
}

// TestCallbackLimits asks a server that does not answer yet: no more than two
// questions reach it, and those who wait go when their client does.
func TestCallbackLimits(t *testing.T) {
	hold, held := make(chan struct{}), make(chan struct{}, 2)
	o := newOracle(t, func(w http.ResponseWriter, _ *http.Request) {
		held <- struct{}{}
		<-hold
		_, _ = w.Write([]byte(`{"result":"allow"}`))
	})
	f := newFixture(t)
	a := f.auth(Config{HTTP: HTTP{URL: o.URL, MaxInFlight: 2, Timeout: Duration(time.Minute)}})
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			if _, err := a.Chain.Authenticate(t.Context(), user(string(rune('a'+i)), "x")); err != nil {
				t.Error(err)
			}
		})
	}
	<-held
	<-held
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Chain.Authenticate(gone, user("c", "x")); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "2 questions are under way") {
		t.Errorf("the third: %v", err)
	}
	close(hold)
	wg.Wait()
	if n := o.asked.Load(); n != 2 {
		t.Errorf("the server was asked %d times", n)
	}
}

func TestCallbackTimeout(t *testing.T) {
	hold := make(chan struct{})
	o := newOracle(t, func(http.ResponseWriter, *http.Request) { <-hold })
	defer close(hold)
	a := newFixture(t).auth(Config{HTTP: HTTP{URL: o.URL, Timeout: Duration(20 * time.Millisecond)}})
	if _, err := a.Chain.Authenticate(t.Context(), user("a", "x")); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no answer within 20ms") {
		t.Errorf("got %v", err)
	}
}

func TestCallbackTLS(t *testing.T) {
	o := &oracle{say: says(`{"result":"allow"}`)}
	o.Server = httptest.NewTLSServer(http.HandlerFunc(o.serve))
	t.Cleanup(o.Close)
	f := newFixture(t)
	ca := f.file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.Certificate().Raw})))
	if _, err := f.auth(Config{HTTP: HTTP{URL: o.URL, CA: ca}}).Chain.Authenticate(t.Context(), user("a", "x")); err != nil {
		t.Errorf("with its CA: %v", err)
	}
	if _, err := newFixture(t).auth(Config{HTTP: HTTP{URL: o.URL}}).Chain.Authenticate(t.Context(), user("a", "x")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without its CA: %v", err)
	}
	if _, err := New(Config{HTTP: HTTP{URL: o.URL, CA: f.file("none.pem", "x")}}, Deps{}); err == nil || !strings.Contains(err.Error(), "no certificate in it") {
		t.Errorf("a CA file without one: %v", err)
	}
}
