package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/contact"
	"github.com/farhop/farhop/storeforward/batch"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// links joins the link manager and the loop: it parses what comes in on the
// readers' goroutines, and encodes what goes out on one goroutine per session.
type links struct {
	self   addr.Node
	region addr.Region
	loop   *loop
	store  store.Store
	log    *slog.Logger
	ctx    context.Context // of the sender goroutines
	wg     sync.WaitGroup

	early    dialling
	mu       sync.Mutex // guards sessions
	sessions map[uint64]*session
}

// session is one link session with its sender.
type session struct {
	*link.Session
	out    *mailbox[core.Frame]
	stored [bundle.NumClasses]*mailbox[core.Frame] // transfers; nil: they go with the rest
	view   bundle.View                             // of the reader
	cancel context.CancelFunc
}

// LinkUp implements link.Sink.
func (ls *links) LinkUp(s *link.Session) {
	ctx, cancel := context.WithCancel(ls.ctx)
	n := &session{Session: s, out: newMailbox[core.Frame](), cancel: cancel}
	ls.mu.Lock()
	ls.sessions[s.ID()] = n
	ls.mu.Unlock()
	ls.wg.Go(func() { n.out.each(ctx, func(f core.Frame) { ls.encode(n, f) }) })
	if s.Layer() == link.LayerSalvo {
		ls.startStored(ctx, n)
	}
	props := s.Link()
	up := core.Link{ID: s.ID(), Node: s.Node(), Delay: props.OWLT, Schedule: schedule(props), Window: s.Window(), Probing: core.Probing(s.Probing())}
	up.Uplink, up.Cost, up.Classes = props.Uplink, props.Cost, classesOf(props.Classes)
	if up.Delay == 0 {
		up.Delay = s.RTT() / 2
	}
	ls.loop.in.put(func(now time.Time, c *core.Core) { c.LinkUp(now, up) })
}

func classesOf(list []bundle.Class) (of bundle.Classes) {
	for _, class := range list {
		of = of.With(class)
	}
	return of
}

// startStored starts a sender for each class. What may be under way on a far
// link is more than memory holds: so what is stored is read when the session has
// room for it, and nothing else waits for that.
func (ls *links) startStored(ctx context.Context, n *session) {
	for class := range n.stored {
		box, c := newMailbox[core.Frame](), bundle.Class(class)
		n.stored[class] = box
		ls.wg.Go(func() {
			box.each(ctx, func(f core.Frame) {
				if n.Await(ctx, c) {
					ls.encode(n, f)
				}
			})
		})
	}
}

// LinkDown implements link.Sink.
func (ls *links) LinkDown(s *link.Session, _ link.Down) {
	ls.mu.Lock()
	n := ls.sessions[s.ID()]
	delete(ls.sessions, s.ID())
	ls.mu.Unlock()
	if n != nil {
		n.cancel()
	}
	ls.loop.in.put(func(now time.Time, c *core.Core) { c.LinkDown(now, s.ID()) })
}

// Frames implements link.Sink. It blocks while the loop has enough to do.
func (ls *links) Frames(s *link.Session, frames []wire.Frame) {
	n := ls.session(s.ID())
	if n == nil {
		return
	}
	in := make([]core.Frame, 0, len(frames))
	for _, f := range frames {
		if f := ls.decode(n, f); f != nil {
			in = append(in, f)
		}
	}
	ls.loop.in.putWait(func(now time.Time, c *core.Core) { c.Receive(now, s.ID(), in) })
}

func (ls *links) session(id uint64) *session {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.sessions[id]
}

func (ls *links) send(id uint64, f core.Frame) {
	n := ls.session(id)
	if n == nil {
		return
	}
	box := n.out
	if t, ok := f.(*core.Transfer); ok && int(t.Class) < len(n.stored) && n.stored[t.Class] != nil {
		box = n.stored[t.Class]
	}
	box.put(f)
}

func (ls *links) close(id uint64, reason string) {
	if n := ls.session(id); n != nil {
		ls.log.Warn("closing a link", "peer", n.Node(), "reason", reason)
		ls.wg.Go(func() { n.Close(reason) })
	}
}

// silent tells a session whether its peer is silent, for those who choose one of
// several without the core.
func (ls *links) silent(id uint64, silent bool) {
	if n := ls.session(id); n != nil {
		n.Silent(silent)
	}
}

// renew has a silent session made anew, or ends the search for another one.
func (ls *links) renew(r core.Renew) {
	n := ls.session(r.Link)
	switch {
	case n == nil:
	case r.Over:
		n.Carries()
	default:
		n.Renew(r.Heard)
	}
}

