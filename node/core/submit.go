package core

import (
	"cmp"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Submit takes in new work. Each Submission gets one Reply.
func (c *Core) Submit(now time.Time, subs []Submission) {
	c.at(now)
	for i := range subs {
		c.submit(&subs[i])
	}
}

// submit takes one in and returns what the Reply says.
func (c *Core) submit(s *Submission) bundle.Reason {
	if c.halted {
		c.cur.Replies = append(c.cur.Replies, Reply{Token: s.Token, Reason: bundle.DiskFailed})
		return bundle.DiskFailed
	}
	if len(s.Blob.B) > MaxPayload || s.Retain && len(s.Topic) > maxRetained {
		c.refuse(s, bundle.TooLarge)
		return bundle.TooLarge
	}
	if c.duplicate(s) {
		return bundle.Duplicate
	}
	if c.elsewhere(s) {
		return bundle.SessionEnded
	}
	if !c.mayRetain(s) {
		c.refuse(s, bundle.QuotaExceeded)
		return bundle.QuotaExceeded
	}
	h := &store.Header{
		Class: s.Class, QoS: s.QoS, Retain: s.Retain, Topic: s.Topic, Service: s.Service,
		Received: c.now, Size: uint32(len(s.Blob.B)),
	}
	s.followed = !s.Ask.IsZero() && c.mayAsk(s)
	ttl := s.TTL
	var route policy.Route
	routed := false
	if s.Topic != "" && s.Session == "" && s.To.IsZero() && s.Region.IsZero() && len(s.Groups) == 0 && s.Own == "" {
		if route, routed = c.routes.ForTopic(s.Topic); routed && route.HasClass {
			h.Class = route.Class
		}
		ttl = cmp.Or(ttl, route.TTL)
	}
	h.Expires = c.now + cmp.Or(ttl, c.settings.TTL).Milliseconds()
	if s.QoS == 0 && !s.followed && !s.will && s.To.IsZero() && s.Session == "" && s.Region.IsZero() && len(s.Groups) == 0 && s.Own == "" && !(routed && len(route.To) > 0) {
		return c.volatile(h, s)
	}
	if !c.hasRoom(h.Class, int64(h.Size)+store.PutBytes) {
		// Before any number is drawn: a refusal must not write to a full disk.
		c.refuse(s, bundle.StoreFull)
		return bundle.StoreFull
	}
	h.Message = c.nextMessage(h.Class)
	r, reason := c.addressees(h, s, route)
	if s.followed {
		c.sealOut(h, &r)
	}
	switch {
	case reason != bundle.OK:
	case !c.mayStore(h, s, &r), !c.maySkip(&r):
		c.undraw(r.entries)
		reason = bundle.StoreFull
	case len(r.entries)+len(r.batched) > 0:
		h.Yields = route.OnFull == policy.DropOldest
		reason = c.admit(h, s.Client, &r)
	}
	c.accept(h, s, r, reason)
	return reason
}

// refuse answers a submission that is not looked at further.
func (c *Core) refuse(s *Submission, reason bundle.Reason) {
	c.verdict(s, reason)
	if !s.Ask.IsZero() {
		c.refuseAsked(&store.Header{}, s, reason, Rejected)
	}
	c.wordTold(s, reason)
	c.reply(Reply{Token: s.Token, Reason: reason})
}

// addressees finds the recipients of a submission.
func (c *Core) addressees(h *store.Header, s *Submission, route policy.Route) (recipients, bundle.Reason) {
	var r recipients
	switch {
	case len(s.Groups) > 0:
		d := duty{filters: s.Groups}
		c.reshare(h, d, asked{remote: s.Topic[0] != '$'}, &r)
	case s.Own != "":
		c.toOwn(h, s.Own, &r)
	case s.Session != "":
		switch ses := c.sessions[s.Session]; {
		case ses == nil || !ses.durable():
		case s.Service == ServiceRetained && c.hoards(ses, h.Class): // it subscribed again, and reads nothing
			r.passOver(ses)
		default:
			r.entries = []store.Entry{{
				Queue: store.Queue{Kind: store.ToSession, Name: s.Session, Class: h.Class}, QoS: s.QoS,
				DSeq: c.nextDSeq(c.dest(store.Queue{Kind: store.ToSession, Name: s.Session})),
			}}
		}
	case !s.To.IsZero():
		if s.To == c.cfg.Self && s.Service == ServiceMQTT {
			c.matchLocal(h, s.Client, &r)
			c.share(h, c.groupsOf(h.Topic, asked{}), asked{}, false, &r)
		} else if s.To == c.cfg.Self {
			r.entries = []store.Entry{{Queue: store.Queue{Kind: store.ToService, Name: s.Service, Class: h.Class}}}
		} else {
			r.add(c.outbound(h, store.Queue{Kind: store.ToNode, Name: s.To.String(), Class: h.Class}, everyGroup(s)), "")
		}
	case !s.Region.IsZero():
		return c.toRegions(h, s, policy.Route{To: []addr.Region{s.Region}})
	case len(route.To) > 0:
		return c.toRegions(h, s, route)
	default:
		out := c.leaverOf(h, s)
		r = c.resolveAs(h, s.Client, addr.Region{}, s.Topic[0] != '$', out)
		c.answer(h, s, out, &r)
	}
	if r.empty() && !s.Retain && len(r.hoarders) == 0 {
		return r, bundle.NoSubscriber
	}
	return r, bundle.OK
}

// everyGroup is what a publication for one node says of groups: those that it
// has, whatever they are.
func everyGroup(s *Submission) string {
	if s.Service != ServiceMQTT || s.Topic == "" {
		return ""
	}
	d := duty{all: true}
	return string(d.encode())
}

// toRegions sends a publication to the first region of its route that is up,
// or keeps it for the first one.
func (c *Core) toRegions(h *store.Header, s *Submission, route policy.Route) (recipients, bundle.Reason) {
	to := route.To[0]
	up := false
	for _, region := range route.To {
		if c.regionUp(h.Class, region) {
			to, up = region, true
			break
		}
	}
	if to.Contains(c.cfg.Region) {
		if r := c.resolveAs(h, s.Client, to, true, c.leaverOf(h, s)); !r.empty() || len(r.hoarders) > 0 {
			return r, bundle.OK
		}
		return recipients{entries: []store.Entry{{Queue: store.Queue{Kind: store.ToRegion, Name: to.String(), Class: h.Class}}}}, bundle.OK
	}
	if !up && route.Unreachable == policy.Drop {
		return recipients{elsewhere: true}, bundle.NoRoute
	}
	r := recipients{elsewhere: true}
	r.add(c.leaverOf(h, s)(h, store.Queue{Kind: store.ToRegion, Name: to.String(), Class: h.Class}, ""), "")
	return r, bundle.OK
}

// leaverOf is leaver for work that enters the mesh here.
func (c *Core) leaverOf(h *store.Header, s *Submission) leaving {
	if s.followed {
		return joiner // until sealOut
	}
	return c.leaver(h)
}

func (c *Core) regionUp(class bundle.Class, r addr.Region) bool {
	if r.Contains(c.cfg.Region) {
		return true
	}
	_, p := c.table.RegionPath(class, r)
	return p.Up()
}

// accept puts a message or ends it, and replies.
func (c *Core) accept(h *store.Header, s *Submission, r recipients, reason bundle.Reason) {
	if s.Retain && (reason == bundle.OK || reason == bundle.NoSubscriber) && s.Topic != "" && s.Session == "" {
		c.retain(h, s)
	}
	if s.QoS == 2 && (reason == bundle.OK || reason == bundle.NoSubscriber) {
		c.noteInbound(s)
	}
	if reason == bundle.OK {
		c.stats.Ended[bundle.QuotaExceeded] += uint64(len(r.hoarders))
		c.noteSeen(s, max(h.Expires, c.now+s.Keep.Milliseconds()))
	}
	c.follow(h, s, &r, reason)
	c.wordTold(s, reason)
	if reason == bundle.OK && len(r.entries) > 0 {
		h.Seq, h.Entries = c.m.NextSeq(), r.entries
		c.m.Put(h, s.Blob)
	}
	reply := Reply{Token: s.Token, Reason: reason, Message: h.Message, Elsewhere: r.elsewhere}
	c.sightReply(&reply, h, s, &r)
	if reason == bundle.OK && !s.shown() {
		c.liveTo(h, &r, s.Blob)
	} else {
		reply.Members = r.members
	}
	if own := s.Client == "" && s.To == c.cfg.Self; !own || reason != bundle.NoSubscriber { // what this node says of itself may be unheard
		c.verdict(s, reason)
	}
	if reason == bundle.OK && len(r.batched) > 0 {
		c.join(h, s.Blob, r.batched, &reply, !s.Key.IsZero() || s.Retain || s.will)
		return
	}
	c.answerTo(s, reply)
}

// answerTo replies to what joined no batch. A retained message is answered
// after those before it, which a batch may still hold: the broker keeps the
// last one.
func (c *Core) answerTo(s *Submission, r Reply) {
	if s.Retain {
		c.closeDue()
	}
	c.reply(r)
}

func (c *Core) nextMessage(class bundle.Class) bundle.ID {
	c.msgs[class]++
	c.drawn = true
	return bundle.ID{Node: c.cfg.Self, Seq: bundle.NewSequence(c.cfg.Incarnation, class, c.msgs[class])}
}

// volatile passes a QoS 0 publication on: to the subscribers here, and over
// links that are up now. It is never stored and never repeated.
func (c *Core) volatile(h *store.Header, s *Submission) bundle.Reason {
	h.QoS = 0
	if s.Retain && !s.Clear && !c.hasRoom(h.Class, retainCost(s)) {
		c.refuse(s, bundle.StoreFull)
		return bundle.StoreFull
	}
	remote := s.Topic[0] != '$'
	if remote && c.left() <= 0 { // the numbers it would draw are written as well
		remote = false
		c.table.Wants(h.Topic, func(addr.Node) { c.stats.Ended[bundle.StoreFull]++ })
	}
	r := c.resolveAs(h, s.Client, addr.Region{}, remote, c.unordered)
	if remote {
		c.answer(h, s, c.unordered, &r)
	}
	if s.Retain {
		c.retain(h, s)
	}
	for _, e := range r.entries {
		n, _ := addr.ParseNode(e.Queue.Name)
		c.passOn(n, &Volatile{Header: h, Entry: e, Blob: s.Blob, Life: h.Expires - c.now})
	}
	reason := bundle.OK
	if r.empty() {
		reason = bundle.NoSubscriber
	}
	c.verdict(s, reason)
	c.follow(h, s, &r, reason)
	reply := Reply{Token: s.Token, Reason: reason}
	c.sightReply(&reply, h, s, &r)
	if !s.shown() {
		c.liveTo(h, &r, s.Blob)
	} else {
		reply.Members = r.members
	}
	c.answerTo(s, reply)
	return reason
}

// passOn sends a volatile bundle towards a node if the way is up.
func (c *Core) passOn(to addr.Node, v *Volatile) {
	if l := c.linkFor(c.table.ClassPath(v.Header.Class, to).Hop, v.Header.Class); l != nil && l.bytes < l.Window {
		c.send(l, v)
		l.sends(c.now)
		l.spoke = c.now
		c.stats.Volatile++
		c.sight(SightHandedOn, v.Header, v.Entry.Queue, l.Node, bundle.OK)
		return
	}
	c.stats.Ended[bundle.NoRoute]++
	c.sight(SightEnded, v.Header, v.Entry.Queue, addr.Node{}, bundle.NoRoute)
}
