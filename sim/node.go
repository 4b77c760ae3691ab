package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/sim/oracle"
	"github.com/farhop/farhop/sim/scenario"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/memstore"
	"github.com/farhop/farhop/storeforward/store"
)

const defaultSync = 5 * time.Millisecond

// restart is how long a node whose disk failed stays down.
const restart = 30 * time.Second

// node is one farhop: the real core, a store in memory, and a driver that
// does in virtual time what the real one does with goroutines.
type node struct {
	w           *world
	index       int
	spec        scenario.Node
	name        addr.Node
	region      addr.Region
	incarnation uint32
	rng         *rand.Rand
	ahead       time.Duration // of its clock
	stepBack    time.Duration // of its clock, at the next boot
	quotas      *policy.Quotas

	core     *core.Core
	store    *memstore.Store
	judge    *oracle.Node
	up       bool
	life     int // counts boots; what was scheduled in an earlier life is void
	flights  map[uint64]flight
	wakeAt   time.Duration
	links    []*link
	sessions map[uint64]*session
	tokens   map[uint64]func(core.Reply)
	token    uint64
	devices  map[string]device
	past     core.Stats // of earlier lives
	triggers []*trigger

	syncing   bool
	slow      time.Duration // what a sync takes instead
	full      int           // faults in force
	persisted store.LSN     // of the sync that runs
	failed    error         // of the sync that runs
	checks    int
	mute      bool // the oracle is not told of what becomes durable
	lossy     bool // the accounts on disk count records that were lost
}

// device is a client of a node.
type device interface {
	deliver(d core.Delivery)
	live(l core.Live)
	nodeUp()
}

// judged introduces the node to the oracle.
func (n *node) judged() {
	wait := time.Duration(n.w.sc.OrderWait)
	if wait == 0 {
		wait = core.DefaultOrderWait
	}
	n.judge = n.w.judge.Node(oracle.NodeConfig{
		Name: n.name, Region: n.region, MaxBytes: n.spec.Bytes, MaxCount: n.spec.Count, OrderWait: wait,
		Clock: func() int64 { return n.clock().UnixMilli() },
		Bytes: func() int64 { return n.store.Bytes() },
		Stats: func() core.Stats { return n.core.Stats() }, Limits: n.limits, Charges: n.charges, Yields: n.w.yields,
	})
}

// clock is the node's own time.
func (n *node) clock() time.Time {
	t := n.w.now
	if n.spec.Drift != 0 {
		t += t / 1_000_000 * time.Duration(n.spec.Drift)
	}
	return epoch.Add(t + n.ahead)
}

// open makes a core of what the store holds.
func (n *node) open() error {
	n.core = core.New(core.Config{
		Self: n.name, Region: n.region, Incarnation: n.incarnation, Clock: true,
		Limits: n.w.tamper.limits(storeforward.Config{MaxBytes: n.spec.Bytes, MaxCount: n.spec.Count, Window: n.spec.Window}),
	})
	if err := n.judge.Opened(n.store.State); err != nil {
		return err
	}
	if err := n.core.Restore(n.clock(), n.store); err != nil {
		return err
	}
	n.configure(n.core)
	return nil
}

// boot starts the core on what the store holds.
func (n *node) boot() error {
	if n.store == nil {
		n.store = memstore.New(memstore.Config{Incarnation: n.incarnation, Done: n.done})
	}
	n.life++
	n.ahead -= n.stepBack
	n.stepBack = 0
	n.syncing, n.wakeAt, n.failed = false, 0, nil
	n.tokens = map[uint64]func(core.Reply){}
	n.w.note('B', n.name.String(), uint64(n.life), 0, 0)
	sum, err := n.store.Summary()
	if err != nil {
		return err
	}
	n.judge.Booted(sum, func(q store.Queue) []store.Item {
		items, _ := n.store.Scan(q, 0, 1<<30)
		return items
	})
	if n.life > 1 && n.rng.IntN(4) == 0 {
		if err := n.recoverTwice(); err != nil {
			return err
		}
	}
	n.up = true
	if err := n.open(); err != nil {
		return err
	}
	n.pump()
	for _, l := range n.links {
		l.tryConnect()
	}
	for _, p := range n.w.pubs {
		if p.node == n && n.up {
			p.nodeUp()
		}
	}
	for _, s := range n.w.subs {
		if s.node == n && n.up {
			s.nodeUp()
		}
	}
	return nil
}

