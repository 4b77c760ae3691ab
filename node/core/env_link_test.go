package core_test

import (
	"strings"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/contact"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// elink joins two nodes. ways[0] carries frames from a to b.
type elink struct {
	e    *env
	a, b *enode
	spec core.Link
	id   uint64 // session, 0: none
	cut  bool
	ways [2][]eframe
}

type eframe struct {
	at    time.Time // arrival, when time runs
	frame core.Frame
}

func (l *elink) has(n *enode) bool { return l.a == n || l.b == n }

func (l *elink) way(from *enode) (*[]eframe, *enode) {
	if from == l.a {
		return &l.ways[0], l.b
	}
	return &l.ways[1], l.a
}

func (e *env) session(id uint64) *elink {
	for _, l := range e.links {
		if l.id == id {
			return l
		}
	}
	return nil
}

func (e *env) link(a, b string) *elink {
	for _, l := range e.links {
		if l.has(e.node(a)) && l.has(e.node(b)) && l.spec.Uplink == e.value("by", "") {
			return l
		}
	}
	panic("no link " + a + " " + b)
}

func (e *env) cmdLink() {
	l := &elink{e: e, a: e.node(e.arg(0)), b: e.node(e.arg(1))}
	l.spec = core.Link{
		Delay: e.duration("delay"), Window: int64(e.number("window", 0)),
		Schedule: contact.Schedule{Every: e.duration("every"), For: e.duration("for")},
		Uplink:   e.value("by", ""), Cost: uint32(e.number("cost", 0)),
	}
	for name := range strings.FieldsSeq(strings.ReplaceAll(e.value("classes", ""), "+", " ")) {
		class, err := bundle.ParseClass(name)
		if err != nil {
			panic(err)
		}
		l.spec.Classes = l.spec.Classes.With(class)
	}
	e.links = append(e.links, l)
	l.up()
}

func (l *elink) up() {
	l.e.sessions++
	l.id, l.ways = l.e.sessions, [2][]eframe{}
	for _, n := range []*enode{l.a, l.b} {
		_, other := l.way(n)
		spec := l.spec
		spec.ID, spec.Node = l.id, other.name
		n.core.LinkUp(n.now(), spec)
		n.pump()
	}
}

// end ends a session; the node that crashed or asked for it knows already.
func (l *elink) end(but *enode) {
	id := l.id
	if id == 0 {
		return
	}
	l.id, l.ways = 0, [2][]eframe{}
	for _, n := range []*enode{l.a, l.b} {
		if n != but {
			n.core.LinkDown(n.now(), id)
			n.pump()
		}
	}
}

func (e *env) cmdUp()   { e.link(e.arg(0), e.arg(1)).up() }
func (e *env) cmdDown() { e.link(e.arg(0), e.arg(1)).end(nil) }
func (e *env) cmdCut()  { e.link(e.arg(0), e.arg(1)).cut = true }
func (e *env) cmdHeal() { e.link(e.arg(0), e.arg(1)).cut = false }

func (e *env) cmdLose() {
	w, _ := e.link(e.arg(0), e.arg(1)).way(e.node(e.arg(0)))
	*w = nil
}

func (e *env) cmdInject() {
	l := e.link(e.arg(0), e.arg(1))
	_, to := l.way(e.node(e.arg(0)))
	xid := uint64(e.number("xid", 0))
	var f core.Frame = core.Ack{Class: e.class(), XID: xid}
	if e.arg(2) == "refuse" {
		f = core.Refuse{Class: e.class(), XID: xid, Reason: reasonOf(e.value("reason", ""))}
	}
	to.core.Receive(to.now(), l.id, []core.Frame{f})
	to.pump()
}

func reasonOf(s string) bundle.Reason {
	for r := range bundle.Reason(bundle.NumReasons) {
		if r.String() == s {
			return r
		}
	}
	panic("no reason " + s)
}

func (l *elink) send(from *enode, f core.Frame) {
	w, to := l.way(from)
	if text := l.e.frameText(f); text != "" {
		if l.spec.Uplink != "" {
			text = "by " + l.spec.Uplink + " " + text
		}
		l.e.printf("%s -> %s %s", from.name, to.name, text)
	}
	if t, ok := f.(*core.Transfer); ok && t.Blob == nil && t.Entry.State != store.Ended {
		b, err := from.store.Read(t.Header.Seq)
		if err != nil {
			l.e.printf("%s cannot read message %d: %v", from.name, t.Header.Seq, err)
			return
		}
		with := *t
		with.Blob = &store.Blob{B: b}
		f = &with
	}
	*w = append(*w, eframe{l.e.now.Add(l.spec.Delay), f})
}

// arrive hands over the first n frames of a direction.
func (l *elink) arrive(from *enode, n int) bool {
	w, to := l.way(from)
	if l.cut {
		return false
	}
	frames := (*w)[:min(n, len(*w))]
	*w = (*w)[len(frames):]
	for _, f := range frames {
		id := l.id
		to.core.Receive(to.now(), id, []core.Frame{received(f.frame)})
		to.pump()
		if l.id != id {
			break
		}
	}
	return len(frames) > 0
}

// received is a frame as the reader of a link parses it.
func received(f core.Frame) core.Frame {
	switch f := f.(type) {
	case *core.Transfer:
		in := incoming(f.Header, f.Entry, f.Blob, f.Life)
		in.XID, in.Class, in.Ended = f.XID, f.Class, f.Entry.State == store.Ended
		return in
	case *core.Volatile:
		in := incoming(f.Header, f.Entry, f.Blob, f.Life)
		in.Class, in.Volatile = f.Header.Class, true
		return in
	case *routing.Advert:
		a := *f
		return &a
	}
	return f
}

func incoming(h *store.Header, e store.Entry, b *store.Blob, life int64) *core.Incoming {
	in := &core.Incoming{Life: life, Hops: h.Hops, Frozen: e.Frozen, Size: int(h.Size), Retain: h.Retain}
	v, err := bundle.ParseFrozen(e.Frozen)
	if err != nil {
		in.Bad = bundle.Malformed
		return in
	}
	id := v.Primary.ID()
	in.Origin, in.Bundle = id.Node, id.Seq
	in.DSeq, in.Message, in.QoS, in.Groups = v.Mesh.DSeq, v.Mesh.Message, v.Mesh.QoS, v.Mesh.Groups
	if n, svc, ok := v.Primary.Dest.Node(); ok {
		in.Node, in.Service = n, svc
	} else if r, svc, ok := v.Primary.Dest.Region(); ok {
		in.Region, in.Service = r, svc
	}
	if e.State == store.Ended {
		in.Size = 0
		return in
	}
	in.Blob, in.Topic = b, topicOf(b)
	in.Retain, in.Said = said(b)
	if in.Count = v.Mesh.Count; in.Count > 0 {
		in.Parts, in.Topic = parts(in.Message, b), ""
	}
	if in.Service != core.ServiceMQTT {
		in.Topic = ""
	}
	if in.Service == core.ServiceReports {
		data, err := bundle.PayloadData(b.B)
		if err == nil {
			in.Reports, err = core.ParseReports(data)
		}
		if err != nil {
			panic(err)
		}
	}
	return in
}

func (e *env) cmdDeliver() {
	count := e.number("n", 1<<30)
	if !e.has(1) {
		e.deliverAll()
		return
	}
	e.link(e.arg(0), e.arg(1)).arrive(e.node(e.arg(0)), count)
}

// deliverAll moves every frame that is under way now by one hop.
func (e *env) deliverAll() bool {
	type move struct {
		l    *elink
		from *enode
		n    int
	}
	var moves []move
	for _, l := range e.links {
		for k, from := range []*enode{l.a, l.b} {
			if n := len(l.ways[k]); n > 0 {
				moves = append(moves, move{l, from, n})
			}
		}
	}
	did := false
	for _, m := range moves {
		did = m.l.arrive(m.from, m.n) || did
	}
	return did
}

const patience = 10000 // steps after which an env that finds no rest is stuck

func (e *env) cmdStabilize() { e.stabilize() }

func (e *env) stabilize() {
	for range patience {
		did := e.deliverAll()
		for _, n := range e.nodes {
			did = n.work() || did
		}
		if !did {
			e.checkSought()
			return
		}
	}
	e.printf("it does not come to rest")
}

// cmdTick lets the world run: frames arrive after their delay, writes are
// durable a millisecond after they were made, devices with auto answer.
func (e *env) cmdTick() {
	d, err := time.ParseDuration(e.arg(0))
	if err != nil {
		panic(err)
	}
	end := e.now.Add(d)
	for range patience * 100 {
		for _, n := range e.nodes {
			for n.work() {
			}
		}
		next, who := e.due()
		if next.Equal(e.now) { // a node that was just woken does not want to be woken at once
			next = e.now.Add(time.Millisecond)
		}
		l, from := e.nextArrival()
		if l != nil {
			w, _ := l.way(from)
			if at := (*w)[0].at; next.IsZero() || !at.After(next) {
				next, who = at, nil
			}
		}
		if next.IsZero() || next.After(end) {
			e.now = end
			return
		}
		if next.After(e.now) {
			e.now = next
		}
		for _, n := range who {
			n.core.Tick(n.now())
			n.pump()
		}
		if who == nil {
			l.arrive(from, 1)
		}
	}
	e.printf("it does not come to rest")
}

func (e *env) nextArrival() (first *elink, from *enode) {
	var at time.Time
	for _, l := range e.links {
		if l.cut || !l.spec.Schedule.Open(e.now) {
			continue
		}
		for k, n := range []*enode{l.a, l.b} {
			if len(l.ways[k]) > 0 && (first == nil || l.ways[k][0].at.Before(at)) {
				first, from, at = l, n, l.ways[k][0].at
			}
		}
	}
	return first, from
}
