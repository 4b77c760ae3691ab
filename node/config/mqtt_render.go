package config

import (
	"fmt"
	"strings"
)

func (w *writer) mqtt(m MQTT) {
	w.section("mqtt", `For devices. listen: plain MQTT; "" and no listeners runs no broker. Off
loopback either users (the name of a password file), another method of auth, or
anonymous: true is needed. docs/listeners.md, docs/auth.md and docs/bridge.md
tell of listeners, auth and bridges.`)
	w.text("listen", string(m.Listen))
	w.line("anonymous: %t", m.Anonymous)
	if m.Users == "" {
		w.line("# users: users.txt")
	} else {
		w.text("users", m.Users)
	}
	w.line("max_packet: %s", m.MaxPacket)
	w.line("max_clients: %d", m.MaxClients)
	if m.ServerKeepAlive != 0 {
		w.line("server_keepalive: %s", m.ServerKeepAlive)
	}
	if m.SysInterval != 0 {
		w.line("sys_interval: %s", m.SysInterval)
	}
	if g := m.Limits.group(); len(g) > 0 {
		w.line("limits: %s", g)
	}
	if len(m.Listeners) == 0 {
		w.line("# listeners:")
		w.line("# - {url: \"tls://0.0.0.0:8883\", cert: server.pem, key: server.key}")
	}
	groups(w, "listeners", m.Listeners, Listener.group)
	w.auth(m.Auth)
	if len(m.Bridges) == 0 {
		w.line("# bridges:")
		w.line("# - name: cloud")
		w.line("#   remote: {url: \"mqtts://broker.example:8883\", username: farhop, password_file: cloud.pass}")
		w.line("#   rules: [{direction: out, filter: \"telemetry/#\"}]")
		return
	}
	w.line("bridges:")
	for _, b := range m.Bridges {
		w.bridge(b)
	}
}

func (l Listener) group() (g group) {
	g.add("url", l.URL)
	g.add("cert", l.Cert)
	g.add("key", l.Key)
	g.add("client_ca", l.ClientCA)
	g.flag("require_client_cert", l.RequireClientCert)
	var proxy []string
	for _, p := range l.Proxy {
		proxy = append(proxy, p.String())
	}
	g.texts("proxy", proxy)
	g.texts("origins", l.Origins)
	if l.Mode != 0 {
		g.add("mode", l.Mode.String())
	}
	g.value("handshake_timeout", l.HandshakeTimeout)
	g.number("max_handshakes", l.MaxHandshakes)
	g.value("max_message", l.MaxMessage)
	g.value("idle_timeout", l.IdleTimeout)
	g.value("max_window", l.MaxWindow)
	return g
}

func (w *writer) auth(a Auth) {
	parts := []struct {
		key string
		group
	}{{"mtls", a.MTLS.group()}, {"jwt", a.JWT.group()}, {"http", a.HTTP.group()}}
	if a.ACL == "" && len(a.Access) == 0 && len(parts[0].group)+len(parts[1].group)+len(parts[2].group) == 0 {
		w.line("# auth:")
		w.line("#   acl: acl.txt")
		return
	}
	w.line("auth:")
	w.indent = "    "
	for _, p := range parts {
		if len(p.group) > 0 {
			w.line("%s: %s", p.key, p.group)
		}
	}
	if a.ACL != "" {
		w.text("acl", a.ACL)
	}
	groups(w, "access", a.Access, AccessRule.group)
	w.indent = "  "
}

func (a AuthMTLS) group() (g group) {
	g.flag("enabled", a.Enabled)
	g.add("client_id", a.ClientID)
	g.flag("user", a.User)
	return g
}

func (a AuthJWT) group() (g group) {
	g.add("keys", a.Keys)
	g.add("issuer", a.Issuer)
	g.add("audience", a.Audience)
	g.value("leeway", a.Leeway)
	g.flag("endless", a.Endless)
	g.add("user_claim", a.UserClaim)
	g.add("client_claim", a.ClientClaim)
	g.add("attributes_claim", a.AttrClaim)
	g.add("acl_claim", a.ACLClaim)
	return g
}

