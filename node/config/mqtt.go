package config

import (
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/farhop/farhop/routing/policy"
)

// MQTT is the broker side.
type MQTT struct {
	// Listen is the short form of a listener for plain MQTT over TCP. With it
	// "" and without Listeners there is no broker. A file that has listeners
	// and does not set it has it "".
	Listen     HostPort `json:"listen"`
	Anonymous  bool     `json:"anonymous"`       // clients without a password are let in, off loopback too
	Users      string   `json:"users,omitempty"` // password file, "" for none
	MaxPacket  Size     `json:"max_packet"`      // larger packets end the connection
	MaxClients int      `json:"max_clients"`     // connections at one time
	// ServerKeepAlive is the longest keep-alive an MQTT 5 client gets, in
	// whole seconds; 0 as it asks.
	ServerKeepAlive Duration   `json:"server_keepalive,omitzero"`
	SysInterval     Duration   `json:"sys_interval,omitzero"` // between tellings of $SYS; 0: 10 s
	Limits          Limits     `json:"limits,omitzero"`
	Listeners       []Listener `json:"listeners,omitempty"`
	Auth            Auth       `json:"auth,omitzero"`
	Bridges         []Bridge   `json:"bridges,omitempty"`
}

// Listener is one more way in for clients. Package broker/listen documents the
// fields; what is left out has its defaults.
type Listener struct {
	URL               string   `json:"url"` // tcp, tls, ws, wss, unix or quic
	Cert              string   `json:"cert,omitempty"`
	Key               string   `json:"key,omitempty"`
	ClientCA          string   `json:"client_ca,omitempty"` // who signs the certificates of clients
	RequireClientCert bool     `json:"require_client_cert,omitempty"`
	Proxy             []Prefix `json:"proxy,omitempty"`   // from where a PROXY header is required
	Origins           []string `json:"origins,omitempty"` // of pages that may open a WebSocket
	Mode              FileMode `json:"mode,omitzero"`     // of a unix socket
	HandshakeTimeout  Duration `json:"handshake_timeout,omitzero"`
	MaxHandshakes     int      `json:"max_handshakes,omitempty"`
	MaxMessage        Size     `json:"max_message,omitzero"`  // of a WebSocket
	IdleTimeout       Duration `json:"idle_timeout,omitzero"` // of QUIC
	MaxWindow         Size     `json:"max_window,omitzero"`   // of QUIC
}

// Auth says who may come in besides those in MQTT.Users, and what they may do.
// Package broker/auth documents it.
type Auth struct {
	MTLS   AuthMTLS     `json:"mtls,omitzero"`
	JWT    AuthJWT      `json:"jwt,omitzero"`
	HTTP   AuthHTTP     `json:"http,omitzero"`
	ACL    string       `json:"acl,omitempty"` // file of access rules
	Access []AccessRule `json:"access,omitempty"`
}

// AuthMTLS lets in those whose certificate a listener verified.
type AuthMTLS struct {
	Enabled  bool   `json:"enabled"`
	ClientID string `json:"client_id,omitempty"`
	User     bool   `json:"user,omitzero"`
}

// AuthJWT lets in those who bring a signed token for a password.
type AuthJWT struct {
	Keys        string   `json:"keys,omitempty"` // file
	Issuer      string   `json:"issuer,omitempty"`
	Audience    string   `json:"audience,omitempty"`
	Leeway      Duration `json:"leeway,omitzero"`
	Endless     bool     `json:"endless,omitzero"`
	UserClaim   string   `json:"user_claim,omitempty"`
	ClientClaim string   `json:"client_claim,omitempty"`
	AttrClaim   string   `json:"attributes_claim,omitempty"`
	ACLClaim    string   `json:"acl_claim,omitempty"`
}

// AuthHTTP asks a server.
type AuthHTTP struct {
	URL          string   `json:"url,omitempty"`
	CA           string   `json:"ca,omitempty"` // file
	Plain        bool     `json:"plain,omitzero"`
	Timeout      Duration `json:"timeout,omitzero"`
	MaxInFlight  int      `json:"max_in_flight,omitzero"`
	Cache        Duration `json:"cache,omitzero"`
	CacheEntries int      `json:"cache_entries,omitzero"`
	Unreachable  string   `json:"unreachable,omitempty"`
	Methods      []string `json:"methods,omitempty"`
}

// AccessRule is the written form of a policy.AccessRule.
type AccessRule struct {
	Name   string        `json:"name,omitempty"`
	Action policy.Action `json:"action"`
	From   []string      `json:"from"`
	MQTT   AccessTopics  `json:"mqtt"`
}

// AccessTopics are the topic filters of an AccessRule.
type AccessTopics struct {
	Publish   []string `json:"publish,omitempty"`
	Subscribe []string `json:"subscribe,omitempty"`
}

