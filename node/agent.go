package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/fleet"
	"github.com/farhop/farhop/node/stream"
	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// ServiceFleet is where revisions are addressed to.
const ServiceFleet = "fleet"

const (
	revisionKey = "fleet" // the signed revision in force
	fleetTTL    = 90 * 24 * time.Hour
)

// agent puts configuration in force: the node's own file, and the fleet's
// revision over it. A revision is kept on disk before it counts as applied.
type agent struct {
	self    addr.Node
	local   config.Config
	trust   identity.DualPublic
	signer  *identity.DualSigner // nil where the authority is not
	loop    *loop
	streams *stream.Server
	log     *slog.Logger

	mu      sync.Mutex // guards what follows
	inForce *fleet.Revision
	state   routing.FleetState
	health  map[string]bool      // endpoints of this node
	seen    map[addr.Node]uint64 // revision last reported by a node
	sent    map[addr.Node]uint64 // revision last sent to a node, by the authority's node
}

// errNotAuthority is returned where the signing key is not.
var errNotAuthority = errors.New("this node does not hold the authority; push on the node where farhop init was run")

// errUnchanged is returned for a push of what is in force already.
var errUnchanged = errors.New("the same resources are in force already")

// merged is the local file with the revision over it: a name in the revision
// replaces the same name in the file, and its routes come first.
func (a *agent) merged(rev *fleet.Revision) config.Resources {
	local := config.Resources{Services: a.local.Services, Routes: a.local.Routes, Quotas: a.local.Quotas}.ForNode(a.self)
	if rev == nil {
		return local
	}
	out := rev.Resources.ForNode(a.self)
	for _, s := range local.Services {
		if !slices.ContainsFunc(out.Services, func(o config.Service) bool { return o.Name == s.Name }) {
			out.Services = append(out.Services, s)
		}
	}
	for _, r := range local.Routes {
		if !slices.ContainsFunc(out.Routes, func(o config.Route) bool { return o.Name == r.Name }) {
			out.Routes = append(out.Routes, r)
		}
	}
	for _, q := range local.Quotas {
		if !slices.ContainsFunc(out.Quotas, func(o config.Quota) bool { return o.Name == q.Name }) {
			out.Quotas = append(out.Quotas, q)
		}
	}
	return out
}

// start puts the file, and the revision found on disk, in force.
func (a *agent) start(ctx context.Context, saved []byte) error {
	var rev *fleet.Revision
	if saved != nil {
		var err error
		if rev, err = fleet.Open(saved, a.trust); err != nil {
			return fmt.Errorf("the fleet revision on disk: %w", err)
		}
	}
	if err := a.apply(ctx, rev); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.adopt(rev)
	return nil
}

func (a *agent) adopt(rev *fleet.Revision) {
	if a.inForce = rev; rev != nil {
		a.state.Applied = rev.Seq
		if a.state.Refused <= rev.Seq {
			a.state.Refused, a.state.Reason = 0, ""
		}
	}
}

// apply checks everything before it changes anything.
func (a *agent) apply(ctx context.Context, rev *fleet.Revision) error {
	res := a.merged(rev)
	if _, err := policy.NewTable(res.Policy()); err != nil {
		return fmt.Errorf("%w: %w", fleet.ErrContent, err)
	}
	if _, err := policy.NewQuotas(res.QuotaRules()); err != nil {
		return fmt.Errorf("%w: %w", fleet.ErrContent, err)
	}
	if err := a.streams.Configure(ctx, streamServices(a.self, res)); err != nil {
		return fmt.Errorf("%w: %w", fleet.ErrContent, err)
	}
	return nil
}

// configure tells the core what is in force.
func (a *agent) configure() {
	a.mu.Lock()
	res, state := a.merged(a.inForce), a.state
	var services []routing.ServiceState
	for _, s := range res.Services {
		if slices.ContainsFunc(s.Endpoints, func(e config.Endpoint) bool { return e.Node == a.self }) {
			services = append(services, routing.ServiceState{Name: s.Name, Up: a.health[s.Name]})
		}
	}
	a.mu.Unlock()
	table, err := policy.NewTable(res.Policy())
	quotas, err2 := policy.NewQuotas(res.QuotaRules()) // the loop's own from here on
	if err := errors.Join(err, err2); err != nil {
		a.log.Error("routes and quotas in force cannot be read", "error", err) // apply checked them
		return
	}
	settings := core.Settings{
		TTL: time.Duration(a.local.Delivery.TTL), OrderWait: time.Duration(a.local.Delivery.OrderWait),
		Services: services, Fleet: state, Quotas: quotas, Batch: batching(a.local.Delivery.Batch),
		Retained: core.RetainedSettings{
			Horizon: time.Duration(a.local.Delivery.Horizon), Max: a.local.Store.MaxRetained, MaxBytes: int64(a.local.Store.MaxRetainedBytes),
		},
		Contacts: contacts(&a.local), SkipFull: a.local.MQTT.Limits.FullSession == config.SkipFull,
	}
	a.loop.in.put(func(now time.Time, c *core.Core) { c.Configure(now, settings, table) })
}

