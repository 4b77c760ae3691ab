package bridge

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/mochi-mqtt/server/v2/packets"
)

// reserve subscribes at the local broker, in the bridge's session, before the
// remote was reached for the first time, so that what is published meanwhile
// waits there, for new rules too. A session that has all the filters is left
// alone: to come and go would disturb what is in flight. Bridges that share
// leave messages to those among them who reach the remote.
func (b *Bridge) reserve(ctx context.Context) error {
	if b.kept || b.deps.Session == nil || b.cfg.Share != "" {
		return nil
	}
	have, _, err := b.deps.Session(ctx, b.cfg.Local.ClientID)
	if err != nil {
		return fmt.Errorf("local broker: %w", err)
	}
	missing := map[string]bool{}
	for _, r := range b.cfg.Rules {
		if f := r.filter(local); r.goes(local) && !slices.Contains(have, f) {
			missing[f] = true
		}
	}
	if len(missing) > 0 {
		c, err := b.connectLocal(ctx, 1)
		if err != nil {
			return err
		}
		defer hangUp(c)
		if err := b.subscribeAhead(ctx, c, missing); err != nil {
			return fmt.Errorf("local broker: %w", err)
		}
		b.ahead = missing
	}
	b.kept = true
	return nil
}

// subscribeAhead asks for these filters without the retained messages: those are
// asked for when somebody takes them.
func (b *Bridge) subscribeAhead(ctx context.Context, c *client, missing map[string]bool) error {
	ctx, done := context.WithTimeout(ctx, b.cfg.ConnectTimeout)
	defer done()
	defer context.AfterFunc(ctx, func() { _ = c.conn.Close() })()
	l := &link{b: b}
	filters := slices.DeleteFunc(l.filters(&end{client: c}), func(s packets.Subscription) bool { return !missing[s.Filter] })
	for part := range slices.Chunk(filters, maxFilters) {
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
