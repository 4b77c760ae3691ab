package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/farhop/farhop/routing/policy"
)

// Render writes c as a commented file that Parse reads back as an equal
// Config (but for Dir). Equal configurations give equal bytes.
func Render(c Config) []byte {
	var w writer
	w.comment(`The configuration of this farhop node. "farhop config check" tells what is wrong
with it; a running node reads it at start. Sizes, rates and times have units:
1MiB, 50Mbit, 40m. File names are relative to the directory of this file.`)
	w.section("node", `Who this node is. Written by "farhop init" and "farhop join"; it must agree
with the certificate.`)
	w.text("name", c.Node.Name.String())
	w.text("region", c.Node.Region.String())
	w.mqtt(c.MQTT)
	w.section("mesh", `Towards other nodes, over UDP. advertise: the addresses at which others
reach this one, written into the tickets of "farhop invite".`)
	w.text("listen", string(c.Mesh.Listen))
	flow(&w, "advertise", c.Mesh.Advertise)
	w.section("admin", `The API, the page and the metrics. The commands speak to it. remote: true
allows to listen off loopback, with the token as the only guard.`)
	w.text("listen", string(c.Admin.Listen))
	w.line("remote: %t", c.Admin.Remote)
	w.peers(c.Peers)
	w.links(c.Links)
	w.section("store", `Bounds of what is kept on disk until it is delivered. engine: journal or
bbolt; left out it is the one whose files are there, journal for new ones.`)
	if c.Store.Engine == "" {
		w.line("# engine: %s", StoreEngines()[0])
	} else {
		w.text("engine", c.Store.Engine)
	}
	w.line("max_bytes: %s", c.Store.MaxBytes)
	w.line("max_messages: %d", c.Store.MaxMessages)
	w.line("max_retained: %d", c.Store.MaxRetained)
	w.line("max_retained_bytes: %s", c.Store.MaxRetainedBytes)
	w.section("delivery", `ttl: lifetime of a message whose client gives none. order_wait: how long a
missing message holds up those that came after it. batch: small messages with
the same way and class share a bundle of up to max_bytes (0B: they do not);
wait: how long one of a class may wait for company, 10s at most.
retained_horizon: how long the deletion of a retained message is remembered; a
node out of touch for longer gives nothing older to others.`)
	w.line("ttl: %s", c.Delivery.TTL)
	w.line("order_wait: %s", c.Delivery.OrderWait)
	w.line("max_message: %s", c.Delivery.MaxMessage)
	w.line("retained_horizon: %s", c.Delivery.Horizon)
	batch := c.Delivery.Batch
	w.line("batch: {max_bytes: %s, wait: {alarm: %s, interactive: %s, telemetry: %s, bulk: %s}}",
		batch.MaxBytes, batch.Wait.Alarm, batch.Wait.Interactive, batch.Wait.Telemetry, batch.Wait.Bulk)
	w.resources(c.Resources)
	w.dtn(c.DTN)
	w.section("log", "level: "+strings.Join(LogLevels(), ", ")+"; format: "+strings.Join(LogFormats(), " or ")+".")
	w.text("level", c.Log.Level)
	w.text("format", c.Log.Format)
	return []byte(w.String())
}

// RenderResources writes resources as a file that ParseResources reads back.
func RenderResources(r Resources) []byte {
	var w writer
	w.comment(`Services, routes and quotas for a whole mesh: "farhop fleet push" signs and
sends them.`)
	w.resources(r)
	if len(r.Services)+len(r.Routes)+len(r.Quotas) == 0 {
		w.line("\nservices: []\nroutes: []\nquotas: []") // an empty file is a fault
	}
	return []byte(w.String())
}

// writer builds the file line by line.
type writer struct {
	strings.Builder
	indent string
}

func (w *writer) line(format string, args ...any) {
	fmt.Fprintf(w, w.indent+format+"\n", args...)
}

func (w *writer) comment(text string) {
	for l := range strings.SplitSeq(text, "\n") {
		fmt.Fprintln(w, "# "+l)
	}
}

// section starts a group of keys, which follow indented.
func (w *writer) section(key, about string) {
	w.indent = ""
	w.line("")
	w.comment(about)
	w.line("%s:", key)
	w.indent = "  "
}

