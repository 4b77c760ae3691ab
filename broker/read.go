package broker

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/farhop/farhop/broker/packet"
)

const readBuffer = 64 << 10 // bytes that one read takes at most

// feed handles the packets of input that begins where the last call's ended.
// It stops at a packet that is not whole yet, when something holds the input,
// when the connection is to end, and when the work is done that this call may
// do: more says that input is left which needs another call. The driver calls
// it, one call at a time; p is the driver's again when it returns.
func (c *conn) feed(p []byte, now time.Time, work int) (more bool) {
	c.b.sys.bytesIn.Add(uint64(len(p)))
	own := len(c.in) > 0
	if own {
		c.in = append(c.in, p...)
		p = c.in
	}
	c.stopped = false
	limits := packet.Limits{Publish: c.b.cfg.MaxPacket, Other: min(c.b.cfg.MaxPacket, maxControl)}
	for c.work = work; len(p) > 0 && !c.closing.Load(); {
		if c.holds.Load() > 0 {
			c.stopped = true // it may be over at once: the driver cannot tell by holds
			break
		}
		if more = c.work <= 0; more {
			break
		}
		f, size, whole, err := packet.Cut(p, limits)
		if err == nil && !c.greeted && p[0]>>4 != packet.TypeConnect {
			err = &packet.Fault{Code: codeProtocol, Text: "the first packet is no CONNECT"}
		}
		if err == nil && c.proving() && p[0]>>4 != packet.TypeAuth && p[0]>>4 != packet.TypeDisconnect {
			err = &packet.Fault{Code: codeProtocol, Text: "more than AUTH before the CONNACK"}
		}
		if err == nil && whole {
			p = p[size:]
			c.work -= 1 + size/workBytes // before: a packet may take the input with it
			err = c.handle(f, now)
		}
		if err != nil {
			if fault, ok := errors.AsType[*packet.Fault](err); ok {
				c.refuse(fault)
			}
			break
		}
		if !whole {
			break
		}
	}
	c.keep(p, own)
	return more
}

// keep holds on to input that was not handled. A long packet costs memory as
// its bytes arrive, not as its length promises.
func (c *conn) keep(p []byte, own bool) {
	defer c.noteIn()
	switch {
	case len(p) == 0 || c.closing.Load():
		c.in = nil
	case !own:
		c.in = slices.Clone(p)
	case len(p) < len(c.in):
		if cap(c.in) > 4<<10 && len(p) < cap(c.in)/4 {
			c.in = slices.Clone(p)
			return
		}
		c.in = c.in[:copy(c.in, p)]
	}
}

// noteIn lets others see how much input is kept, where it is much.
func (c *conn) noteIn() {
	if n := len(c.in); n >= leastShare || c.heldIn.Load() != 0 {
		c.heldIn.Store(int32(n))
	}
}

// handle takes one packet.
func (c *conn) handle(f packet.Frame, now time.Time) error {
	if f.Type == packet.TypeConnect {
		return c.readConnect(f)
	}
	switch f.Type {
	case packet.TypePublish:
		var p packet.Publish
		if err := packet.ParsePublish(&p, f, c.version); err != nil {
			return err
		}
		return c.onPublish(&p, now)
	case packet.TypePuback, packet.TypePubrec, packet.TypePubrel, packet.TypePubcomp:
		a, err := packet.ParseAck(f, c.version)
		if err != nil {
			return err
		}
		return c.onAck(f.Type, a.ID, a.Code)
	case packet.TypePingreq:
		if len(f.Body) > 0 {
			return &packet.Fault{Code: codeMalformed, Text: "PINGREQ with a body"}
		}
		c.say(packet.TypePingresp<<4, 0)
		return nil
	}
	return c.handleRare(f)
}

// say queues a packet, unless our last word is said.
func (c *conn) say(b ...byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.said {
		return
	}
	c.control = append(c.control, b...)
	c.kick()
}

func (c *conn) handleRare(f packet.Frame) error {
	if len(f.Body) > inlineBytes && (f.Type == packet.TypeSubscribe || f.Type == packet.TypeUnsubscribe) {
		c.largeRare(f)
		return nil
	}
	return c.takeRare(f, c.later)
}

// inlineBytes of a SUBSCRIBE or UNSUBSCRIBE are handled in the turn of a loop;
// one with thousands of filters would hold up the other clients.
const inlineBytes = 2 << 10

// largeRare handles a SUBSCRIBE or UNSUBSCRIBE on a goroutine of its own.
func (c *conn) largeRare(f packet.Frame) {
	f.Body = bytes.Clone(f.Body)
	c.later(func(ctx context.Context) {
		err := c.takeRare(f, func(rest func(context.Context)) { rest(ctx) })
		if fault, ok := errors.AsType[*packet.Fault](err); ok {
			c.refuse(fault)
		}
	})
}

// takeRare handles a packet; what of it may wait for the node goes to later.
func (c *conn) takeRare(f packet.Frame, later func(func(context.Context))) error {
	switch f.Type {
	case packet.TypeSubscribe:
		s, err := packet.ParseSubscribe(f, c.version)
		if err != nil {
			return err
		}
		return c.onSubscribe(s, later)
	case packet.TypeUnsubscribe:
		u, err := packet.ParseUnsubscribe(f, c.version)
		if err != nil {
			return err
		}
		later(func(ctx context.Context) { c.onUnsubscribe(ctx, u.ID, u.Filters) })
	case packet.TypeDisconnect:
		d, err := packet.ParseDisconnect(f, c.version)
		if err != nil {
			return err
		}
		return c.onDisconnect(d)
	case packet.TypeAuth:
		a, err := packet.ParseAuth(f, c.version)
		if err != nil {
			return err
		}
		return c.onAuth(a)
	default:
		return &packet.Fault{Code: codeProtocol, Text: "a packet that only servers send"}
	}
	return nil
}

// readConnect takes the CONNECT and has the session opened.
func (c *conn) readConnect(f packet.Frame) error {
	if c.greeted {
		return &packet.Fault{Code: codeProtocol, Text: "second CONNECT"}
	}
	c.greeted = true
	h, err := packet.ParseConnect(f)
	if err != nil {
		if c.version = packet.VersionOf(f); c.version != 5 {
			c.version = 4 // whoever it is, it knows that CONNACK
		}
		return err
	}
	c.version, c.bridge = h.Version, h.Bridge
	if w := h.Will; w != nil {
		c.willTopic = w.Topic
	}
	c.later(func(ctx context.Context) { c.onConnect(ctx, h) })
	return nil
}

// onDisconnect takes the client's leave. A session that ends with its
// connection cannot be prolonged (MQTT 5, 3.14.2.2.2).
func (c *conn) onDisconnect(d packet.Disconnect) error {
	if d.HasExpiry {
		if d.Expiry > 0 && c.expiry == 0 {
			return c.fail(codeProtocol, "DISCONNECT prolongs a session without expiry")
		}
		c.expiry = min(d.Expiry, c.b.cfg.MaxSessionExpiry)
	}
	if d.Strange { // it leaves in any case, but not in a way we understand
		c.disconnect(noDisconnectMessage, cause(codeProtocol))
		return nil
	}
	c.left, c.polite = true, d.Code == codeSuccess
	c.disconnect(noDisconnectMessage, "client")
	return nil
}
