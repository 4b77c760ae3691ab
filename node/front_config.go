package node

import (
	"crypto/tls"
	"io/fs"
	"log/slog"
	"math"
	"time"

	"github.com/farhop/farhop/broker/auth"
	"github.com/farhop/farhop/broker/bridge"
	"github.com/farhop/farhop/broker/listen"
	"github.com/farhop/farhop/node/config"
)

// What follows turns the written form of listeners, methods and bridges into
// that of their packages; TestFrontFields holds the two together.

// webSocketMessage is the default of listen.Config.MaxMessage.
const webSocketMessage = 16 << 20

// listenConfig leaves TLS to tlsFiles.
func listenConfig(l config.Listener, packet config.Size) listen.Config {
	out := listen.Config{
		URL: l.URL, Origins: l.Origins, Mode: fs.FileMode(l.Mode), HandshakeTimeout: time.Duration(l.HandshakeTimeout),
		MaxHandshakes: l.MaxHandshakes, MaxMessage: int64(l.MaxMessage), IdleTimeout: time.Duration(l.IdleTimeout), MaxWindow: whole(l.MaxWindow),
	}
	if out.MaxMessage == 0 {
		out.MaxMessage = max(webSocketMessage, int64(packet))
	}
	for _, p := range l.Proxy {
		out.Proxy = append(out.Proxy, p.Prefix)
	}
	return out
}

// whole is a size as an int, which is small on some platforms.
func whole(s config.Size) int { return int(min(int64(s), math.MaxInt)) }

func tlsFiles(c config.Config, l config.Listener, log *slog.Logger) listen.Files {
	return listen.Files{Cert: c.Path(l.Cert), Key: c.Path(l.Key), ClientCA: c.Path(l.ClientCA), Require: l.RequireClientCert, Log: log}
}

func authConfig(c config.Config) auth.Config {
	m, a := c.MQTT, c.MQTT.Auth
	out := auth.Config{
		// Where nobody is asked who he is, all are strangers; config.MQTT
		// lets that be on this machine only, or on purpose.
		Anonymous: m.Anonymous || !m.Guarded(),
		Users:     m.Users,
		MTLS:      auth.MTLS(a.MTLS),
		JWT: auth.JWT{
			Keys: a.JWT.Keys, Issuer: a.JWT.Issuer, Audience: a.JWT.Audience, Leeway: auth.Duration(a.JWT.Leeway), Endless: a.JWT.Endless,
			UserClaim: a.JWT.UserClaim, ClientClaim: a.JWT.ClientClaim, AttrClaim: a.JWT.AttrClaim, ACLClaim: a.JWT.ACLClaim,
		},
		HTTP: auth.HTTP{
			URL: a.HTTP.URL, CA: a.HTTP.CA, Plain: a.HTTP.Plain, Timeout: auth.Duration(a.HTTP.Timeout), MaxInFlight: a.HTTP.MaxInFlight,
			Cache: auth.Duration(a.HTTP.Cache), CacheEntries: a.HTTP.CacheEntries, Unreachable: a.HTTP.Unreachable,
			Methods: a.HTTP.Methods,
		},
		ACL: a.ACL,
	}
	for _, r := range a.Access {
		out.Access = append(out.Access, auth.Rule{Name: r.Name, Action: r.Action, From: r.From, MQTT: auth.RuleMQTT(r.MQTT)})
	}
	return out.WithPaths(c.Path)
}

// bridgeRoom is what a packet may grow by on its way through a bridge, in
// bytes: its topic and its user properties.
const bridgeRoom = 64 << 10

// bridgeConfig leaves the defaults that the node knows to buildBridges, but for
// the size of packets.
func bridgeConfig(c config.Config, b config.Bridge) bridge.Config {
	r := b.Remote
	out := bridge.Config{
		Name: b.Name, Domain: b.Domain, Share: b.Share, Window: b.Window, Rate: b.Rate, KeepAlive: time.Duration(b.KeepAlive),
		RetryMin: time.Duration(b.RetryMin), RetryMax: time.Duration(b.RetryMax), ConnectTimeout: time.Duration(b.ConnectTimeout),
		MaxPacket: whole(b.MaxPacket), Buffer: whole(b.Buffer), Remember: b.Remember, RememberFor: time.Duration(b.RememberFor),
		Local: bridgeLogin(c, b.Local),
		Remote: bridge.Remote{
			URL: r.URL, Domain: r.Domain, Version: r.Version, Login: bridgeLogin(c, r.BridgeLogin), MaxQoS: r.MaxQoS,
			Inflight: r.Inflight, MaxPacket: whole(r.MaxPacket), Mosquitto: r.Mosquitto,
			TLS: bridge.TLS{CA: c.Path(r.TLS.CA), Cert: c.Path(r.TLS.Cert), Key: c.Path(r.TLS.Key), ServerName: r.TLS.ServerName, ALPN: r.TLS.ALPN},
		},
	}
	if out.MaxPacket == 0 {
		out.MaxPacket = whole(c.MQTT.MaxPacket) + bridgeRoom
	}
	for _, rule := range b.Rules {
		out.Rules = append(out.Rules, bridge.Rule(rule))
	}
	return out
}

func bridgeLogin(c config.Config, l config.BridgeLogin) bridge.Login {
	return bridge.Login{ClientID: l.ClientID, Username: l.Username, Password: l.Password, PasswordFile: c.Path(l.PasswordFile)}
}

// placeholder stands for a certificate where files are not to be read.
func placeholder() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}
}