func (n *node) configure(c *core.Core) {
	set := core.Settings{OrderWait: time.Duration(n.w.sc.OrderWait), Quotas: n.quotas}
	if b := n.w.sc.Batch; b != nil {
		set.Batch.Max = b.Max
		for class := range set.Batch.Wait {
			set.Batch.Wait[class] = time.Duration(b.Wait)
		}
	}
	c.Configure(n.clock(), set, n.w.routes)
}

// recoverTwice recovers in no time, twice, and compares what each left. A
// recovery that meets lost records leaves their accounts to the next.
func (n *node) recoverTwice() error {
	first, err := n.recoverOnce()
	if err == nil && n.lossy {
		first, err = n.recoverOnce()
	}
	if err != nil {
		return err
	}
	n.w.tamper.recovered(n)
	second, err := n.recoverOnce()
	if err == nil && first != second {
		n.judge.Unequal(first, second)
	}
	return err
}

func (n *node) recoverOnce() (string, error) {
	if err := n.open(); err != nil {
		return "", err
	}
	for e := n.core.Take(); e != nil; e = n.core.Take() {
		if e.Write != nil {
			n.append(e.Write)
			if lsn, ok := n.store.Sync(); ok {
				n.core.Persisted(n.clock(), lsn)
			}
		}
		n.load(e.Loads)
	}
	n.past = add(n.past, n.core.Stats())
	n.judge.Crashed()
	return n.content()
}

// content describes all that is durable but the number of the boot.
func (n *node) content() (string, error) {
	d := newDigest()
	sum, err := n.store.Summary()
	if err != nil {
		return "", err
	}
	entries, keys := 0, 0
	for _, q := range sum.Queues {
		items, err := n.store.Scan(q.Queue, 0, q.Count)
		if err != nil {
			return "", err
		}
		entries += len(items)
		d.text(core.QueueText(q.Queue))
		d.number(uint64(q.Queue.Class))
		for _, i := range items {
			d.number(i.Header.Seq)
			d.number(uint64(i.Header.Message.Seq))
			d.number(uint64(i.Header.Expires))
			d.number(uint64(i.Entry.State))
			d.number(i.Entry.DSeq)
		}
	}
	n.lossy = false
	err = n.store.State("", func(key string, value []byte) error {
		n.lossy = n.lossy || key == "r"
		if key == "b" {
			return nil // counts boots
		}
		keys++
		d.text(key)
		for _, b := range value {
			d.byte(b)
		}
		return nil
	})
	return fmt.Sprintf("%d entries, %d keys, digest %s", entries, keys, d), err
}

// crash loses what is not synced, for a while. torn: some of the oldest
// batches that wait survive.
func (n *node) crash(d time.Duration, torn bool) {
	if !n.up {
		return
	}
	n.w.note('X', n.name.String(), 0, 0, 0)
	n.w.report.Crashes++
	n.up = false
	if staged := n.store.Staged(); staged > 0 {
		keep := 0
		if torn {
			keep = n.rng.IntN(staged + 1)
		}
		if keep > 0 {
			n.store.FailAt(keep+1, store.ErrPoisoned)
			n.store.Sync()
		}
		n.w.report.TornBatches += uint64(keep)
		n.w.report.LostBatches += uint64(staged - keep)
	}
	n.halt(d)
}

