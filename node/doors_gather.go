package node

import (
	"context"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/dtn"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/bundle/bpa"
)

// gatherWindow is how many fragments are looked at together. Further ones
// wait until some of these are whole or expire.
const gatherWindow = 4096

// gatherer puts fragments together. They stay in the store, as deliveries that
// are not settled, until what they make is durable. One goroutine owns it.
type gatherer struct {
	d       *doors
	box     *mailbox[gathering]
	parts   *bpa.Reassembler
	held    map[uint64]core.Delivery // by Seq: in the reassembler, or made whole
	waiting []core.Delivery          // had no room in it
	timer   *time.Timer
}

// gathering is something for the gatherer: a fragment, or a call of its own.
type gathering struct {
	delivery core.Delivery
	fresh    bool
	call     func()
}

func newGatherer(d *doors) (*gatherer, error) {
	r, err := bpa.NewReassembler(bpa.ReassemblerConfig{Whole: core.MaxPayload, Pieces: gatherWindow})
	return &gatherer{d: d, box: newMailbox[gathering](), parts: r, held: map[uint64]core.Delivery{}}, err
}

// run gathers until ctx ends.
func (g *gatherer) run(ctx context.Context) {
	g.timer = time.AfterFunc(time.Hour, func() { g.box.put(gathering{call: g.expire}) })
	defer g.timer.Stop()
	g.box.each(ctx, func(x gathering) {
		if x.fresh {
			g.add(x.delivery)
		} else {
			x.call()
		}
		if at, ok := g.parts.Wake(); ok {
			g.timer.Reset(max(at.Sub(g.d.loop.clock.now()), time.Millisecond))
		}
	})
}

// add takes a fragment.
func (g *gatherer) add(dl core.Delivery) {
	raw, err := g.d.raw(dl)
	if err != nil {
		g.d.lost(dl, err)
		return
	}
	v, err := bundle.Parse(raw)
	if err != nil {
		g.d.drop(dl, nil, bundle.Malformed, err)
		return
	}
	if g.d.left(dl) <= 0 {
		g.d.drop(dl, raw, bundle.Expired, nil)
		return
	}
	whole, ids, why := g.parts.Add(dl.Header.Seq, &v, g.d.loop.clock.now())
	switch why {
	case bundle.OK:
		g.held[dl.Header.Seq] = dl
		if whole != nil {
			g.finish(whole, g.take(ids))
		}
	case bundle.Duplicate:
		g.d.settle(settlement(dl))
	case bundle.StoreFull:
		g.waiting = append(g.waiting, dl) // bounded by the window
	default:
		g.d.drop(dl, raw, why, nil)
	}
}

func (g *gatherer) take(ids []uint64) (out []core.Delivery) {
	for _, id := range ids {
		if dl, ok := g.held[id]; ok {
			out = append(out, dl)
			delete(g.held, id)
		}
	}
	return out
}

// finish does with a whole bundle what its destination asks for, and ends its
// fragments when that is durable.
func (g *gatherer) finish(whole []byte, of []core.Delivery) {
	a, why := g.d.gateway.In(dtn.Received{Bundle: whole}, g.d.now())
	if why == bundle.OK && a.Kind == dtn.Gather {
		why = bundle.Malformed // whole, and a fragment
	}
	if why != bundle.OK {
		g.end(of, why)
		return
	}
	g.d.act(a, func(why bundle.Reason) {
		if mayFit(why) {
			time.AfterFunc(retryPause, func() { g.box.put(gathering{call: func() { g.finish(whole, of) }}) })
			return
		}
		g.box.put(gathering{call: func() { g.end(of, why) }})
	})
}

// end settles the fragments of a bundle and takes in those that waited.
func (g *gatherer) end(of []core.Delivery, why bundle.Reason) {
	for _, dl := range of {
		if why == bundle.OK || why == bundle.Duplicate {
			g.d.settle(settlement(dl))
		} else {
			g.d.drop(dl, nil, why, nil)
		}
	}
	again := g.waiting
	g.waiting = nil
	for _, dl := range again {
		g.add(dl)
	}
}

// expire gives up bundles whose fragments will not all come.
func (g *gatherer) expire() {
	for _, u := range g.parts.Expire(g.d.loop.clock.now()) {
		g.end(g.take(u.IDs), bundle.Expired)
	}
}
