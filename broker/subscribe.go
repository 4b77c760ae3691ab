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
func (c *conn) onSubscribe(in *packet.Subscribe) error {
	codes := make([]byte, len(in.Filters))
	var grants []grant
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
		if codes[i] = c.judge(s); codes[i] < codeUnspecified {
			grants = append(grants, grant{s, c.subs[s.Filter]})
			c.hold(s)
		}
	}
	c.later(func(ctx context.Context) { c.subscribe(ctx, in.ID, codes, grants) })
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
	c.acked(packet.TypeSuback, id, codes)
	for _, g := range grants {
		c.sendRetained(ctx, g.sub, g.old == nil)
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
	_, had := c.subs[s.Filter]
	may, _ := c.maySubscribe(filter)
	switch {
	case interest.ValidFilter(s.Filter) != nil:
		return codeBadFilter
	case !may:
		return codeNotAuthorized
	case !had && len(c.subs) >= c.b.cfg.MaxSubscriptions:
		return codeQuota
	}
	return s.QoS
}

// hold remembers a subscription and starts matching it: for a live session,
// and for what a persistent one gets at QoS 0, which is never queued.
func (c *conn) hold(s Subscription) {
	if c.subs == nil {
		c.subs = make(map[string]*liveSub)
	}
	_, filter := s.Share()
	n := &liveSub{c: c, filter: filter, opt: s}
	if _, n.partly = c.maySubscribe(filter); n.partly {
		c.mu.Lock()
		c.partly = true
		c.mu.Unlock()
	}
	old := c.subs[s.Filter]
	c.subs[s.Filter] = n
	c.b.live.add(n, old)
	if old == nil {
		c.b.metrics.subscriptions.Inc()
	}
}

// sendRetained sends the retained messages of a new subscription (MQTT 5,
// 3.3.1.3): none for shared ones, by retain handling for others.
func (c *conn) sendRetained(ctx context.Context, s Subscription, fresh bool) {
	group, _ := s.Share()
	if group != "" || s.RetainHandling == 2 || s.RetainHandling == 1 && !fresh {
		return
	}
	if ofSys(s.Filter) {
		c.sendSys(ctx, s)
		return
	}
	found := c.b.retained.match(s.Filter, time.Now())
	if len(found) == 0 {
		return
	}
	slices.SortFunc(found, func(a, b *Message) int { return a.Received.Compare(b.Received) })
	var ids []int
	if s.ID != 0 {
		ids = []int{s.ID}
	}
	if c.persistent {
		for _, m := range found {
			own := *m
			own.QoS, own.Retain, own.PacketID = min(m.QoS, s.QoS), true, 0
			c.b.node.SubmitTo(c.client, &own, ids)
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.backlog)+len(found) > c.b.cfg.MaxRetained {
		c.b.metrics.dropped.WithLabelValues("retained-backlog").Add(float64(len(found)))
		return
	}
	for _, m := range found {
		c.backlog = append(c.backlog, delivery{m: m, qos: min(m.QoS, s.QoS), retain: true, subIDs: ids})
	}
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
		case c.subs[f] == nil:
			codes[i] = codeNoSubscription
		default:
			known = append(known, f)
			c.drop(f)
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
	s := c.subs[filter]
	delete(c.subs, filter)
	if s != nil {
		c.b.live.remove(s)
		c.b.metrics.subscriptions.Dec()
	}
}