func (a AuthHTTP) group() (g group) {
	g.add("url", a.URL)
	g.add("ca", a.CA)
	g.flag("plain", a.Plain)
	g.value("timeout", a.Timeout)
	g.number("max_in_flight", a.MaxInFlight)
	g.value("cache", a.Cache)
	g.number("cache_entries", a.CacheEntries)
	g.add("unreachable", a.Unreachable)
	g.texts("methods", a.Methods)
	return g
}

func (r AccessRule) group() (g group) {
	g.add("name", r.Name)
	g.add("action", r.Action.String())
	g.texts("from", r.From)
	var topics group
	topics.texts("publish", r.MQTT.Publish)
	topics.texts("subscribe", r.MQTT.Subscribe)
	g.sub("mqtt", topics)
	return g
}

// bridge writes one entry of mqtt.bridges.
func (w *writer) bridge(b Bridge) {
	w.line("- name: %s", scalar(b.Name))
	w.indent = "    "
	if b.Domain != "" {
		w.text("domain", b.Domain)
	}
	w.line("remote: %s", b.Remote.group())
	if local := b.Local.group(); len(local) > 0 {
		w.line("local: %s", local)
	}
	groups(w, "rules", b.Rules, BridgeRule.group)
	if b.Share != "" {
		w.text("share", b.Share)
	}
	var g group
	g.number("window", b.Window)
	g.number("rate", b.Rate)
	g.value("keepalive", b.KeepAlive)
	g.value("retry_min", b.RetryMin)
	g.value("retry_max", b.RetryMax)
	g.value("connect_timeout", b.ConnectTimeout)
	g.value("max_packet", b.MaxPacket)
	g.value("buffer", b.Buffer)
	g.number("remember", b.Remember)
	g.value("remember_for", b.RememberFor)
	for _, l := range g {
		w.line("%s", l)
	}
	w.indent = "  "
}

func (l BridgeLogin) group() (g group) {
	g.add("client_id", l.ClientID)
	g.add("username", l.Username)
	g.add("password", l.Password)
	g.add("password_file", l.PasswordFile)
	return g
}

func (r BridgeRemote) group() (g group) {
	g.add("url", r.URL)
	g.add("domain", r.Domain)
	g.add("version", r.Version)
	g = append(g, r.BridgeLogin.group()...)
	var t group
	t.add("ca", r.TLS.CA)
	t.add("cert", r.TLS.Cert)
	t.add("key", r.TLS.Key)
	t.add("server_name", r.TLS.ServerName)
	t.texts("alpn", r.TLS.ALPN)
	g.sub("tls", t)
	g.choice("max_qos", r.MaxQoS)
	g.number("inflight", r.Inflight)
	g.value("max_packet", r.MaxPacket)
	g.flag("mosquitto", r.Mosquitto)
	return g
}

func (r BridgeRule) group() (g group) {
	g.add("direction", r.Direction)
	g.add("filter", r.Filter)
	g.add("local_prefix", r.LocalPrefix)
	g.add("remote_prefix", r.RemotePrefix)
	g.choice("qos", r.QoS)
	return g
}

// value adds a duration or size that is not zero.
func (g *group) value(key string, v fmt.Stringer) {
	switch v {
	case Duration(0), Size(0):
		return
	}
	*g = append(*g, key+": "+v.String())
}

func (g *group) number(key string, v int) {
	if v != 0 {
		*g = append(*g, fmt.Sprintf("%s: %d", key, v))
	}
}

// choice adds a number that may be 0, and may be missing.
func (g *group) choice(key string, v *int) {
	if v != nil {
		*g = append(*g, fmt.Sprintf("%s: %d", key, *v))
	}
}

func (g *group) sub(key string, v group) {
	if len(v) > 0 {
		*g = append(*g, key+": "+v.String())
	}
}

func (g *group) texts(key string, list []string) {
	if len(list) == 0 {
		return
	}
	items := make([]string, len(list))
	for i, s := range list {
		items[i] = quoted(s)
	}
	*g = append(*g, key+": ["+strings.Join(items, ", ")+"]")
}