// decode makes of a wire frame what the core takes, nil for what it does not.
func (ls *links) decode(n *session, f wire.Frame) core.Frame {
	switch f := f.(type) {
	case wire.Transfer:
		in := ls.parse(&n.view, n.Node(), f.Bundle)
		in.Class, in.XID = f.Class, f.XID
		if in.Bad == bundle.OK && in.Bundle.Class() != f.Class {
			in.Bad = bundle.Malformed
		}
		return in
	case wire.Volatile:
		in := ls.parse(&n.view, n.Node(), f.Bundle)
		in.Volatile, in.Class = true, in.Bundle.Class()
		return in
	case wire.Gap:
		return gap(f)
	case wire.Ack:
		return core.Ack{Class: f.Class, XID: f.XID}
	case wire.Refuse:
		return core.Refuse{Class: f.Class, XID: f.XID, Reason: f.Reason}
	case wire.Ping:
		return core.Ping{Stamp: f.Stamp}
	case wire.Pong:
		return core.Pong{Stamp: f.Stamp}
	case wire.Advert:
		return &f.Advert
	}
	return nil
}

// parse reads a bundle. What is wrong with it is in Bad: the bundle is
// refused, the link stays.
func (ls *links) parse(v *bundle.View, peer addr.Node, b []byte) *core.Incoming {
	in := &core.Incoming{}
	if err := v.Parse(b); err != nil || !v.HasMesh || v.Primary.Flags&bundle.FlagFragment != 0 {
		ls.log.Warn("a bundle is refused", "peer", peer, "reason", bundle.Malformed, "error", errors.Join(err, v.MeshErr))
		in.Bad = bundle.Malformed
		return in
	}
	frozen, payload, hop := bundle.Cut(v)
	id := v.Primary.ID()
	in.Origin, in.Bundle = id.Node, id.Seq
	in.DSeq, in.Message, in.QoS = v.Mesh.DSeq, v.Mesh.Message, v.Mesh.QoS
	in.Life = int64(min(v.Primary.Lifetime, maxLife)) - hop.Age.Milliseconds()
	in.Hops, in.Frozen, in.Blob, in.Size = hop.HopCount, frozen, &store.Blob{B: payload}, len(payload)
	here := false
	if node, svc, ok := v.Primary.Dest.Node(); ok {
		in.Node, in.Service, here = node, svc, node == ls.self
	} else if r, svc, ok := v.Primary.Dest.Region(); ok {
		in.Region, in.Service, here = r, svc, r.Contains(ls.region)
	} else {
		in.Bad = bundle.NoRoute
	}
	in.Count, in.Groups = v.Mesh.Count, v.Mesh.Groups
	var m wire.Message
	var err error
	switch {
	case here && in.Service == core.ServiceReports:
		in.Reports, err = core.ParseReports(v.Payload.Data)
	case !here || in.Service != core.ServiceMQTT:
		return in
	case in.Count > 0:
		in.Parts, err = unfold(in, v.Payload.Data)
	default:
		m, err = wire.ParseMessage(v.Payload.Data)
	}
	if err != nil {
		ls.log.Warn("a bundle is refused", "peer", peer, "message", in.Message, "reason", bundle.Malformed, "error", err)
		in.Bad = bundle.Malformed
		return in
	}
	in.Topic, in.Retain, in.Said = m.Topic, m.Retain, said(&m)
	return in
}

// unfold takes a batch apart: each message becomes what it would be alone.
func unfold(in *core.Incoming, data []byte) ([]core.Part, error) {
	parts := make([]core.Part, 0, in.Count)
	first := in.Message.Seq
	err := batch.Split(data, func(number uint64, message []byte) error {
		m, err := wire.ParseMessage(message)
		if err != nil {
			return err
		}
		seq := bundle.NewSequence(first.Incarnation(), first.Class(), first.Count()+number-1)
		parts = append(parts, core.Part{
			Message: bundle.ID{Node: in.Message.Node, Seq: seq}, QoS: m.QoS, Retain: m.Retain, Topic: m.Topic, Said: said(&m),
			Blob: &store.Blob{B: bundle.AppendPayload(make([]byte, 0, len(message)+bundle.PayloadOverhead), message)},
		})
		return nil
	})
	if err == nil && len(parts) != int(in.Count) {
		err = fmt.Errorf("a batch of %d messages has %d", in.Count, len(parts))
	}
	return parts, err
}

// maxLife keeps sums of lifetimes and clocks far from overflow: 1,000 years in ms.
const maxLife = 1000 * 365 * 24 * 3600 * 1000

func gap(f wire.Gap) *core.Incoming {
	in := &core.Incoming{
		XID: f.XID, Class: f.Class, Ended: true, Origin: f.Origin, Bundle: f.Bundle, DSeq: f.DSeq, Message: f.Message, Hops: f.Hops,
	}
	if node, svc, ok := f.Dest.Node(); ok {
		in.Node, in.Service = node, svc
	} else if r, svc, ok := f.Dest.Region(); ok {
		in.Region, in.Service = r, svc
	} else {
		in.Bad = bundle.NoRoute
		return in
	}
	if f.Report {
		in.Groups = core.AskingGap()
	}
	// A relay tells the next hop from this what it was told.
	p := bundle.Primary{Dest: f.Dest, Source: addr.NodeEID(f.Origin, in.Service), ReportTo: addr.None, Created: bundle.Timestamp{Seq: uint64(f.Bundle)}}
	in.Frozen = bundle.AppendFrozen(nil, &p, bundle.MeshInfo{DSeq: f.DSeq, Message: f.Message, Groups: in.Groups})
	return in
}

