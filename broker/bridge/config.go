package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is one bridge. The zero value of a field means its default where one
// is named.
type Config struct {
	// Name tells this bridge from others of the node: in logs, as the metrics'
	// label and in the client id.
	Name string `yaml:"name"`
	// Domain names the local side: the same at every bridge of one mesh or
	// broker, and at no other. Messages carry the domains they have been in.
	Domain string `yaml:"domain"`
	Remote Remote `yaml:"remote"`
	Local  Login  `yaml:"local"`
	Rules  []Rule `yaml:"rules"`
	// Share makes the subscriptions at both brokers shared ones of this group,
	// so that several bridges stand beside each other and each message takes
	// one of them.
	Share string `yaml:"share"`

	Window         int           `yaml:"window"`          // messages under way unacknowledged, each way, 1 to 65535; default from the measured round trip
	Rate           int           `yaml:"rate"`            // messages/s a window is to sustain; default 20,000
	KeepAlive      time.Duration `yaml:"keepalive"`       // longest silence on a connection; default 60 s, less on short round trips
	RetryMin       time.Duration `yaml:"retry_min"`       // shortest pause between attempts; default from the round trip
	RetryMax       time.Duration `yaml:"retry_max"`       // longest pause between attempts; default 60 s
	ConnectTimeout time.Duration `yaml:"connect_timeout"` // for one attempt; default 30 s
	MaxPacket      int           `yaml:"max_packet"`      // bytes of one packet, either way; default 1 MiB + 64 KiB
	Buffer         int           `yaml:"buffer"`          // bytes waiting for one socket; default 8 MiB
	Remember       int           `yaml:"remember"`        // messages each table of identities holds; default 65,536
	RememberFor    time.Duration `yaml:"remember_for"`    // how long it holds them; default 10 min
}

// Login is who the bridge is at a broker.
type Login struct {
	ClientID     string `yaml:"client_id"` // default farhop-NAME, or farhop-NAME-NODE where the node is known
	Username     string `yaml:"username"`
	Password     string `yaml:"password"`
	PasswordFile string `yaml:"password_file"` // read at each connect; instead of Password
}

// Remote is the other broker or cluster.
type Remote struct {
	URL    string `yaml:"url"`    // mqtt://, mqtts://, ws:// or wss://HOST[:PORT][/PATH]
	Domain string `yaml:"domain"` // its name among domains; default the URL's host and port
	// Version is auto (MQTT 5, and 3.1.1 where that is refused), 5 or 3.1.1.
	Version string `yaml:"version"`
	Login   `yaml:",inline"`
	TLS     TLS `yaml:"tls"`
	// MaxQoS is the most the remote takes where it does not say so itself
	// (MQTT 3.1.1); default 2.
	MaxQoS *int `yaml:"max_qos"`
	// Inflight is how many unacknowledged messages a remote takes that does
	// not say so itself; default the window.
	Inflight int `yaml:"inflight"`
	// MaxPacket is the largest packet it takes, in bytes, where it does not
	// say so itself; default Config.MaxPacket.
	MaxPacket int `yaml:"max_packet"`
	// Mosquitto marks an MQTT 3.1.1 connection as a bridge's in Mosquitto's
	// own way, bit 7 of the protocol version: it then sends no message back
	// and keeps the retain flag.
	Mosquitto bool `yaml:"mosquitto"`
}

// TLS is for mqtts:// and wss://. The files are PEM and are read at each
// connect, so that renewed ones are used.
type TLS struct {
	CA         string   `yaml:"ca"`          // default the system's roots
	Cert       string   `yaml:"cert"`        // client certificate
	Key        string   `yaml:"key"`         // its key
	ServerName string   `yaml:"server_name"` // default the URL's host
	ALPN       []string `yaml:"alpn"`        // such as x-amzn-mqtt-ca
}

// Rule carries the topics of a filter over the bridge. The filter stands
// behind the prefix of either side: a/# with the local prefix x/ and none
// remote carries x/a/# here to and from a/# there.
type Rule struct {
	Direction    string `yaml:"direction"` // out (local to remote), in, or both
	Filter       string `yaml:"filter"`
	LocalPrefix  string `yaml:"local_prefix"`
	RemotePrefix string `yaml:"remote_prefix"`
	QoS          *int   `yaml:"qos"` // the most that is kept; default 2
}

// Deps are what a bridge is given by its node.
type Deps struct {
	// Local opens a connection to the local broker, which must speak MQTT 5.
	Local func(ctx context.Context) (net.Conn, error)
	// Session tells the filters of this client's session at the local broker,
	// and whether there is one; nil: nobody knows, and the bridge makes its
	// session with its first link.
	Session func(ctx context.Context, client string) (filters []string, there bool, err error)
	Node    string                // part of the default client id; "" = none
	Log     *slog.Logger          // nil = silent
	Reg     prometheus.Registerer // nil = not registered
}

// Versions of MQTT as configured.
const (
	Auto = "auto"
	V5   = "5"
	V311 = "3.1.1"
)

// Directions of a Rule.
const (
	Out  = "out"
	In   = "in"
	Both = "both"
)

func (c Config) withDefaults(node string) Config {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	long := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	set(&c.Rate, 20_000)
	set(&c.MaxPacket, 1<<20+64<<10)
	set(&c.Buffer, 8<<20)
	set(&c.Remember, 65_536)
	set(&c.Remote.MaxPacket, c.MaxPacket)
	long(&c.KeepAlive, time.Minute)
	long(&c.RetryMax, time.Minute)
	long(&c.ConnectTimeout, 30*time.Second)
	long(&c.RememberFor, 10*time.Minute)
	if c.Remote.Version == "" {
		c.Remote.Version = Auto
	}
	id := "farhop-" + c.Name
	if node != "" {
		id += "-" + node
	}
	if c.Remote.ClientID == "" {
		c.Remote.ClientID = id
	}
	if c.Local.ClientID == "" {
		c.Local.ClientID = id
	}
	if u, err := url.Parse(c.Remote.URL); err == nil && c.Remote.Domain == "" {
		c.Remote.Domain = hostPort(u)
	}
	return c
}

