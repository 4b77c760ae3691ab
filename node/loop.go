package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/store"
)

// loop is the only goroutine that touches the core. It never blocks: reads
// from the store, encoding and sending happen in goroutines of their own,
// which it feeds through mailboxes.
type loop struct {
	core  *core.Core
	store store.Store
	clock *clock
	in    *inbox
	log   *slog.Logger

	// What effects go to; set before run.
	send     func(link uint64, frames core.Frame)
	closeBy  func(link uint64, reason string)
	renew    func(core.Renew)
	silent   func(link uint64, silent bool)
	deliver  *mailbox[any] // core.Delivery, core.Live or core.TakenOver
	loads    *mailbox[storeforward.Load]
	fetches  *mailbox[core.Fetch]
	silences *mailbox[silence] // for the log
	keep     func(core.Keep)   // the broker's copy of retained messages
	word     func(core.Word)
	echoed   func(core.Echoed)
	region   func(core.RegionState)
	changed  func(*core.Snapshot)
	wanted   func(s *core.Snapshot, came, gone []string) // s is nil when it is as before
	sights   func([]core.Sight)
	early    func(core.EarlyOffer)

	tokens map[uint64]func(core.Reply) // loop goroutine only
	token  uint64
	owed   store.LSN // the newest batch that something waits for; loop goroutine only
	paid   store.LSN // the newest that is durable; loop goroutine only

	failed chan error // one error: the store is done for
	scarce bool       // it was told that the disk is full; loop goroutine only
}

// errHalted is returned by requests to a node whose store failed.
var errHalted = errors.New("the node stops: its store failed")

func newLoop(c *core.Core, s store.Store, cl *clock, log *slog.Logger) *loop {
	return &loop{
		core: c, store: s, clock: cl, log: log, in: newInbox(), deliver: newMailbox[any](), loads: newMailbox[storeforward.Load](), fetches: newMailbox[core.Fetch](), silences: newMailbox[silence](),
		tokens: map[uint64]func(core.Reply){}, failed: make(chan error, 1),
	}
}

// run serves events until ctx ends, then what still waits. What is being
// written then is answered: what a device of a shared subscription was to get,
// for one, comes back for another member with the answer.
func (l *loop) run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var spare []event
	for {
		stop := false
		var over <-chan struct{}
		if l.paid >= l.owed {
			over = ctx.Done()
		}
		select {
		case <-l.in.ready:
		case <-timer.C:
		case err := <-l.failed:
			l.in.close()
			return err
		case <-over:
			stop = true
		}
		events := l.in.take(spare)
		now := l.clock.now()
		for i, e := range events {
			e(now, l.core)
			events[i] = nil
		}
		spare = events
		if w := l.core.Wake(); !w.IsZero() && !w.After(now) {
			l.core.Tick(now)
		}
		for eff := l.core.Take(); eff != nil; eff = l.core.Take() {
			l.perform(eff)
		}
		l.watchRoom()
		if stop && len(events) == 0 {
			l.in.close()
			return nil
		}
		d := time.Hour
		if w := l.core.Wake(); !w.IsZero() {
			d = min(max(w.Sub(l.clock.now()), time.Millisecond), d)
		}
		timer.Reset(d)
	}
}

func (l *loop) perform(e *core.Effects) {
	if e.Write != nil {
		if !e.Write.Lazy {
			l.owed = e.Write.LSN
		}
		l.store.Append(e.Write)
	}
	for _, s := range e.Sends {
		l.send(s.Link, s.Frame)
	}
	l.tell(e)
	for _, r := range e.Replies {
		if f := l.tokens[r.Token]; f != nil {
			delete(l.tokens, r.Token)
			f(r)
		}
	}
	// After the replies, and before the live: who subscribes in between gets
	// the newest, once.
	for _, k := range e.Keeps {
		l.keep(k)
	}
	for _, r := range e.Regions {
		l.region(r)
	}
	for _, w := range e.Words {
		l.word(w)
	}
	for _, a := range e.Echoes {
		l.echoed(a)
	}
	for _, t := range e.TakenOver {
		l.deliver.put(t)
	}
	for _, d := range e.Deliver {
		l.deliver.put(d)
	}
	for _, v := range e.Live {
		l.deliver.put(v)
	}
	for _, f := range e.Fetches {
		l.fetches.put(f)
	}
	for _, o := range e.Early {
		l.early(o)
	}
	for _, ld := range e.Loads {
		l.loads.put(ld)
	}
	if len(e.Sights) > 0 {
		l.sights(e.Sights)
	}
	for _, s := range e.Silences {
		l.silences.put(silence{time.Now(), s})
		l.silent(s.Link, !s.Over)
	}
	for _, r := range e.Renew {
		l.renew(r)
	}
	for _, c := range e.Close {
		l.closeBy(c.Link, c.Reason)
	}
}

// tell says what is known of who wants what. It goes before the replies: whoever
// hears that somebody subscribed finds it there, by which publishes are kept
// within the broker.
func (l *loop) tell(e *core.Effects) {
	var s *core.Snapshot
	if e.Changed {
		s = l.core.Snapshot()
	}
	if s != nil || len(e.Came)+len(e.Gone) > 0 {
		l.wanted(s, e.Came, e.Gone)
	}
	if s != nil {
		l.changed(s)
	}
}