// encode sends one frame of the core.
func (ls *links) encode(n *session, f core.Frame) {
	ok := true
	switch f := f.(type) {
	case *core.Transfer:
		ok = ls.transfer(n, f)
	case *core.Volatile:
		hop := bundle.Hop{Prev: addr.NodeEID(ls.self, ""), Age: age(f.Entry.Frozen, f.Life), HopLimit: core.MaxHops, HopCount: f.Header.Hops}
		ok = n.Send(wire.Volatile{Bundle: bundle.AppendBundle(nil, f.Entry.Frozen, f.Blob.B, hop)})
	case core.Ack:
		ok = n.Send(wire.Ack{Class: f.Class, XID: f.XID})
	case core.Refuse:
		ok = n.Send(wire.Refuse{Class: f.Class, XID: f.XID, Reason: f.Reason})
	case core.Ping:
		ok = n.Send(wire.Ping{Stamp: f.Stamp})
	case core.Pong:
		ok = n.Send(wire.Pong{Stamp: f.Stamp})
	case *routing.Advert:
		ok = n.Send(wire.Advert{Advert: *f})
	}
	_ = ok // a session over its budget closes itself and says why
}

func (ls *links) transfer(n *session, f *core.Transfer) bool {
	if f.Entry.State == store.Ended {
		return ls.obituary(n, f, bundle.Expired)
	}
	payload := []byte(nil)
	if f.Blob != nil {
		payload = f.Blob.B
	} else {
		var err error
		if payload, err = ls.store.Read(f.Header.Seq); err != nil {
			return ls.unreadable(n, f, err)
		}
	}
	life := min(f.Life, f.Header.Expires-ls.loop.clock.now().UnixMilli()) // it may have waited for room
	hop := bundle.Hop{Prev: addr.NodeEID(ls.self, ""), Age: age(f.Entry.Frozen, life), HopLimit: core.MaxHops, HopCount: f.Header.Hops}
	return n.SendTransfer(f.Class, f.XID, f.Entry.Frozen, payload, hop, ls.again(f.Header.Seq))
}

// again reads a payload for a session that has to repair what it sent.
func (ls *links) again(seq uint64) link.Payload {
	return func() ([]byte, error) {
		b, err := ls.store.Read(seq)
		if errors.Is(err, store.ErrNotFound) {
			err = link.ErrGone
		}
		return b, err
	}
}

// unreadable ends a message whose payload is lost. The peer gets its obituary
// in its place, so that nothing waits for it.
func (ls *links) unreadable(n *session, f *core.Transfer, err error) bool {
	if errors.Is(err, store.ErrNotFound) && n.isDown() {
		return false // released meanwhile
	}
	ls.log.Error("a stored message cannot be read", "message", f.Header.Message, "error", err)
	if !errors.Is(err, store.ErrDamaged) {
		n.Close("cannot read a stored message")
		return false
	}
	ls.loop.in.put(func(now time.Time, c *core.Core) { c.Unreadable(now, f.Entry.Queue, f.Header.Seq) })
	return ls.obituary(n, f, bundle.Damaged)
}

// obituary tells a peer that a bundle ended before it got there.
func (ls *links) obituary(n *session, f *core.Transfer, reason bundle.Reason) bool {
	v, err := bundle.ParseFrozen(f.Entry.Frozen)
	if err != nil {
		ls.log.Error("a stored bundle is damaged", "message", f.Header.Message, "error", err)
		n.Close("cannot read a stored bundle")
		return false
	}
	id := v.Primary.ID()
	return n.Send(wire.Gap{
		Class: f.Class, XID: f.XID, Origin: id.Node, Dest: v.Primary.Dest, Bundle: id.Seq,
		DSeq: v.Mesh.DSeq, Message: v.Mesh.Message, Reason: reason, Hops: f.Header.Hops, Report: core.AsksReport(v.Mesh.Groups),
	})
}

func (n *session) isDown() bool {
	select {
	case <-n.Done():
		return true
	default:
		return false
	}
}

// age is how long a bundle with this much life left has lived.
func age(frozen []byte, life int64) time.Duration {
	v, err := bundle.ParseFrozen(frozen)
	if err != nil {
		return 0
	}
	return time.Duration(max(int64(min(v.Primary.Lifetime, maxLife))-life, 0)) * time.Millisecond
}

func schedule(p link.Properties) contact.Schedule {
	if len(p.Contacts) == 0 {
		return contact.Schedule{}
	}
	w := p.Contacts[0]
	return contact.Schedule{Start: w.Start, Every: w.Every, For: w.For}
}
