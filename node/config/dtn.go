package config

import (
	"fmt"
	"strings"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/routing/policy"
)

// DTN is the doors to other delay-tolerant networking stacks. The zero DTN has
// none. It is a node's own: no fleet revision changes it.
type DTN struct {
	Node   addr.EID      `json:"node,omitzero"` // our node id, dtn://NODE/ or ipn:N.0; zero: dtn://NAME/
	TLS    DTNTLS        `json:"tls,omitzero"`
	Listen []DTNListener `json:"listen,omitempty"`
	Peers  []DTNPeer     `json:"peers,omitempty"`
	// Mappings tie endpoints to topics, both ways.
	Mappings []DTNMapping `json:"mappings,omitempty"`
	Exports  []DTNExport  `json:"exports,omitempty"`
	// Routes say which nodes of the mesh have doors that serve what ours do not.
	Routes []DTNRoute `json:"routes,omitempty"`
	// ReportsPerMinute bounds the status reports to one endpoint; 0 sends none.
	ReportsPerMinute int `json:"reports_per_minute,omitempty"`
}

// DTNTLS names PEM files.
type DTNTLS struct {
	Cert  string `json:"cert,omitempty"`
	Key   string `json:"key,omitempty"`
	Roots string `json:"roots,omitempty"` // of the certificates of peers
}

// DTNListener is an address where other stacks connect. Kinds, TLS and Auth
// are words of package node/dtn, which documents them.
type DTNListener struct {
	Kind      string   `json:"kind"`
	Address   HostPort `json:"address"`
	TLS       string   `json:"tls,omitempty"`
	Auth      string   `json:"auth,omitempty"`
	Peer      string   `json:"peer,omitempty"`
	Strangers bool     `json:"strangers,omitempty"`
	Insecure  bool     `json:"insecure,omitempty"`
}

// DTNPeer is a node of another stack.
type DTNPeer struct {
	Name       string         `json:"name"`
	Kind       string         `json:"kind"`
	Address    HostPort       `json:"address,omitempty"` // "": it dials us
	Node       addr.EID       `json:"node,omitzero"`
	Serves     []addr.Pattern `json:"serves,omitempty"`
	TLS        string         `json:"tls,omitempty"`
	Auth       string         `json:"auth,omitempty"`
	ServerName string         `json:"server_name,omitempty"`
	OneSegment bool           `json:"one_segment,omitempty"`
	Insecure   bool           `json:"insecure,omitempty"`
	// CutThrough passes bundles from another door on without storing them
	// while the peer is there.
	CutThrough bool `json:"cut_through,omitempty"`
}

// DTNMapping ties an endpoint to a topic.
type DTNMapping struct {
	EID   addr.EID `json:"eid"`
	Topic string   `json:"topic"`
}

// DTNExport makes bundles of publications.
type DTNExport struct {
	Topic    string   `json:"topic"` // filter
	To       string   `json:"to"`    // endpoint, in which {topic} stands for the topic
	Source   addr.EID `json:"source,omitzero"`
	ReportTo addr.EID `json:"report_to,omitzero"`
	Lifetime Duration `json:"lifetime,omitzero"`
	HopLimit int      `json:"hop_limit,omitempty"`
}

// DTNRoute says which node of the mesh reaches endpoints.
type DTNRoute struct {
	To   []addr.Pattern `json:"to"`
	Node addr.Node      `json:"node"`
}

// DTNKinds, DTNPolicies and DTNAuths return the words of the section.
func DTNKinds() []string    { return []string{"tcpcl", "stcp", "mtcp"} }
func DTNPolicies() []string { return []string{"required", "optional", "none"} }
func DTNAuths() []string    { return []string{"node", "host", "chain", "none"} }

// IsZero reports whether there is no door.
func (d DTN) IsZero() bool {
	return d.Node.IsZero() && d.TLS == DTNTLS{} && d.ReportsPerMinute == 0 &&
		len(d.Listen)+len(d.Peers)+len(d.Mappings)+len(d.Exports)+len(d.Routes) == 0
}