// newToken names a request whose Reply goes to f. Loop goroutine only.
func (l *loop) newToken(f func(core.Reply)) uint64 {
	l.token++
	l.tokens[l.token] = f
	return l.token
}

// done is told by the store which batches are durable.
func (l *loop) done(lsn store.LSN, err error) {
	if err != nil {
		l.in.put(func(now time.Time, c *core.Core) { c.Failed(now) })
		select {
		case l.failed <- fmt.Errorf("store: %w; nothing acknowledged is lost; %s, then start again", err, remedy(err)):
		default:
		}
		return
	}
	l.in.put(func(now time.Time, c *core.Core) {
		l.paid = max(l.paid, lsn)
		c.Persisted(now, lsn)
	})
}

// Below scarceRoom new work is refused, or soon will be, for want of space on
// the disk; from plentyRoom on nobody speaks of it any more.
const (
	scarceRoom = 1 << 20
	plentyRoom = 4 << 20
)

// room is told by the store how far the core may go.
func (l *loop) room(limit int64) {
	l.in.put(func(now time.Time, c *core.Core) { c.Room(now, limit) })
}

// watchRoom says when the disk becomes full, and when it is no longer.
func (l *loop) watchRoom() {
	switch left := l.core.RoomLeft(); {
	case !l.scarce && left < scarceRoom:
		l.scarce = true
		l.log.Warn("the disk is full: new messages are refused until there is room, what is stored is kept and delivered; free space on the disk",
			"left", left)
	case l.scarce && left >= plentyRoom:
		l.scarce = false
		l.log.Info("the disk has room again: new messages are taken", "left", left)
	}
}

// early keeps what the store tells of its room until there is a loop.
type early struct {
	mu    sync.Mutex // guards what follows
	limit *int64
	to    *loop
}

// room implements store.Room.
func (e *early) room(limit int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.to == nil {
		e.limit = &limit
		return
	}
	e.to.room(limit)
}

// hand passes everything on to the loop from now on.
func (e *early) hand(l *loop) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.to = l; e.limit != nil {
		l.room(*e.limit)
	}
}

// remedy is what an operator can do about a store that failed.
func remedy(err error) string {
	if errors.Is(err, store.ErrFull) {
		return "free space on the disk"
	}
	return "look after the disk"
}

// load reads headers for the core's windows until ctx ends.
func (l *loop) load(ctx context.Context) {
	l.loads.each(ctx, func(ld storeforward.Load) {
		items, err := l.store.Scan(ld.Queue, ld.After, ld.N)
		if err != nil {
			l.done(0, fmt.Errorf("read queue %s: %w", core.QueueText(ld.Queue), err))
			return
		}
		l.in.put(func(now time.Time, c *core.Core) { c.Loaded(now, ld.Queue, items) })
	})
}

// call runs f on the loop and waits for it.
func (l *loop) call(ctx context.Context, f func(now time.Time, c *core.Core)) error {
	done := make(chan struct{})
	if !l.in.put(func(now time.Time, c *core.Core) { f(now, c); close(done) }) {
		return errHalted
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// view asks the core for a picture.
func (l *loop) view(ctx context.Context) (core.View, error) {
	got := make(chan core.View, 1)
	if !l.in.put(func(_ time.Time, c *core.Core) { got <- c.View() }) {
		return core.View{}, errHalted
	}
	select {
	case v := <-got:
		return v, nil
	case <-ctx.Done():
		return core.View{}, ctx.Err()
	}
}

// ask runs f on the loop, which starts a request with the given token, and
// waits for its Reply: the fact is durable.
func (l *loop) ask(ctx context.Context, f func(now time.Time, c *core.Core, token uint64)) (core.Reply, error) {
	got := make(chan core.Reply, 1)
	if !l.in.put(func(now time.Time, c *core.Core) {
		f(now, c, l.newToken(func(r core.Reply) { got <- r }))
	}) {
		return core.Reply{}, errHalted
	}
	select {
	case r := <-got:
		return r, nil
	case <-ctx.Done():
		return core.Reply{}, ctx.Err()
	}
}

// clock is the node's time: it never reads less than the floor, and once
// started it follows the monotonic clock, so steps of the wall clock neither
// expire nor revive anything.
type clock struct {
	mu    sync.Mutex
	base  time.Time // monotonic reading at start
	start time.Time // node time then

	signed time.Time // latest signed time seen; guarded by mu
}

func newClock(floor time.Time) *clock {
	base := time.Now()
	start := base.Round(0)
	if floor.After(start) {
		start = floor
	}
	return &clock{base: base, start: start}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.start.Add(time.Since(c.base))
}

// raise notes a signed time the certificates' clock must not be behind. What
// lives in the store keeps to now: a step would expire it.
func (c *clock) raise(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.signed) {
		c.signed = t
	}
}

// forCertificates is now, but never before the latest signed time seen.
func (c *clock) forCertificates() time.Time {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.signed.After(now) {
		return c.signed
	}
	return now
}
