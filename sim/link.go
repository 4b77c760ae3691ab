package sim

import (
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/contact"
	"github.com/farhop/farhop/sim/scenario"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

const (
	packet      = 1200             // bytes a transport sends at once
	idleTimeout = 10 * time.Minute // a session dies of longer silence, as QUIC's does
	frameCost   = 40               // bytes of headers around a payload
	streams     = bundle.NumClasses + 1
)

// link joins two nodes. A session on it is what a QUIC connection is to the
// core: frames of one stream arrive in order, late by light time, rate and
// repeats of lost packets, or not at all when the session dies.
type link struct {
	w        *world
	index    int
	spec     scenario.Link
	schedule contact.Schedule
	a, b     *node
	session  uint64 // 0: none
	cuts     int    // cuts in force
	healed   time.Duration
	trying   bool
	ways     [2]way
}

// way is one direction of a session.
type way struct {
	busy time.Duration          // the sender's rate is used until then
	last [streams]time.Duration // arrival of the last frame of each stream
}

func (l *link) other(n *node) *node {
	if n == l.a {
		return l.b
	}
	return l.a
}

func (l *link) open() bool { return l.cuts == 0 && l.schedule.Open(l.w.clock()) }

// nextOpen returns when a packet sent at t can leave, as far as it is known.
func (l *link) nextOpen(t time.Duration) time.Duration {
	at := epoch.Add(max(t, l.healed))
	if l.schedule.Open(at) {
		return at.Sub(epoch)
	}
	return l.schedule.Next(at).Sub(epoch)
}

// tryConnect makes a session after one and a half round trips of handshake.
func (l *link) tryConnect() {
	if l.session != 0 || l.trying || !l.a.up || !l.b.up {
		return
	}
	if !l.open() {
		if l.cuts == 0 {
			l.w.at(l.nextOpen(l.w.now), l.tryConnect)
		}
		return
	}
	l.trying = true
	a, b := l.a.life, l.b.life
	l.w.after(3*time.Duration(l.spec.Delay), func() {
		l.trying = false
		if l.session != 0 || l.a.life != a || l.b.life != b || !l.a.up || !l.b.up || !l.open() {
			l.tryConnect()
			return
		}
		l.w.lastSession++
		l.session = l.w.lastSession
		l.ways = [2]way{}
		l.w.note('U', l.a.name.String()+"-"+l.b.name.String(), l.session)
		for _, n := range []*node{l.a, l.b} {
			n.sessions[l.session] = l
			n.core.LinkUp(l.w.clock(), core.Link{
				ID: l.session, Node: l.other(n).name, Delay: time.Duration(l.spec.Delay), Schedule: l.schedule,
			})
			n.pump()
		}
	})
}

// down ends the session at the nodes that still run.
func (l *link) down() {
	id := l.session
	if id == 0 {
		return
	}
	l.session = 0
	l.w.note('D', l.a.name.String()+"-"+l.b.name.String(), id)
	for _, n := range []*node{l.a, l.b} {
		delete(n.sessions, id)
		if n.up {
			n.core.LinkDown(l.w.clock(), id)
			n.pump()
		}
	}
	l.w.after(time.Second, l.tryConnect)
}

// lost is told when one end crashes. The other learns of it when the restarted
// end answers with a reset, one light time after it speaks again.
func (l *link) lost(n *node) {
	id := l.session
	if id == 0 {
		return
	}
	delete(n.sessions, id)
	l.w.after(2*time.Duration(l.spec.Delay), func() {
		if l.session == id {
			l.down()
		}
	})
}

// closed is told when a core ends the session.
func (l *link) closed(*node) { l.w.after(0, l.down) }

func (l *link) cutFor(d time.Duration) {
	l.cuts++
	l.healed = max(l.healed, l.w.now+d)
	l.w.report.Cuts++
	l.w.note('K', l.a.name.String()+"-"+l.b.name.String())
	if id := l.session; id != 0 && d > idleTimeout {
		l.w.after(idleTimeout, func() {
			if l.session == id {
				l.down()
			}
		})
	}
	l.w.after(d, func() {
		l.cuts--
		l.w.note('H', l.a.name.String()+"-"+l.b.name.String())
		l.tryConnect()
	})
}

// send puts a frame on its way.
func (l *link) send(from *node, f core.Frame) {
	id, to := l.session, l.other(from)
	if id == 0 || !to.up {
		return
	}
	way := &l.ways[0]
	if from == l.b {
		way = &l.ways[1]
	}
	stream, size := classify(f)
	if t, ok := f.(*core.Transfer); ok && t.Blob == nil && t.Entry.State != store.Ended {
		b, err := from.store.Read(t.Header.Seq)
		if err != nil {
			if from.w.report.err == nil {
				from.w.report.err = err
			}
			return
		}
		t.Blob = &store.Blob{B: b}
	}
	l.w.report.LinkBytes += uint64(size)
	start := max(l.nextOpen(l.w.now), way.busy)
	if l.spec.Rate > 0 {
		start += time.Duration(int64(size) * 8 * int64(time.Second) / int64(l.spec.Rate))
		way.busy = start
	}
	arrive := start + time.Duration(l.spec.Delay)
	if l.spec.Jitter > 0 {
		arrive += time.Duration(l.w.rng.Int64N(int64(l.spec.Jitter)))
	}
	for range (size + packet - 1) / packet {
		for l.spec.Loss > 0 && l.w.rng.Float64() < float64(l.spec.Loss) {
			arrive = l.nextOpen(arrive) + 2*time.Duration(l.spec.Delay) // noticed and repeated one round trip later
		}
	}
	arrive = max(arrive, way.last[stream])
	way.last[stream] = arrive
	l.w.at(arrive, func() {
		if l.session == id && to.up && to.sessions[id] == l {
			l.w.note('F', to.name.String(), id, uint64(stream), uint64(size))
			to.receive(id, f)
		}
	})
}

func classify(f core.Frame) (stream, size int) {
	switch f := f.(type) {
	case *core.Transfer:
		return int(f.Class), frameCost + len(f.Entry.Frozen) + int(f.Header.Size)
	case *core.Volatile:
		return int(f.Header.Class), frameCost + len(f.Entry.Frozen) + int(f.Header.Size)
	}
	return streams - 1, frameCost
}

// incoming is what a receiver parses from the bytes of a bundle.
func incoming(h *store.Header, e store.Entry, b *store.Blob, life int64) *core.Incoming {
	in := &core.Incoming{Life: life, Hops: h.Hops, Frozen: e.Frozen, Blob: b, Size: int(h.Size), Retain: h.Retain, QoS: e.QoS}
	v, err := bundle.ParseFrozen(e.Frozen)
	if err != nil {
		in.Bad = bundle.Malformed
		return in
	}
	id := v.Primary.ID()
	in.Origin, in.Bundle = id.Node, id.Seq
	in.DSeq, in.Message, in.QoS = v.Mesh.DSeq, v.Mesh.Message, v.Mesh.QoS
	in.Node, in.Service = addr.Node{}, ""
	if n, svc, ok := v.Primary.Dest.Node(); ok {
		in.Node, in.Service = n, svc
	} else if r, svc, ok := v.Primary.Dest.Region(); ok {
		in.Region, in.Service = r, svc
	}
	if b != nil {
		in.Topic = topicOf(b.B)
	}
	return in
}
