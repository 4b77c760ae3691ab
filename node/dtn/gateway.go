package dtn

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/bundle/bpa"
)

// CarryService is the service of a node that takes bundles of other stacks as
// the payload of ours: dtn://NODE/dtn.
const CarryService = "dtn"

// User properties of a publication that came from another stack.
const (
	PropSource = "dtn-source"      // the EID that sent it
	PropDest   = "dtn-destination" // the EID it was sent to
	PropBundle = "dtn-bundle"      // SOURCE TIME SEQUENCE, what names it
	PropReport = "dtn-report-to"   // where its source wants reports; left out for dtn:none
)

// Mapping ties an endpoint to a topic, for stacks whose names hold no text:
// ipn:100.5 is plant/1/temp. It is read both ways.
type Mapping struct {
	EID   addr.EID
	Topic string
}

// Export makes bundles of MQTT publications.
type Export struct {
	Filter string // an MQTT topic filter
	// To is the destination, in which {topic} stands for the escaped topic:
	// ipn:2.9, dtn://hdtn/in, dtn://ground/mqtt/{topic}.
	To string
	// Source is the EID they come from. Default: the EID that Mappings has for
	// the topic, else Self where that and the destination are numbers, else
	// dtn://NODE/mqtt/TOPIC. Answers can be sent to the first and the last.
	Source   addr.EID
	ReportTo addr.EID      // default: dtn:none, no reports
	Lifetime time.Duration // of publications without an expiry; default 24 h
	HopLimit uint8         // default: no hop count block
}

// GatewayConfig is what a Gateway needs. Zero fields with a default say so.
type GatewayConfig struct {
	Node     addr.Node // this node
	Self     addr.EID  // the node id of the door, Config.Node
	Doors    Table     // what the peers of this node's door serve
	Mappings []Mapping
	Exports  []Export
	// Elsewhere finds the node of the mesh whose door serves an endpoint. Nil:
	// there is none.
	Elsewhere func(addr.EID) (addr.Node, bool)
	// Ours reports whether a node is of this mesh. Bundles for its topics are
	// published here, because MQTT is one over the whole mesh. Nil: Node alone.
	Ours   func(addr.Node) bool
	Policy bpa.Policy // zero: bpa.DefaultPolicy
	// MaxWhole is the largest payload that fragments are gathered to, bytes.
	// Fragments of larger ones are refused. 0: no limit.
	MaxWhole uint64
}

// Validate reports everything that is wrong, with the field's name.
func (c GatewayConfig) Validate() error {
	var errs []error
	bad := func(cond bool, format string, args ...any) {
		if cond {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.Node.IsZero(), "node: is empty")
	bad(!isNodeID(c.Self), "self: %q is no node id: want dtn://NODE/ or ipn:N.0", c.Self)
	eids, topics := map[addr.EID]bool{}, map[string]bool{}
	for i, m := range c.Mappings {
		bad(m.EID.IsZero() || bundle.IsNull(m.EID), "mappings[%d].eid: %q can receive nothing", i, m.EID)
		bad(eids[m.EID], "mappings[%d].eid: %s is mapped twice", i, m.EID)
		bad(topics[m.Topic], "mappings[%d].topic: %s is mapped twice", i, m.Topic)
		if err := checkTopic(m.Topic); err != nil {
			errs = append(errs, fmt.Errorf("mappings[%d].topic: %w", i, err))
		}
		eids[m.EID], topics[m.Topic] = true, true
	}
	for i, e := range c.Exports {
		if err := interest.ValidFilter(e.Filter); err != nil {
			errs = append(errs, fmt.Errorf("exports[%d].filter: %w", i, err))
		}
		to, err := addr.ParseEID(fillTemplate(e.To, "topic"))
		bad(err != nil || bundle.IsNull(to), "exports[%d].to: %q is no endpoint", i, e.To)
		bad(strings.Contains(e.To, topicHole) && to.Scheme() != addr.SchemeDTN, "exports[%d].to: only a dtn EID can hold a topic", i)
		bad(e.Lifetime < 0, "exports[%d].lifetime: must not be negative", i)
		bad(!e.Source.IsZero() && !bundle.IsSingleton(e.Source), "exports[%d].source: %q is not the name of one node", i, e.Source)
	}
	if err := c.policy().Validate(); err != nil {
		errs = append(errs, fmt.Errorf("policy: %w", err))
	}
	return errors.Join(errs...)
}

func (c GatewayConfig) policy() bpa.Policy {
	if c.Policy == (bpa.Policy{}) {
		return bpa.DefaultPolicy()
	}
	return c.Policy
}

// Gateway translates between bundles of other stacks and the mesh. It does no
// I/O, keeps nothing between calls and may be used by several goroutines.
type Gateway struct {
	cfg    GatewayConfig
	policy bpa.Policy
	topics map[addr.EID]string
	eids   map[string]addr.EID
}

// NewGateway checks cfg.
func NewGateway(cfg GatewayConfig) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("dtn gateway: %w", err)
	}
	g := &Gateway{cfg: cfg, policy: cfg.policy(), topics: map[addr.EID]string{}, eids: map[string]addr.EID{}}
	for _, m := range cfg.Mappings {
		g.topics[m.EID] = m.Topic
		g.eids[m.Topic] = m.EID
	}
	return g, nil
}

