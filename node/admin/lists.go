package admin

import "context"

// These ask the backend and write empty lists as [] and not as null, so that a
// script can walk every answer without asking first.

func listed[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

func status(b Backend, ctx context.Context) (Status, error) {
	s, err := b.Status(ctx)
	s.Peers, s.Queues = listed(s.Peers), listed(s.Queues)
	return s, err
}

func queues(b Backend, ctx context.Context) (Queues, error) {
	q, err := b.Queues(ctx)
	q.Queues, q.Quotas = listed(q.Queues), listed(q.Quotas)
	return q, err
}

func peek(b Backend, ctx context.Context, r PeekRequest) (Peek, error) {
	p, err := b.Peek(ctx, r)
	p.Messages = listed(p.Messages)
	return p, err
}

func sessions(b Backend, ctx context.Context, r SessionsRequest) (Sessions, error) {
	s, err := b.Sessions(ctx, r)
	s.Sessions = listed(s.Sessions)
	return s, err
}

func retained(b Backend, ctx context.Context, r RetainedRequest) (Retained, error) {
	s, err := b.Retained(ctx, r)
	s.Messages = listed(s.Messages)
	return s, err
}

func nodes(b Backend, ctx context.Context) ([]Node, error) {
	all, err := b.Nodes(ctx)
	for i := range all {
		all[i].Interest, all[i].Services = listed(all[i].Interest), listed(all[i].Services)
	}
	return listed(all), err
}

func rules(b Backend, ctx context.Context) ([]Route, error) {
	all, err := b.Routes(ctx)
	for i := range all {
		all[i].Hops = listed(all[i].Hops)
	}
	return listed(all), err
}

func fleetStatus(b Backend, ctx context.Context) (FleetStatus, error) {
	s, err := b.FleetStatus(ctx)
	s.Nodes = listed(s.Nodes)
	return s, err
}