// errShared is why a group needs user properties where rules come back: another
// bridge of the group takes what this one carried over, and no-local is not
// for shared subscriptions ([MQTT-3.8.3-4]).
var errShared = errors.New("rules that bring back what went out need MQTT 5 at the remote: without user properties another bridge of the group cannot know what went out here, and it would go round for ever; use remote.version 5, rules that share no topic, or no share")

// hostPort is where a URL leads, with the port its scheme implies.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

var (
	names   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	domains = regexp.MustCompile(`^[A-Za-z0-9\[][A-Za-z0-9.:_\[\]/-]{0,127}$`)
)

// Validate reports every fault of the configuration, each with its field.
func (c Config) Validate() error {
	c = c.withDefaults("")
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !names.MatchString(c.Name) {
		bad("name %q: want 1 to 64 letters, digits, dots, underscores and hyphens", c.Name)
	}
	switch {
	case !domains.MatchString(c.Domain):
		bad("domain %q: name the local side as every bridge beside this one does, such as the name of the mesh", c.Domain)
	case c.Domain == c.Remote.Domain:
		bad("remote.domain %q: is the local domain too, so nothing would pass; name the remote otherwise", c.Remote.Domain)
	}
	if strings.ContainsAny(c.Share, "/+#") {
		bad("share %q: a group has no slash, plus or number sign", c.Share)
	}
	if c.Share != "" && c.Remote.Version == V311 && overlapping(c.Rules) {
		bad("share %q: %w", c.Share, errShared)
	}
	number := func(name string, v, low, high int) {
		if v < low || v > high {
			bad("%s %d: want %d to %d", name, v, low, high)
		}
	}
	number("window", c.Window, 0, math.MaxUint16)
	number("rate", c.Rate, 1, 10_000_000)
	number("max_packet", c.MaxPacket, 128, 256<<20)
	number("buffer", c.Buffer, 64<<10, 1<<30)
	number("remember", c.Remember, 16, 1<<24)
	length := func(name string, v, low, high time.Duration) {
		if v < low || v > high {
			bad("%s %s: want %s to %s", name, v, low, high)
		}
	}
	length("keepalive", c.KeepAlive, 5*time.Second, 18*time.Hour)
	length("retry_min", c.RetryMin, 0, c.RetryMax)
	length("retry_max", c.RetryMax, 100*time.Millisecond, 24*time.Hour)
	length("connect_timeout", c.ConnectTimeout, time.Second, time.Hour)
	length("remember_for", c.RememberFor, time.Second, 30*24*time.Hour)
	errs = append(errs, c.Remote.validate()...)
	errs = append(errs, c.Local.validate("local")...)
	errs = append(errs, checkRules(c.Rules)...)
	return errors.Join(errs...)
}

func (r Remote) validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	u, err := url.Parse(r.URL)
	switch {
	case err != nil:
		bad("remote.url: %w", err)
	case !slices.Contains([]string{"mqtt", "mqtts", "ws", "wss"}, u.Scheme) || u.Hostname() == "":
		bad("remote.url %q: write mqtt://, mqtts://, ws:// or wss://HOST:PORT", u.Redacted())
	case u.User != nil:
		bad("remote.url %q: put the user into remote.username and the password into remote.password_file", u.Redacted())
	case (u.Scheme == "mqtt" || u.Scheme == "ws") && (r.TLS.CA != "" || r.TLS.Cert != "" || r.TLS.Key != ""):
		bad("remote.tls: the URL is %s://, which is not encrypted; write mqtts:// or wss://", u.Scheme)
	}
	if (r.TLS.Cert == "") != (r.TLS.Key == "") {
		bad("remote.tls: cert and key belong together")
	}
	if !domains.MatchString(r.Domain) {
		bad("remote.domain %q: want letters, digits and . : _ / -", r.Domain)
	}
	if !slices.Contains([]string{Auto, V5, V311}, r.Version) {
		bad("remote.version %q: want auto, 5 or 3.1.1", r.Version)
	}
	if r.Mosquitto && r.Version != V311 {
		bad("remote.mosquitto: is for version 3.1.1; MQTT 5 has no-local for it")
	}
	if r.MaxQoS != nil && (*r.MaxQoS < 0 || *r.MaxQoS > 2) {
		bad("remote.max_qos %d: want 0 to 2", *r.MaxQoS)
	}
	if r.Inflight < 0 || r.Inflight > math.MaxUint16 {
		bad("remote.inflight %d: want 0 to 65535", r.Inflight)
	}
	if r.MaxPacket < 128 || r.MaxPacket > 256<<20 {
		bad("remote.max_packet %d: want 128 to %d", r.MaxPacket, 256<<20)
	}
	return append(errs, r.Login.validate("remote")...)
}

func (l Login) validate(where string) []error {
	var errs []error
	if l.Password != "" && l.PasswordFile != "" {
		errs = append(errs, fmt.Errorf("%s.password and %s.password_file: give one of them", where, where))
	}
	if len(l.ClientID) > math.MaxUint16 || len(l.Username) > math.MaxUint16 || len(l.Password) > math.MaxUint16 {
		errs = append(errs, fmt.Errorf("%s: client_id, username or password is longer than 65,535 bytes", where))
	}
	return errs
}
