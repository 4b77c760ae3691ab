package sim

import (
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/memstore"
)

const defaultSync = 5 * time.Millisecond

// node is one farhop: the real core, a store in memory, and a driver that
// does in virtual time what the real one does with goroutines.
type node struct {
	w           *world
	name        addr.Node
	region      addr.Region
	incarnation uint32

	core     *core.Core
	store    *memstore.Store
	up       bool
	life     int // counts boots; what was scheduled in an earlier life is void
	syncing  bool
	wakeAt   time.Duration
	links    []*link
	sessions map[uint64]*link
	tokens   map[uint64]func(core.Reply)
	token    uint64
	devices  map[string]device
	past     core.Stats // of earlier lives
}

// device is a client of a node.
type device interface {
	deliver(d core.Delivery)
	nodeUp()
}

// boot starts the core on what the store holds.
func (n *node) boot() error {
	if n.store == nil {
		n.store = memstore.New(memstore.Config{Incarnation: n.incarnation})
	}
	n.life++
	n.up, n.syncing, n.wakeAt = true, false, 0
	n.tokens = map[uint64]func(core.Reply){}
	n.core = core.New(core.Config{Self: n.name, Region: n.region, Incarnation: n.incarnation, Clock: true})
	n.w.note('B', n.name.String(), uint64(n.life))
	if err := n.core.Restore(n.w.clock(), n.store); err != nil {
		return err
	}
	n.core.Configure(n.w.clock(), core.Settings{}, n.w.routes)
	n.pump()
	for _, l := range n.links {
		l.tryConnect()
	}
	for _, p := range n.w.pubs {
		if p.node == n {
			p.nodeUp()
		}
	}
	for _, s := range n.w.subs {
		if s.node == n {
			s.nodeUp()
		}
	}
	return nil
}

// crash loses all that is not synced, for a while.
func (n *node) crash(d time.Duration) {
	if !n.up {
		return
	}
	n.w.note('X', n.name.String())
	n.w.report.Crashes++
	n.up = false
	n.past = add(n.past, n.core.Stats())
	n.store = n.store.Crash()
	for _, l := range n.links {
		l.lost(n)
	}
	n.w.after(d, func() {
		if err := n.boot(); err != nil && n.w.report.err == nil {
			n.w.report.err = err
		}
	})
}

// inLife returns f guarded against a crash between now and then.
func (n *node) inLife(f func()) func() {
	life := n.life
	return func() {
		if n.up && n.life == life {
			f()
		}
	}
}

func (n *node) newToken(f func(core.Reply)) uint64 {
	n.token++
	n.tokens[n.token] = f
	return n.token
}

// pump runs effects until there are none, then sets the next wake-up.
func (n *node) pump() {
	for e := n.core.Take(); e != nil; e = n.core.Take() {
		n.run(e)
	}
	wake := n.core.Wake()
	if wake.IsZero() {
		return
	}
	at := max(wake.Sub(epoch), n.w.now+time.Millisecond)
	if n.wakeAt > n.w.now && n.wakeAt <= at {
		return
	}
	n.wakeAt = at
	n.w.at(at, n.inLife(func() {
		if n.wakeAt == n.w.now {
			n.core.Tick(n.w.clock())
			n.wakeAt = 0
			n.pump()
		}
	}))
}

func (n *node) run(e *core.Effects) {
	if e.Write != nil {
		n.store.Append(e.Write)
		n.sync()
	}
	for _, s := range e.Sends {
		if l := n.sessions[s.Link]; l != nil {
			l.send(n, s.Frame)
		}
	}
	for _, c := range e.Close {
		if l := n.sessions[c.Link]; l != nil {
			l.closed(n)
		}
	}
	deliver, replies := e.Deliver, e.Replies
	for _, d := range deliver {
		if dev := n.devices[d.Session]; dev != nil {
			dev.deliver(d)
		} else if d.Service != "" {
			t := core.Settlement{Service: d.Service, Seq: d.Header.Seq}
			n.w.after(0, n.inLife(func() { n.settle(t) }))
		}
	}
	for _, r := range replies {
		if f := n.tokens[r.Token]; f != nil {
			delete(n.tokens, r.Token)
			f(r)
		}
	}
	for _, l := range e.Loads {
		items, err := n.store.Scan(l.Queue, l.After, l.N)
		if err != nil && n.w.report.err == nil {
			n.w.report.err = err
		}
		n.core.Loaded(n.w.clock(), l.Queue, items)
	}
}

func (n *node) settle(t core.Settlement) {
	n.core.Settle(n.w.clock(), []core.Settlement{t})
	n.pump()
}

// sync groups all writes of one fsync time into one.
func (n *node) sync() {
	if n.syncing {
		return
	}
	n.syncing = true
	d := time.Duration(n.w.sc.Sync)
	if d == 0 {
		d = defaultSync
	}
	n.w.after(d, n.inLife(func() {
		n.syncing = false
		if lsn, ok := n.store.Sync(); ok {
			n.w.note('S', n.name.String(), uint64(lsn))
			n.core.Persisted(n.w.clock(), lsn)
			n.pump()
		}
	}))
}

// receive takes a frame off a link, as the reader of a real link parses it.
func (n *node) receive(session uint64, f core.Frame) {
	switch f := f.(type) {
	case *core.Transfer:
		in := incoming(f.Header, f.Entry, f.Blob, f.Life)
		in.XID, in.Class, in.Ended = f.XID, f.Class, f.Entry.State == 2
		n.core.Receive(n.w.clock(), session, []core.Frame{in})
	case *core.Volatile:
		in := incoming(f.Header, f.Entry, f.Blob, f.Life)
		in.Class, in.Volatile = f.Header.Class, true
		n.core.Receive(n.w.clock(), session, []core.Frame{in})
	case *routing.Advert:
		a := *f
		n.core.Receive(n.w.clock(), session, []core.Frame{&a})
	default:
		n.core.Receive(n.w.clock(), session, []core.Frame{f})
	}
	n.pump()
}

func (n *node) count(r *Report) {
	s := n.past
	if n.up {
		s = add(s, n.core.Stats())
	}
	r.Transfers += s.Transfers
	r.HeldBack += s.HeldBack
	r.WireDuplicates += s.Duplicates
	r.GapsGivenUp += s.GapsGivenUp
	r.Expired += s.Ended[bundle.Expired]
	if n.up {
		r.Stored += n.core.View().Totals.Messages
	}
}

// stored notes the messages that wait in this node's store.
func (n *node) stored(into map[msgKey]bool) {
	sum, err := n.store.Summary()
	if err != nil {
		return
	}
	for _, q := range sum.Queues {
		items, _ := n.store.Scan(q.Queue, 0, q.Count)
		for _, i := range items {
			if b, err := n.store.Read(i.Header.Seq); err == nil && len(b) >= 12 {
				p, num := identity(b)
				into[msgKey{p, num}] = true
			}
		}
	}
}
