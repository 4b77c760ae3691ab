package broker

import (
	"context"
	"time"
)

// A session that outlives its connection gets the retained messages of a new
// subscription by way of its queue: what was granted to it comes, whatever
// becomes of the connection, and of the node. That is a walk through what may
// be a million of them, in pieces. The node notes how far it is.

// pieceBytes is how much of a walk the node takes at once, about.
const pieceBytes = 1 << 20

// Walk is retained messages that a persistent session is to get for a new
// subscription.
type Walk struct {
	ID     uint64 // of the node's: see Node.BeginWalk
	Client string
	Sub    Subscription // of it the filter, the QoS and the identifier count
	From   string       // topics from here on are still to be looked at; "": all
	Ended  bool         // none is
}

// granted is a walk that the node has noted.
type granted struct {
	w    *walk
	mark Walk
}

// promiseRetained notes, before the SUBACK, what sessions that outlive their
// connection get of retained messages for what was granted.
func (c *conn) promiseRetained(ctx context.Context, grants []grant) (out []granted) {
	if !c.persistent {
		return nil
	}
	for _, g := range grants {
		if !g.walks() || g.sub.QoS == 0 { // QoS 0 is never queued
			continue
		}
		w := c.b.retained.begin(g.sub, time.Now())
		if w == nil {
			continue
		}
		mark := Walk{Client: c.client, Sub: g.sub}
		var err error
		if mark.ID, err = c.b.node.BeginWalk(ctx, mark); err != nil && !c.closing.Load() {
			c.b.cfg.Log.Warn("retained messages for a subscription are lost if the node ends before all are queued",
				"client", c.client, "reason", g.sub.Filter, "err", err)
		}
		c.b.queued.begin(c.client, w)
		out = append(out, granted{w, mark})
	}
	return out
}

// gets reports whether a subscription gets what is there already, by its
// retain handling (MQTT 5, 3.3.1.3): shared ones do not.
func (g *grant) gets() bool {
	group, _ := g.sub.Share()
	return group == "" && g.sub.RetainHandling != 2 && (g.sub.RetainHandling != 1 || g.old == nil)
}

// walks reports whether it gets retained messages of topics that are not the
// broker's own.
func (g *grant) walks() bool { return g.gets() && !ofSys(g.sub.Filter) }

// queueRetained has the node queue the messages of a walk, as fast as it can,
// until who asked unsubscribes, subscribes anew, or its session ends. When the
// broker stops before the end, Resume goes on.
func (b *Broker) queueRetained(g granted) {
	w := g.w
	defer b.queued.end(g.mark.Client, w)
	for !g.mark.Ended && !b.stopping() {
		if w.off.Load() {
			g.mark.Ended = true
			b.node.SubmitTo(g.mark, nil)
			return
		}
		var piece []*Message
		size := 0
		for m := b.retained.next(w); m != nil; m = b.retained.next(w) {
			own := *m
			own.QoS, own.Retain, own.PacketID = min(m.QoS, w.qos), true, 0
			piece = append(piece, &own)
			if size += m.Size(); size >= pieceBytes {
				break
			}
		}
		switch {
		case len(w.buf) == 0:
			g.mark.From, g.mark.Ended = w.at, w.ended
		case !w.bySeq: // the rest of the buffer is behind it
			g.mark.From = piece[len(piece)-1].Topic + "\x00"
		}
		if len(piece) > 0 || g.mark.Ended {
			b.node.SubmitTo(g.mark, piece)
		}
		if !w.ended && len(w.buf) == 0 {
			b.retained.more(w, time.Now())
		}
	}
}

// Resume goes on with a walk that did not end before a restart. Call it after
// the retained messages were set. What was replaced during the walk may come
// twice, and so may the first of few that are large.
func (b *Broker) Resume(mark Walk) {
	w := b.retained.resume(mark.Sub, mark.From)
	b.queued.begin(mark.Client, w)
	b.work.Go(func() { b.queueRetained(granted{w, mark}) }) // Run waits for it
}
