package bridge

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
)

// Causes for which a message does not go on.
const (
	causeLoop        = "loop"        // it has been on the other side
	causeRepeat      = "repeat"      // the other side has it by another way, or an earlier copy
	causeRedelivered = "redelivered" // acknowledged there before, but the source had not heard
	causeUnmapped    = "unmapped"    // no rule: the session is subscribed from an older configuration
	causeTooLarge    = "too-large"   // for the destination's packet limit
	causeRefused     = "refused"     // by the destination, for what lies in the message
	causeHops        = "hops"        // more than maxHops domains
	causeOverflow    = "overflow"    // QoS 0 that the destination's socket did not take in time
)

// causes lists them, for counters.
var causes = [...]string{causeLoop, causeRepeat, causeRedelivered, causeUnmapped, causeTooLarge, causeRefused, causeHops, causeOverflow}

// counts are one direction's counters.
type counts struct {
	forwarded [3]atomic.Uint64 // by QoS
	bytes     atomic.Uint64    // of payload
	retried   atomic.Uint64
	dropped   [len(causes)]atomic.Uint64
}

func (c *counts) forward(pk *packets.Packet) {
	c.forwarded[pk.FixedHeader.Qos].Add(1)
	c.bytes.Add(uint64(len(pk.Payload)))
}

func (c *counts) drop(cause string) {
	for i, name := range causes {
		if name == cause {
			c.dropped[i].Add(1)
		}
	}
}

// State is where a bridge stands.
type State string

// The states.
const (
	Stopped    State = "stopped"    // Run does not run
	Connecting State = "connecting" // an attempt is under way
	Waiting    State = "waiting"    // until the next attempt
	Connected  State = "connected"
)

// Status is a bridge at one moment, for people and programs to read.
type Status struct {
	Name      string        `json:"name"`
	Remote    string        `json:"remote"` // URL
	State     State         `json:"state"`
	Since     time.Time     `json:"since"`              // of State
	Version   string        `json:"version,omitempty"`  // of MQTT, spoken with the remote
	RTT       time.Duration `json:"rtt_ns"`             // measured, 0 = not yet
	Window    int           `json:"window"`             // messages
	KeepAlive time.Duration `json:"keepalive_ns"`       // of the remote connection
	Attempts  uint64        `json:"attempts"`           // connections tried
	Links     uint64        `json:"links"`              // connections made
	LastError string        `json:"error,omitempty"`    // of the last attempt or link, "" for none
	LastAt    time.Time     `json:"error_at,omitzero"`  // when
	Warnings  []string      `json:"warnings,omitempty"` // what the remote keeps less of than asked
	Out       Traffic       `json:"out"`
	In        Traffic       `json:"in"`
}

// Traffic is one direction since the start.
type Traffic struct {
	Forwarded [3]uint64         `json:"forwarded"` // messages by QoS
	Bytes     uint64            `json:"bytes"`     // of payload
	UnderWay  int               `json:"under_way"` // not acknowledged yet
	Retried   uint64            `json:"retried"`   // sent again because the destination refused them for now
	Dropped   map[string]uint64 `json:"dropped,omitempty"`
}

// condition is the part of a Status that links write. Safe for concurrent use.
type condition struct {
	mu   sync.Mutex
	s    Status
	link *link // nil while there is none
}

func (c *condition) update(f func(s *Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.s.State
	if f(&c.s); c.s.State != was {
		c.s.Since = time.Now()
	}
}

func (c *condition) setLink(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = l
}

// Status tells how the bridge is. Safe for concurrent use.
func (b *Bridge) Status() Status {
	b.cond.mu.Lock()
	s, l := b.cond.s, b.cond.link
	b.cond.mu.Unlock()
	s.Out, s.In = b.out.counts.read(), b.in.counts.read()
	if l != nil {
		s.Out.UnderWay, s.In.UnderWay = l.out.underWay(), l.in.underWay()
	}
	s.RTT = b.rtt.get()
	return s
}

func (c *counts) read() Traffic {
	var t Traffic
	for q := range t.Forwarded {
		t.Forwarded[q] = c.forwarded[q].Load()
	}
	t.Bytes, t.Retried = c.bytes.Load(), c.retried.Load()
	for i, name := range causes {
		if n := c.dropped[i].Load(); n > 0 {
			if t.Dropped == nil {
				t.Dropped = make(map[string]uint64)
			}
			t.Dropped[name] = n
		}
	}
	return t
}

// collector shows a Status to Prometheus. The label bridge is the configured
// name; direction, qos and cause are few.
type collector struct {
	b                                                                                   *Bridge
	up, rtt, window, under, forwarded, bytes, retried, dropped, attempts, made, forgets *prometheus.Desc
}

func newCollector(b *Bridge) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName("farhop", "bridge", name), help, labels, prometheus.Labels{"bridge": b.cfg.Name})
	}
	return &collector{
		b:         b,
		up:        desc("connected", "1 while both brokers are connected."),
		rtt:       desc("rtt_seconds", "Measured round trip to the remote broker."),
		window:    desc("window_messages", "Messages that may be unacknowledged each way."),
		under:     desc("under_way_messages", "Messages not acknowledged yet.", "direction"),
		forwarded: desc("forwarded_total", "Messages sent on.", "direction", "qos"),
		bytes:     desc("forwarded_bytes_total", "Payload bytes sent on.", "direction"),
		retried:   desc("retried_total", "Messages sent again because they were refused for now.", "direction"),
		dropped:   desc("dropped_total", "Messages that were not sent on.", "direction", "cause"),
		attempts:  desc("attempts_total", "Connections to the remote broker tried."),
		made:      desc("links_total", "Connections to both brokers made."),
		forgets:   desc("forgotten_total", "Identities forgotten early for want of room."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.up, c.rtt, c.window, c.under, c.forwarded, c.bytes, c.retried, c.dropped, c.attempts, c.made, c.forgets} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.b.Status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	up := 0.0
	if s.State == Connected {
		up = 1
	}
	gauge(c.up, up)
	gauge(c.rtt, s.RTT.Seconds())
	gauge(c.window, float64(s.Window))
	counter(c.attempts, s.Attempts)
	counter(c.made, s.Links)
	counter(c.forgets, c.b.seen.lost()+c.b.echoes.lost())
	for _, d := range []struct {
		name string
		Traffic
	}{{Out, s.Out}, {In, s.In}} {
		gauge(c.under, float64(d.UnderWay), d.name)
		counter(c.bytes, d.Bytes, d.name)
		counter(c.retried, d.Retried, d.name)
		for q, name := range [...]string{"0", "1", "2"} {
			counter(c.forwarded, d.Forwarded[q], d.name, name)
		}
		for _, cause := range causes {
			counter(c.dropped, d.Dropped[cause], d.name, cause)
		}
	}
}
