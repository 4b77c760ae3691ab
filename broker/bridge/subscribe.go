package bridge

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// maxFilters is how many filters one SUBSCRIBE carries; some services take no
// more.
const maxFilters = 8

// wishes are the subscriptions at one broker on one link: no more than the
// rules. Safe for concurrent use.
type wishes struct {
	mu     sync.Mutex
	due    map[uint16]packets.Subscriptions // by packet id, without an answer
	denied packets.Subscriptions
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
		filters := l.filters(e)
		if e.side == local && !l.b.asked {
			never := l.b.kept && !l.ends[remote].present
			for i := range filters { // reserve left these, now or before a restart
				if never || l.b.ahead[filters[i].Filter] {
					filters[i].RetainHandling = 0
				}
			}
		}
		l.asked.Add(int32((len(filters) + maxFilters - 1) / maxFilters))
		l.ask(e, filters)
	}
	l.b.asked = true
}

// ask sends SUBSCRIBEs. Their packet ids are far from those brokers give, which
// publishes bear here.
func (l *link) ask(e *end, filters packets.Subscriptions) {
	w := &e.wishes
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.due == nil {
		w.due = make(map[uint16]packets.Subscriptions)
	}
	for part := range slices.Chunk(filters, maxFilters) {
		id := uint16(0xffff)
		for w.due[id] != nil {
			id--
		}
		w.due[id] = part
		e.box.send(&packets.Packet{
			FixedHeader:     packets.FixedHeader{Type: packets.Subscribe, Qos: 1},
			ProtocolVersion: e.version, PacketID: id, Filters: part,
		})
	}
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

// subscribed checks what a broker granted. What it refuses is told and asked
// for again from time to time: it is no reason to stop the rest.
func (l *link) subscribed(e *end, pk *packets.Packet) error {
	w := &e.wishes
	w.mu.Lock()
	filters := w.due[pk.PacketID]
	delete(w.due, pk.PacketID)
	if len(filters) != len(pk.ReasonCodes) {
		w.mu.Unlock()
		return fmt.Errorf("%s broker: SUBACK for %d filters, %d were asked for", e.side, len(pk.ReasonCodes), len(filters))
	}
	for i, code := range pk.ReasonCodes {
		name := filters[i].Filter
		refusal := fmt.Sprintf("the %s broker refuses the subscription to %q; change the rule or its rights there", e.side, name)
		switch {
		case code >= 0x80:
			w.denied = append(w.denied, filters[i])
			l.b.warn(refusal)
			l.b.log.Warn("broker refuses a subscription of the bridge", "bridge", l.b.cfg.Name, "broker", e.side.String(), "filter", name,
				"code", fmt.Sprintf("0x%02x", code), "text", reason(code, pk.Properties.ReasonString))
		default:
			l.b.unwarn(refusal)
			if code < filters[i].Qos {
				l.b.warn(fmt.Sprintf("the %s broker delivers %q with QoS %d at most", e.side, name, code))
			}
		}
	}
	again := len(w.denied) > 0
	w.mu.Unlock()
	if again {
		select {
		case l.denied <- struct{}{}:
		default:
		}
	}
	l.granted()
	return nil
}

// askAgain asks for refused subscriptions after pauses that grow, until ctx
// ends.
func (l *link) askAgain(ctx context.Context) {
	for round := 1; ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-l.denied:
		}
		if !sleep(ctx, l.b.cfg.pause(round, l.b.rtt.get())) {
			return
		}
		for _, e := range l.ends {
			e.wishes.mu.Lock()
			denied := e.wishes.denied
			e.wishes.denied = nil
			e.wishes.mu.Unlock()
			l.ask(e, denied)
		}
	}
}

// granted counts an answer; after the last of the first round the bridge is
// up.
func (l *link) granted() {
	if l.asked.Add(-1) != 0 {
		return
	}
	b := l.b
	b.cond.update(func(s *Status) { s.State, s.Links, s.LastError = Connected, s.Links+1, "" })
	rem, loc := l.ends[remote], l.ends[local]
	about := []any{"bridge", b.cfg.Name, "rtt", rem.rtt.Round(time.Microsecond), "remote_session", rem.present, "local_session", loc.present}
	if was := b.news.up(time.Now()); was > 0 {
		about = append(about, "was_down", was.Round(time.Millisecond))
	}
	b.log.Info("bridge is up", about...)
}
