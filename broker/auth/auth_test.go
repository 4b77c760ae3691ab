package auth

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/bcrypt"
)

// fixture is a folder with files, a clock and a log.
type fixture struct {
	*testing.T
	dir string
	reg *prometheus.Registry

	mu  sync.Mutex
	now time.Time    // guarded by mu
	log bytes.Buffer // guarded by mu
}

func newFixture(t *testing.T) *fixture {
	return &fixture{T: t, dir: t.TempDir(), reg: prometheus.NewRegistry(), now: time.Unix(1_800_000_000, 0)}
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

// Write implements io.Writer for the log.
func (f *fixture) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.Write(b)
}

func (f *fixture) logged(s string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Count(f.log.String(), s)
}

// file writes a file as an editor does: a new one in place of the old.
func (f *fixture) file(name, text string) string {
	f.Helper()
	p := filepath.Join(f.dir, name)
	if err := os.WriteFile(p+".new", []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
	if err := os.Rename(p+".new", p); err != nil {
		f.Fatal(err)
	}
	return p
}

func (f *fixture) auth(c Config) *Auth {
	f.Helper()
	a, err := New(c, Deps{Now: f.clock, Log: slog.New(slog.NewTextHandler(f, nil)), Registerer: f.reg})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(a.Close)
	return a
}

// total wants one counter, written NAME{LABEL=VALUE,...} COUNT.
func (f *fixture) total(text string) {
	f.Helper()
	name, _, _ := strings.Cut(text, "{")
	all, err := f.reg.Gather()
	if err != nil {
		f.Fatal(err)
	}
	var got []string
	for _, m := range all {
		if m.GetName() != name {
			continue
		}
		for _, v := range m.GetMetric() {
			var labels []string
			for _, l := range v.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			line := name + "{" + strings.Join(labels, ",") + "} " + strconv.Itoa(int(v.GetCounter().GetValue()))
			if line == text {
				return
			}
			got = append(got, line)
		}
	}
	f.Errorf("want %s, have:\n%s", text, strings.Join(got, "\n"))
}

func user(name, password string) Client {
	return Client{ID: "c", User: name, HasUser: true, Password: []byte(password)}
}

// cheap is a hash that tests can afford.
func cheap(t testing.TB, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func TestReason(t *testing.T) {
	for _, c := range []struct {
		err  error
		want byte
	}{
		{nil, 0},
		{ErrRefused, 0x86},
		{ErrNotAuthorized, 0x87},
		{ErrUnknown, 0x87},
		{ErrUnavailable, 0x88},
		{context.Canceled, 0x88},
		{errors.New("disk"), 0x88},
	} {
		if got := Reason(c.err); got != c.want {
			t.Errorf("%v: %#x, want %#x", c.err, got, c.want)
		}
	}
}

// TestChain asks chains of real methods.
func TestChain(t *testing.T) {
	f := newFixture(t)
	file := f.file("users", "alice:"+cheap(t, "secret"))
	cert := Client{ID: "plc-7", Names: []string{"spiffe://acme/dev/plc-7", "plc.acme", "Seven"}}
	with := func(c Client, id string) Client { c.ID = id; return c }
	for _, c := range []struct {
		name   string
		cfg    Config
		client Client
		want   error
		user   string
	}{
		{"nothing configured", Config{}, Client{ID: "c"}, ErrNotAuthorized, ""},
		{"nothing configured, a password", Config{}, user("alice", "secret"), ErrRefused, ""},
		{"password", Config{Users: file}, user("alice", "secret"), nil, "alice"},
		{"wrong password", Config{Users: file}, user("alice", "Secret"), ErrRefused, ""},
		{"no password", Config{Users: file}, Client{User: "alice", HasUser: true}, ErrRefused, ""},
		{"unknown user", Config{Users: file}, user("bob", "secret"), ErrRefused, ""},
		{"nobody", Config{Users: file}, Client{ID: "c"}, ErrNotAuthorized, ""},
		{"anonymous", Config{Users: file, Anonymous: true}, Client{ID: "c"}, nil, ""},
		{"anonymous, wrong password", Config{Users: file, Anonymous: true}, user("alice", "x"), ErrRefused, ""},
		{"anonymous, unknown user", Config{Users: file, Anonymous: true}, user("bob", "x"), ErrRefused, ""},
		{"anonymous alone takes no name on trust", Config{Anonymous: true}, user("alice", "x"), nil, ""},
		{"certificate", Config{MTLS: MTLS{Enabled: true}}, with(cert, "any"), nil, ""},
		{"certificate as user", Config{MTLS: MTLS{Enabled: true, User: true}}, cert, nil, "plc-7"},
		{"certificate, wrong password", Config{MTLS: MTLS{Enabled: true}, Users: file}, Client{Names: cert.Names, User: "alice", HasUser: true}, nil, ""},
		{"no certificate", Config{MTLS: MTLS{Enabled: true}}, Client{ID: "plc-7"}, ErrNotAuthorized, ""},
		{"id of the SPIFFE id", Config{MTLS: MTLS{Enabled: true, ClientID: "name"}}, cert, nil, ""},
		{"id of the common name", Config{MTLS: MTLS{Enabled: true, ClientID: "name"}}, with(cert, "Seven"), nil, ""},
		{"id of another", Config{MTLS: MTLS{Enabled: true, ClientID: "name"}}, with(cert, "plc-8"), ErrNotAuthorized, ""},
		{"no id", Config{MTLS: MTLS{Enabled: true, ClientID: "name"}}, with(cert, ""), ErrNotAuthorized, ""},
		{"no id, and a name that ends in nothing", Config{MTLS: MTLS{Enabled: true, ClientID: "name"}}, Client{Names: []string{"spiffe://acme/"}}, ErrNotAuthorized, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newFixture(t).auth(c.cfg)
			id, err := a.Chain.Authenticate(t.Context(), c.client)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && (id.User != c.user || id.Client != c.client.ID || len(id.Names) != len(c.client.Names)) {
				t.Errorf("got %+v", id)
			}
		})
	}
}

func TestAttemptsAreCounted(t *testing.T) {
	f := newFixture(t)
	a := f.auth(Config{Users: f.file("users", "alice:"+cheap(t, "secret")), MTLS: MTLS{Enabled: true}, Anonymous: true})
	for _, c := range []Client{user("alice", "secret"), user("alice", "secret"), user("alice", "x"), {ID: "c"}, {Names: []string{"x"}}} {
		_, _ = a.Chain.Authenticate(t.Context(), c)
	}
	f.total("farhop_mqtt_auth_attempts_total{method=users,result=accepted} 2")
	f.total("farhop_mqtt_auth_attempts_total{method=users,result=refused} 1")
	f.total("farhop_mqtt_auth_attempts_total{method=users,result=unknown} 1")
	f.total("farhop_mqtt_auth_attempts_total{method=mtls,result=accepted} 1")
	f.total("farhop_mqtt_auth_attempts_total{method=anonymous,result=accepted} 1")
}
