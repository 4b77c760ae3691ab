package bridge

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/mochi-mqtt/server/v2/packets"
)

// reserve makes the session at the local broker before the remote was reached
// for the first time, so that what is published meanwhile waits there. A
// session that is there is left alone: to come and go would disturb what is in
// flight. Bridges that share leave messages to those among them who reach the
// remote.
func (b *Bridge) reserve(ctx context.Context) error {
	out := slices.ContainsFunc(b.cfg.Rules, func(r Rule) bool { return r.goes(local) })
	if b.kept || b.deps.Present == nil || b.cfg.Share != "" || !out {
		return nil
	}
	there, err := b.deps.Present(ctx, b.cfg.Local.ClientID)
	if err != nil {
		return fmt.Errorf("local broker: %w", err)
	}
	if !there {
		c, err := b.connectLocal(ctx, 1)
		if err != nil {
			return err
		}
		defer hangUp(c)
		if err := b.subscribeAhead(ctx, c); err != nil {
			return fmt.Errorf("local broker: %w", err)
		}
		b.ahead = true
	}
	b.kept = true
	return nil
}

// subscribeAhead asks for what goes out, without the retained messages: they
// are asked for when somebody takes them.
func (b *Bridge) subscribeAhead(ctx context.Context, c *client) error {
	ctx, done := context.WithTimeout(ctx, b.cfg.ConnectTimeout)
	defer done()
	defer context.AfterFunc(ctx, func() { _ = c.conn.Close() })()
	l := &link{b: b}
	for part := range slices.Chunk(l.filters(&end{client: c}), maxFilters) {
		for i := range part {
			part[i].RetainHandling = 2
		}
		var out bytes.Buffer
		if err := encode(&out, &packets.Packet{
			FixedHeader:     packets.FixedHeader{Type: packets.Subscribe, Qos: 1},
			ProtocolVersion: c.version, PacketID: 0xffff, Filters: part,
		}); err != nil {
			return err
		}
		if _, err := c.conn.Write(out.Bytes()); err != nil {
			return err
		}
		for answered := false; !answered; { // what is delivered meanwhile stays in the session
			pk, err := readPacket(c.r, c.version, b.cfg.MaxPacket)
			if err != nil {
				return err
			}
			answered = pk.FixedHeader.Type == packets.Suback
		}
	}
	return nil
}