// contacts are the plans of links that the configuration knows.
func contacts(c *config.Config) map[addr.Node]core.Schedule {
	out := map[addr.Node]core.Schedule{}
	for _, p := range c.Peers {
		if !p.Node.IsZero() && p.Contacts != nil {
			out[p.Node] = schedule(properties(p.LinkProps))
		}
	}
	for _, l := range c.Links {
		if l.Contacts != nil {
			out[l.Node] = schedule(properties(l.LinkProps))
		}
	}
	return out
}

func batching(c config.Batch) core.Batching {
	out := core.Batching{Max: int(c.MaxBytes)}
	for class := range bundle.Class(bundle.NumClasses) {
		out.Wait[class] = time.Duration(c.Wait.Of(class))
	}
	return out
}

// healthChanged is told by stream when an endpoint comes or goes.
func (a *agent) healthChanged(service string, up bool) {
	a.mu.Lock()
	a.health[service] = up
	a.mu.Unlock()
	a.configure()
}

// receive takes a revision off the mesh. It is settled when its fate is known.
func (a *agent) receive(ctx context.Context, signed []byte) {
	rev, err := fleet.Open(signed, a.trust)
	if err == nil {
		a.mu.Lock()
		err = rev.Follows(a.inForce)
		a.mu.Unlock()
	}
	if err == nil {
		err = a.putInForce(ctx, rev)
	}
	switch {
	case err == nil:
		a.log.Info("revision applied", "revision", rev.Seq)
	case errors.Is(err, fleet.ErrStale):
		a.log.Debug("revision is old", "error", err)
		return
	default:
		a.log.Warn("revision refused", "error", err)
		a.mu.Lock()
		a.state.Refused, a.state.Reason = a.state.Applied+1, clip(err.Error(), 256)
		if rev != nil {
			a.state.Refused = rev.Seq
		}
		a.mu.Unlock()
	}
	a.configure()
}

// putInForce applies a revision and keeps it; when it cannot be kept it is
// taken back.
func (a *agent) putInForce(ctx context.Context, rev *fleet.Revision) error {
	if err := a.apply(ctx, rev); err != nil {
		return err
	}
	r, err := a.loop.ask(ctx, func(now time.Time, c *core.Core, token uint64) {
		c.SetState(now, token, revisionKey, rev.Signed)
	})
	if err == nil && r.Reason != bundle.OK {
		err = errors.New(r.Reason.String())
	}
	a.mu.Lock()
	before := a.inForce
	if err == nil {
		a.adopt(rev)
	}
	a.mu.Unlock()
	if err != nil {
		return errors.Join(fmt.Errorf("keep revision %d: %w", rev.Seq, err), a.apply(ctx, before))
	}
	return nil
}

// push signs resources as the next revision, puts them in force here and
// sends them to every known node.
func (a *agent) push(ctx context.Context, res config.Resources) (*fleet.Revision, error) {
	if a.signer == nil {
		return nil, errNotAuthority
	}
	a.mu.Lock()
	before := a.inForce
	rev, err := fleet.Sign(a.signer, before, res, a.loop.clock.now())
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if before != nil && rev.Same(before) {
		return before, errUnchanged
	}
	if err := a.putInForce(ctx, rev); err != nil {
		return nil, err
	}
	a.configure()
	return rev, nil
}

// spread sends the revision in force to every node that does not have it and
// was not sent it. Called with each change of what is known of the mesh.
func (a *agent) spread(s *core.Snapshot) {
	if a.signer == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	rev := a.inForce
	if rev == nil {
		return
	}
	for _, ad := range s.Adverts {
		if ad.Fleet.Applied < a.seen[ad.Node] {
			delete(a.sent, ad.Node) // it lost its state
		}
		a.seen[ad.Node] = ad.Fleet.Applied
		if ad.Node == a.self || ad.Fleet.Applied >= rev.Seq || a.sent[ad.Node] >= rev.Seq {
			continue
		}
		a.sent[ad.Node] = rev.Seq
		sub := core.Submission{
			To: ad.Node, Service: ServiceFleet, Class: bundle.Control, QoS: 1, TTL: fleetTTL,
			Blob: &store.Blob{B: bundle.AppendPayload(nil, rev.Signed)},
		}
		a.loop.in.put(func(now time.Time, c *core.Core) { c.Submit(now, []core.Submission{sub}) })
	}
}

func clip(s string, n int) string {
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}