// Limits of the section.
const (
	maxDTN     = 256 // entries of each list
	maxReports = 60_000
	topicHole  = "{topic}"
)

func (d DTN) validate(f *faults, taken bindings, self addr.Node) {
	if !d.Node.IsZero() && !nodeID(d.Node) {
		f.add("dtn.node", "%s names no node; write dtn://NODE/ or ipn:N.0", d.Node)
	}
	for _, l := range []struct {
		key string
		n   int
	}{{"listen", len(d.Listen)}, {"peers", len(d.Peers)}, {"mappings", len(d.Mappings)}, {"exports", len(d.Exports)}, {"routes", len(d.Routes)}} {
		if l.n > maxDTN {
			f.add("dtn."+l.key, "%d entries, more than %d; remove some", l.n, maxDTN)
			return
		}
	}
	if (d.TLS.Cert == "") != (d.TLS.Key == "") {
		f.add("dtn.tls", "has a certificate or a key without the other; write both")
	}
	for i, l := range d.Listen {
		field := fmt.Sprintf("dtn.listen[%d]", i)
		l.validate(f, field, d)
		taken.add(f, field+".address", self, l.Address)
	}
	names := make(map[string]int)
	for i, p := range d.Peers {
		field := fmt.Sprintf("dtn.peers[%d]", i)
		if err := policy.ValidName(p.Name); err != nil {
			f.add(field+".name", "%v; give every peer a short name of its own", err)
		} else if first, dup := names[p.Name]; dup {
			f.add(field+".name", "%s is dtn.peers[%d] already; rename one", p.Name, first)
		} else {
			names[p.Name] = i
		}
		p.validate(f, field, d)
	}
	d.validateTopics(f)
	for i, r := range d.Routes {
		field := fmt.Sprintf("dtn.routes[%d]", i)
		if len(r.To) == 0 {
			f.add(field+".to", "is missing; write the endpoints, such as [\"ipn:3.*\"]")
		}
		if r.Node.IsZero() {
			f.add(field+".node", "is missing; write the node of the mesh that has the door")
		}
		notSelf(f, field+".node", r.Node, self)
	}
	inRange(f, "dtn.reports_per_minute", d.ReportsPerMinute, 0, maxReports)
}

func (l DTNListener) validate(f *faults, field string, d DTN) {
	oneOf(f, field+".kind", l.Kind, DTNKinds())
	if l.Address == "" {
		f.add(field+".address", "is missing; write HOST:PORT, such as :4556")
	}
	listenable(f, field+".address", l.Address)
	wordOr(f, field+".tls", l.TLS, DTNPolicies())
	wordOr(f, field+".auth", l.Auth, DTNAuths())
	if l.Address != "" && !l.Insecure && !proved(l.Kind, l.TLS, l.Auth) && !l.Address.Loopback() {
		f.add(field+".address", "%s can be reached from other machines and does not know who connects; require TLS, or set insecure: true", l.Address)
	}
	if l.Kind == "tcpcl" && l.TLS != "none" && d.TLS.Cert == "" {
		f.add(field+".tls", "needs a certificate; set dtn.tls.cert and dtn.tls.key, or tls: none")
	}
	needRoots(f, field, d, l.Kind, l.TLS, l.Auth)
}

func (p DTNPeer) validate(f *faults, field string, d DTN) {
	oneOf(f, field+".kind", p.Kind, DTNKinds())
	switch {
	case p.Address != "":
		dialable(f, field+".address", p.Address)
	case p.Kind != "tcpcl":
		f.add(field+".address", "is missing; %s sends only where it dials", p.Kind)
	case p.Node.IsZero():
		f.add(field+".node", "is missing; a peer that dials us is known by its node id")
	}
	if !p.Node.IsZero() && !nodeID(p.Node) {
		f.add(field+".node", "%s names no node; write dtn://NODE/ or ipn:N.0", p.Node)
	}
	wordOr(f, field+".tls", p.TLS, DTNPolicies())
	wordOr(f, field+".auth", p.Auth, DTNAuths())
	if p.Address != "" && !p.Insecure && !proved(p.Kind, p.TLS, p.Auth) && !p.Address.Loopback() {
		f.add(field+".address", "%s is not this machine and would not prove who it is; require TLS, or set insecure: true", p.Address)
	}
	needRoots(f, field, d, p.Kind, p.TLS, p.Auth)
	if p.CutThrough && p.Kind != "tcpcl" {
		f.add(field+".cut_through", "is for tcpcl alone; %s acknowledges nothing, so nothing would be kept", p.Kind)
	}
}

