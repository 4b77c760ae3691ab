package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// link is a connection to each broker while both last. What one of them does
// not live through is in the sessions, so the other is given up with it.
type link struct {
	b       *Bridge
	ends    [2]*end // by side
	out, in *flow
	denied  chan struct{} // a broker refused a subscription
	asked   atomic.Int32  // first SUBACKs that are due, and one while they are asked for
}

func newLink(b *Bridge, loc, rem *client) *link {
	l := &link{b: b, denied: make(chan struct{}, 1)}
	for _, c := range []*client{loc, rem} {
		l.ends[c.side] = &end{client: c, box: newOutbox(c.version, b.cfg.Buffer, c.receiveMax), domain: b.cfg.Domain}
	}
	r := l.ends[remote]
	r.domain = b.cfg.Remote.Domain
	r.echoes = rem.version < 5 && !b.cfg.Remote.Mosquitto && overlapping(b.cfg.Rules)
	if !rem.present {
		b.echoes.clear() // they were in the session
	}
	l.out = newFlow(b, b.out, l.ends[local], r)
	l.in = newFlow(b, b.in, r, l.ends[local])
	return l
}

// run carries messages until a connection breaks or ctx ends, and says why.
// All goroutines have ended when it returns.
func (l *link) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var readers, writers, others sync.WaitGroup
	for _, e := range l.ends {
		readers.Go(func() { cancel(l.read(e)) })
		writers.Go(func() {
			if err := e.box.run(e.conn); !errors.Is(err, errClosed) {
				cancel(fmt.Errorf("%s broker: %w", e.side, err))
				e.box.kill()
			}
		})
		others.Go(func() { cancel(l.watch(ctx, e)) })
	}
	others.Go(func() { l.age(ctx) })
	others.Go(func() { l.out.retry(ctx) })
	others.Go(func() { l.in.retry(ctx) })
	others.Go(func() { l.askAgain(ctx) })
	l.subscribe()
	<-ctx.Done()
	grace := time.Now().Add(l.b.rtt.patience()) // what is acknowledged may still be told
	for _, e := range l.ends {
		_ = e.conn.SetWriteDeadline(grace)
		e.box.close()
	}
	writers.Wait()
	for _, e := range l.ends {
		_ = e.conn.Close()
	}
	readers.Wait()
	others.Wait()
	return context.Cause(ctx)
}

// read handles what a broker sends until that fails.
func (l *link) read(e *end) error {
	for {
		pk, err := readPacket(e.r, e.version, l.b.cfg.MaxPacket)
		if err != nil {
			return fmt.Errorf("%s broker: %w", e.side, err)
		}
		if err := l.handle(e, pk); err != nil {
			return err
		}
		for _, e := range l.ends {
			if err := e.box.failure(); err != nil {
				return fmt.Errorf("%s broker: %w", e.side, err)
			}
		}
	}
}

func (l *link) handle(e *end, pk *packets.Packet) error {
	from, to := l.out, l.in // e is the source of one flow and the destination of the other
	if e.side == remote {
		from, to = l.in, l.out
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		return from.onPublish(pk)
	case packets.Pubrel:
		from.onRelease(pk.PacketID)
		return nil
	case packets.Puback, packets.Pubrec, packets.Pubcomp:
		return to.onAck(pk)
	case packets.Pingresp:
		l.answered(e, time.Now())
		return nil
	case packets.Suback:
		return l.subscribed(e, pk)
	case packets.Disconnect:
		return fmt.Errorf("%s broker disconnects: code 0x%02x %s", e.side, pk.ReasonCode, reason(pk.ReasonCode, pk.Properties.ReasonString))
	}
	return fmt.Errorf("%s broker sends %s", e.side, packets.PacketNames[pk.FixedHeader.Type])
}

// age lets the tables' time pass: for what is expected back only while it can
// come.
func (l *link) age(ctx context.Context) {
	step := l.b.cfg.RememberFor / 16
	for sleep(ctx, step) {
		l.b.echoes.pass(step)
	}
}

// sleep waits and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
