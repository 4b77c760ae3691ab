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

// maxFilters is how many filters one SUBSCRIBE carries; some services take no
// more.
const maxFilters = 8

// link is a connection to each broker while both last. What one of them does
// not live through is in the sessions, so the other is given up with it.
type link struct {
	b       *Bridge
	ends    [2]*end // by side
	out, in *flow
	asked   atomic.Int32 // SUBACKs that are due, and one while they are asked for
}

func newLink(b *Bridge, loc, rem *client) *link {
	l := &link{b: b}
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
		e.heard.Store(time.Now().UnixNano())
		if err := l.handle(e, pk); err != nil {
			return err
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
		if sent := e.pinged.Swap(0); sent != 0 && e.side == remote {
			l.b.rtt.add(time.Duration(time.Now().UnixNano() - sent))
		}
		return nil
	case packets.Suback:
		return l.subscribed(e, pk)
	case packets.Disconnect:
		return fmt.Errorf("%s broker disconnects: code 0x%02x %s", e.side, pk.ReasonCode, reason(pk.ReasonCode, pk.Properties.ReasonString))
	}
	return fmt.Errorf("%s broker sends %s", e.side, packets.PacketNames[pk.FixedHeader.Type])
}

// subscribe asks both brokers for what the rules carry. A session keeps its
// subscriptions, but the rules may be others than when it began. Asking again
// makes an MQTT 3.1.1 broker send all retained messages once more, so there
// one process asks one session once.
func (l *link) subscribe() {
	l.asked.Store(1)
	defer l.granted()
	for _, e := range l.ends {
		if e.version < 5 && e.present && l.b.asked {
			continue
		}
		id := uint16(0xffff) // far from the ids brokers give, which publishes bear here
		filters := l.filters(e)
		for n := 0; n < len(filters); n += maxFilters {
			l.asked.Add(1)
			e.box.send(&packets.Packet{
				FixedHeader:     packets.FixedHeader{Type: packets.Subscribe, Qos: 1},
				ProtocolVersion: e.version, PacketID: id, Filters: filters[n:min(n+maxFilters, len(filters))],
			})
			id--
		}
	}
	l.b.asked = true
}

func (l *link) filters(e *end) packets.Subscriptions {
	share := l.b.cfg.Share
	var out packets.Subscriptions
	for _, r := range l.b.cfg.Rules {
		if !r.goes(e.side) {
			continue
		}
		s := packets.Subscription{Filter: r.filter(e.side), Qos: min(r.qos(), e.maxQoS)}
		if share != "" {
			s.Filter = "$share/" + share + "/" + s.Filter
		}
		if e.version >= 5 {
			// No-local is not allowed for shared ones ([MQTT-3.8.3-4]).
			s.NoLocal, s.RetainAsPublished, s.RetainHandling = share == "", true, 1
		}
		out = append(out, s)
	}
	return out
}

// subscribed checks what a broker granted.
func (l *link) subscribed(e *end, pk *packets.Packet) error {
	filters := l.filters(e)
	for i, code := range pk.ReasonCodes {
		n := int(0xffff-pk.PacketID)*maxFilters + i
		if n >= len(filters) {
			return fmt.Errorf("%s broker: SUBACK for more than was asked", e.side)
		}
		if code >= 0x80 {
			return fmt.Errorf("%s broker refuses the subscription to %q: code 0x%02x %s; change the rule or its rights there", e.side, filters[n].Filter, code, reason(code, pk.Properties.ReasonString))
		}
		if code < filters[n].Qos {
			l.b.warn(fmt.Sprintf("the %s broker delivers %q with QoS %d at most", e.side, filters[n].Filter, code))
		}
	}
	l.granted()
	return nil
}

// granted counts an answer; after the last the bridge is up.
func (l *link) granted() {
	if l.asked.Add(-1) > 0 {
		return
	}
	b := l.b
	b.cond.update(func(s *Status) { s.State, s.Links, s.LastError = Connected, s.Links+1, "" })
	rem, loc := l.ends[remote], l.ends[local]
	b.log.Info("bridge is up", "bridge", b.cfg.Name, "rtt", rem.rtt.Round(time.Microsecond), "remote_session", rem.present, "local_session", loc.present)
}

// watch pings a broker and finds connections that are silent, or that live but
// acknowledge nothing.
func (l *link) watch(ctx context.Context, e *end) error {
	every := e.keepAlive / 2
	if every <= 0 {
		every = l.b.cfg.KeepAlive / 2
	}
	for {
		if !sleep(ctx, every) {
			return ctx.Err()
		}
		asked := time.Now()
		quiet := int64(0)
		if e.box.idle() {
			quiet = asked.UnixNano() // else the answer would measure the queue
		}
		e.pinged.Store(quiet)
		e.box.send(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
		wait := l.b.rtt.patience()
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
		if e.heard.Load() < asked.UnixNano() {
			return fmt.Errorf("%s broker: silent, no answer to a ping in %s", e.side, wait.Round(time.Millisecond))
		}
		to := l.in
		if e.side == remote {
			to = l.out
		}
		if long := to.stuck(time.Now()); long > 2*l.b.cfg.KeepAlive+wait {
			return fmt.Errorf("%s broker: answers pings but acknowledged nothing for %s", e.side, long.Round(time.Second))
		}
	}
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

// signs are what the watcher of a connection goes by, in Unix nanoseconds.
type signs struct {
	heard  atomic.Int64 // the last packet from the broker
	pinged atomic.Int64 // the PINGREQ that is to be measured, 0 = none
}
