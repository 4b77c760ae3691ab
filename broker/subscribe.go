package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/farhop/farhop/broker/packet"
	"github.com/farhop/farhop/routing/interest"
)

// grant is a filter of a SUBSCRIBE that the client gets.
type grant struct {
	sub Subscription
	old *liveSub // what it replaces, nil for none
}

// onSubscribe handles a SUBSCRIBE. Live sessions match its filters at once, so
// that they get what others publish from now on; the SUBACK leaves when the
// node has the filters durable and advertised. Meanwhile only this client
// waits.
func (c *conn) onSubscribe(in *packet.Subscribe, later func(func(context.Context))) error {
	codes := make([]byte, len(in.Filters))
	var grants []grant
	last := lastOf(in.Filters)
	for i, f := range in.Filters {
		s := Subscription{
			Filter: f.Filter, QoS: f.QoS, NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished,
			RetainHandling: f.RetainHandling, ID: in.SubscriptionID,
		}
		if c.bridge {
			s.NoLocal, s.RetainAsPublished = true, true
		}
		if group, _ := s.Share(); group != "" && f.NoLocal {
			return c.fail(codeProtocol, "no local on a shared subscription") // MQTT 5, [MQTT-3.8.3-4]
		}
		c.work--
		if codes[i] = c.judge(s); codes[i] < codeUnspecified && last.is(f.Filter, i) {
			grants = append(grants, grant{s, c.subs.get(s.Filter)})
			c.hold(s)
		}
	}
	later(func(ctx context.Context) { c.subscribe(ctx, in.ID, codes, grants) })
	return nil
}

// subscribe has the node take what was granted, and answers.
func (c *conn) subscribe(ctx context.Context, id uint16, codes []byte, grants []grant) {
	if len(grants) > 0 {
		subs := make([]Subscription, len(grants))
		for i, g := range grants {
			subs[i] = g.sub
		}
		if err := c.b.node.Subscribe(ctx, c.client, subs); err != nil {
			if c.closing.Load() {
				return
			}
			c.b.cfg.Log.Warn("subscribe failed", "client", c.client, "err", err)
			refuse(codes, err)
			for _, g := range slices.Backward(grants) {
				c.drop(g.sub.Filter)
				if g.old != nil {
					c.hold(g.old.opt)
				}
			}
			grants = nil
		}
	}
	queued := c.promiseRetained(ctx, grants)
	c.acked(packet.TypeSuback, id, codes)
	for _, g := range queued {
		c.b.work.Go(func() { c.b.queueRetained(g) }) // Run waits for it by way of the connection
	}
	for i := range grants {
		c.sendRetained(ctx, &grants[i])
	}
}

// acked answers a SUBSCRIBE or UNSUBSCRIBE, unless our last word is said.
func (c *conn) acked(typ byte, id uint16, codes []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Load() {
		return
	}
	c.control = appendSuback(c.control, c.version, typ, id, codes)
	c.kick()
}

// refuse turns grants into the failure of err.
func refuse(codes []byte, err error) {
	code := byte(codeUnspecified)
	if errors.Is(err, ErrQuota) {
		code = codeQuota
	}
	for i := range codes {
		codes[i] = max(codes[i], code)
	}
}

// judge returns the granted QoS of a subscription or why it is refused.
func (c *conn) judge(s Subscription) byte {
	_, filter := s.Share()
	had := c.subs.get(s.Filter) != nil
	may, _ := c.maySubscribe(filter)
	switch {
	case interest.ValidFilter(s.Filter) != nil:
		return codeBadFilter
	case !may:
		return codeNotAuthorized
	case !had && c.subs.len() >= c.b.cfg.MaxSubscriptions:
		c.b.metrics.limit(limitSubscriptions)
		return codeQuota
	case !had && c.filterBytes+filterCost(s.Filter) > c.b.cfg.MaxSubscriptionBytes:
		c.b.metrics.limit(limitFilters)
		return codeQuota
	}
	return s.QoS
}

// hold remembers a subscription and starts matching it: for a live session,
// and for what a persistent one gets at QoS 0, which is never queued.
func (c *conn) hold(s Subscription) {
	_, filter := s.Share()
	n := &liveSub{c: c, opt: s, share: uint32(len(s.Filter) - len(filter))}
	if _, n.partly = c.maySubscribe(filter); n.partly {
		c.mu.Lock()
		c.partly = true
		c.mu.Unlock()
	}
	old := c.subs.get(s.Filter)
	c.subs.put(n)
	c.b.live.add(n, old)
	if old == nil {
		c.filterBytes += filterCost(s.Filter)
		c.b.metrics.subscriptions.Inc()
	}
}

// sendRetained sends the retained messages of a new subscription, unless they
// are queued.
func (c *conn) sendRetained(ctx context.Context, g *grant) {
	s := g.sub
	if g.gets() && ofSys(s.Filter) {
		c.sendSys(ctx, s)
		return
	}
	if !g.walks() || c.persistent && s.QoS > 0 {
		return
	}
	w := c.b.retained.begin(s, time.Now())
	if w == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetWalk(s.Filter) // a new SUBSCRIBE begins anew
	c.backlog = append(c.backlog, w)
	c.kick()
}

// onUnsubscribe handles an UNSUBSCRIBE.
func (c *conn) onUnsubscribe(ctx context.Context, id uint16, filters []string) {
	codes := make([]byte, len(filters))
	var known []string
	for i, f := range filters {
		switch {
		case interest.ValidFilter(f) != nil:
			codes[i] = codeBadFilter
		case c.subs.get(f) == nil:
			codes[i] = codeNoSubscription
		default:
			known = append(known, f)
			c.drop(f)
			c.b.queued.stop(c.client, f)
		}
	}
	if len(known) > 0 {
		if err := c.b.node.Unsubscribe(ctx, c.client, known); err != nil {
			if c.closing.Load() {
				return
			}
			c.b.cfg.Log.Warn("unsubscribe failed", "client", c.client, "err", err)
			for i := range codes {
				codes[i] = max(codes[i], codeUnspecified)
			}
		}
	}
	c.acked(packet.TypeUnsuback, id, codes)
}

// drop forgets a subscription.
func (c *conn) drop(filter string) {
	if s := c.subs.get(filter); s != nil {
		c.subs.remove(filter)
		c.filterBytes -= filterCost(filter)
		c.mu.Lock()
		c.forgetWalk(filter)
		c.mu.Unlock()
		c.b.live.remove(s)
		c.b.metrics.subscriptions.Dec()
	}
}