// text writes a value that may need quotes.
func (w *writer) text(key, value string) { w.line("%s: %s", key, scalar(value)) }

// list starts a list whose entries follow, or, if there are none, shows an
// example in comments.
func (w *writer) list(key, about, example string, n int) {
	w.indent = ""
	w.line("")
	w.comment(about)
	if n == 0 {
		w.comment(key + ":\n" + example)
		return
	}
	w.line("%s:", key)
}

// entry starts a list entry; keys that follow belong to it.
func (w *writer) entry(key, value string) {
	w.indent = ""
	w.line("- %s: %s", key, scalar(value))
	w.indent = "  "
}

func (w *writer) peers(peers []Peer) {
	w.list("peers", `Nodes to dial; no others are, whatever addresses are heard of. node: who must
answer there. The rest says what the link is like (docs/links.md): profile: lan,
wan, cellular, geo, moon, scheduled or narrow; layer: auto, quic,
salvo or tls; owlt:
one-way light time; rate and return_rate: from here and to here; loss of packets,
burst: how many in a row; mtu; contacts: when the link can carry. Of several links
to one node each has a name, link, with its cost and the classes it carries, and
may say from which address or interface of this machine its packets leave.`,
		`- address: 192.0.2.7:7330
  node: relay
  owlt: 1.28s
  rate: 50Mbit
  return_rate: 256kbit
  loss: 1%
  contacts: {start: 2026-01-01T00:00:00Z, every: 2h, for: 40m}`, len(peers))
	for _, p := range peers {
		w.entry("address", string(p.Address))
		if !p.Node.IsZero() {
			w.text("node", p.Node.String())
		}
		if p.From != "" {
			w.text("from", p.From)
		}
		w.uplink(p.Uplink)
		w.props(p.LinkProps)
	}
}

func (w *writer) links(links []Link) {
	w.list("links", "The same link properties, for nodes that dial this one.", `- node: luna-1
  owlt: 1.28s`, len(links))
	for _, l := range links {
		w.entry("node", l.Node.String())
		w.uplink(l.Uplink)
		w.props(l.LinkProps)
	}
}

func (w *writer) uplink(u Uplink) {
	if u.Name != "" {
		w.text("link", u.Name)
	}
	if u.Cost != 0 {
		w.line("cost: %d", u.Cost)
	}
	if len(u.Classes) > 0 {
		names := make([]string, 0, len(u.Classes))
		for _, c := range u.Classes {
			names = append(names, string(c))
		}
		w.line("classes: [%s]", strings.Join(names, ", "))
	}
}

func (w *writer) props(p LinkProps) {
	if p.Profile != "" {
		w.text("profile", p.Profile)
	}
	if p.Layer != "" {
		w.text("layer", p.Layer)
	}
	if p.OWLT != 0 {
		w.line("owlt: %s", p.OWLT)
	}
	if p.Rate != 0 {
		w.line("rate: %s", p.Rate)
	}
	if p.ReturnRate != 0 {
		w.line("return_rate: %s", p.ReturnRate)
	}
	if p.Loss != 0 {
		w.line("loss: %s", p.Loss)
	}
	if p.Burst != 0 {
		w.line("burst: %d", p.Burst)
	}
	if p.MTU != 0 {
		w.line("mtu: %d", p.MTU)
	}
	if c := p.Contacts; c != nil {
		w.line("contacts: {start: %s, every: %s, for: %s}", scalar(c.Start.String()), c.Every, c.For)
	}
}