// needRoots wants roots wherever a certificate has to prove something.
func needRoots(f *faults, field string, d DTN, kind, tls, auth string) {
	if kind == "tcpcl" && tls != "none" && auth != "none" && d.TLS.Roots == "" {
		f.add(field+".tls", "has nothing to verify a certificate against; set dtn.tls.roots, or tls: none or auth: none")
	}
}

// proved reports whether a peer shows who it is.
func proved(kind, tls, auth string) bool {
	return kind == "tcpcl" && (tls == "" || tls == "required") && auth != "none"
}

func wordOr(f *faults, field, v string, words []string) {
	if v != "" {
		oneOf(f, field, v, words)
	}
}

func (d DTN) validateTopics(f *faults) {
	eids, topics := make(map[addr.EID]int), make(map[string]int)
	for i, m := range d.Mappings {
		field := fmt.Sprintf("dtn.mappings[%d]", i)
		switch first, dup := eids[m.EID]; {
		case m.EID.IsZero() || m.EID == addr.None:
			f.add(field+".eid", "is missing; write an endpoint, such as ipn:17.5")
		case dup:
			f.add(field+".eid", "%s is dtn.mappings[%d] already; keep one", m.EID, first)
		}
		eids[m.EID] = i
		if err := interest.ValidTopic(m.Topic); err != nil {
			f.add(field+".topic", "%v; write a topic without wildcards", err)
		} else if strings.HasPrefix(m.Topic, "$") {
			f.add(field+".topic", "topics with $ are not for other stacks; write another")
		} else if first, dup := topics[m.Topic]; dup {
			f.add(field+".topic", "%s is dtn.mappings[%d] already; keep one", m.Topic, first)
		}
		topics[m.Topic] = i
	}
	for i, e := range d.Exports {
		field := fmt.Sprintf("dtn.exports[%d]", i)
		if err := interest.ValidFilter(e.Topic); err != nil {
			f.add(field+".topic", "%v; write a topic filter", err)
		}
		to, err := addr.ParseEID(strings.ReplaceAll(e.To, topicHole, "topic"))
		switch {
		case e.To == "" || err != nil || to == addr.None:
			f.add(field+".to", "%s is no endpoint; write one such as ipn:2.9 or dtn://hdtn/mqtt/{topic}", quote(e.To))
		case strings.Contains(e.To, topicHole) && to.Scheme() != addr.SchemeDTN:
			f.add(field+".to", "%s: only a dtn endpoint can hold a topic", quote(e.To))
		}
		inRange(f, field+".lifetime", e.Lifetime, 0, Duration(policy.MaxTTL))
		inRange(f, field+".hop_limit", e.HopLimit, 0, 255)
	}
}

// nodeID reports whether e can name a node (RFC 9171, section 4.2.5.2).
func nodeID(e addr.EID) bool {
	if e.Scheme() == addr.SchemeIPN {
		n, svc := e.Numbers()
		return n != 0 && svc == 0
	}
	ssp := e.SSP()
	return len(ssp) > 3 && strings.HasSuffix(ssp, "/") && strings.Count(ssp, "/") == 3
}

