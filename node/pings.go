package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// pings are the questions of farhop ping that wait for an answer. A question
// is a bundle, so it waits out what is down; whoever asked may have left when
// the answer comes, which is dropped then.
type pings struct {
	mu      sync.Mutex // guards what follows
	open    int
	waiting map[uint64]asked // by number
}

// asked is where the answer to a question goes.
type asked struct {
	to  addr.Node
	seq int
	ch  chan<- heard // has room for all that wait
}

// heard is the end of a question.
type heard struct {
	seq    int
	at     time.Time
	reason bundle.Reason // not OK: it was not taken
	answer core.Echoed
}

// Of a ping without flags.
const (
	pingEvery = time.Second
	pingLife  = 24 * time.Hour         // of a question: it may wait for a link as long as that
	pingLeast = 10 * time.Millisecond  // between two questions
	pingLook  = 250 * time.Millisecond // how often the path is looked at
)

func newPings() *pings { return &pings{waiting: map[uint64]asked{}} }

// ask notes a question and returns its number.
func (p *pings) ask(a asked) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		id := binary.BigEndian.Uint64(b[:])
		if _, taken := p.waiting[id]; !taken {
			p.waiting[id] = a
			return id
		}
	}
}

// end hands over what became of a question, once.
func (p *pings) end(id uint64, from addr.Node, h heard) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.waiting[id]
	if !ok || a.to != from {
		return // whoever asked has left, or somebody guesses
	}
	delete(p.waiting, id)
	h.seq = a.seq
	select {
	case a.ch <- h:
	default: // only of one that was given up
	}
}

// heard takes in an answer. Loop goroutine only; it does not block.
func (p *pings) heard(e core.Echoed) {
	p.end(e.ID, e.From, heard{at: time.Now(), answer: e})
}

// forget drops the questions of one ping.
func (p *pings) forget(ch chan<- heard) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	for id, a := range p.waiting {
		if a.ch == ch {
			delete(p.waiting, id)
		}
	}
}

// drop forgets one question.
func (p *pings) drop(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, id)
}

func (p *pings) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open >= admin.MaxPings {
		return admin.NotHere("stop another farhop ping", "%d pings are open, which is the limit", p.open)
	}
	p.open++
	return nil
}

// ping is one that is open.
type ping struct {
	n       *Node
	to      addr.Node
	class   bundle.Class
	count   int
	timeout time.Duration
	tell    func(admin.PingEvent) error
	ch      chan heard
	sent    int
	open    map[int]*question // without an answer
	way     routing.Path      // as it was told last
	layer   string
	upSince time.Time // zero while the path is not up
}

// question is one without an answer.
type question struct {
	id     uint64
	at     time.Time // it was asked
	clock  time.Time // by the node's clock
	silent bool      // told
}

// Ping implements admin.Backend.
func (b backend) Ping(ctx context.Context, r admin.PingRequest, f func(admin.PingEvent) error) error {
	p := &ping{
		n: b.n, to: r.Node, count: r.Count, timeout: time.Duration(r.Timeout), tell: f,
		ch: make(chan heard, admin.MaxPingWaiting), open: map[int]*question{},
	}
	every := cmp.Or(time.Duration(r.Interval), pingEvery)
	var err error
	switch p.class, err = bundle.ParseClass(cmp.Or(r.Class, bundle.Interactive.String())); {
	case err != nil:
		return admin.Invalid("", "%v", err)
	case r.Count < 0 || every < pingLeast:
		return admin.Invalid("", "a ping wants a count that is not negative, and an interval of %v or more", pingLeast)
	case r.Node == b.n.material.Self().Node:
		return admin.Invalid("farhop nodes", "%s is this node", r.Node)
	}
	if s := b.n.mqtt.snapshot.Load(); s == nil || !s.Knows(r.Node) {
		return admin.NotHere("farhop nodes", "no node %q is known here", r.Node)
	}
	if err := b.n.pings.begin(); err != nil {
		return err
	}
	defer b.n.pings.forget(p.ch)
	return p.run(ctx, every)
}

// run asks and listens until all is answered or given up.
func (p *ping) run(ctx context.Context, every time.Duration) error {
	if err := p.look(admin.PingOpen); err != nil {
		return err
	}
	next := time.NewTimer(0)
	look := time.NewTicker(min(every, pingLook))
	defer next.Stop()
	defer look.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next.C:
			if p.count == 0 || p.sent < p.count {
				p.ask()
				next.Reset(every)
			}
		case h := <-p.ch:
			err = p.heard(h)
		case <-look.C:
			if err = p.look(admin.PingPath); err == nil {
				err = p.watch()
			}
		}
		if err != nil || p.over() {
			return err
		}
	}
}

// over reports whether every question was asked, and answered or given up.
func (p *ping) over() bool {
	if p.count == 0 || p.sent < p.count {
		return false
	}
	for _, q := range p.open {
		if !q.silent {
			return false
		}
	}
	return true
}