// halt ends a life.
func (n *node) halt(d time.Duration) {
	n.up = false
	n.past = add(n.past, n.core.Stats())
	n.store = n.store.Crash()
	n.store.SetFull(n.full > 0)
	n.judge.Crashed()
	n.w.tamper.crashed(n)
	for _, l := range n.links {
		l.lost(n)
	}
	n.w.after(d, func() { n.w.fault(n.boot()) })
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
		if n.run(e); !n.up {
			return
		}
	}
	if n.judge.Waits() {
		n.judge.Gaps(n.core.Stats().GapsGivenUp)
	}
	wake := n.core.Wake()
	if wake.IsZero() {
		return
	}
	at := n.w.now + max(wake.Sub(n.clock()), time.Millisecond)
	if n.wakeAt > n.w.now && n.wakeAt <= at {
		return
	}
	n.wakeAt = at
	life := n.life
	n.w.at(at, func() {
		if n.up && n.life == life && n.wakeAt == n.w.now {
			n.core.Tick(n.clock())
			n.wakeAt = 0
			n.pump()
		}
	})
}

// run does what the core asks for. A crash in the middle leaves the rest
// undone.
func (n *node) run(e *core.Effects) {
	if e.Write != nil {
		if n.append(e.Write); len(e.Write.Puts) > 0 && n.fires(scenario.OnStage) {
			return
		}
		if !e.Write.Lazy {
			n.sync()
		}
	}
	n.w.report.OutOfTurn += outOfTurn(e)
	for _, s := range e.Silences {
		if !s.Over {
			n.w.report.Silences++
		}
	}
	for _, s := range e.Sends {
		if _, ok := s.Frame.(core.Ack); ok && n.fires(scenario.OnAck) {
			return
		}
		n.send(s)
	}
	for _, c := range e.Close {
		if s := n.sessions[c.Link]; s != nil {
			breach := strings.HasPrefix(c.Reason, "transfer ") || strings.HasPrefix(c.Reason, "acknowledged ")
			n.judge.Closed(c.Reason, breach, s.breached)
			s.closed(n)
		}
	}
	for _, d := range e.Deliver {
		if n.fires(scenario.OnOffer) {
			return
		}
		n.deliver(d)
	}
	for _, l := range e.Live {
		for _, s := range n.w.subs {
			if s.node == n {
				s.live(l)
			}
		}
	}
	for _, r := range e.Replies {
		if n.fires(scenario.OnReply) {
			return
		}
		n.reply(r)
	}
	for _, o := range e.Early {
		n.offered(o)
	}
	n.load(e.Loads)
}

func (n *node) send(s core.Send) {
	ses := n.sessions[s.Link]
	if ses == nil {
		return
	}
	f := n.w.tamper.send(n, n.payload(s.Frame))
	n.judge.Sent(s.Link, f)
	ses.send(n, f)
}

// payload reads what a transfer carries. Of a record that cannot be read the
// peer gets the obituary, so that nothing waits for it.
func (n *node) payload(f core.Frame) core.Frame {
	t, ok := f.(*core.Transfer)
	if !ok || t.Blob != nil || t.Entry.State == store.Ended {
		return f
	}
	b, err := n.store.Read(t.Header.Seq)
	switch {
	case errors.Is(err, store.ErrDamaged):
		n.unreadable(t.Entry.Queue, t.Header.Seq)
		t.Entry.State = store.Ended
	case err != nil:
		n.w.fault(err)
	default:
		t.Blob = &store.Blob{B: b}
	}
	return t
}

func (n *node) deliver(d core.Delivery) {
	n.judge.Offered(d)
	if dev := n.devices[d.Session]; dev != nil {
		dev.deliver(d)
	} else if d.Service != "" {
		t := core.Settlement{Service: d.Service, Seq: d.Header.Seq}
		n.w.after(0, n.inLife(func() { n.settle(t) }))
	}
}

func (n *node) reply(r core.Reply) {
	f := n.tokens[r.Token]
	if f == nil {
		return
	}
	delete(n.tokens, r.Token)
	r = n.w.tamper.reply(n, r)
	n.judge.Replied(r)
	f(r)
}

func (n *node) load(loads []storeforward.Load) {
	for _, l := range loads {
		items, err := n.store.Scan(l.Queue, l.After, l.N)
		n.w.fault(err)
		for i := range items {
			if items[i].Damaged {
				n.judge.Unreadable(l.Queue, items[i].Header.Seq, true)
			}
		}
		n.core.Loaded(n.clock(), l.Queue, items)
	}
}

