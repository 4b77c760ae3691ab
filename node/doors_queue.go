package node

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/dtn"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/bundle/bpa"
)

// doorQueue is the service whose deliveries go to one peer. It is open while
// the peer is there; the core takes back what was in flight when it closes.
type doorQueue struct {
	d       *doors
	peer    string
	service string
	cut     bool
	box     *mailbox[outgoing]
	conn    atomic.Uint64 // of the present opening, 0 while the peer is away
}

// outgoing is a delivery on its way to a peer.
type outgoing struct {
	core.Delivery
	attempt int
}

// Pauses before a peer that refused for now is tried again.
const (
	firstRest = 200 * time.Millisecond
	lastRest  = time.Minute
)

func (q *doorQueue) open() {
	conn := q.d.opened.Add(1)
	q.conn.Store(conn)
	q.d.loop.in.put(func(now time.Time, c *core.Core) { c.OpenService(now, q.service, conn, doorWindow) })
}

func (q *doorQueue) close() {
	q.conn.Store(0)
	q.d.loop.in.put(func(now time.Time, c *core.Core) { c.CloseService(now, q.service) })
}

// send offers one bundle to the peer; its answer settles the delivery.
func (q *doorQueue) send(ctx context.Context, o outgoing) {
	if o.Conn != q.conn.Load() {
		return // it waits in its queue again
	}
	raw, err := q.d.raw(o.Delivery)
	if err != nil {
		q.d.lost(o.Delivery, err)
		return
	}
	left := q.d.left(o.Delivery)
	mru, up := q.d.door.MRU(q.peer)
	switch {
	case left <= 0:
		q.d.drop(o.Delivery, raw, bundle.Expired, nil)
		return
	case !up:
		q.again(o)
		return
	}
	dep, why, err := q.exit(o, raw, left, mru)
	switch {
	case why != bundle.OK:
		q.d.drop(o.Delivery, raw, why, err)
		return
	case dep.Peer != q.peer: // other peers serve it since the configuration changed
		q.d.loop.in.put(func(now time.Time, c *core.Core) { c.Readdress(now, o.Delivery, carryService) })
		return
	}
	begin(ctx, q.d.door, q.peer, dep.Parts, func(err error) { q.answered(o, raw, err) })
}

func (q *doorQueue) exit(o outgoing, raw []byte, left time.Duration, mru uint64) (dtn.Departure, bundle.Reason, error) {
	if o.Header.Origin.IsZero() { // it came in here
		here := q.d.loop.clock.now().UnixMilli() - o.Header.Received
		return q.d.gateway.Exit(raw, time.Duration(here)*time.Millisecond, mru)
	}
	return q.d.gateway.ExitLeft(raw, left, mru)
}

// answered is told what became of a bundle. It may run on any goroutine.
func (q *doorQueue) answered(o outgoing, raw []byte, err error) {
	refused, isRefusal := errors.AsType[*dtn.RefusedError](err)
	switch {
	case err == nil:
		q.d.counts.sent.Add(1)
		q.d.settle(settlement(o.Delivery))
		q.d.reports.make(raw, bpa.Forwarded, bpa.NoInformation)
	case isRefusal && !refused.Retry():
		q.d.drop(o.Delivery, raw, bundle.NotAllowed, err)
	default:
		q.again(o)
	}
}

// again offers a bundle once more after a pause, unless the peer went away.
func (q *doorQueue) again(o outgoing) {
	if o.Conn != q.conn.Load() {
		return
	}
	q.d.counts.retries.Add(1)
	pause := min(firstRest<<min(o.attempt, 10), lastRest)
	o.attempt++
	time.AfterFunc(pause, func() { q.box.put(o) })
}

// begin hands all parts of a bundle to a peer, in their order. done is called
// once, when all are answered, with the first error that is final, or with
// one that is not.
func begin(ctx context.Context, door *dtn.Door, peer string, parts []bpa.Parts, done func(error)) {
	if len(parts) == 1 {
		if err := door.Begin(ctx, peer, parts[0], done); err != nil {
			done(err)
		}
		return
	}
	var failed atomic.Pointer[error]
	var missing atomic.Int64
	missing.Store(int64(len(parts)))
	answer := func(err error) {
		if err != nil {
			failed.Store(&err)
		}
		if missing.Add(-1) > 0 {
			return
		}
		if e := failed.Load(); e != nil {
			done(*e)
			return
		}
		done(nil)
	}
	for _, p := range parts {
		if err := door.Begin(ctx, peer, p, answer); err != nil {
			answer(err)
		}
	}
}
