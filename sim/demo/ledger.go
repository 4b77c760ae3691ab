package demo

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// ledger remembers every message of the run: what a node acknowledged, and
// what arrived at the subscriber. All methods are safe from any goroutine.
type ledger struct {
	mu      sync.Mutex // guards what follows
	flows   []*flow
	strange int // arrivals that nobody published
}

// flow is what one publisher sends to one subscriber, numbered from 0.
type flow struct {
	name, from, to, topic string
	seed                  uint64
	sent                  []message
	last                  int // highest number that arrived, -1 for none
	late                  int // arrived after a higher number
}

type message struct {
	at      time.Time // when it was given to the client
	latency time.Duration
	acked   bool
	arrived uint16
}

// add begins a flow.
func (l *ledger) add(name, from, to, topic string, seed uint64) *flow {
	f := &flow{name: name, from: from, to: to, topic: topic, seed: seed, last: -1}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flows = append(l.flows, f)
	return f
}

// publish numbers a message that is about to be published.
func (l *ledger) publish(f *flow, now time.Time) (n int, payload string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.sent = append(f.sent, message{at: now})
	n = len(f.sent) - 1
	return n, f.payload(n)
}

// payload is a reading of 60 to 120 bytes, which the subscriber can tell from
// any other.
func (f *flow) payload(n int) string {
	x := (f.seed+uint64(n)+1)*0x9e3779b97f4a7c15 ^ f.seed<<7
	text := fmt.Sprintf("%s %d reading=%016x ", f.name, n, x)
	return text + strings.Repeat("=", 24+int(x>>58)) // 24..87
}

// acked notes that the node took a message over.
func (l *ledger) acked(f *flow, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.sent[n].acked = true
}

// arrived notes what a subscriber was given.
func (l *ledger) arrived(topic string, payload []byte, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.IndexFunc(l.flows, func(f *flow) bool { return f.topic == topic })
	var name string
	n := -1
	if _, err := fmt.Sscanf(string(payload), "%s %d ", &name, &n); err != nil || at < 0 {
		l.strange++
		return
	}
	f := l.flows[at]
	if n < 0 || n >= len(f.sent) || f.payload(n) != string(payload) {
		l.strange++
		return
	}
	m := &f.sent[n]
	if m.arrived++; m.arrived > 1 {
		return
	}
	m.latency = now.Sub(m.at)
	if n < f.last {
		f.late++
	}
	f.last = max(f.last, n)
}

// tally is the sum over some flows.
type tally struct {
	published, acked, delivered, duplicates, late, strange int
	lost                                                   int             // acknowledged and not arrived: while it runs, under way
	latencies                                              []time.Duration // of what was delivered, sorted
}

// p returns a quantile of the latencies, 0 when there are none.
func (t tally) p(share float64) time.Duration {
	if len(t.latencies) == 0 {
		return 0
	}
	return t.latencies[min(int(share*float64(len(t.latencies))), len(t.latencies)-1)]
}

// tally counts the flows from a node, "" for all.
func (l *ledger) tally(from string) (t tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.strange = l.strange
	for _, f := range l.flows {
		if from != "" && f.from != from {
			continue
		}
		t.late += f.late
		t.published += len(f.sent)
		for _, m := range f.sent {
			switch {
			case m.arrived > 0:
				t.delivered++
				t.duplicates += int(m.arrived) - 1
				t.latencies = append(t.latencies, m.latency)
			case m.acked:
				t.lost++
			}
			if m.acked {
				t.acked++
			}
		}
	}
	slices.Sort(t.latencies)
	return t
}

// missing names messages that were acknowledged and did not arrive, the first
// few of each flow.
func (l *ledger) missing() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, f := range l.flows {
		var gone []int
		for n, m := range f.sent {
			if m.acked && m.arrived == 0 {
				gone = append(gone, n)
			}
		}
		if len(gone) > 0 {
			out = append(out, fmt.Sprintf("%s to %s: %d missing, the first %v of %d", f.name, f.to, len(gone), gone[:min(len(gone), 5)], len(f.sent)))
		}
	}
	return out
}