// Bridge carries messages to and from another broker. Package broker/bridge
// documents it.
type Bridge struct {
	Name           string       `json:"name"`
	Domain         string       `json:"domain,omitempty"` // default the id of the mesh
	Remote         BridgeRemote `json:"remote"`
	Local          BridgeLogin  `json:"local,omitzero"` // default the node's own
	Rules          []BridgeRule `json:"rules"`
	Share          string       `json:"share,omitempty"`
	Window         int          `json:"window,omitempty"`
	Rate           int          `json:"rate,omitempty"` // messages/s
	KeepAlive      Duration     `json:"keepalive,omitzero"`
	RetryMin       Duration     `json:"retry_min,omitzero"`
	RetryMax       Duration     `json:"retry_max,omitzero"`
	ConnectTimeout Duration     `json:"connect_timeout,omitzero"`
	MaxPacket      Size         `json:"max_packet,omitzero"` // default what mqtt.max_packet needs
	Buffer         Size         `json:"buffer,omitzero"`
	Remember       int          `json:"remember,omitempty"`
	RememberFor    Duration     `json:"remember_for,omitzero"`
}

// BridgeLogin is who a bridge is at a broker.
type BridgeLogin struct {
	ClientID     string `json:"client_id,omitempty"`
	Username     string `json:"username,omitempty"`
	Password     string `json:"password,omitempty"`
	PasswordFile string `json:"password_file,omitempty"`
}

// BridgeRemote is the other broker.
type BridgeRemote struct {
	URL     string `json:"url"`
	Domain  string `json:"domain,omitempty"`
	Version string `json:"version,omitempty"`
	BridgeLogin
	TLS       BridgeTLS `json:"tls,omitzero"`
	MaxQoS    *int      `json:"max_qos,omitempty"`
	Inflight  int       `json:"inflight,omitempty"`
	MaxPacket Size      `json:"max_packet,omitzero"`
	Mosquitto bool      `json:"mosquitto,omitempty"`
}

// BridgeTLS names PEM files.
type BridgeTLS struct {
	CA         string   `json:"ca,omitempty"`
	Cert       string   `json:"cert,omitempty"`
	Key        string   `json:"key,omitempty"`
	ServerName string   `json:"server_name,omitempty"`
	ALPN       []string `json:"alpn,omitempty"`
}

// BridgeRule carries the topics of a filter.
type BridgeRule struct {
	Direction    string `json:"direction"`
	Filter       string `json:"filter"`
	LocalPrefix  string `json:"local_prefix,omitempty"`
	RemotePrefix string `json:"remote_prefix,omitempty"`
	QoS          *int   `json:"qos,omitempty"`
}

// Serves reports whether the node runs a broker.
func (m MQTT) Serves() bool { return m.Listen != "" || len(m.Listeners) > 0 }

// Guarded reports whether some method finds out who a client is.
func (m MQTT) Guarded() bool {
	return m.Users != "" || m.Auth.JWT.Keys != "" || m.Auth.HTTP.URL != "" || m.Auth.MTLS.Enabled
}

// Redacted returns c without its passwords, for others to read.
func (c Config) Redacted() Config {
	c.MQTT.Bridges = slices.Clone(c.MQTT.Bridges)
	for i := range c.MQTT.Bridges {
		b := &c.MQTT.Bridges[i]
		for _, p := range []*string{&b.Remote.Password, &b.Local.Password} {
			if *p != "" {
				*p = "(not shown)"
			}
		}
	}
	return c
}

// Prefix is a range of addresses: 10.0.0.0/8.
type Prefix struct{ netip.Prefix }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Prefix) UnmarshalText(b []byte) error {
	v, err := netip.ParsePrefix(string(b))
	if err != nil {
		return fmt.Errorf("%s is no range of addresses; write one such as 10.0.0.0/8 or 192.0.2.7/32", quote(string(b)))
	}
	p.Prefix = v
	return nil
}

// FileMode are permissions, written in octal: 0660.
type FileMode fs.FileMode

// String returns four octal digits.
func (m FileMode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// MarshalText implements encoding.TextMarshaler.
func (m FileMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *FileMode) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 8, 32)
	if err != nil || len(b) < 3 || len(b) > 4 || fs.FileMode(v)&^fs.ModePerm != 0 || v == 0 {
		return fmt.Errorf("%s are no permissions; write them in octal, such as 0660", quote(string(b)))
	}
	*m = FileMode(v)
	return nil
}

// listenerKinds returns the schemes of Listener.URL.
func listenerKinds() []string { return []string{"tcp", "tls", "ws", "wss", "unix", "quic"} }

// place is where a listener is, as far as this package needs it.
type place struct {
	kind string
	at   HostPort // "" of a unix socket
	path string   // of a unix socket
}

func (p place) secure() bool { return p.kind == "tls" || p.kind == "wss" || p.kind == "quic" }

// local reports whether only this machine can reach it.
func (p place) local() bool { return p.kind == "unix" || p.at.Loopback() }

// place reads the URL; ok is false if it says no place.
func (l Listener) place() (p place, ok bool) {
	u, err := url.Parse(l.URL)
	if err != nil || !slices.Contains(listenerKinds(), u.Scheme) {
		return place{}, false
	}
	if u.Scheme == "unix" {
		return place{kind: u.Scheme, path: u.Path}, u.Path != ""
	}
	p.kind = u.Scheme
	return p, u.Host != "" && p.at.UnmarshalText([]byte(u.Host)) == nil
}

const (
	maxListeners = 64
	maxBridges   = 64
	maxKeepAlive = Duration(65535 * time.Second) // two bytes (MQTT 5, 3.2.2.3.14)
	minSys       = Duration(time.Second)
	maxSys       = Duration(24 * time.Hour)
)
