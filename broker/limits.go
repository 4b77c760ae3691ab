package broker

import (
	"strings"
	"time"

	"github.com/farhop/farhop/broker/packet"
)

// What farhop_mqtt_limits_total counts, by the limit that was reached.
const (
	limitClients       = "clients"
	limitConnectRate   = "connect-rate"
	limitPublishRate   = "publish-rate"
	limitSubscriptions = "subscriptions"
	limitFilters       = "subscription-bytes"
	limitMemory        = "memory"
	limitPending       = "pending"
	limitRetained      = "retained"
	limitSessions      = "sessions"
	limitUnreleased    = "unreleased"
)

// workBytes are as much work as a packet, see conn.work.
const workBytes = 256

// filterLevel is what a level of a filter costs at most in the directory, in
// bytes: a node of the trie.
const filterLevel = 160

// filterCost is what a filter counts against MaxSubscriptionBytes.
func filterCost(filter string) int { return len(filter) + filterLevel*(1+strings.Count(filter, "/")) }

// causeUnreleased is the metric label of the end of such a connection.
const causeUnreleased = "unreleased-publishes"

// unreleasedEvery is how often at most the log tells of clients that were cut
// for what they do not release; the counter has them all.
const unreleasedEvery = 10 * time.Second

// unreleased cuts a client that begins more QoS 2 publishes than may wait for
// its PUBREL. Those of MQTT 5 have been told of a lower number for each
// connection, but a session brings along what is open from earlier ones; MQTT 3
// has no number, and no way to refuse a publish but this. The caller holds mu.
func (c *conn) unreleased() {
	c.b.metrics.limit(limitUnreleased)
	c.disconnectLocked(codeReceiveMax, causeUnreleased)
	now, last := time.Now().UnixNano(), c.b.unreleasedSaid.Load()
	if now-last >= int64(unreleasedEvery) && c.b.unreleasedSaid.CompareAndSwap(last, now) {
		c.b.cfg.Log.Warn("mqtt client cut: it begins QoS 2 publishes and does not release them with PUBREL; see mqtt.limits.unreleased",
			"client", c.client, "remote", c.driver.remote(), "open", len(c.inbound), "limit", c.b.cfg.MaxUnreleased)
	}
}

// leastWait is how long a bucket has its owner wait at least, so that it does
// not have to be waited for again at once.
const leastWait = 10 * time.Millisecond

// bucket is a token bucket: so many a second, and as many at once. Its owner
// uses it from one goroutine at a time.
type bucket struct {
	rate float64 // a second
	left float64
	at   time.Time
}

func newBucket(rate int, now time.Time) *bucket {
	return &bucket{rate: float64(rate), left: float64(rate), at: now}
}

// take takes one and returns how long to wait before the next.
func (t *bucket) take(now time.Time) time.Duration {
	if d := now.Sub(t.at).Seconds(); d > 0 {
		t.left = min(t.rate, t.left+d*t.rate)
		t.at = now
	}
	if t.left--; t.left >= 1 {
		return 0
	}
	return max(leastWait, time.Duration((1-t.left)/t.rate*float64(time.Second)))
}

// slowDown holds the input of a client that publishes faster than it may. It
// loses nothing: its socket fills up.
func (c *conn) slowDown(now time.Time) {
	limit := c.b.cfg.MaxPublishRate
	if limit == 0 {
		return
	}
	if c.publishes == nil {
		c.publishes = newBucket(limit, now)
	}
	wait := c.publishes.take(now)
	if wait == 0 {
		return
	}
	c.b.metrics.limit(limitPublishRate)
	c.holds.Add(1)
	time.AfterFunc(wait, c.release)
}

// lastFilters tells which of the filters of one SUBSCRIBE is the last of its
// kind: each counts as a SUBSCRIBE by itself (MQTT 5, [MQTT-3.8.4-5]), so what
// comes again replaces what was before, and only the last one is worked for.
type lastFilters map[string]int

// lastOf is nil where nothing can be there twice.
func lastOf(all []packet.Filter) lastFilters {
	if len(all) < 2 {
		return nil
	}
	last := make(lastFilters, len(all))
	for i, f := range all {
		last[f.Filter] = i
	}
	return last
}

func (l lastFilters) is(filter string, i int) bool { return l == nil || l[filter] == i }
