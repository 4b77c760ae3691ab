package config

import (
	"fmt"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
)

const (
	maxServices  = 1024
	maxEndpoints = 64 // of one service, and as many listeners
)

// nodeOf says at which node an endpoint is, ok false if it does not tell.
type nodeOf func(Endpoint) (n addr.Node, ok bool)

// named is the nodeOf of resources for a whole mesh.
func named(e Endpoint) (addr.Node, bool) { return e.Node, !e.Node.IsZero() }

// validate checks resources. taken holds the listeners there are already.
func (r Resources) validate(f *faults, taken bindings, at nodeOf) {
	if len(r.Services) > maxServices {
		f.add("services", "%d services, more than %d; remove some", len(r.Services), maxServices)
		return
	}
	seen := make(map[string]int)
	for i, s := range r.Services {
		field := fmt.Sprintf("services[%d]", i)
		if err := policy.ValidName(s.Name); err != nil {
			f.add(field+".name", "%v; give every service a short name of its own", err)
		} else if first, dup := seen[s.Name]; dup {
			f.add(field+".name", "%s is services[%d] already; rename one or join their endpoints", s.Name, first)
		} else {
			seen[s.Name] = i
		}
		s.validate(f, field, taken, at)
	}
	r.validateRoutes(f, seen)
	r.validateQuotas(f)
}

func (s Service) validate(f *faults, field string, taken bindings, at nodeOf) {
	switch {
	case len(s.Endpoints) == 0:
		f.add(field+".endpoints", "is missing; write at least one {node: ..., address: HOST:PORT} at which the server answers")
	case len(s.Endpoints) > maxEndpoints:
		f.add(field+".endpoints", "%d endpoints, more than %d; remove some", len(s.Endpoints), maxEndpoints)
		return
	case len(s.Listen) > maxEndpoints:
		f.add(field+".listen", "%d listeners, more than %d; remove some", len(s.Listen), maxEndpoints)
		return
	}
	seen := make(map[Endpoint]int)
	for i, e := range s.Endpoints {
		here := fmt.Sprintf("%s.endpoints[%d]", field, i)
		var ok bool
		if e.Node, ok = at(e); !ok {
			f.add(here+".node", "is missing; write the node at which the server answers, every node reads this file")
		}
		dialable(f, here+".address", e.Address)
		if first, dup := seen[e]; dup && e.Address != "" {
			f.add(here, "is endpoints[%d] already; remove one", first)
		} else {
			seen[e] = i
		}
	}
	for i, e := range s.Listen {
		here := fmt.Sprintf("%s.listen[%d]", field, i)
		n, ok := at(e)
		if !ok {
			f.add(here+".node", "is missing; write the node that shall listen, every node reads this file")
		}
		if e.Address == "" {
			f.add(here+".address", "is missing; write where clients connect, such as 127.0.0.1:15432")
		}
		listenable(f, here+".address", e.Address)
		taken.add(f, here+".address", n, e.Address)
	}
}

// validateRoutes reports what package policy finds, and routes to services
// that are not there.
func (r Resources) validateRoutes(f *faults, services map[string]int) {
	fields := map[string]string{"topic": "match.topic", "service": "match.service"}
	for _, fault := range policy.Check(r.Policy()) {
		field := fmt.Sprintf("routes[%d]", fault.Index)
		switch name, written := fields[fault.Field]; {
		case written:
			field += "." + name
		case fault.Field != "":
			field += "." + fault.Field
		}
		f.add(field, "%s", fault.Problem)
	}
	if len(r.Routes) > policy.MaxRoutes {
		return
	}
	for i, route := range r.Routes {
		field := fmt.Sprintf("routes[%d]", i)
		if _, err := bundle.ParseClass(string(route.Class)); err != nil && route.Class != "" {
			f.add(field+".class", "%v", err)
		}
		name := route.Match.Service
		if _, have := services[name]; name == "" || have || policy.ValidName(name) != nil {
			continue
		}
		var names []string
		for _, s := range r.Services {
			names = append(names, s.Name)
		}
		if near := closest(name, names); near != "" {
			f.add(field+".match.service", "there is no service %s; did you mean %s?", name, near)
			continue
		}
		f.add(field+".match.service", "there is no service %s in this file; add it under services", name)
	}
}

// validateQuotas reports what package policy finds.
func (r Resources) validateQuotas(f *faults) {
	for _, fault := range policy.CheckQuotas(r.QuotaRules()) {
		field := fmt.Sprintf("quotas[%d]", fault.Index)
		switch fault.Field {
		case "":
		case "client", "topic", "region", "class", "peer":
			field += ".match." + fault.Field
		default:
			field += "." + fault.Field
		}
		f.add(field, "%s", fault.Problem)
	}
	if len(r.Quotas) > policy.MaxQuotas {
		return
	}
	for i, q := range r.Quotas {
		if _, err := bundle.ParseClass(string(q.Match.Class)); err != nil && q.Match.Class != "" {
			f.add(fmt.Sprintf("quotas[%d].match.class", i), "%v", err)
		}
	}
}

// bindings holds, per node and port, which listeners there are: a port can be
// bound once per address, and not at all beside a listener on all addresses.
type bindings map[binding]string // -> field

type binding struct {
	node addr.Node
	udp  bool
	port int
	host string // "*" for all addresses, "" for the first listener of any kind
}

func (b bindings) add(f *faults, field string, n addr.Node, a HostPort) {
	b.take(f, field, n, a, false)
}

// addUDP is add for what listens for datagrams, where TCP does not matter.
func (b bindings) addUDP(f *faults, field string, n addr.Node, a HostPort) {
	b.take(f, field, n, a, true)
}

func (b bindings) take(f *faults, field string, n addr.Node, a HostPort, udp bool) {
	if a.Port() == 0 {
		return // none, or chosen by the system
	}
	host := a.Host()
	if a.any() {
		host = "*"
	}
	find := []string{host, "*"}
	if host == "*" {
		find = []string{""}
	}
	for _, h := range find {
		if other, taken := b[binding{n, udp, a.Port(), h}]; taken {
			f.add(field, "%s is taken by %s; choose another port", a, other)
			return
		}
	}
	b[binding{n, udp, a.Port(), host}] = field
	if first := (binding{n, udp, a.Port(), ""}); b[first] == "" {
		b[first] = field
	}
}
