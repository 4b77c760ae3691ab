package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// Validate says what is wrong with m by itself, joining every Fault.
func (m MQTT) Validate() error {
	var f faults
	m.validate(&f, make(bindings), addr.Node{})
	return f.err()
}

// validate looks at what one part of the section says about another. What a
// listener, a method or a bridge is on its own is checked by those who make
// them, see Check.
func (m MQTT) validate(f *faults, taken bindings, self addr.Node) {
	const open = "%s is reachable from other machines and asks nobody for a password; set mqtt.users to a password file, or mqtt.anonymous: true to let everybody in"
	unguarded := !m.Anonymous && !m.Guarded()
	if m.Listen != "" && !m.Listen.Loopback() && unguarded {
		f.add("mqtt.listen", open, m.Listen)
	}
	listenable(f, "mqtt.listen", m.Listen)
	inRange(f, "mqtt.max_packet", m.MaxPacket, 1<<10, maxPacket)
	inRange(f, "mqtt.max_clients", m.MaxClients, 1, 1_000_000)
	inRange(f, "mqtt.server_keepalive", m.ServerKeepAlive, 0, maxKeepAlive)
	m.Limits.validate(f)
	if m.ServerKeepAlive%Duration(time.Second) != 0 {
		f.add("mqtt.server_keepalive", "%s is no whole number of seconds; MQTT knows no others", m.ServerKeepAlive)
	}
	if m.SysInterval != 0 {
		inRange(f, "mqtt.sys_interval", m.SysInterval, minSys, maxSys)
	}
	taken.add(f, "mqtt.listen", self, m.Listen)
	if len(m.Listeners) > maxListeners {
		f.add("mqtt.listeners", "%d listeners, more than %d; remove some", len(m.Listeners), maxListeners)
		return
	}
	certs, sockets := false, make(map[string]int)
	for i, l := range m.Listeners {
		field := fmt.Sprintf("mqtt.listeners[%d]", i)
		certs = certs || l.ClientCA != ""
		p, ok := l.place()
		switch {
		case l.URL == "":
			f.add(field+".url", "is missing; write where to listen, such as tls://0.0.0.0:8883")
		case ok && !p.local() && unguarded:
			f.add(field+".url", open, l.URL)
		}
		l.validate(f, field, p, m.MaxPacket)
		if first, dup := sockets[p.path]; dup && p.path != "" {
			f.add(field+".url", "%s is mqtt.listeners[%d] already; remove one", l.URL, first)
		}
		sockets[p.path] = i
		if p.kind == "quic" {
			taken.addUDP(f, field+".url", self, p.at)
		} else {
			taken.add(f, field+".url", self, p.at)
		}
	}
	if m.Auth.MTLS.Enabled && !certs {
		f.add("mqtt.auth.mtls", "no listener asks for certificates; set client_ca of one of mqtt.listeners")
	}
	m.validateBridges(f)
}

func (l Listener) validate(f *faults, field string, p place, packet Size) {
	switch {
	case p.kind == "": // not understood, which its maker tells
	case p.secure() && (l.Cert == "" || l.Key == ""):
		f.add(field+".cert", "%s needs a certificate and its key; set cert and key to PEM files", p.kind)
	case !p.secure() && l.Cert+l.Key+l.ClientCA != "":
		f.add(field+".url", "%s has no TLS; write tls, wss or quic, or remove cert, key and client_ca", p.kind)
	}
	for _, k := range []struct {
		key   string
		set   bool
		kinds []string
	}{
		{"mode", l.Mode != 0, []string{"unix"}},
		{"max_message", l.MaxMessage != 0, []string{"ws", "wss"}},
		{"idle_timeout", l.IdleTimeout != 0, []string{"quic"}},
		{"max_window", l.MaxWindow != 0, []string{"quic"}},
	} {
		if k.set && p.kind != "" && !slices.Contains(k.kinds, p.kind) {
			f.add(field+"."+k.key, "means nothing to %s, only to %s; remove it", p.kind, strings.Join(k.kinds, " and "))
		}
	}
	if l.RequireClientCert && l.ClientCA == "" {
		f.add(field+".require_client_cert", "needs client_ca, the file of who signs the certificates of clients")
	}
	if l.MaxMessage != 0 && l.MaxMessage < packet {
		f.add(field+".max_message", "%s is less than mqtt.max_packet %s, so that the largest packets would end the connection; write at least that", l.MaxMessage, packet)
	}
}

func (m MQTT) validateBridges(f *faults) {
	switch {
	case len(m.Bridges) > maxBridges:
		f.add("mqtt.bridges", "%d bridges, more than %d; remove some", len(m.Bridges), maxBridges)
		return
	case len(m.Bridges) > 0 && !m.Serves():
		f.add("mqtt.bridges", "the node runs no broker they could bridge; set mqtt.listen or mqtt.listeners")
	}
	names := make(map[string]int)
	for i, b := range m.Bridges {
		field := fmt.Sprintf("mqtt.bridges[%d].name", i)
		first, dup := names[b.Name]
		switch {
		case b.Name == "":
			f.add(field, "is missing; give every bridge a short name of its own")
		case dup:
			f.add(field, "%s is mqtt.bridges[%d] already; rename one", quote(b.Name), first)
		}
		names[b.Name] = i
	}
}
