// Package scenario is the language of virtual worlds: nodes, regions, links
// with delay, loss and contacts, traffic and faults, read from strict YAML.
// It describes; package sim runs.
//
//	name: moon
//	duration: 2h
//	nodes:
//	- {name: luna, region: luna}
//	- {name: earth, region: earth}
//	links:
//	- {between: [luna, earth], delay: 1.28s, loss: 1%, contacts: {every: 30m, for: 20m}}
//	subscribers:
//	- {node: earth, client: ops, filter: "plant/#", qos: 1}
//	publishers:
//	- {node: luna, client: plc, topic: plant/1/temp, qos: 1, every: 1s, size: 64}
//	crashes:
//	- {node: earth, at: 10m, for: 1m}
package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/contact"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Limits of one world.
const (
	MaxNodes = 10_000
	MaxLinks = 100_000
)

// World is one scenario.
type World struct {
	Name        string       `yaml:"name"`
	Chaos       bool         `yaml:"chaos,omitempty"`      // the seed makes everything else; see Chaos
	Duration    Duration     `yaml:"duration"`             // virtual time
	Calm        Duration     `yaml:"calm,omitempty"`       // without traffic at the end, so that all can drain; default 40 %
	Drains      bool         `yaml:"drains,omitempty"`     // everything must have arrived at the end
	Sync        Duration     `yaml:"sync,omitempty"`       // time of one fsync; default 5ms
	OrderWait   Duration     `yaml:"order_wait,omitempty"` // default: the core's
	Batch       *Batch       `yaml:"batch,omitempty"`      // small messages to one destination share a bundle
	Nodes       []Node       `yaml:"nodes,omitempty"`
	Grid        *Grid        `yaml:"grid,omitempty"` // makes nodes and links
	Links       []Link       `yaml:"links,omitempty"`
	Subscribers []Subscriber `yaml:"subscribers,omitempty"`
	Publishers  []Publisher  `yaml:"publishers,omitempty"`
	Routes      []Route      `yaml:"routes,omitempty"`
	Crashes     []Outage     `yaml:"crashes,omitempty"`
	Faults      []Fault      `yaml:"faults,omitempty"`
	Random      Random       `yaml:"random,omitempty"`
}

// Batch joins small messages.
type Batch struct {
	Max  int      `yaml:"max"`            // payload bytes of one bundle
	Wait Duration `yaml:"wait,omitempty"` // how long a message waits for company
}

// Node is one farhop.
type Node struct {
	Name   string   `yaml:"name"`
	Region string   `yaml:"region"`
	Ahead  Shift    `yaml:"ahead,omitempty"`  // of the true time
	Drift  int      `yaml:"drift,omitempty"`  // of its clock, ppm
	Bytes  int64    `yaml:"bytes,omitempty"`  // quota of its store; default: the core's
	Count  int      `yaml:"count,omitempty"`  // messages in its store
	Window int      `yaml:"window,omitempty"` // items per queue in memory
	Sync   Duration `yaml:"sync,omitempty"`   // default: the world's
	Quotas []Quota  `yaml:"quotas,omitempty"` // of what it keeps
}

// Grid makes a mesh of nodes n00, n01, ... each linked to a few others.
type Grid struct {
	Nodes   int      `yaml:"nodes"`
	Degree  int      `yaml:"degree"`
	Regions int      `yaml:"regions"`
	Delay   Duration `yaml:"delay"`
	Choosy  int      `yaml:"choosy,omitempty"` // links that do not carry all classes, which publishers use in turn
}

// Link joins two nodes.
type Link struct {
	Between  [2]string `yaml:"between,flow"`
	Delay    Duration  `yaml:"delay"`
	Jitter   Duration  `yaml:"jitter,omitempty"`
	Loss     Percent   `yaml:"loss,omitempty"`  // of packets; the transport repeats them
	Burst    float64   `yaml:"burst,omitempty"` // packets lost in a row, on average; default: independently
	Rate     Rate      `yaml:"rate,omitempty"`
	Return   *Way      `yaml:"return,omitempty"` // from the second end to the first; default: as the other
	Contacts *Contacts `yaml:"contacts,omitempty,flow"`
	Cuts     []Span    `yaml:"cuts,omitempty,flow"`
	Classes  []string  `yaml:"classes,omitempty,flow"` // that it carries; default: all
}

// Carries returns the classes, none for all. Validate has looked at them.
func (l *Link) Carries() (of bundle.Classes) {
	for _, name := range l.Classes {
		if class, err := bundle.ParseClass(name); err == nil {
			of = of.With(class)
		}
	}
	return of
}