func (w *writer) dtn(d DTN) {
	const about = `Doors to other DTN stacks (docs/dtn-interop.md). node: what they call this
node, dtn://NAME/ by default. tls: PEM files. listen, peers: kind tcpcl, stcp or
mtcp; tls required, optional or none; auth node, host, chain or none; insecure:
true where nobody proves who he is. serves: endpoints reached through the peer.
routes: other nodes of the mesh, and what is reached through theirs.`
	if d.IsZero() {
		w.indent = ""
		w.line("")
		w.comment(about)
		w.comment(`dtn:
  node: ipn:17.0
  listen: [{kind: tcpcl, address: "127.0.0.1:4556", tls: none}]
  peers:
  - {name: hdtn, kind: tcpcl, address: "127.0.0.1:4557", node: ipn:2.0, serves: ["ipn:2.*"], tls: none}
  mappings: [{eid: ipn:17.5, topic: plant/1/temp}]
  exports: [{topic: "plant/#", to: ipn:2.9}]
  routes: [{to: ["ipn:3.*"], node: gw-2}]`)
		return
	}
	w.section("dtn", about)
	if !d.Node.IsZero() {
		w.line("node: %s", quoted(d.Node.String()))
	}
	var t group
	t.add("cert", d.TLS.Cert)
	t.add("key", d.TLS.Key)
	t.add("roots", d.TLS.Roots)
	if d.TLS != (DTNTLS{}) {
		w.line("tls: %s", t)
	}
	groups(w, "listen", d.Listen, DTNListener.group)
	groups(w, "peers", d.Peers, DTNPeer.group)
	groups(w, "mappings", d.Mappings, func(m DTNMapping) (g group) {
		g.add("eid", m.EID.String())
		g.add("topic", m.Topic)
		return g
	})
	groups(w, "exports", d.Exports, DTNExport.group)
	groups(w, "routes", d.Routes, func(r DTNRoute) (g group) {
		g.list("to", r.To)
		g.add("node", r.Node.String())
		return g
	})
	if d.ReportsPerMinute != 0 {
		w.line("reports_per_minute: %d", d.ReportsPerMinute)
	}
}

func (l DTNListener) group() (g group) {
	g.add("kind", l.Kind)
	g.add("address", string(l.Address))
	g.add("tls", l.TLS)
	g.add("auth", l.Auth)
	g.add("peer", l.Peer)
	g.flag("strangers", l.Strangers)
	g.flag("insecure", l.Insecure)
	return g
}

func (p DTNPeer) group() (g group) {
	g.add("name", p.Name)
	g.add("kind", p.Kind)
	g.add("address", string(p.Address))
	g.add("node", p.Node.String())
	g.list("serves", p.Serves)
	g.add("tls", p.TLS)
	g.add("auth", p.Auth)
	g.add("server_name", p.ServerName)
	g.flag("one_segment", p.OneSegment)
	g.flag("insecure", p.Insecure)
	g.flag("cut_through", p.CutThrough)
	return g
}

func (e DTNExport) group() (g group) {
	g.add("topic", e.Topic)
	g.add("to", e.To)
	g.add("source", e.Source.String())
	g.add("report_to", e.ReportTo.String())
	if e.Lifetime != 0 {
		g = append(g, "lifetime: "+e.Lifetime.String())
	}
	if e.HopLimit != 0 {
		g = append(g, fmt.Sprintf("hop_limit: %d", e.HopLimit))
	}
	return g
}

// group is a group of keys on one line.
type group []string

func (g *group) add(key, value string) {
	if value != "" {
		*g = append(*g, key+": "+quoted(value))
	}
}

func (g *group) flag(key string, set bool) {
	if set {
		*g = append(*g, key+": true")
	}
}

func (g *group) list(key string, of []addr.Pattern) {
	if len(of) == 0 {
		return
	}
	var items []string
	for _, p := range of {
		items = append(items, quoted(p.String()))
	}
	*g = append(*g, key+": ["+strings.Join(items, ", ")+"]")
}

// String returns the group as YAML has it.
func (g group) String() string { return "{" + strings.Join(g, ", ") + "}" }

// groups writes a list of groups, nothing if it is empty.
func groups[T any](w *writer, key string, list []T, of func(T) group) {
	if len(list) == 0 {
		return
	}
	w.line("%s:", key)
	for _, v := range list {
		w.line("- %s", of(v))
	}
}
