package node

import (
	"context"
	"sync"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// dialling is the questions of dialers that the core has not answered.
type dialling struct {
	mu    sync.Mutex
	token uint64
	open  map[uint64]chan core.EarlyOffer
}

func (e *dialling) ask() (uint64, chan core.EarlyOffer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == nil {
		e.open = map[uint64]chan core.EarlyOffer{}
	}
	e.token++
	ch := make(chan core.EarlyOffer, 1)
	e.open[e.token] = ch
	return e.token, ch
}

// answer gives an offer to who dialling.
func (e *dialling) answer(o core.EarlyOffer) {
	e.mu.Lock()
	ch := e.open[o.Token]
	delete(e.open, o.Token)
	e.mu.Unlock()
	if ch != nil {
		ch <- o
	}
}

func (e *dialling) forget(token uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.open, token)
}

// Offer implements link.Early.
func (ls *links) Offer(ctx context.Context, peer addr.Node, owlt time.Duration, classes []bundle.Class, most int) []wire.Early {
	token, ch := ls.early.ask()
	defer ls.early.forget(token)
	ls.loop.in.put(func(now time.Time, c *core.Core) {
		c.Early(now, token, core.Link{Node: peer, Delay: owlt, Classes: classesOf(classes)}, int64(most))
	})
	select {
	case o := <-ch:
		return ls.earlyFrames(o, most)
	case <-ctx.Done():
		return nil
	}
}

func (ls *links) earlyFrames(o core.EarlyOffer, most int) (out []wire.Early) {
	for _, t := range o.Transfers {
		var payload []byte
		if t.Blob != nil {
			payload = t.Blob.B
		} else {
			var err error
			if payload, err = ls.store.Read(t.Header.Seq); err != nil {
				break // it is offered again, and said then
			}
		}
		hop := bundle.Hop{Prev: addr.NodeEID(ls.self, ""), Age: age(t.Entry.Frozen, t.Life), HopLimit: core.MaxHops, HopCount: t.Header.Hops}
		f := wire.Early{Class: t.Class, Bundle: bundle.AppendBundle(nil, t.Entry.Frozen, payload, hop)}
		if most -= len(f.Bundle); most < 0 {
			break
		}
		out = append(out, f)
	}
	return out
}

// Take implements link.Early.
func (ls *links) Take(peer addr.Node, rtt time.Duration, frames []wire.Early) {
	var view bundle.View
	in := make([]*core.Incoming, 0, len(frames))
	for _, f := range frames {
		b := ls.parse(&view, peer, f.Bundle)
		b.Class = f.Class
		if b.Bad == bundle.OK && b.Bundle.Class() == f.Class {
			in = append(in, b)
		}
	}
	ls.loop.in.putWait(func(now time.Time, c *core.Core) { c.ReceiveEarly(now, peer, rtt, in) })
}