// ask sends one question, unless too many wait.
func (p *ping) ask() {
	if len(p.open) >= admin.MaxPingWaiting {
		return
	}
	p.sent++
	id := p.n.pings.ask(asked{p.to, p.sent, p.ch})
	p.open[p.sent] = &question{id: id, at: time.Now(), clock: p.n.loop.clock.now()}
	s := core.Submission{
		To: p.to, Service: core.ServiceEcho, Class: p.class, QoS: 1, TTL: cmp.Or(p.timeout, pingLife), Blob: core.EchoQuestion(id),
	}
	p.n.loop.in.put(func(now time.Time, c *core.Core) {
		s.Token = p.n.loop.newToken(func(r core.Reply) {
			if r.Reason != bundle.OK {
				p.n.pings.end(id, p.to, heard{reason: r.Reason})
			}
		})
		c.Submit(now, []core.Submission{s})
	})
}

// heard tells what became of a question.
func (p *ping) heard(h heard) error {
	q := p.open[h.seq]
	delete(p.open, h.seq)
	if q == nil {
		return nil
	}
	e := p.event(admin.PingAnswer)
	e.Seq, e.Late = h.seq, q.silent
	if h.reason != bundle.OK {
		e.Event, e.Reason, e.Late = admin.PingRefused, h.reason.String(), false
		return p.tell(e)
	}
	there := float64(h.answer.At - q.clock.UnixMilli())
	e.RTTms, e.ThereMS = ms(h.at.Sub(q.at)), &there
	e.There, e.Back = int(h.answer.There), int(h.answer.Back)
	_, e.Path = p.path()
	return p.tell(e)
}

// watch tells of questions that should have been answered by now.
func (p *ping) watch() error {
	way, _ := p.path()
	patience := p.patience(way)
	if patience == 0 {
		return nil
	}
	for _, seq := range slices.Sorted(maps.Keys(p.open)) {
		q := p.open[seq]
		if q.silent {
			continue
		}
		from := q.at
		if p.timeout == 0 && p.upSince.After(from) {
			from = p.upSince
		}
		if time.Since(from) < patience {
			continue
		}
		q.silent = true
		e := p.event(admin.PingSilent)
		e.Seq = seq
		if err := p.tell(e); err != nil {
			return err
		}
	}
	p.giveUp()
	return nil
}

// giveUp drops the oldest of those that are silent, so that a ping without end
// goes on.
func (p *ping) giveUp() {
	if len(p.open) < admin.MaxPingWaiting {
		return
	}
	for _, seq := range slices.Sorted(maps.Keys(p.open)) {
		if q := p.open[seq]; q.silent {
			p.n.pings.drop(q.id)
			delete(p.open, seq)
			return
		}
	}
}

// look tells what is known of the path when that changed, or at first.
func (p *ping) look(event string) error {
	way, told := p.path()
	switch {
	case !way.Up():
		p.upSince = time.Time{}
	case p.upSince.IsZero():
		p.upSince = time.Now()
	}
	same := way.Hop == p.way.Hop && way.Hops == p.way.Hops && way.Up() == p.way.Up() && told.Layer == p.layer
	if event != admin.PingOpen && same {
		return nil
	}
	p.way, p.layer = way, told.Layer
	e := p.event(event)
	e.Class, e.Path = p.class.String(), told
	return p.tell(e)
}

func (p *ping) event(what string) admin.PingEvent {
	return admin.PingEvent{At: p.n.loop.clock.now().UTC(), Event: what, Node: p.to}
}

// path is the way as it is known now, and in words.
func (p *ping) path() (routing.Path, *admin.Way) {
	var way routing.Path
	if s := p.n.mqtt.snapshot.Load(); s != nil {
		way = s.ClassPath(p.class, p.to)
	}
	out := &admin.Way{
		Up: way.Up(), Hops: way.Hops, NextHop: way.Hop, ExpectedMS: float64(2 * way.Delay()), PatienceMS: ms(p.patience(way)),
	}
	if l := p.n.manager.Session(way.Hop); l != nil && !way.Hop.IsZero() {
		out.Layer, out.LinkRTTms = string(l.Layer()), ms(l.RTT())
		if way.Hops == 1 {
			out.ExpectedMS = out.LinkRTTms
		}
	}
	return way, out
}

// patience is how long an answer may take: four round trips of the path, and a
// second for the disks of each node. Without a path that is up nobody knows, and
// 0 is without end.
func (p *ping) patience(way routing.Path) time.Duration {
	switch {
	case p.timeout > 0:
		return p.timeout
	case !way.Up():
		return 0
	}
	return 4*2*time.Duration(way.Delay())*time.Millisecond + time.Duration(way.Hops+1)*time.Second
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
