package auth

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestClaims(t *testing.T) {
	s := newSigner(t)
	now := newFixture(t).now.Unix()
	with := func(more object) object {
		c := object{"sub": "alice", "exp": now + 60}
		maps.Copy(c, more)
		return c
	}
	strict := JWT{Issuer: "acme", Audience: "mqtt", ClientClaim: "devices", UserClaim: "name", Leeway: Duration(10 * time.Second)}
	ok := object{"iss": "acme", "aud": []string{"x", "mqtt"}, "devices": "c", "name": "bob"}
	but := func(more object) object {
		c := with(ok)
		maps.Copy(c, more)
		return c
	}
	for _, c := range []struct {
		name   string
		cfg    JWT
		claims object
		want   error
		text   string
	}{
		{"plain", JWT{}, with(nil), nil, ""},
		{"no exp", JWT{}, object{"sub": "a"}, ErrRefused, "never expires"},
		{"no exp, endless", JWT{Endless: true}, object{"sub": "a"}, nil, ""},
		{"expired", JWT{}, with(object{"exp": now}), ErrRefused, "expired at 2027-01-15T08:00:00Z"},
		{"within leeway", strict, but(object{"exp": float64(now) - 9.5}), nil, ""},
		{"beyond leeway", strict, but(object{"exp": now - 10}), ErrRefused, "expired"},
		{"expired and endless", JWT{Endless: true}, with(object{"exp": now}), ErrRefused, "expired"},
		{"exp as text", JWT{}, with(object{"exp": "tomorrow"}), ErrRefused, "claim exp is no time"},
		{"exp null", JWT{Endless: true}, with(object{"exp": nil}), ErrRefused, "claim exp is no time"},
		{"exp beyond all time", JWT{}, with(object{"exp": 1e300}), ErrRefused, "claim exp is no time"},
		{"Exp is not exp", JWT{}, object{"sub": "a", "Exp": now + 60}, ErrRefused, "never expires"},
		{"not yet", JWT{}, with(object{"nbf": now + 1}), ErrRefused, "not valid before"},
		{"soon", strict, but(object{"nbf": now + 10}), nil, ""},
		{"from the future", JWT{}, with(object{"iat": now + 1}), ErrRefused, "issued in the future"},
		{"issued now", JWT{}, with(object{"iat": now, "nbf": now}), nil, ""},
		{"all", strict, but(nil), nil, ""},
		{"issuer", strict, but(object{"iss": "acme2"}), ErrRefused, `issuer "acme2", want "acme"`},
		{"no issuer", strict, object{"exp": now + 60, "aud": "mqtt", "devices": "c"}, ErrRefused, "issuer"},
		{"audience", strict, but(object{"aud": "web"}), ErrRefused, `audience ["web"], want "mqtt"`},
		{"no audience", strict, but(object{"aud": []string{}}), ErrRefused, "audience"},
		{"audience of others", JWT{}, with(object{"aud": "web"}), ErrRefused, "auth.jwt.audience"},
		{"client of a list", strict, but(object{"devices": []string{"b", "c"}}), nil, ""},
		{"another client", strict, but(object{"devices": []string{"b", "cc"}}), ErrNotAuthorized, `client id "c" is not in claim devices`},
		{"no client", strict, but(object{"devices": []string{}}), ErrNotAuthorized, "client id"},
		{"client of a number", strict, but(object{"devices": 7}), ErrNotAuthorized, "claim devices is neither"},
		{"user of a number", JWT{}, with(object{"sub": 7}), ErrRefused, "claim sub is no string"},
		{"long user", JWT{}, with(object{"sub": strings.Repeat("u", 257)}), ErrRefused, "claim sub"},
		{"attributes as list", JWT{}, with(object{"attr": []string{"a"}}), ErrRefused, "claim attr"},
		{"attribute as list", JWT{}, with(object{"attr": object{"a": []string{}}}), ErrRefused, `attribute "a" is no text`},
		{"empty acl", JWT{}, with(object{"acl": []object{}}), ErrRefused, "claim acl: the list of rules is empty"},
		{"null acl", JWT{}, with(object{"acl": nil}), ErrRefused, "claim acl: the list of rules is empty"},
		{"misspelt acl", JWT{}, with(object{"acl": []object{{"action": "allow", "pubish": []string{"a"}}}}), ErrRefused, "claim acl"},
		{"bad filter", JWT{}, with(object{"acl": []object{{"action": "allow", "publish": []string{"a#"}}}}), ErrRefused, `access rule "own rule 1": publish: filter "a#"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			c.cfg.Keys = f.file("secret", string(s.secret))
			a := f.auth(Config{JWT: c.cfg})
			_, err := f.token(a, s.sign(t, object{"alg": "HS256"}, c.claims))
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %q", err, c.text)
			}
		})
	}
}

func TestTokenIdentity(t *testing.T) {
	f, s := newFixture(t), newSigner(t)
	a := f.auth(Config{
		JWT:    JWT{Keys: f.file("secret", string(s.secret)), Leeway: Duration(time.Minute)},
		Users:  f.file("users", "bob:"+cheap(t, "a.b.c")),
		Access: []Rule{{Action: 2, From: []string{"*"}, MQTT: RuleMQTT{Publish: []string{"plant/safe"}}}},
	})
	id, err := f.token(a, s.sign(t, object{"alg": "HS512"}, object{
		"sub": "alice", "exp": f.now.Unix() + 60,
		"attr": object{"site": "hall-3", "floor": 2, "night": true},
		"acl": []object{
			{"action": "allow", "publish": []string{"plant/#", "site/${attr.site}/#"}, "subscribe": []string{"cmd/${user}"}},
			{"action": "deny", "publish": []string{"plant/x"}},
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if !id.Expires.Equal(f.now.Add(2 * time.Minute)) {
		t.Errorf("expires %s", id.Expires)
	}
	if got := slices.Sorted(maps.Keys(id.Attributes)); id.User != "alice" || !slices.Equal(got, []string{"floor", "night", "site"}) || id.Attributes["floor"] != "2" || id.Attributes["night"] != "true" {
		t.Errorf("got %q %q", id.User, id.Attributes)
	}
	for topic, want := range map[string]bool{"plant/1": true, "plant/x": false, "plant/safe": false, "site/hall-3/a": true, "site/hall-4/a": false, "other": false} {
		if got := a.Rules.Allow(id, topic, true); got != want {
			t.Errorf("publish %s: %v", topic, got)
		}
	}
	if !a.Rules.Allow(id, "cmd/alice", false) || a.Rules.Allow(id, "cmd/+", false) {
		t.Error("subscriptions are not those of the token")
	}
	// A password that only looks a little like a token is a password.
	if id, err := a.Chain.Authenticate(t.Context(), user("bob", "a.b.c")); err != nil || id.User != "bob" {
		t.Errorf("bob: %v", err)
	}
	if _, err := f.token(a, s.sign(t, object{"alg": "HS256"}, object{"exp": f.now.Unix() + 60, "pad": strings.Repeat("x", maxToken)})); !errors.Is(err, ErrRefused) {
		t.Errorf("a long token: %v", err)
	}
}