func (n *node) settle(t core.Settlement) {
	n.judge.Settled(t)
	n.core.Settle(n.clock(), []core.Settlement{t})
	n.pump()
}

func (n *node) append(b *store.Batch) {
	n.w.tamper.staged(n, b)
	n.judge.Staged(b)
	n.store.Append(b)
}

// done hears the fate of each batch from within the store's Sync. Nothing
// that follows a refused batch may become durable: the node halts.
func (n *node) done(lsn store.LSN, err error) {
	if n.mute {
		return
	}
	if err == nil {
		n.judge.Persisted()
		n.persisted = lsn
		return
	}
	n.judge.Refused()
	if n.failed == nil {
		n.failed = err
		n.store.FailAt(1, store.ErrPoisoned)
	}
}

// sync groups all writes of one fsync time into one.
func (n *node) sync() {
	if n.syncing {
		return
	}
	n.syncing = true
	n.w.after(n.syncTime(), n.inLife(func() {
		n.syncing, n.persisted = false, 0
		n.store.Sync()
		if n.persisted > 0 {
			n.w.note('S', n.name.String(), uint64(n.persisted), 0, 0)
			if n.fires(scenario.OnSync) {
				return
			}
			n.core.Persisted(n.clock(), n.persisted)
			n.w.tamper.persisted(n)
			n.pump()
		}
		if n.failed != nil && n.up {
			n.stop()
		} else if n.checks++; n.up && n.checks%64 == 0 && n.store.Staged() == 0 {
			v := n.core.View()
			n.judge.Agrees(v)
			n.recount(v)
		}
	}))
}

func (n *node) syncTime() time.Duration {
	for _, d := range []time.Duration{n.slow, time.Duration(n.spec.Sync), time.Duration(n.w.sc.Sync)} {
		if d > 0 {
			return d
		}
	}
	return defaultSync
}

// stop is what a node does whose store failed: it answers those who wait, and
// its service manager starts it again.
func (n *node) stop() {
	n.w.note('X', n.name.String(), 1, 0, 0)
	n.w.report.FailedCommits++
	if !errors.Is(n.failed, store.ErrFull) && !errors.Is(n.failed, store.ErrPoisoned) {
		n.w.fault(n.failed)
	}
	n.core.Failed(n.clock())
	if n.pump(); n.up {
		n.halt(restart)
	}
}

// receive takes a frame off a link, as the reader of a real link parses it.
func (n *node) receive(id uint64, f core.Frame) {
	switch t := f.(type) {
	case *core.Transfer:
		in := n.incoming(t.Header, t.Entry, t.Blob, t.Life)
		in.XID, in.Class, in.Ended = t.XID, t.Class, t.Entry.State == store.Ended
		f = in
	case *core.Volatile:
		in := n.incoming(t.Header, t.Entry, t.Blob, t.Life)
		in.Class, in.Volatile = t.Header.Class, true
		f = in
	case *routing.Advert:
		a := *t
		f = &a
	}
	n.judge.Received(id, f)
	n.core.Receive(n.clock(), id, []core.Frame{f})
	n.w.tamper.received(n, id, f)
	switch t := f.(type) {
	case *core.Incoming:
		if !t.Volatile && n.fires(scenario.OnReceive) {
			return
		}
	case core.Ack:
		if n.fires(scenario.OnRelease) {
			return
		}
	}
	n.pump()
}

// knowsAll reports whether the node has heard of everyone who subscribed.
func (n *node) knowsAll() bool {
	if !n.up {
		return false
	}
	known := map[addr.Node]bool{}
	for _, a := range n.core.Snapshot().Adverts {
		known[a.Node] = len(a.Interest) > 0
	}
	for _, s := range n.w.subs {
		if s.static() && !known[s.node.name] {
			return false
		}
	}
	return true
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
	if n.up {
		r.Stored += n.core.View().Totals.Messages
	}
}