// Way is one direction of a link.
type Way struct {
	Delay  Duration `yaml:"delay"`
	Jitter Duration `yaml:"jitter,omitempty"`
	Loss   Percent  `yaml:"loss,omitempty"`
	Burst  float64  `yaml:"burst,omitempty"`
	Rate   Rate     `yaml:"rate,omitempty"`
}

// Ways returns both directions, that from the first end first.
func (l *Link) Ways() [2]Way {
	there := Way{l.Delay, l.Jitter, l.Loss, l.Burst, l.Rate}
	if l.Return != nil {
		return [2]Way{there, *l.Return}
	}
	return [2]Way{there, there}
}

// Contacts is a periodic contact, counted from the start of the world.
type Contacts struct {
	After Duration `yaml:"after"`
	Every Duration `yaml:"every"`
	For   Duration `yaml:"for"`
}

// Schedule anchors the contacts at the start of the world.
func (c *Contacts) Schedule(start time.Time) contact.Schedule {
	if c == nil {
		return contact.Schedule{}
	}
	return contact.Schedule{Start: start.Add(time.Duration(c.After)), Every: time.Duration(c.Every), For: time.Duration(c.For)}
}

// Span is a stretch of time.
type Span struct {
	At  Duration `yaml:"at"`
	For Duration `yaml:"for"`
}

// Outage is a crash: what was not synced is lost, and the node comes back.
type Outage struct {
	Node string   `yaml:"node"`
	At   Duration `yaml:"at"`
	For  Duration `yaml:"for"`
}

// Subscriber is a device. Without Expiry its session lasts for ever.
type Subscriber struct {
	Node    string   `yaml:"node"`
	Client  string   `yaml:"client"`
	Filter  string   `yaml:"filter"`
	QoS     uint8    `yaml:"qos"`
	Offline []Span   `yaml:"offline,omitempty,flow"`
	Receive uint16   `yaml:"receive_maximum,omitempty"` // default 20
	Expiry  Duration `yaml:"expiry,omitempty"`          // its session ends after so long without a connection
	Clean   bool     `yaml:"clean,omitempty"`           // its session ends with each connection
}

// Publisher is a device that publishes at a steady rate, and in bursts.
type Publisher struct {
	Node    string   `yaml:"node"`
	Client  string   `yaml:"client"`
	Topic   string   `yaml:"topic"`
	QoS     uint8    `yaml:"qos"`
	Every   Duration `yaml:"every"`
	Size    int      `yaml:"size,omitempty"`
	TTL     Duration `yaml:"ttl,omitempty"`
	Class   string   `yaml:"class,omitempty"` // default telemetry
	Retain  bool     `yaml:"retain,omitempty"`
	Outside bool     `yaml:"outside,omitempty"` // no client of the node: each message has a key, which makes it one however often it comes
	Bursts  []Burst  `yaml:"bursts,omitempty,flow"`
}

// Burst is many messages at once.
type Burst struct {
	At Duration `yaml:"at"`
	N  int      `yaml:"n"`
}

// Route is a policy.Route in words.
type Route struct {
	Name        string   `yaml:"name"`
	Topic       string   `yaml:"topic"`
	To          []string `yaml:"to,omitempty,flow"`
	Unreachable string   `yaml:"unreachable,omitempty"`
	OnFull      string   `yaml:"on_full,omitempty"`
	Class       string   `yaml:"class,omitempty"`
	TTL         Duration `yaml:"ttl,omitempty"`
}

// Random asks for faults and traffic drawn from the seed.
type Random struct {
	Crashes    int `yaml:"crashes,omitempty"`
	Cuts       int `yaml:"cuts,omitempty"`
	Publishers int `yaml:"publishers,omitempty"`
}

// Parse reads one world and reports all that is wrong with it.
func Parse(name string, data []byte) (*World, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	w := &World{}
	if err := dec.Decode(w); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s: the file is empty; write a world, see the built-in moon and ship", name)
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: a second YAML document; a file holds one world", name)
	}
	if err := w.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return w, nil
}

// Validate reports all faults.
func (w *World) Validate() error {
	v := &validator{known: map[string]bool{}}
	if w.Chaos {
		return nil
	}
	if w.Duration <= 0 {
		v.bad("duration: must be more than 0, such as 2h")
	}
	v.nodes(w)
	v.limits(w)
	for i, l := range w.Links {
		at := fmt.Sprintf("links[%d]", i)
		v.node(at, l.Between[0])
		v.node(at, l.Between[1])
		if l.Between[0] == l.Between[1] {
			v.bad("%s: joins %s with itself", at, l.Between[0])
		}
		for _, way := range l.Ways() {
			v.way(at, way)
		}
		if err := l.Contacts.Schedule(time.Time{}).Validate(); err != nil {
			v.bad("%s: contacts: %w", at, err)
		}
		for _, name := range l.Classes {
			v.class(at, name)
		}
	}
	v.devices(w)
	for i, c := range w.Crashes {
		v.node(fmt.Sprintf("crashes[%d]", i), c.Node)
	}
	v.faults(w)
	if _, err := w.Policy(); err != nil {
		v.bad("routes: %w", err)
	}
	return errors.Join(v.errs...)
}

