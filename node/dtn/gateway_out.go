package dtn

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/bundle/bpa"
)

// exportLifetime is that of publications without an expiry.
const exportLifetime = 24 * time.Hour

// Stamp is when and as what a publication was made. It must be the same at
// every attempt to export it, also after a restart: then the bundle is the
// same, and a peer that has it already knows.
type Stamp struct {
	Created time.Time // zero: no clock
	Seq     uint64    // never used twice by this node, such as the sequence of the message
	Age     time.Duration
}

// Export makes a bundle of a publication, by the first Export whose filter
// matches. ok is false when there is none, and for publications that came from
// another stack: between stacks bundles pass as they are. The bundle is for
// Exit, like one that was carried here.
func (g *Gateway) Export(p Publication, s Stamp) (raw []byte, ok bool, err error) {
	if slices.ContainsFunc(p.Props, func(x Property) bool { return x.Name == PropBundle }) {
		return nil, false, nil
	}
	at := slices.IndexFunc(g.cfg.Exports, func(e Export) bool { return interest.Match(e.Filter, p.Topic) })
	if at < 0 {
		return nil, false, nil
	}
	e := g.cfg.Exports[at]
	pr := bundle.Primary{Source: e.Source, ReportTo: e.ReportTo, Created: bundle.Timestamp{Seq: s.Seq}}
	if pr.Dest, err = addr.ParseEID(fillTemplate(e.To, p.Topic)); err != nil {
		return nil, false, fmt.Errorf("export %s: %w", p.Topic, err)
	}
	if pr.Source.IsZero() {
		pr.Source = g.sourceOf(p.Topic, pr.Dest)
	}
	if !pr.ReportTo.IsZero() && !bundle.IsNull(pr.ReportTo) {
		pr.Flags |= bundle.FlagReportDelivery | bundle.FlagReportDeletion
	}
	life := p.TTL
	switch {
	case life > 0:
	case e.Lifetime > 0:
		life = e.Lifetime
	default:
		life = exportLifetime
	}
	pr.Lifetime = uint64(max(life/time.Millisecond, 1))
	hop := bundle.Hop{NoAge: true, HopLimit: e.HopLimit}
	if s.Created.IsZero() {
		hop.NoAge, hop.Age = false, s.Age // without a clock the age block is all there is
	} else {
		pr.Created.Time = bundle.DTNTime(s.Created.UnixMilli())
	}
	frozen := bundle.AppendPrimary(nil, &pr)
	return bundle.AppendBundle(nil, frozen, bundle.AppendPayload(nil, p.Payload), hop), true, nil
}

// sourceOf is the endpoint that a topic is, towards dest. Stacks that are
// addressed by numbers may know no others: HDTN drops a bundle whose source is
// a dtn URI, after acknowledging it, and ION ends its receiver. So they are
// given our number when the topic has none.
func (g *Gateway) sourceOf(topic string, dest addr.EID) addr.EID {
	if e, ok := g.eids[topic]; ok {
		return e
	}
	if dest.Scheme() == addr.SchemeIPN && g.cfg.Self.Scheme() == addr.SchemeIPN {
		return g.cfg.Self
	}
	return addr.NodeEID(g.cfg.Node, mqttService+"/"+escapeTopic(topic))
}

// Departure is a bundle as it leaves through a door.
type Departure struct {
	Peer  string
	Parts []bpa.Parts // one, or fragments; each is a call of Send
}

// errTurns is the cause of a carried bundle that no door here serves.
var errTurns = errors.New("no peer of this node serves the destination")

// Exit makes a bundle that was carried here, kept by Forward or made by Export
// ready for its peer: previous node, age and hop count are ours, all else is
// as it came. stayed is how long ago that was, wherever it was since; mru what
// the peer takes (Door.MRU). An error says more than the reason.
func (g *Gateway) Exit(raw []byte, stayed time.Duration, mru uint64) (Departure, bundle.Reason, error) {
	return g.exit(raw, mru, func(*bundle.View) time.Duration { return stayed })
}

// ExitLeft is Exit for a bundle of which only is known what is left of its
// life, because it was under way in the mesh.
func (g *Gateway) ExitLeft(raw []byte, left time.Duration, mru uint64) (Departure, bundle.Reason, error) {
	return g.exit(raw, mru, func(v *bundle.View) time.Duration { return lifetime(v) - v.Age - left })
}

// ExitNow is Exit for a bundle that In said to forward and that goes on at
// once.
func (g *Gateway) ExitNow(a Action, mru uint64) (Departure, bundle.Reason, error) {
	d := Departure{Peer: a.Peer}
	return g.depart(d, a.view, 0, mru)
}

func (g *Gateway) exit(raw []byte, mru uint64, stayed func(*bundle.View) time.Duration) (Departure, bundle.Reason, error) {
	v, err := bundle.Parse(raw)
	if err != nil {
		return Departure{}, bundle.Malformed, fmt.Errorf("carried bundle: %w", err)
	}
	d := Departure{}
	var ok bool
	if d.Peer, ok = g.cfg.Doors.Peer(bundle.Canonical(v.Primary.Dest)); !ok {
		return Departure{}, bundle.NoRoute, fmt.Errorf("bundle for %s: %w", v.Primary.Dest, errTurns)
	}
	return g.depart(d, &v, stayed(&v), mru)
}

func (g *Gateway) depart(d Departure, v *bundle.View, stayed time.Duration, mru uint64) (Departure, bundle.Reason, error) {
	t := bpa.Transit{Prev: g.cfg.Self, Elapsed: max(stayed, 0)}
	parts, faults, err := bpa.Fragment(v, t, int(min(mru, maxTransfer)))
	if err != nil || faults != 0 {
		return Departure{}, faults.Reason(), err
	}
	d.Parts = parts
	return d, bundle.OK, nil
}

// Onward says where a bundle goes that waits here: to a peer of this node, or
// to the node of the mesh whose door serves its destination.
func (g *Gateway) Onward(raw []byte) (peer string, node addr.Node, why bundle.Reason) {
	v, err := bundle.Parse(raw)
	if err != nil {
		return "", addr.Node{}, bundle.Malformed
	}
	dest := bundle.Canonical(v.Primary.Dest)
	if peer, ok := g.cfg.Doors.Peer(dest); ok {
		return peer, addr.Node{}, bundle.OK
	}
	if g.cfg.Elsewhere != nil {
		if n, ok := g.cfg.Elsewhere(dest); ok && n != g.cfg.Node {
			return "", n, bundle.OK
		}
	}
	return "", addr.Node{}, bundle.NoRoute
}
