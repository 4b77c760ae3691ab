package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/farhop/farhop/broker/auth"
	"github.com/farhop/farhop/broker/packet"
)

// exchange is an enhanced authentication under way (MQTT 5, 4.12). It belongs
// to the input.
type exchange struct {
	h     *packet.Connect // nil: the client is in, and proves once more who it is
	who   auth.Client
	said  auth.Exchange
	bytes int // of the client's data
}

// begin starts an exchange. Its rounds end before the time for a CONNECT is
// over: the callback's time and the client's count alike.
func (c *conn) begin(h *packet.Connect) {
	who := auth.Client{ID: c.client}
	if c.id.Load() != nil { // once more
		who.User = c.id.Load().User
	}
	if h != nil {
		who.ID, who.User, who.HasUser, who.Password = h.Client, h.User, h.HasUser, h.Password
	}
	p := c.driver.peer()
	who.Names, who.Transport, who.Remote = p.Names, p.Transport, c.driver.remote()
	c.exchange = &exchange{h: h, who: who, said: auth.Exchange{ID: rand.Text(), Again: h == nil, Method: c.method}}
	c.mu.Lock()
	defer c.mu.Unlock()
	proof := time.AfterFunc(c.b.cfg.ConnectTimeout, c.tooLong)
	if c.rarely().proof = proof; c.closing.Load() {
		proof.Stop()
	}
}

// tooLong ends the connection of a client whose exchange takes too long.
func (c *conn) tooLong() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rarely().proof == nil || c.closing.Load() {
		return // it ended meanwhile
	}
	if !c.open {
		c.said = true
		c.control = appendConnackError(c.control, c.version, codeNotAuthorized)
	}
	c.disconnectLocked(codeNotAuthorized, "authentication-timeout")
}

// proved reports that the exchange ended in time.
func (c *conn) proved() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.rarely(); r.proof != nil {
		r.proof.Stop()
		r.proof = nil
	}
	return !c.closing.Load()
}

// round has one thing that the client said answered.
func (c *conn) round(ctx context.Context, data []byte) {
	x := c.exchange
	x.said.Round++
	x.said.Data = data
	if x.bytes += len(data); x.bytes > auth.MaxProof || x.said.Round > auth.MaxRounds {
		c.decided(ctx, nil, errEndless)
		return
	}
	step, err := c.b.cfg.Enhanced.Exchange(ctx, x.who, x.said)
	x.who.Password = nil // it is asked about once
	if err != nil || step.Identity != nil {
		c.decided(ctx, &step, err)
		return
	}
	x.said.State = step.State
	c.sayAuth(codeContinue, step.Data)
}

var errEndless = errors.New("an exchange of too many rounds or bytes")

// decided ends the exchange.
func (c *conn) decided(ctx context.Context, step *auth.Step, err error) {
	x := c.exchange
	c.exchange = nil
	if !c.proved() {
		return
	}
	code := byte(codeSuccess)
	if err != nil {
		code = auth.Reason(err)
		if errors.Is(err, errEndless) {
			code = codeNotAuthorized
		}
		c.b.cfg.Log.Debug("mqtt client not let in", "client", x.who.ID, "remote", x.who.Remote, "method", c.method, "round", x.said.Round, "err", err)
	}
	switch {
	case x.h != nil && err == nil:
		c.id.Store(step.Identity)
		c.welcome(ctx, x.h, code, step.Data)
	case x.h != nil:
		c.welcome(ctx, x.h, code, nil)
	case err == nil && step.Identity.User == c.id.Load().User:
		step.Identity.Client = c.client
		c.id.Store(step.Identity)
		c.changed.Store(true)
		c.sayAuth(codeSuccess, step.Data)
	case code == codeUnavailable: // which a DISCONNECT cannot say
		c.disconnect(codeBusy, "reauthentication")
	default: // another user's session is not for it
		c.disconnect(codeNotAuthorized, "reauthentication")
	}
}

// sayAuth sends an AUTH, if the client takes packets of that size.
func (c *conn) sayAuth(code byte, data []byte) {
	most := c.maxSend
	if x := c.exchange; x != nil && x.h != nil {
		most = int(x.h.MaxPacket)
	}
	p := appendAuth(nil, code, c.method, data)
	if most > 0 && len(p) > most { // MQTT 5, [MQTT-3.1.2-24]
		c.disconnect(noDisconnectMessage, cause(codeTooLarge))
		return
	}
	c.say(p...)
}

// onAuth takes an AUTH.
func (c *conn) onAuth(a packet.Auth) error {
	switch {
	case c.method == "":
		return &packet.Fault{Code: codeProtocol, Text: "AUTH without enhanced authentication"} // MQTT 5, [MQTT-4.12.0-7]
	case a.Method != c.method:
		return &packet.Fault{Code: codeProtocol, Text: "AUTH with another method than CONNECT"} // MQTT 5, [MQTT-4.12.0-5] and [MQTT-4.12.1-1]
	case (a.Code == codeContinue) != (c.exchange != nil):
		return &packet.Fault{Code: codeProtocol, Text: "AUTH out of turn"}
	case a.Code == codeReauthenticate:
		c.begin(nil)
	}
	c.later(func(ctx context.Context) { c.round(ctx, a.Data) })
	return nil
}

// proving reports whether the client is to say no more than AUTH and
// DISCONNECT (MQTT 5, [MQTT-3.1.2-30]). It is the input's to ask.
func (c *conn) proving() bool { return c.exchange != nil && c.exchange.h != nil }