func (w *writer) resources(r Resources) {
	w.list("services", `TCP services. endpoints: where the server answers; listen: where clients
connect. Without a node it is this one.`,
		`- name: historian
  endpoints: [{node: earth-1, address: "127.0.0.1:5432"}]
  listen: [{node: luna-1, address: "127.0.0.1:15432"}]`, len(r.Services))
	for _, s := range r.Services {
		w.entry("name", s.Name)
		w.endpoints("endpoints", s.Endpoints)
		w.endpoints("listen", s.Listen)
	}
	w.list("routes", `Rules for messages and services; the first that matches is taken. to: regions
that get the messages even if nobody there subscribes yet. unreachable: store
or drop. class: alarm, interactive, telemetry or bulk. on_full: refuse or
drop-oldest.`,
		`- name: telemetry-up
  match: {topic: "plant/+/telemetry/#"}
  to: [earth]
  unreachable: store
  class: telemetry
  ttl: 72h`, len(r.Routes))
	for _, r := range r.Routes {
		w.route(r)
	}
	w.list("quotas", `Limits of what a node keeps for others; a message counts against all that
match. match: client (id, with *), topic, region of a recipient, class, peer
that hands it over (name, with *). each: client or peer gives each its own.
max_bytes are bytes of payloads.`,
		`- name: per-device
  match: {client: "plc-*", topic: "plant/#"}
  each: client
  max_bytes: 10MiB
  max_messages: 1000`, len(r.Quotas))
	for _, q := range r.Quotas {
		w.quota(q)
	}
}

func (w *writer) endpoints(key string, list []Endpoint) {
	if len(list) == 0 {
		return
	}
	var items []string
	for _, e := range list {
		item := "{address: " + quoted(string(e.Address)) + "}"
		if !e.Node.IsZero() {
			item = "{node: " + scalar(e.Node.String()) + ", address: " + quoted(string(e.Address)) + "}"
		}
		items = append(items, item)
	}
	w.line("%s: [%s]", key, strings.Join(items, ", "))
}

func (w *writer) route(r Route) {
	w.entry("name", r.Name)
	var match []string
	if r.Match.Topic != "" {
		match = append(match, "topic: "+quoted(r.Match.Topic))
	}
	if r.Match.Service != "" {
		match = append(match, "service: "+quoted(r.Match.Service))
	}
	w.line("match: {%s}", strings.Join(match, ", "))
	var to []string
	for _, region := range r.To {
		to = append(to, region.String())
	}
	flow(w, "to", to)
	w.line("unreachable: %s", r.Unreachable)
	if r.OnFull != 0 {
		w.line("on_full: %s", r.OnFull)
	}
	if r.Class != "" {
		w.line("class: %s", scalar(string(r.Class)))
	}
	if r.TTL != 0 {
		w.line("ttl: %s", r.TTL)
	}
}

func (w *writer) quota(q Quota) {
	w.entry("name", q.Name)
	var match []string
	part := func(key, value string) {
		if value != "" {
			match = append(match, key+": "+quoted(value))
		}
	}
	part("client", q.Match.Client)
	part("topic", q.Match.Topic)
	if !q.Match.Region.IsZero() {
		match = append(match, "region: "+scalar(q.Match.Region.String()))
	}
	if q.Match.Class != "" {
		match = append(match, "class: "+scalar(string(q.Match.Class)))
	}
	part("peer", q.Match.Peer)
	if len(match) > 0 {
		w.line("match: {%s}", strings.Join(match, ", "))
	}
	if q.Each != policy.EachNone {
		w.line("each: %s", q.Each)
	}
	if q.MaxBytes != 0 {
		w.line("max_bytes: %s", q.MaxBytes)
	}
	if q.MaxMessages != 0 {
		w.line("max_messages: %d", q.MaxMessages)
	}
}

// flow writes a list of plain values on one line, nothing if it is empty.
func flow[T ~string](w *writer, key string, list []T) {
	if len(list) == 0 {
		return
	}
	var items []string
	for _, v := range list {
		items = append(items, scalar(string(v)))
	}
	w.line("%s: [%s]", key, strings.Join(items, ", "))
}

// scalar writes a string so that it is read back as it is: plain if nothing
// in it could mean something to YAML, in quotes otherwise.
func scalar(s string) string {
	for i := range len(s) {
		c := s[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '/'
		if !letter && (i == 0 || !strings.ContainsRune("._-:", rune(c))) {
			return quoted(s)
		}
	}
	switch strings.ToLower(s) {
	case "", "null", "true", "false":
		return quoted(s)
	}
	if strings.HasSuffix(s, ":") {
		return quoted(s)
	}
	return s
}

// quoted writes a double-quoted scalar. Go's escapes are a subset of YAML's
// (YAML 1.2, 5.7) for valid UTF-8.
func quoted(s string) string { return strconv.Quote(strings.ToValidUTF8(s, "?")) }