// validator collects faults.
type validator struct {
	errs  []error
	known map[string]bool
}

func (v *validator) bad(format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf(format, args...))
}

func (v *validator) node(where, name string) {
	if !v.known[name] {
		v.bad("%s: no node is called %q", where, name)
	}
}

func (v *validator) way(where string, w Way) {
	if w.Loss < 0 || w.Loss >= 1 {
		v.bad("%s: loss must be 0%% or more and less than 100%%", where)
	}
	if w.Burst != 0 && (!(w.Burst >= 1 && w.Burst <= 1e6) || float64(w.Loss) > w.Burst/(w.Burst+1)) {
		v.bad("%s: burst must be 1 or more, and losses in such bursts leave a packet between them", where)
	}
}

func (v *validator) class(where, name string) {
	if _, err := bundle.ParseClass(name); err != nil {
		v.bad("%s: %w", where, err)
	}
}

func (v *validator) nodes(w *World) {
	for _, n := range w.Nodes {
		if _, err := addr.ParseNode(n.Name); err != nil {
			v.bad("nodes: %w", err)
		}
		if _, err := addr.ParseRegion(n.Region); err != nil {
			v.bad("nodes: %s: %w", n.Name, err)
		}
		if v.known[n.Name] {
			v.bad("nodes: %s is there twice", n.Name)
		}
		v.known[n.Name] = true
	}
	if g := w.Grid; g != nil {
		if g.Nodes < 2 || g.Nodes > MaxNodes || g.Degree < 1 || g.Regions < 1 || g.Delay <= 0 || g.Choosy < 0 {
			v.bad("grid: want nodes 2 to %d, degree and regions at least 1, and a delay", MaxNodes)
		}
		for i := range min(g.Nodes, MaxNodes) {
			v.known[GridName(i)] = true
		}
	}
	if len(v.known) == 0 || len(v.known) > MaxNodes || len(w.Links) > MaxLinks {
		v.bad("nodes: want 1 to %d, and at most %d links", MaxNodes, MaxLinks)
	}
}

func (v *validator) devices(w *World) {
	for i, s := range w.Subscribers {
		at := fmt.Sprintf("subscribers[%d]", i)
		v.node(at, s.Node)
		if err := interest.ValidFilter(s.Filter); err != nil {
			v.bad("%s: %w", at, err)
		}
		if s.Client == "" || s.QoS > 2 {
			v.bad("%s: want a client and a qos of 0 to 2", at)
		}
	}
	for i, p := range w.Publishers {
		at := fmt.Sprintf("publishers[%d]", i)
		v.node(at, p.Node)
		if err := interest.ValidTopic(p.Topic); err != nil {
			v.bad("%s: %w", at, err)
		}
		if p.Class != "" {
			v.class(at, p.Class)
		}
		if p.Outside && p.QoS != 1 {
			v.bad("%s: outside: has no packet ids; want qos: 1", at)
		}
		if p.Client == "" || p.QoS > 2 || p.Every <= 0 {
			v.bad("%s: want a client, a qos of 0 to 2 and an interval, such as every: 1s", at)
		}
	}
}

// GridName names the i-th node of a Grid.
func GridName(i int) string { return fmt.Sprintf("n%02d", i) }

// Policy returns the routes of the world.
func (w *World) Policy() (*policy.Table, error) {
	var routes []policy.Route
	for _, r := range w.Routes {
		p := policy.Route{Name: r.Name, Topic: r.Topic, TTL: time.Duration(r.TTL), HasClass: r.Class != ""}
		if p.HasClass {
			var err error
			if p.Class, err = bundle.ParseClass(r.Class); err != nil {
				return nil, err
			}
		}
		if r.Unreachable != "" {
			if err := p.Unreachable.UnmarshalText([]byte(r.Unreachable)); err != nil {
				return nil, err
			}
		}
		if r.OnFull != "" {
			if err := p.OnFull.UnmarshalText([]byte(r.OnFull)); err != nil {
				return nil, err
			}
		}
		for _, to := range r.To {
			region, err := addr.ParseRegion(to)
			if err != nil {
				return nil, err
			}
			p.To = append(p.To, region)
		}
		routes = append(routes, p)
	}
	return policy.NewTable(routes)
}
