package sim

import (
	"math/rand/v2"
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
	name     string
	spec     scenario.Link
	ways     [2]scenario.Way // by direction
	bad      [2]bool         // in a burst of losses, by direction
	schedule contact.Schedule
	ends     [2]*node
	rng      [2]*rand.Rand // by direction: 0 is from the first end
	session  *session      // the newest, nil before the first
	cuts     [2]int        // cuts in force, by direction
	healed   [2]time.Duration
	trying   bool
	double   bool // the next transfer comes twice
	hold     bool // the next transfer is overtaken
}

// session is one connection. Its ends may die at different times.
type session struct {
	l        *link
	id       uint64
	up       [2]bool
	ways     [2]way
	breached bool // the world broke the transport's promise
}

// way is one direction of a session.
type way struct {
	busy time.Duration          // the sender's rate is used until then
	last [streams]time.Duration // arrival of the last frame of each stream
}

func (l *link) side(n *node) int {
	if n == l.ends[0] {
		return 0
	}
	return 1
}

// delay is the light time, of the way that takes longer.
func (l *link) delay() time.Duration { return time.Duration(max(l.ways[0].Delay, l.ways[1].Delay)) }

// loses draws whether a packet is lost: each by itself, or by Gilbert's chain,
// in which all are lost while it is bad.
func (l *link) loses(dir int) bool {
	w, draw := &l.ways[dir], l.rng[dir].Float64()
	switch loss := float64(w.Loss); {
	case w.Burst <= 1:
		return draw < loss
	case l.bad[dir]:
		l.bad[dir] = draw >= 1/w.Burst
	default:
		l.bad[dir] = draw < loss/(w.Burst*(1-loss))
	}
	return l.bad[dir]
}

func (l *link) open() bool { return l.cuts[0] == 0 && l.cuts[1] == 0 && l.schedule.Open(l.w.clock()) }

// nextOpen returns when a packet sent at t in a direction can leave, as far as
// it is known.
func (l *link) nextOpen(t time.Duration, dir int) time.Duration {
	at := epoch.Add(max(t, l.healed[dir]))
	if l.schedule.Open(at) {
		return at.Sub(epoch)
	}
	return l.schedule.Next(at).Sub(epoch)
}

// down reports whether the link could carry and does not: an end has no
// session, or finds the other silent.
func (l *link) down() bool {
	if !l.open() || !l.ends[0].up || !l.ends[1].up {
		return false
	}
	if l.wanted() {
		return true
	}
	for _, n := range l.ends {
		for _, v := range n.core.View().Links {
			if v.ID == l.session.id && v.Silent {
				return true
			}
		}
	}
	return false
}

// wanted reports whether an end lacks a session and both could have one.
func (l *link) wanted() bool {
	return l.ends[0].up && l.ends[1].up && (l.session == nil || !l.session.up[0] || !l.session.up[1])
}

// tryConnect makes a session after one and a half round trips of handshake.
func (l *link) tryConnect() {
	if l.trying || !l.wanted() {
		return
	}
	if !l.open() {
		if l.cuts == [2]int{} {
			l.w.at(l.nextOpen(l.w.now, 0), l.tryConnect)
		}
		return
	}
	l.trying = true
	a, b := l.ends[0].life, l.ends[1].life
	if l.flyEarly(l.rng[0].IntN(2)); l.ends[0].life != a || l.ends[1].life != b {
		l.trying = false
		return // crashed; it tries again when it is up
	}
	l.w.after(3*l.delay(), func() {
		l.trying = false
		if l.ends[0].life != a || l.ends[1].life != b || !l.wanted() || !l.open() {
			l.tryConnect()
			return
		}
		l.connect()
	})
}

func (l *link) connect() {
	old := l.session
	l.w.lastSession++
	s := &session{l: l, id: l.w.lastSession, up: [2]bool{true, true}}
	l.session = s
	l.w.note('U', l.name, s.id, 0, 0)
	for i, n := range l.ends {
		if old != nil && old.up[i] {
			old.up[i] = false
			delete(n.sessions, old.id)
			n.judge.LinkDown(old.id)
		}
		n.sessions[s.id] = s
		n.judge.LinkUp(s.id)
		n.core.LinkUp(n.clock(), core.Link{
			ID: s.id, Node: l.ends[1-i].name, Delay: l.delay(), Schedule: l.schedule, Classes: l.spec.Carries(),
		})
		if n.pump(); !n.up {
			return // crashed; lost() looks after the session
		}
	}
}

// down ends one end of the session.
func (s *session) down(side int) {
	if !s.up[side] {
		return
	}
	s.up[side] = false
	n := s.l.ends[side]
	s.l.w.note('D', s.l.name, s.id, uint64(side), 0)
	delete(n.sessions, s.id)
	n.judge.LinkDown(s.id)
	if n.up {
		n.core.LinkDown(n.clock(), s.id)
		n.pump()
	}
	s.l.w.after(time.Second, s.l.tryConnect)
}

