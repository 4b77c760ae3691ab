package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/farhop/farhop/broker/packet"
	"github.com/farhop/farhop/routing/interest"
)

// assignedPrefix begins the client ids that the broker gives to those who come
// without (MQTT 5, 3.1.3.1).
const assignedPrefix = "auto-"

// onConnect finds out who the client is and lets it in.
func (c *conn) onConnect(ctx context.Context, h *packet.Connect) {
	code := c.vet(h)
	switch {
	case code != codeSuccess:
	case h.AuthMethod == "":
		code = c.authenticate(ctx, h)
	case c.b.cfg.Enhanced == nil || !c.b.cfg.Enhanced.Knows(h.AuthMethod): // MQTT 5, [MQTT-4.12.0-1]
		code = codeBadAuthMethod
	default:
		c.method = h.AuthMethod
		c.begin(h)
		c.round(ctx, h.AuthData)
		return
	}
	c.welcome(ctx, h, code, nil)
}

// welcome opens the session of a CONNECT, unless code refuses it, and answers
// it. data is the last of an enhanced authentication, nil for none.
func (c *conn) welcome(ctx context.Context, h *packet.Connect, code byte, data []byte) {
	assigned, asked := h.Client == "", *h
	if code == codeSuccess {
		code = c.identify(h)
	}
	if code == codeSuccess {
		code = c.openSession(ctx, h, assigned)
		c.limit()
	}
	result := "ok"
	if code != codeSuccess {
		result = "refused"
	}
	c.b.metrics.connects.WithLabelValues(result).Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	if code != codeSuccess {
		c.said = true
		c.control = appendConnackError(c.control, c.version, code)
		c.disconnectLocked(noDisconnectMessage, "connect-refused")
		return
	}
	a := connack{present: c.present, receiveMax: c.b.cfg.ReceiveMax, maxPacket: c.b.cfg.MaxPacket, method: c.method, data: data}
	if assigned {
		a.assigned = c.client
	}
	a.expiry, a.hasExpiry = c.expiry, c.expiry != asked.SessionExpiry
	a.keepAlive, a.hasKeep = h.KeepAlive, h.KeepAlive != asked.KeepAlive
	before := len(c.control)
	c.control = appendConnack(c.control, c.version, a)
	if c.maxSend > 0 && len(c.control)-before > c.maxSend { // MQTT 5, [MQTT-3.1.2-24]
		c.control = c.control[:before]
		c.disconnectLocked(noDisconnectMessage, cause(codeTooLarge))
		return
	}
	if c.rare != nil {
		c.control = append(c.control, c.rare.early...)
		c.rare.early = nil
	}
	c.open = true
	c.kick()
}

// vet decides whether a CONNECT can be taken at all.
func (c *conn) vet(h *packet.Connect) byte {
	switch {
	case len(h.Client) > maxClientID, h.Client == "" && (c.version == 3 || c.version == 4 && !h.Clean): // MQTT 3.1.1, [MQTT-3.1.3-8]
		return codeBadClientID
	case h.Will != nil && interest.ValidTopic(h.Will.Topic) != nil:
		return codeBadTopic
	}
	return codeSuccess
}

// identify names the client to the rules, and asks them about its will.
func (c *conn) identify(h *packet.Connect) byte {
	if h.Client == "" {
		h.Client = assignedPrefix + rand.Text()
	}
	if id := c.id.Load(); id != nil {
		id.Client = h.Client
	}
	if h.Will != nil && (reserved(h.Will.Topic) || !c.mayPublish(h.Will.Topic)) {
		return codeNotAuthorized
	}
	return codeSuccess
}

// openSession takes the client id over and opens its session, one connection
// of an id at a time.
func (c *conn) openSession(ctx context.Context, h *packet.Connect, assigned bool) byte {
	unlock, err := c.b.ids.lock(ctx, h.Client)
	if err != nil {
		return codeUnavailable
	}
	defer unlock()
	if c.version < 5 && !h.Clean {
		h.SessionExpiry = NeverExpires
	}
	c.noProblem = h.NoProblemInfo
	c.aliasMax = min(h.AliasMax, mostAliases)
	if limit := c.b.cfg.ServerKeepAlive; limit > 0 && c.version >= 5 && (h.KeepAlive == 0 || h.KeepAlive > limit) {
		h.KeepAlive = limit // MQTT 5, 3.2.2.3.14; MQTT 3 clients cannot be told
	}
	c.keepAlive = time.Duration(h.KeepAlive) * time.Second
	c.maxSend = int(h.MaxPacket)
	c.expiry = min(h.SessionExpiry, c.b.cfg.MaxSessionExpiry)
	c.window = c.b.cfg.Window
	if c.expiry == 0 { // nothing of it is repeated later
		c.window = c.b.cfg.LiveWindow
	}
	if h.ReceiveMax > 0 {
		c.window = min(c.window, int(h.ReceiveMax))
	}
	c.partly = c.id.Load() != nil // the node may deliver before we know what the session subscribed to
	if code := c.b.takeOver(ctx, c, h); code != codeSuccess {
		return code
	}
	o := SessionOpen{
		Client: h.Client, Conn: c.num, Clean: h.Clean, Expiry: c.expiry, ReceiveMax: uint16(c.window), Assigned: assigned,
	}
	if h.Will != nil {
		o.Will = willOf(h.Will)
		o.Will.Message.Client = h.Client
	}
	if h.Clean {
		c.b.queued.stopAll(c.client) // what its last session asked for
	}
	st, err := c.b.node.OpenSession(ctx, o)
	if err != nil {
		if errors.Is(err, ErrQuota) { // counted, not logged: there may be very many
			c.b.metrics.limit(limitSessions)
			c.b.cfg.Log.Debug("session refused", "client", h.Client, "err", err)
			return codeQuota
		}
		c.b.cfg.Log.Warn("open session failed", "client", h.Client, "err", err)
		return codeUnavailable
	}
	c.resume(&st, h.Clean)
	return codeSuccess
}

