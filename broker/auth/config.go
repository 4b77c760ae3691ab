package auth

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/farhop/farhop/routing/policy"
)

// Config says who may come in and what they may do. The names in a file are
// those of the json tags. The zero Config lets nobody in. Clients are tried by
// certificate, token, password file and HTTP server, in this order, as far as
// they are configured.
type Config struct {
	// Anonymous lets in those who bring neither user name nor password; where
	// no method asks for a password, also those who do, without their name.
	Anonymous bool   `json:"anonymous"`
	Users     string `json:"users,omitempty"` // password file, "" for none
	MTLS      MTLS   `json:"mtls,omitzero"`
	JWT       JWT    `json:"jwt,omitzero"`
	HTTP      HTTP   `json:"http,omitzero"`
	ACL       string `json:"acl,omitempty"`    // file of access rules, "" for none
	Access    []Rule `json:"access,omitempty"` // access rules besides; with none at all everything is allowed
}

// MTLS lets in those whose certificate the listener verified.
type MTLS struct {
	Enabled  bool   `json:"enabled"`
	ClientID string `json:"client_id,omitempty"` // "any" (default) or "name": one of the certificate's names, of a SPIFFE id its last part
	User     bool   `json:"user,omitzero"`       // rules know the first of its names as the user, too
}

// JWT lets in those who bring a signed token for a password. It is on when
// Keys is set.
type JWT struct {
	Keys     string   `json:"keys,omitempty"`     // file: JWKS, PEM or one secret
	Issuer   string   `json:"issuer,omitempty"`   // must be iss, "" for any
	Audience string   `json:"audience,omitempty"` // must be in aud; "" takes tokens without aud only
	Leeway   Duration `json:"leeway,omitzero"`    // how far clocks may be apart
	Endless  bool     `json:"endless,omitzero"`   // takes tokens that never expire

	UserClaim   string `json:"user_claim,omitempty"`       // default sub
	ClientClaim string `json:"client_claim,omitempty"`     // has the client id or a list of them, "" to take any
	AttrClaim   string `json:"attributes_claim,omitempty"` // object of attributes, default attr
	ACLClaim    string `json:"acl_claim,omitempty"`        // list of rules, default acl
}

func (j JWT) userClaim() string { return orDefault(j.UserClaim, "sub") }
func (j JWT) attrClaim() string { return orDefault(j.AttrClaim, "attr") }
func (j JWT) aclClaim() string  { return orDefault(j.ACLClaim, "acl") }

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// Choices of HTTP.Unreachable.
const (
	RefuseAll = "deny"   // nobody comes in this way until the server answers
	Ignore    = "ignore" // as if the server did not know the client
)

// HTTP asks a server. It is on when URL is set.
type HTTP struct {
	URL          string   `json:"url,omitempty"`
	CA           string   `json:"ca,omitempty"` // PEM file of who signed the server's certificate, "" for the system's
	Plain        bool     `json:"plain,omitzero"`
	Timeout      Duration `json:"timeout,omitzero"`       // default 5s
	MaxInFlight  int      `json:"max_in_flight,omitzero"` // default 16
	Cache        Duration `json:"cache,omitzero"`         // how long an answer holds, 0 to ask each time
	CacheEntries int      `json:"cache_entries,omitzero"` // default 10,000
	Unreachable  string   `json:"unreachable,omitempty"`  // RefuseAll (default) or Ignore
	// Methods are the authentication methods of MQTT 5 that the server sees
	// through, round by round; clients that name another one are refused.
	Methods []string `json:"methods,omitempty"`
}

func (h HTTP) withDefaults() HTTP {
	if h.Timeout == 0 {
		h.Timeout = Duration(5 * time.Second)
	}
	if h.MaxInFlight == 0 {
		h.MaxInFlight = 16
	}
	if h.CacheEntries == 0 {
		h.CacheEntries = 10_000
	}
	if h.Cache == 0 {
		h.CacheEntries = 0
	}
	if h.Unreachable == "" {
		h.Unreachable = RefuseAll
	}
	return h
}

// Rule is the written form of a policy.AccessRule.
type Rule struct {
	Name   string        `json:"name,omitempty"` // "" for access rule N
	Action policy.Action `json:"action"`
	From   []string      `json:"from"`
	MQTT   RuleMQTT      `json:"mqtt"`
}

// RuleMQTT are the topics of a Rule.
type RuleMQTT struct {
	Publish   []string `json:"publish,omitempty"`
	Subscribe []string `json:"subscribe,omitempty"`
}

// rules returns the access rules in the form package policy takes.
func (c Config) rules() []policy.AccessRule {
	out := make([]policy.AccessRule, len(c.Access))
	for i, r := range c.Access {
		out[i] = policy.AccessRule{Name: r.Name, Action: r.Action, From: r.From, Publish: r.MQTT.Publish, Subscribe: r.MQTT.Subscribe}
		if r.Name == "" {
			out[i].Name = fmt.Sprintf("access rule %d", i+1)
		}
	}
	return out
}

