package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/node/stream"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
)

// streams answers the questions of package stream from the last snapshot of
// routing, without asking the loop.
type streams struct {
	mqtt  *mqtt // holds the snapshot
	links *link.Manager
}

// Resolve implements stream.Mesh: the endpoint that is up, in the first region
// of the service's route that has one, and the nearest there.
func (s *streams) Resolve(service string, tried []addr.Node) (addr.Node, error) {
	snap := s.mqtt.snapshot.Load()
	if snap == nil {
		return addr.Node{}, &stream.UnreachableError{Service: service, Store: true}
	}
	route, routed := snap.Routes.ForService(service)
	regions := route.To
	if len(regions) == 0 {
		regions = []addr.Region{{}} // anywhere
	}
	for _, region := range regions {
		var near []candidate
		for _, a := range snap.Adverts {
			if !region.IsZero() && !region.Contains(a.Region) || slices.Contains(tried, a.Node) || !offers(a, service) {
				continue
			}
			if p := snap.Path(a.Node); a.Node == snap.Self || p.Up() {
				near = append(near, candidate{a.Node, p.Cost})
			}
		}
		if len(near) > 0 {
			return slices.MinFunc(near, func(a, b candidate) int { return cmp.Compare(a.cost, b.cost) }).node, nil
		}
	}
	return addr.Node{}, &stream.UnreachableError{Service: service, Store: !routed || route.Unreachable == policy.Store}
}

type candidate struct {
	node addr.Node
	cost uint64
}

func offers(a *routing.Advert, service string) bool {
	return slices.ContainsFunc(a.Services, func(s routing.ServiceState) bool { return s.Name == service && s.Up })
}

// Reachable implements stream.Mesh.
func (s *streams) Reachable(n addr.Node) bool {
	snap := s.mqtt.snapshot.Load()
	return snap != nil && (n == snap.Self || snap.Path(n).Up())
}

// Open implements stream.Mesh: a stream to the next hop towards dest.
func (s *streams) Open(ctx context.Context, dest addr.Node) (stream.Conn, error) {
	snap := s.mqtt.snapshot.Load()
	hop := snap.Path(dest).Hop
	ses := s.links.Session(hop)
	if ses == nil {
		return nil, fmt.Errorf("open a stream to %s: the link to %s is down", dest, hop)
	}
	return ses.OpenStream(ctx)
}

// serve takes a stream of a peer.
func serveStreams(srv *stream.Server) func(context.Context, *link.Session, wire.StreamOpen, *link.Stream) {
	return func(ctx context.Context, _ *link.Session, open wire.StreamOpen, st *link.Stream) {
		srv.Handle(ctx, open, st)
	}
}

// wanted is what a node offers and listens for, from its resources.
func streamServices(self addr.Node, res config.Resources) []stream.Service {
	byName := map[string]*stream.Service{}
	var order []string
	get := func(name string) *stream.Service {
		if byName[name] == nil {
			byName[name] = &stream.Service{Name: name}
			order = append(order, name)
		}
		return byName[name]
	}
	for _, s := range res.ForNode(self).Services {
		for _, e := range s.Endpoints {
			if e.Node == self {
				sv := get(s.Name)
				sv.Endpoints = append(sv.Endpoints, string(e.Address))
			}
		}
		for _, l := range s.Listen {
			if l.Node == self {
				sv := get(s.Name)
				sv.Listen = append(sv.Listen, string(l.Address))
			}
		}
	}
	var out []stream.Service
	for _, name := range order {
		out = append(out, *byName[name])
	}
	return out
}
