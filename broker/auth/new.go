package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/routing/policy"
)

// Deps is what an Auth needs of its surroundings.
type Deps struct {
	Now        func() time.Time      // nil = time.Now
	Log        *slog.Logger          // nil = silent
	Registerer prometheus.Registerer // nil = not registered
}

// Auth is what a Config makes.
type Auth struct {
	Chain    Chain
	Enhanced Enhanced // nil where no authentication method is configured
	Rules    *Rules

	files []file
	http  *callback // nil if there is none
}

// file is a watched file, whatever is in it.
type file interface {
	open() error
	check()
	reload() error
}

// New checks the configuration, reads its files and builds what it says. Close
// what it returns.
func New(c Config, d Deps) (*Auth, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(d.Registerer)
	if err != nil {
		return nil, err
	}
	a := &Auth{}
	if a.Rules, err = a.newRules(c, d, m); err != nil {
		return nil, err
	}
	if err := a.newChain(c, d, m); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Auth) newChain(c Config, d Deps, m *metrics) error {
	add := func(method string, one Authenticator) {
		a.Chain = append(a.Chain, counted{method, one, m.attempts})
	}
	if c.MTLS.Enabled {
		add("mtls", mtls{sameID: c.MTLS.ClientID == "name", asUser: c.MTLS.User})
	}
	if c.JWT.Keys != "" {
		f := watch(d, m, "jwt", c.JWT.Keys, maxKeyFile, parseKeys)
		if err := a.open("jwt.keys", f); err != nil {
			return err
		}
		add("jwt", &tokens{c.JWT, f, d.Now})
	}
	if c.Users != "" {
		f := watch(d, m, "users", c.Users, maxUsersFile, parsePasswords)
		if err := a.open("users", f); err != nil {
			return err
		}
		u, err := newUsers(f)
		if err != nil {
			return err
		}
		add("users", u)
	}
	if c.HTTP.URL != "" {
		var err error
		if a.http, err = newCallback(c.HTTP, d, m.callback); err != nil {
			return fmt.Errorf("http: %w", err)
		}
		add("http", a.http)
		if len(c.HTTP.Methods) > 0 {
			a.Enhanced = &exchanges{a.http, m.attempts}
		}
	}
	if c.Anonymous {
		add("anonymous", anonymous{passwords: c.passwords()})
	}
	return nil
}

func (a *Auth) newRules(c Config, d Deps, m *metrics) (*Rules, error) {
	fixed := c.rules()
	if c.ACL == "" {
		s, err := newRuleset(fixed)
		return &Rules{fixed: s, metrics: m}, err
	}
	f := watch(d, m, "acl", c.ACL, maxACLFile, func(name string, data []byte) (*ruleset, error) {
		more, err := parseACL(name, data)
		if err != nil {
			return nil, err
		}
		if len(fixed)+len(more) == 0 { // an ACL file that holds nothing was not meant to allow everything
			more = []policy.AccessRule{{Name: name + " is empty", Action: policy.Deny, From: []string{"*"}, Publish: []string{"#"}, Subscribe: []string{"#"}}}
		}
		return newRuleset(slices.Concat(fixed, more))
	})
	return &Rules{file: f, metrics: m}, a.open("acl", f)
}

func watch[T any](d Deps, m *metrics, use, path string, limit int64, parse func(string, []byte) (*T, error)) *watched[T] {
	return &watched[T]{use: use, path: path, limit: limit, parse: parse, now: d.Now, log: d.Log, count: m.reloads}
}

func (a *Auth) open(field string, f file) error {
	if err := f.open(); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	a.files = append(a.files, f)
	return nil
}

// Reload reads all files again, now. Those that cannot be used are in the
// error, and what was read before stays in force.
func (a *Auth) Reload() error {
	var errs []error
	for _, f := range a.files {
		errs = append(errs, f.reload())
	}
	return errors.Join(errs...)
}

// Run looks once a second whether files changed, until ctx ends. Clients that
// come in see changes without it; rules for those who are in need it.
func (a *Auth) Run(ctx context.Context) error {
	t := time.NewTicker(checkEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			for _, f := range a.files {
				f.check()
			}
		}
	}
}

// Close ends idle connections. Nothing may be asked afterwards.
func (a *Auth) Close() {
	if a.http != nil {
		a.http.client.CloseIdleConnections()
	}
}
