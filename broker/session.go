package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/farhop/farhop/routing/interest"
)

// hello is a CONNECT packet.
type hello struct {
	client     string // never empty: the engine assigns one
	user       string
	password   []byte
	hasUser    bool
	clean      bool
	keepAlive  uint16 // seconds
	expiry     uint32
	receiveMax uint16 // 0 = not said
	maxPacket  uint32 // 0 = not said
	noProblem  bool
	authMethod string
}

// onConnect opens the session of a CONNECT and returns its reason code.
func (c *conn) onConnect(h hello) byte {
	code := c.vet(h)
	if code == codeSuccess {
		code = c.openSession(h)
	}
	result := "ok"
	if code != codeSuccess {
		result = "refused"
	}
	c.b.metrics.connects.WithLabelValues(result).Inc()
	if code != codeSuccess {
		c.mu.Lock()
		c.said = true
		c.control = appendConnackError(c.control, c.version, code)
		c.kick()
		c.mu.Unlock()
		c.disconnect(noDisconnectMessage, "connect-refused")
	}
	return code
}

// vet decides whether the client may come in at all.
func (c *conn) vet(h hello) byte {
	switch {
	case len(h.client) > maxClientID:
		return codeBadClientID
	case h.authMethod != "":
		return codeBadAuthMethod
	case c.will != nil && interest.ValidTopic(c.will.m.Topic) != nil:
		return codeBadTopic
	}
	if len(c.b.cfg.Users) > 0 && (h.hasUser || !c.b.cfg.Anonymous) {
		if !h.hasUser {
			return codeNotAuthorized
		}
		if !c.b.auth.check(c.ctx, h.user, h.password) {
			return codeBadUser
		}
	}
	return codeSuccess
}

// openSession takes the client id over and opens its session, one connection
// of an id at a time.
func (c *conn) openSession(h hello) byte {
	unlock, err := c.b.ids.lock(c.ctx, h.client)
	if err != nil {
		return codeUnavailable
	}
	defer unlock()
	c.user = h.user
	c.noProblem = h.noProblem
	c.keepAlive = time.Duration(h.keepAlive) * time.Second
	c.maxSend = int(h.maxPacket)
	c.expiry = min(h.expiry, c.b.cfg.MaxSessionExpiry)
	c.window = c.b.cfg.Window
	if h.receiveMax > 0 {
		c.window = min(c.window, int(h.receiveMax))
	}
	if code := c.b.takeOver(c, h); code != codeSuccess {
		return code
	}
	st, err := c.b.node.OpenSession(c.ctx, SessionOpen{
		Client: h.client, Conn: c.num, Clean: h.clean, Expiry: c.expiry, ReceiveMax: uint16(c.window),
	})
	if err != nil {
		c.b.cfg.Log.Warn("open session failed", "client", h.client, "err", err)
		if errors.Is(err, ErrQuota) {
			return codeQuota
		}
		return codeUnavailable
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.present = st.Present && !h.clean
	c.persistent = c.expiry > 0 || c.present
	if !c.present {
		return codeSuccess
	}
	for _, s := range st.Subscriptions {
		c.hold(s)
	}
	for _, id := range st.Inbound {
		if c.inbound == nil {
			c.inbound = make(map[uint16]*inboundID)
		}
		c.inbound[id] = &inboundID{}
	}
	return codeSuccess
}

// start lets deliveries flow; the CONNACK is queued.
func (c *conn) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = true
	c.control = append(c.control, c.early...)
	c.early = nil
	if c.closing.Load() { // between OpenSession and CONNACK
		c.wake()
	}
	c.kick()
}

// onDisconnect notes what the client's DISCONNECT says. A session that ends
// with its connection cannot be prolonged (MQTT 5, 3.14.2.2.2).
func (c *conn) onDisconnect(code byte, expiry uint32, hasExpiry bool) error {
	if hasExpiry {
		if expiry > 0 && c.expiry == 0 {
			return c.fail(codeProtocol, "DISCONNECT prolongs a session without expiry")
		}
		c.expiry = min(expiry, c.b.cfg.MaxSessionExpiry)
	}
	c.left = true
	c.polite = code == codeSuccess
	return nil
}

// takeOver makes c the connection of its client id and ends the older one.
func (b *Broker) takeOver(c *conn, h hello) byte {
	b.mu.Lock()
	old := b.sessions[h.client]
	if old == nil && len(b.sessions) >= b.cfg.MaxClients {
		b.mu.Unlock()
		return codeBusy
	}
	b.mu.Unlock()
	if old != nil {
		old.disconnect(codeTakenOver, cause(codeTakenOver))
		select {
		case <-old.gone:
		case <-c.ctx.Done():
			return codeUnavailable
		}
	}
	if h.clean {
		b.wills.fire(h.client, nil) // its session ends now
	} else {
		b.wills.cancel(h.client)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return codeShuttingDown
	}
	c.client = h.client
	b.sessions[h.client] = c // before OpenSession: the node may deliver at once
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
	for filter := range c.subs {
		c.drop(filter)
	}
	c.mu.Lock()
	c.queue, c.queueBytes, c.backlog = ring[delivery]{}, 0, nil
	opened := c.open
	c.mu.Unlock()
	b.node.CloseSession(c.client, c.num, c.expiry)
	if opened {
		c.lost()
	}
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