// WithPaths returns c with path applied to all names of files.
func (c Config) WithPaths(path func(string) string) Config {
	for _, p := range []*string{&c.Users, &c.JWT.Keys, &c.HTTP.CA, &c.ACL} {
		if *p != "" {
			*p = path(*p)
		}
	}
	return c
}

// Guarded reports whether strangers are kept out.
func (c Config) Guarded() bool { return !c.Anonymous && (c.passwords() || c.MTLS.Enabled) }

// passwords reports whether some method takes a password.
func (c Config) passwords() bool { return c.Users != "" || c.JWT.Keys != "" || c.HTTP.URL != "" }

// Fault is one thing wrong with a Config.
type Fault struct {
	Field   string // such as http.url or access[0].from
	Problem string // what is wrong; what to do
}

// Error returns FIELD: PROBLEM.
func (f Fault) Error() string { return f.Field + ": " + f.Problem }

// Validate says what is wrong with c, joining every Fault. It opens no file.
func (c Config) Validate() error {
	var errs []error
	for _, f := range c.Faults() {
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

const (
	maxLeeway   = time.Hour
	maxTimeout  = 10 * time.Minute
	maxCache    = 24 * time.Hour
	maxInFlight = 1024
	maxEntries  = 1_000_000
)

// Faults returns all that Validate joins.
func (c Config) Faults() []Fault {
	var faults []Fault
	add := func(field, format string, args ...any) {
		faults = append(faults, Fault{field, fmt.Sprintf(format, args...)})
	}
	if c.MTLS.ClientID != "" && c.MTLS.ClientID != "any" && c.MTLS.ClientID != "name" {
		add("mtls.client_id", "unknown value %.40q; write any or name", c.MTLS.ClientID)
	}
	if !c.MTLS.Enabled && c.MTLS != (MTLS{}) {
		add("mtls", "is not enabled; set enabled: true or remove the rest")
	}
	if c.JWT.Keys == "" && c.JWT != (JWT{}) {
		add("jwt.keys", "is missing; write the file with the keys of who issues the tokens")
	}
	if c.JWT.Leeway < 0 || time.Duration(c.JWT.Leeway) > maxLeeway {
		add("jwt.leeway", "%s, want 0s to %s", c.JWT.Leeway, maxLeeway)
	}
	c.HTTP.check(func(field, format string, args ...any) { add("http."+field, format, args...) })
	for _, f := range policy.CheckAccess(c.rules()) {
		field := fmt.Sprintf("access[%d]", f.Index)
		switch f.Field {
		case "publish", "subscribe":
			field += ".mqtt." + f.Field
		case "":
		default:
			field += "." + f.Field
		}
		add(field, "%s", f.Problem)
	}
	return faults
}

func (h HTTP) check(add func(field, format string, args ...any)) {
	if h.URL == "" {
		if !reflect.ValueOf(h).IsZero() {
			add("url", "is missing; write the URL to ask, such as https://auth.example/mqtt")
		}
		return
	}
	u, err := url.Parse(h.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		add("url", "%.200q is no https:// or http:// URL", h.URL)
	case u.User != nil:
		add("url", "has a password in it, which would show in logs; remove it")
	case u.Scheme == "http" && !loopback(u.Hostname()) && !h.Plain:
		add("url", "would send passwords readable to another machine; write https://, or set plain: true if the way is safe")
	}
	h = h.withDefaults()
	duration := func(field string, d Duration, most time.Duration) {
		if d < 0 || time.Duration(d) > most {
			add(field, "%s, want 0s to %s", d, most)
		}
	}
	duration("timeout", h.Timeout, maxTimeout)
	duration("cache", h.Cache, maxCache)
	if h.MaxInFlight < 1 || h.MaxInFlight > maxInFlight {
		add("max_in_flight", "%d, want 1 to %d", h.MaxInFlight, maxInFlight)
	}
	if h.CacheEntries < 0 || h.CacheEntries > maxEntries {
		add("cache_entries", "%d, want 1 to %d", h.CacheEntries, maxEntries)
	}
	h.checkMethods(add)
	if h.Unreachable != RefuseAll && h.Unreachable != Ignore {
		add("unreachable", "unknown value %.40q; write %s or %s", h.Unreachable, RefuseAll, Ignore)
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Duration is a time.Duration that is written with units: 500ms, 5s, 10m.
type Duration time.Duration

// String returns the form of package time.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	s := string(b)
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return fmt.Errorf("%.40s has no unit; write %.40ss or %.40sm", s, s, s)
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 || strings.HasPrefix(s, "+") {
		return fmt.Errorf("%.40q is not a duration; write numbers with units, such as 500ms, 5s or 10m", s)
	}
	*d = Duration(v)
	return nil
}
