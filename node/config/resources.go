package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Resources are what a whole mesh can share: they stand in a node's own file,
// or in one that "farhop fleet push" signs and sends to every node.
type Resources struct {
	Services []Service `json:"services,omitempty"`
	Routes   []Route   `json:"routes,omitempty"`
	Quotas   []Quota   `json:"quotas,omitempty"`
}

// Service is a TCP service and the places where clients find it.
type Service struct {
	Name      string     `json:"name"`
	Endpoints []Endpoint `json:"endpoints,omitempty"` // where the server is
	Listen    []Endpoint `json:"listen,omitempty"`    // where clients connect
}

// Endpoint is an address as one node sees it. In a node's own file a zero Node
// is that node; resources for a whole mesh name one in each.
type Endpoint struct {
	Node    addr.Node `json:"node,omitzero"`
	Address HostPort  `json:"address"`
}

// Route is the written form of a policy.Route.
type Route struct {
	Name        string             `json:"name"`
	Match       Match              `json:"match"`
	To          []addr.Region      `json:"to,omitempty"`
	Unreachable policy.Unreachable `json:"unreachable,omitzero"`
	OnFull      policy.OnFull      `json:"on_full,omitzero"`
	Class       ClassName          `json:"class,omitempty"` // "" for the class the message came with
	TTL         Duration           `json:"ttl,omitzero"`    // 0 for delivery.ttl
}

// Match says what a route is for: one of the two.
type Match struct {
	Topic   string `json:"topic,omitempty"` // MQTT topic filter
	Service string `json:"service,omitempty"`
}

// Quota is the written form of a policy.Quota. Each node counts for itself.
type Quota struct {
	Name        string      `json:"name"`
	Match       QuotaMatch  `json:"match,omitzero"` // zero for everything
	Each        policy.Each `json:"each,omitzero"`
	MaxBytes    Size        `json:"max_bytes,omitzero"`    // 0 for no limit
	MaxMessages int         `json:"max_messages,omitzero"` // 0 for no limit
}

// QuotaMatch says what a quota is for; what is left out matches anything.
type QuotaMatch struct {
	Client string      `json:"client,omitempty"` // client id, '*' for any text
	Topic  string      `json:"topic,omitempty"`  // MQTT topic filter
	Region addr.Region `json:"region,omitzero"`  // of a recipient
	Class  ClassName   `json:"class,omitempty"`
	Peer   string      `json:"peer,omitempty"` // neighbour that hands over, '*' for any text
}

// Policy returns the routes in the form package policy takes.
func (r Resources) Policy() []policy.Route {
	out := make([]policy.Route, len(r.Routes))
	for i, route := range r.Routes {
		class, err := bundle.ParseClass(string(route.Class))
		out[i] = policy.Route{
			Name: route.Name, Topic: route.Match.Topic, Service: route.Match.Service,
			To: slices.Clone(route.To), Unreachable: route.Unreachable, OnFull: route.OnFull,
			Class: class, HasClass: err == nil, TTL: time.Duration(route.TTL),
		}
	}
	return out
}

// QuotaRules returns the quotas in the form package policy takes.
func (r Resources) QuotaRules() []policy.Quota {
	out := make([]policy.Quota, len(r.Quotas))
	for i, q := range r.Quotas {
		class, err := bundle.ParseClass(string(q.Match.Class))
		out[i] = policy.Quota{
			Name: q.Name, Client: q.Match.Client, Topic: q.Match.Topic, Region: q.Match.Region,
			Class: class, HasClass: err == nil, Peer: q.Match.Peer,
			Each: q.Each, Bytes: int64(q.MaxBytes), Count: q.MaxMessages,
		}
	}
	return out
}

// ForNode returns what concerns one node: all routes, all quotas, all
// services, and of the services' listeners only its own. Endpoints without a
// node become the node's.
func (r Resources) ForNode(self addr.Node) Resources {
	own := func(e Endpoint) Endpoint {
		if e.Node.IsZero() {
			e.Node = self
		}
		return e
	}
	out := Resources{Routes: slices.Clone(r.Routes), Quotas: slices.Clone(r.Quotas)}
	for _, s := range r.Services {
		t := Service{Name: s.Name}
		for _, e := range s.Endpoints {
			t.Endpoints = append(t.Endpoints, own(e))
		}
		for _, e := range s.Listen {
			if e = own(e); e.Node == self {
				t.Listen = append(t.Listen, e)
			}
		}
		out.Services = append(out.Services, t)
	}
	return out
}

// ParseResources reads the YAML of "farhop fleet push": the keys services,
// routes and quotas of a node's file, with a node in every endpoint. name is
// what errors call the file. The error joins every Fault.
func ParseResources(name string, data []byte) (Resources, error) {
	var r Resources
	f := decode(name, data, &r, "write the keys services, routes and quotas, [] for none")
	if r.validate(f, make(bindings), named); len(f.list) > 0 {
		return Resources{}, f.err()
	}
	return r, nil
}

// Validate says what is wrong with resources for a whole mesh, joining every
// Fault.
func (r Resources) Validate() error {
	var f faults
	r.validate(&f, make(bindings), named)
	return f.err()
}

// ErrNotCanonical is returned for bytes that Canonical would have written
// otherwise.
var ErrNotCanonical = errors.New("resources are not in canonical form")

// Canonical returns the one encoding that is signed: JSON without spaces, keys
// in the order of the schema, defaults left out. Equal resources have equal
// bytes, whatever file they came from.
func (r Resources) Canonical() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encode resources: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// ParseCanonical reads what Canonical wrote. It refuses everything else, so
// that no two byte strings, and no two signatures, stand for the same
// resources, and it validates what it reads.
func ParseCanonical(data []byte) (Resources, error) {
	if len(data) > MaxFile {
		return Resources{}, fmt.Errorf("resources of %d bytes, more than %d", len(data), MaxFile)
	}
	var r Resources
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Resources{}, fmt.Errorf("decode resources: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Resources{}, fmt.Errorf("%w: more follows after the first value", ErrNotCanonical)
	}
	again, err := r.Canonical()
	if err != nil {
		return Resources{}, err
	}
	if !bytes.Equal(again, data) {
		return Resources{}, ErrNotCanonical
	}
	if err := r.Validate(); err != nil {
		return Resources{}, err
	}
	return r, nil
}
