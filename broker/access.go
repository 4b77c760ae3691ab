package broker

import (
	"context"
	"time"

	"github.com/farhop/farhop/broker/auth"
	"github.com/farhop/farhop/broker/listen"
	"github.com/farhop/farhop/broker/packet"
)

// authenticate finds out who the client is. It returns the reason code of the
// CONNACK.
func (c *conn) authenticate(ctx context.Context, h *packet.Connect) byte {
	cfg := &c.b.cfg
	if cfg.Auth == nil {
		if cfg.Rules != nil {
			c.id.Store(&auth.Identity{Client: h.Client})
		}
		return codeSuccess
	}
	p := c.driver.peer()
	id, err := cfg.Auth.Authenticate(ctx, auth.Client{
		ID: h.Client, User: h.User, HasUser: h.HasUser, Password: h.Password, Names: p.Names,
		Remote: c.driver.remote(), Transport: p.Transport,
	})
	if err != nil {
		cfg.Log.Debug("mqtt client not let in", "client", h.Client, "remote", c.driver.remote(), "err", err)
		return auth.Reason(err)
	}
	c.id.Store(id)
	return codeSuccess
}

// limit ends the connection when what its client came in with ends.
func (c *conn) limit() {
	id := c.id.Load()
	if id == nil || id.Expires.IsZero() {
		return
	}
	left := time.AfterFunc(time.Until(id.Expires), func() { c.disconnect(codeMaxTime, cause(codeMaxTime)) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rarely().lease = left; c.closing.Load() {
		left.Stop()
	}
}

// mayPublish decides on a topic.
func (c *conn) mayPublish(topic string) bool {
	id := c.id.Load()
	return id == nil || c.b.cfg.Rules == nil || c.b.cfg.Rules.Allow(id, topic, true)
}

// maySubscribe decides on a filter. partly says that not all of what it
// matches may be handed to the client.
func (c *conn) maySubscribe(filter string) (may, partly bool) {
	id := c.id.Load()
	if id == nil || c.b.cfg.Rules == nil {
		return true, false
	}
	v := c.b.cfg.Rules.Subscribe(id, filter)
	return v.Partly || v.Allowed(), v.Partly
}

// mayReceive decides on a delivery, where the filter alone does not.
func (c *conn) mayReceive(topic string, partly bool) bool {
	id := c.id.Load()
	if id == nil || c.b.cfg.Rules == nil || !partly && !c.b.strict.Load() && !c.changed.Load() {
		return true
	}
	return c.b.cfg.Rules.Receive(id, topic)
}

// peerOf is who is at the other end of a connection.
func peerOf(raw any, transport string) listen.Peer {
	if p, ok := raw.(listen.Peered); ok {
		return p.Peer()
	}
	return listen.Peer{Transport: transport}
}