// ActionKind says what is to be done with a bundle that arrived.
type ActionKind uint8

// The kinds. Whatever it is, it is durable before the bundle is acknowledged.
const (
	// Publish: put Publication into the mesh.
	Publish ActionKind = iota + 1
	// Carry: send Raw as the payload of a bundle of ours to dtn://Node/dtn.
	Carry
	// Forward: keep Raw for Peer of this node's own door.
	Forward
	// Gather: keep Raw until all fragments are here (bpa.Reassembler), then
	// call In with the whole.
	Gather
	// Report: Report says what became of one of our exports.
	Report
)

// Property is an MQTT user property.
type Property struct{ Name, Value string }

// Publication is an MQTT publication on its way in or out.
type Publication struct {
	Topic   string
	Region  addr.Region // In: for this region alone, zero: for all of the mesh
	Payload []byte
	// TTL is what is left of the lifetime. For Export it is the expiry as
	// published, counted from Stamp.Created, and 0 for none.
	TTL   time.Duration
	Props []Property
}

// Action is what is to be done with a bundle that arrived.
type Action struct {
	Kind ActionKind
	// Key names the bundle, to be looked up before anything is done and to be
	// remembered, durably and together with it, for Keep: a second bundle of
	// the same Key is a Duplicate.
	Key  [16]byte
	Keep time.Duration
	TTL  time.Duration // what is left of the bundle's lifetime

	Publication Publication // Publish
	Node        addr.Node   // Carry
	Peer        string      // Forward
	Raw         []byte      // Carry, Forward, Gather: as received
	Report      bpa.Report  // Report

	view *bundle.View // Forward: Raw as read
}

// minKeep is how long a key is remembered at least: a peer whose session broke
// before our acknowledgement offers again what may have expired meanwhile.
const minKeep = time.Hour

// In says what to do with a bundle that arrived, and a reason other than OK
// when it is refused. now is zero where the time is not known.
func (g *Gateway) In(r Received, now time.Time) (Action, bundle.Reason) {
	v, err := bundle.Parse(r.Bundle)
	if err != nil {
		return Action{}, bundle.Malformed
	}
	if verdict := g.policy.Check(&v, now); !verdict.OK() {
		return Action{}, verdict.Refused.Reason()
	}
	a := Action{Key: keyOf(&v), TTL: remaining(&v, now), Raw: r.Bundle}
	a.Keep = max(a.TTL, minKeep)
	if a.TTL <= 0 {
		return Action{}, bundle.Expired
	}
	why := g.destination(&a, &v, r.Peer)
	if why != bundle.OK {
		return Action{}, why
	}
	if (a.Kind == Publish || a.Kind == Report) && v.Primary.Flags&bundle.FlagFragment != 0 {
		if g.cfg.MaxWhole > 0 && v.Primary.TotalLen > g.cfg.MaxWhole {
			return Action{}, bundle.TooLarge
		}
		a.Kind, a.Publication = Gather, Publication{}
	}
	return a, bundle.OK
}

