package node

import (
	"context"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// backend answers the local API.
type backend struct{ n *Node }

var _ admin.Backend = backend{}

// Status implements admin.Backend.
func (b backend) Status(ctx context.Context) (admin.Status, error) {
	v, err := b.n.loop.view(ctx)
	if err != nil {
		return admin.Status{}, err
	}
	self, st := b.n.material.Self(), b.n.store.stats()
	out := admin.Status{
		Node: self.Node, Region: self.Region, Mesh: self.Mesh.String(), Version: b.n.opt.Version,
		Now: b.n.loop.clock.now().UTC(), UptimeS: int64(time.Since(b.n.started) / time.Second), ClockOK: b.n.clockOK,
		Store: admin.Store{
			Engine: st.Engine, Messages: st.Messages, Bytes: st.Bytes, PeakBytes: st.PeakBytes, FileBytes: st.FileBytes,
			MaxBytes: int64(b.n.cfg.Store.MaxBytes), MaxMessages: b.n.cfg.Store.MaxMessages, RoomBytes: roomOf(v),
		},
		Peers: append(b.peers(v), b.n.doors.view()...), Queues: queues(v), Counters: counters(v.Stats, b.n.mqtt.local()),
	}
	if b.n.cfg.MQTT.Serves() {
		out.MQTT.Listen, out.MQTT.Listeners = b.n.listening()
		out.MQTT.Clients, out.MQTT.Bridges = b.n.broker.Clients(), b.n.front.views()
	}
	return out, nil
}

// roomOf is the room of the store, nil when it never said.
func roomOf(v core.View) *int64 {
	if v.Room == math.MaxInt64 {
		return nil
	}
	return &v.Room
}

// peers joins what is configured, what is connected, and what the core thinks
// of it.
func (b backend) peers(v core.View) []admin.Peer {
	var out []admin.Peer
	seen, known := map[uint64]bool{}, map[addr.Node]bool{} // sessions; nodes
	for _, p := range b.n.manager.Peers() {
		ap := admin.Peer{Node: p.Node, Region: p.Region, Address: p.Address, State: admin.PeerDown, LastError: p.LastError, Since: p.Since.UTC()}
		ap.Link = p.Uplink
		if s := b.n.manager.SessionOver(p.Node, p.Uplink); s != nil && !seen[s.ID()] {
			fill(&ap, s, v)
			seen[s.ID()] = true
		}
		known[p.Node] = true
		out = append(out, ap)
	}
	for _, s := range b.n.manager.Sessions() {
		if !seen[s.ID()] {
			ap := admin.Peer{Address: s.RemoteAddr()}
			fill(&ap, s, v)
			known[s.Node()] = true
			out = append(out, ap)
		}
	}
	return append(out, b.gone(known)...)
}

// gone are neighbours that dialled us once and are down now.
func (b backend) gone(seen map[addr.Node]bool) (out []admin.Peer) {
	s := b.n.mqtt.snapshot.Load()
	if s == nil {
		return nil
	}
	for _, a := range s.Adverts {
		if a.Node != s.Self {
			continue
		}
		for _, nb := range a.Neighbors {
			if !seen[nb.Node] {
				out = append(out, admin.Peer{Node: nb.Node, State: admin.PeerDown, LastError: "it is the one that dials"})
			}
		}
	}
	return out
}

// fill describes a peer with a session.
func fill(p *admin.Peer, s *link.Session, v core.View) {
	st := s.Stats()
	p.Node, p.Region, p.State, p.Kex, p.Since = s.Node(), s.Region(), admin.PeerUp, s.Kex(), s.Since().UTC()
	p.Layer, p.Profile, p.Link = string(s.Layer()), string(s.Profile()), s.Uplink()
	if sv, ok := s.Salvo(); ok {
		p.Loss = sv.Out.Loss
	}
	p.RTTms = float64(s.RTT()) / float64(time.Millisecond)
	p.SentBytes, p.ReceivedBytes, p.PacketsLost, p.LastError = st.BytesSent, st.BytesReceived, st.PacketsLost, ""
	for _, l := range v.Links {
		if l.ID != s.ID() {
			continue
		}
		p.InFlight, p.InFlightBytes, p.Cost = l.Flights, l.Bytes, l.Cost
		p.DampedMS = l.Damped.Milliseconds()
		for class := range bundle.Class(bundle.NumClasses) {
			if l.Uses.Has(class) {
				p.Classes = append(p.Classes, class.String())
			}
		}
		switch {
		case !l.Open:
			p.State, p.NextContact = admin.PeerClosed, l.NextEdge.UTC()
		case l.Silent:
			p.State = admin.PeerSilent
		}
	}
}

func counters(s core.Stats, local [bundle.NumReasons]uint64) admin.Counters {
	for r := range local {
		s.Submitted[r] += local[r]
	}
	reasons := func(counts [bundle.NumReasons]uint64) map[string]uint64 {
		m := map[string]uint64{}
		for r, n := range counts {
			if n > 0 {
				m[bundle.Reason(r).String()] = n
			}
		}
		return m
	}
	return admin.Counters{
		Submitted: reasons(s.Submitted), Own: reasons(s.Own), Ended: reasons(s.Ended), Refused: reasons(s.Refused), Arrived: s.Arrived,
		Relayed: s.Relayed, Transfers: s.Transfers, HandedOn: s.HandedOn, Delivered: s.Delivered, Volatile: s.Volatile,
		Duplicates: s.Duplicates, OutOfOrder: s.OutOfOrder, HeldBack: s.HeldBack, GapsGivenUp: s.GapsGivenUp,
	}
}

// Nodes implements admin.Backend.
func (b backend) Nodes(context.Context) ([]admin.Node, error) {
	var out []admin.Node
	s := b.n.mqtt.snapshot.Load()
	if s == nil {
		return out, nil
	}
	for _, a := range s.Adverts {
		p := s.Path(a.Node)
		n := admin.Node{
			Node: a.Node, Region: a.Region, Self: a.Node == s.Self, Hops: p.Hops, DelayMS: int64(p.Delay()), NextHop: p.Hop,
			Up: p.Up() || a.Node == s.Self, FleetApplied: a.Fleet.Applied, FleetRefused: a.Fleet.Refused, FleetReason: a.Fleet.Reason,
		}
		for class := range bundle.Class(bundle.NumClasses) {
			if w := s.ClassPath(class, a.Node); w != p {
				n.Ways = append(n.Ways, admin.ClassWay{Class: class.String(), NextHop: w.Hop, Hops: w.Hops, DelayMS: int64(w.Delay()), Up: w.Up()})
			}
		}
		wants := slices.Clone(a.Interest)
		for _, g := range a.Groups {
			wants = append(wants, g.Filter)
		}
		n.Interest = wants[:min(len(wants), admin.MaxInterest)]
		n.InterestMore = len(wants) - len(n.Interest)
		for _, sv := range a.Services {
			n.Services = append(n.Services, admin.Service{Name: sv.Name, Up: sv.Up})
		}
		out = append(out, n)
	}
	return out, nil
}

// Routes implements admin.Backend.
func (b backend) Routes(context.Context) ([]admin.Route, error) {
	s := b.n.mqtt.snapshot.Load()
	b.n.agent.mu.Lock()
	rev := b.n.agent.inForce
	b.n.agent.mu.Unlock()
	var out []admin.Route
	for _, r := range b.n.agent.merged(rev).Routes {
		ar := admin.Route{Route: r, Origin: "file"}
		if rev != nil && slices.ContainsFunc(rev.Resources.Routes, func(f config.Route) bool { return f.Name == r.Name }) {
			ar.Origin = "fleet"
		}
		class, err := bundle.ParseClass(string(r.Class))
		if err != nil { // left out
			class = bundle.Telemetry
		}
		for _, region := range r.To {
			h := admin.Hop{Region: region}
			if s != nil {
				if h.Node, h.Up = s.RegionNode(class, region); !h.Node.IsZero() {
					h.NextHop = s.ClassPath(class, h.Node).Hop
				}
			}
			ar.Hops = append(ar.Hops, h)
		}
		out = append(out, ar)
	}
	return out, nil
}

// Invite implements admin.Backend.
func (b backend) Invite(_ context.Context, r admin.InviteRequest) (admin.Invite, error) {
	ledger := b.n.admission.ledger
	if ledger == nil {
		return admin.Invite{}, admin.NotHere("run farhop invite on the node where farhop init was run", "%s does not hold the authority of this mesh", b.n.material.Self().Node)
	}
	if b.n.opt.Standalone != nil {
		return admin.Invite{}, admin.NotHere("run it without --standalone, then invite again", "%s runs as a broker alone (--standalone) and listens for no other node", b.n.material.Self().Node)
	}
	addresses := r.Advertise
	if len(addresses) == 0 {
		addresses = b.n.cfg.Mesh.Advertise
	}
	inv := pki.Invitation{Region: r.Region, Issuer: b.n.material.Self().Node, Life: time.Duration(r.Life)}
	for _, a := range addresses {
		inv.Addresses = append(inv.Addresses, string(a))
	}
	if len(inv.Addresses) == 0 {
		inv.Addresses = reachable(string(b.n.cfg.Mesh.Listen))
	}
	t, err := ledger.Invite(inv, b.n.loop.clock.now())
	if err != nil {
		return admin.Invite{}, admin.Invalid("", "%v", err)
	}
	return admin.Invite{Ticket: t.Text(), Region: t.Region, Expires: t.Expires}, nil
}

// FleetPush implements admin.Backend.
func (b backend) FleetPush(ctx context.Context, r admin.FleetPushRequest) (admin.FleetPushed, error) {
	res, err := config.ParseResources(r.File, r.Data)
	if err != nil {
		return admin.FleetPushed{}, admin.Invalid("mend the file and push it again; nothing was changed", "%v", err)
	}
	rev, err := b.n.agent.push(ctx, res)
	if errors.Is(err, errNotAuthority) {
		return admin.FleetPushed{}, admin.NotHere("push on the node where farhop init was run", "%v", err)
	}
	if err != nil && !errors.Is(err, errUnchanged) {
		return admin.FleetPushed{}, admin.Invalid("", "%v", err)
	}
	out := admin.FleetPushed{Revision: rev.Seq, Hash: hex.EncodeToString(rev.Hash[:]), Unchanged: err != nil}
	if s := b.n.mqtt.snapshot.Load(); s != nil {
		out.Nodes = len(s.Adverts)
	}
	return out, nil
}

// FleetStatus implements admin.Backend.
func (b backend) FleetStatus(context.Context) (admin.FleetStatus, error) {
	b.n.agent.mu.Lock()
	rev, own := b.n.agent.inForce, b.n.agent.state
	b.n.agent.mu.Unlock()
	var out admin.FleetStatus
	if rev != nil {
		out.Revision, out.Hash, out.Pushed = rev.Seq, hex.EncodeToString(rev.Hash[:]), rev.Created
	}
	s := b.n.mqtt.snapshot.Load()
	if s == nil {
		return out, nil
	}
	for _, a := range s.Adverts {
		f := a.Fleet
		if a.Node == s.Self {
			f = own
		}
		out.Nodes = append(out.Nodes, admin.FleetNode{
			Node: a.Node, Region: a.Region, Applied: f.Applied, Refused: f.Refused, Reason: f.Reason,
			Up: s.Path(a.Node).Up() || a.Node == s.Self,
		})
	}
	return out, nil
}

// Config implements admin.Backend.
func (b backend) Config(context.Context) (config.Config, error) { return b.n.cfg.Redacted(), nil }

// Healthy implements admin.Backend.
func (b backend) Healthy() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // of this machine alone
	defer cancel()
	return b.n.loop.call(ctx, func(time.Time, *core.Core) {})
}

// Ready implements admin.Backend.
func (b backend) Ready() error {
	select {
	case <-b.n.ready:
		return b.Healthy()
	default:
		return errors.New("starting")
	}
}
