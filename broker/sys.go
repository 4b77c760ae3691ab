package broker

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/farhop/farhop/routing/interest"
)

// The topics of the broker itself, as other brokers have them: told to those
// who subscribe, never stored, and never on another node.

const (
	sysPrefix      = "$SYS/"
	sysBroker      = sysPrefix + "broker/"
	minSysInterval = time.Second
	sysFresh       = time.Second     // what a new subscriber gets may be so old
	sysTimeout     = 5 * time.Second // for the node to say its own
)

// SysValue is one value of $SYS. Topic is what follows $SYS/broker/.
type SysValue struct{ Topic, Value string }

// sys is what is counted for $SYS alone, and the values told last.
type sys struct {
	began             time.Time
	bytesIn, bytesOut atomic.Uint64
	dropped           atomic.Uint64
	peak              atomic.Int64 // clients

	mu   sync.Mutex // guards what follows
	told []*Message
	at   time.Time // of told
}

// ofSys reports whether a filter asks for $SYS. No other first level matches
// it (MQTT 5, [MQTT-4.7.2-1]).
func ofSys(filter string) bool { return strings.HasPrefix(filter, sysPrefix) }

// tellSys publishes the values to those who subscribed, if anybody did.
func (b *Broker) tellSys(ctx context.Context) {
	if b.live.sys.Load() == 0 {
		return
	}
	for _, m := range b.sysValues(ctx, 0) {
		b.routeLive(m)
	}
}

// sendSys gives a new subscriber what there is now, as if it had been retained.
func (c *conn) sendSys(ctx context.Context, s Subscription) {
	sub := c.subs.get(s.Filter)
	if sub == nil {
		return
	}
	var d delivery
	if d.retain = true; s.ID != 0 {
		d.subIDs = []int{s.ID}
	}
	for _, m := range c.b.sysValues(ctx, sysFresh) {
		if interest.Match(s.Filter, m.Topic) && c.mayReceive(m.Topic, sub.partly) {
			d.m = m
			c.enqueueLive(d)
		}
	}
}

// sysValues returns what $SYS has now, or had a moment ago.
func (b *Broker) sysValues(ctx context.Context, old time.Duration) []*Message {
	b.sys.mu.Lock()
	defer b.sys.mu.Unlock()
	now := time.Now()
	if now.Sub(b.sys.at) < old {
		return b.sys.told
	}
	values := b.sysOwn(now)
	if b.cfg.Sys != nil {
		ctx, cancel := context.WithTimeout(ctx, sysTimeout)
		defer cancel()
		values = append(values, b.cfg.Sys(ctx)...)
	}
	told := make([]*Message, len(values))
	for i, v := range values {
		told[i] = &Message{Topic: sysBroker + v.Topic, Payload: []byte(v.Value), PayloadFormat: FormatText, Received: now}
	}
	b.sys.told, b.sys.at = told, now
	return told
}

// sysOwn is what the broker knows by itself.
func (b *Broker) sysOwn(now time.Time) []SysValue {
	m := b.metrics
	in, out := sum(m.byQoSIn[:]), sum(m.byQoSOut[:])
	b.retained.mu.RLock()
	own := b.retained.own // such as the states of regions: no client published them
	retained, bytes := b.retained.list.count-own.count, b.retained.bytes-own.bytes
	b.retained.mu.RUnlock()
	number := func(topic string, n uint64) SysValue { return SysValue{topic, strconv.FormatUint(n, 10)} }
	return []SysValue{
		{"version", "farhop " + b.cfg.Version},
		{"uptime", strconv.FormatInt(int64(now.Sub(b.sys.began)/time.Second), 10) + " seconds"},
		number("clients/connected", uint64(b.Clients())),
		number("clients/maximum", uint64(b.sys.peak.Load())),
		number("messages/received", in),
		number("messages/sent", out),
		number("publish/messages/received", in),
		number("publish/messages/sent", out),
		number("publish/messages/dropped", b.sys.dropped.Load()),
		number("bytes/received", b.sys.bytesIn.Load()),
		number("bytes/sent", b.sys.bytesOut.Load()),
		number("retained/count", uint64(retained)),
		number("retained/bytes", uint64(bytes)),
		number("retained messages/count", uint64(retained)), // as Mosquitto calls it
		number("subscriptions/count", valueOf(m.subscriptions)),
	}
}

// sum adds up counters.
func sum(counters []prometheus.Counter) (n uint64) {
	for _, c := range counters {
		n += valueOf(c)
	}
	return n
}

// valueOf reads a counter or a gauge.
func valueOf(m prometheus.Metric) uint64 {
	var v dto.Metric
	if m.Write(&v) != nil {
		return 0
	}
	return uint64(v.GetCounter().GetValue() + v.GetGauge().GetValue())
}