// destination chooses the kind of the action.
func (g *Gateway) destination(a *Action, v *bundle.View, from string) bundle.Reason {
	dest := bundle.Canonical(v.Primary.Dest)
	if dest == g.cfg.Self || g.isUs(dest, "") {
		return g.report(a, v)
	}
	if topic, ok := g.topics[dest]; ok {
		return g.publish(a, v, topic, addr.Region{})
	}
	if node, service, ok := dest.Node(); ok && g.ours(node) {
		path, ok := strings.CutPrefix(service, mqttService+"/")
		if !ok {
			return bundle.NoRoute // a service that does not exist
		}
		return g.publishPath(a, v, path, addr.Region{})
	}
	if region, service, ok := dest.Region(); ok {
		if path, ok := strings.CutPrefix(service, mqttService+"/"); ok {
			return g.publishPath(a, v, path, region)
		}
	}
	if peer, ok := g.cfg.Doors.Peer(dest); ok {
		if peer == from {
			return bundle.NoRoute // it knows the way no better than we do
		}
		view := *v
		a.Kind, a.Peer, a.view = Forward, peer, &view
		return bundle.OK
	}
	if g.cfg.Elsewhere != nil {
		if node, ok := g.cfg.Elsewhere(dest); ok && node != g.cfg.Node {
			a.Kind, a.Node = Carry, node
			return bundle.OK
		}
	}
	return bundle.NoRoute
}

func (g *Gateway) isUs(e addr.EID, service string) bool {
	n, s, ok := e.Node()
	return ok && n == g.cfg.Node && s == service
}

func (g *Gateway) ours(n addr.Node) bool {
	return n == g.cfg.Node || g.cfg.Ours != nil && g.cfg.Ours(n)
}

func (g *Gateway) publishPath(a *Action, v *bundle.View, path string, region addr.Region) bundle.Reason {
	topic, err := unescapeTopic(path)
	if err != nil {
		return bundle.NotAllowed
	}
	return g.publish(a, v, topic, region)
}

func (g *Gateway) publish(a *Action, v *bundle.View, topic string, region addr.Region) bundle.Reason {
	p := &v.Primary
	if p.Flags&bundle.FlagAdminRecord != 0 {
		return bundle.NotAllowed // a record for the node, sent to a topic
	}
	a.Kind = Publish
	a.Publication = Publication{Topic: topic, Region: region, Payload: v.Payload.Data, TTL: a.TTL, Props: []Property{
		{PropSource, p.Source.String()},
		{PropDest, p.Dest.String()},
		{PropBundle, fmt.Sprintf("%s %d %d", p.Source, p.Created.Time, p.Created.Seq)},
	}}
	if !bundle.IsNull(p.ReportTo) {
		a.Publication.Props = append(a.Publication.Props, Property{PropReport, p.ReportTo.String()})
	}
	return bundle.OK
}

// report takes an administrative record for this node.
func (g *Gateway) report(a *Action, v *bundle.View) bundle.Reason {
	if v.Primary.Flags&bundle.FlagAdminRecord == 0 {
		return bundle.NoRoute // the node itself is no application
	}
	a.Kind = Report
	if v.Primary.Flags&bundle.FlagFragment != 0 {
		return bundle.OK // to be gathered first
	}
	rec, err := bpa.ParseRecord(v.Payload.Data)
	if err != nil {
		return bundle.Malformed
	}
	if !rec.IsReport() {
		return bundle.NoRoute // a record of a kind that nobody here reads
	}
	a.Report = rec.Report
	return bundle.OK
}

// keyOf names a bundle in 16 bytes. An anonymous bundle has no identity (RFC
// 9171, section 4.2.3): there its content is the name, so that at least what
// is sent again after a lost session is known.
func keyOf(v *bundle.View) (key [16]byte) {
	h := sha256.New()
	if k, ok := bundle.KeyOf(v); ok {
		h.Write(k.Append(nil))
	} else {
		h.Write(v.PrimaryRaw)
		h.Write(v.Payload.Data)
	}
	copy(key[:], h.Sum(nil))
	return key
}

// lifetime is that of the bundle, cut to what fits.
func lifetime(v *bundle.View) time.Duration {
	const most = time.Duration(1<<63 - 1)
	if ms := v.Primary.Lifetime; ms < uint64(most/time.Millisecond) {
		return time.Duration(ms) * time.Millisecond
	}
	return most
}

// remaining is what is left of the lifetime: by creation time where both ends
// have a clock, else by age (RFC 9171, section 5.5).
func remaining(v *bundle.View, now time.Time) time.Duration {
	life := lifetime(v)
	if ms, ok := v.Primary.Created.UnixMS(); ok && !now.IsZero() {
		if passed := now.Sub(time.UnixMilli(ms)); passed > 0 {
			return life - passed
		}
		return life
	}
	return life - v.Age
}

// Filters returns the topic filters of the exports: the subscriptions of the
// durable session that feeds Export.
func (g *Gateway) Filters() []string {
	var out []string
	for _, e := range g.cfg.Exports {
		if !slices.Contains(out, e.Filter) {
			out = append(out, e.Filter)
		}
	}
	return out
}