// resume takes what the session brings along.
func (c *conn) resume(st *SessionState, clean bool) {
	c.mu.Lock()
	c.present = st.Present && !clean
	c.persistent = c.expiry > 0 || c.present
	if !c.present {
		c.b.queued.stopAll(c.client)
	}
	if c.present && len(st.Inbound) > 0 {
		c.inbound = make(map[uint16]*inboundID, len(st.Inbound))
		for _, id := range st.Inbound {
			c.inbound[id] = &inboundID{}
		}
	}
	c.mu.Unlock()
	partly := false
	if c.present {
		for _, s := range st.Subscriptions {
			c.hold(s)
			partly = partly || c.subs.get(s.Filter).partly
		}
	}
	c.mu.Lock()
	c.partly = partly
	c.mu.Unlock()
}

// takeOver makes c the connection of its client id and ends the older one.
func (b *Broker) takeOver(ctx context.Context, c *conn, h *packet.Connect) byte {
	b.mu.Lock()
	old := b.sessions[h.Client]
	if old == nil && len(b.sessions) >= b.cfg.MaxClients {
		b.mu.Unlock()
		return codeBusy
	}
	b.mu.Unlock()
	if old != nil {
		old.disconnect(codeTakenOver, cause(codeTakenOver))
		if old.awaitGone(ctx) != nil {
			return codeUnavailable
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return codeShuttingDown
	}
	c.client, c.before = strings.Clone(h.Client), b.trailing[h.Client] // as it is, it would keep the whole CONNECT
	h.Client = c.client
	b.lobby.leave(c)
	b.sessions[c.client] = c // before OpenSession: the node may deliver at once
	b.sys.peak.Store(max(b.sys.peak.Load(), int64(len(b.sessions))))
	b.metrics.clients.Set(float64(len(b.sessions)))
	return codeSuccess
}

// endSession undoes openSession, once, from the connection's reader.
func (b *Broker) endSession(c *conn) {
	if c.client == "" {
		return
	}
	b.mu.Lock()
	delete(b.sessions, c.client) // it is c: the next one waits for gone
	b.metrics.clients.Set(float64(len(b.sessions)))
	b.mu.Unlock()
	for s := range c.subs.all() {
		c.drop(s.opt.Filter)
	}
	c.mu.Lock()
	back := c.unfinished()
	c.queue, c.queueBytes, c.backlog = ring[delivery]{}, 0, nil
	opened := c.open
	c.mu.Unlock()
	c.takeLeave(opened)
	b.node.CloseSession(c.client, c.num, c.expiry)
	for _, d := range back {
		c.regroup(d) // after CloseSession: to anyone else
	}
	c.trail()
}

// trail notes that publishes of a connection that ended are still with the
// node: those of the client's next one must not overtake them.
func (c *conn) trail() {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending.len() > 0 || c.draining {
		c.trails.Store(true)
		c.b.trailing[c.client] = c
	}
	c.before = nil
}

// arrived ends what trail began.
func (b *Broker) arrived(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.trails.Store(false)
	if b.trailing[c.client] == c {
		delete(b.trailing, c.client)
	}
}

// follows reports whether publishes of the client's last connection are still
// with the node. It keeps them in order, so those of this one go there too.
func (c *conn) follows() bool {
	if c.before != nil && !c.before.trails.Load() {
		c.before = nil
	}
	return c.before != nil
}

// idLocks serialises connections of one client id.
type idLocks struct {
	mu sync.Mutex
	m  map[string]*idLock
}

type idLock struct {
	turn chan struct{}
	refs int
}

func (l *idLocks) lock(ctx context.Context, id string) (unlock func(), err error) {
	l.mu.Lock()
	if l.m == nil {
		l.m = make(map[string]*idLock)
	}
	e := l.m[id]
	if e == nil {
		e = &idLock{turn: make(chan struct{}, 1)}
		l.m[id] = e
	}
	e.refs++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		if e.refs--; e.refs == 0 {
			delete(l.m, id)
		}
		l.mu.Unlock()
	}
	select {
	case e.turn <- struct{}{}:
		return func() { <-e.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