// farewell tells the other end, one light time later if the way is open. If
// not, it finds out by its own silence.
func (s *session) farewell(from int) {
	wait := s.l.delay()
	if s.l.cuts[from] > 0 {
		wait = max(idleTimeout, 6*s.l.delay())
	}
	s.l.w.after(wait, func() { s.down(1 - from) })
}

// lost is told when one end crashes. The other learns of it when the restarted
// end answers with a reset, one light time after it speaks again.
func (l *link) lost(n *node) {
	s, side := l.session, l.side(n)
	if s == nil || !s.up[side] {
		return
	}
	s.up[side] = false
	delete(n.sessions, s.id)
	l.w.note('D', l.name, s.id, uint64(side), 1)
	l.w.after(2*l.delay(), func() { s.down(1 - side) })
}

// closed is told when a core ends the session.
func (s *session) closed(n *node) {
	side := s.l.side(n)
	s.l.w.after(0, func() {
		s.down(side)
		s.farewell(side)
	})
}

func (l *link) cutFor(d time.Duration, way string) {
	l.w.report.Cuts++
	l.w.note('K', l.name, uint64(d), uint64(len(way)), 0)
	for dir := range l.cuts {
		if way == scenario.There && dir == 1 || way == scenario.Back && dir == 0 {
			continue
		}
		l.cuts[dir]++
		l.healed[dir] = max(l.healed[dir], l.w.now+d)
		idle := max(idleTimeout, 6*l.delay())
		if s := l.session; s != nil && d > idle {
			l.w.after(idle, func() { // the end that hears nothing gives up
				if s.up[1-dir] {
					s.down(1 - dir)
					s.farewell(1 - dir)
				}
			})
		}
		l.w.after(d, func() {
			l.cuts[dir]--
			l.w.note('H', l.name, uint64(dir), 0, 0)
			l.tryConnect()
		})
	}
}

// send puts a frame on its way.
func (s *session) send(from *node, f core.Frame) {
	l := s.l
	dir := l.side(from)
	to, way := l.ends[1-dir], &s.ways[dir]
	if !to.up {
		return
	}
	_, isTransfer := f.(*core.Transfer)
	stream, size := classify(f)
	l.w.report.LinkBytes += uint64(size)
	arrive := s.travel(dir, size)
	if isTransfer && l.hold { // what follows overtakes it
		l.hold, s.breached = false, true
		arrive = max(arrive, way.last[stream]) + 2*l.delay() + time.Second
	} else {
		arrive = max(arrive, way.last[stream])
		way.last[stream] = arrive
	}
	times := 1
	if isTransfer && l.double {
		l.double, s.breached, times = false, true, 2
	}
	for range times {
		l.w.at(arrive, func() {
			if s.up[1-dir] && to.up && to.sessions[s.id] == s && !l.w.tamper.lost(l, to, f) {
				l.w.note('F', to.name.String(), s.id, uint64(stream), uint64(size))
				to.receive(s.id, f)
			}
		})
	}
}

// travel returns when a frame of a size arrives that is sent now.
func (s *session) travel(dir, size int) time.Duration {
	l, way := s.l, &s.ways[dir]
	start := max(l.nextOpen(l.w.now, dir), way.busy)
	spec := &l.ways[dir]
	if spec.Rate > 0 {
		start += time.Duration(int64(size) * 8 * int64(time.Second) / int64(spec.Rate))
		way.busy = start
	}
	arrive := start + time.Duration(spec.Delay)
	if spec.Jitter > 0 {
		arrive += time.Duration(l.rng[dir].Int64N(int64(spec.Jitter)))
	}
	if spec.Loss > 0 {
		for range (size + packet - 1) / packet {
			for l.loses(dir) {
				arrive = l.nextOpen(arrive, dir) + 2*l.delay() // noticed and repeated one round trip later
			}
		}
	}
	return arrive
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
func (n *node) incoming(h *store.Header, e store.Entry, b *store.Blob, life int64) *core.Incoming {
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
	in.Count, in.Groups = v.Mesh.Count, v.Mesh.Groups
	if in.Node != n.name && (in.Region.IsZero() || !in.Region.Contains(n.region)) || b == nil {
		return in
	}
	if in.Count > 0 {
		n.w.fault(unfold(in.Message, b.B, func(id bundle.ID, message []byte) {
			k, topic, _ := parse(message)
			in.Parts = append(in.Parts, core.Part{
				Message: id, QoS: n.w.pubs[k.Publisher].spec.QoS, Topic: topic,
				Blob: &store.Blob{B: bundle.AppendPayload(make([]byte, 0, len(message)+bundle.PayloadOverhead), message)},
			})
		}))
		return in
	}
	data, err := bundle.PayloadData(b.B)
	n.w.fault(err)
	_, in.Topic, _ = parse(data)
	return in
}
