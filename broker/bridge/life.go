package bridge

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// heardConn notes when something last came. It counts bytes, not packets: a
// large message on a thin link is a sign of life for as long as it takes. While
// nobody listens, nobody is silent.
type heardConn struct {
	net.Conn
	at      atomic.Int64 // Unix nanoseconds
	listens atomic.Bool
}

// Read implements io.Reader.
func (c *heardConn) Read(b []byte) (int, error) {
	c.at.Store(time.Now().UnixNano())
	c.listens.Store(true)
	n, err := c.Conn.Read(b)
	c.at.Store(time.Now().UnixNano())
	c.listens.Store(false)
	return n, err
}

// since reports whether something came at t or later, or may have.
func (c *heardConn) since(t time.Time) bool { return !c.listens.Load() || c.at.Load() >= t.UnixNano() }

const (
	maxPings = 1024     // that may be unanswered
	much     = 64 << 10 // bytes ahead of a ping for which it gets more time
)

// pings are those of one connection without an answer, the oldest first. Safe
// for concurrent use.
type pings struct {
	mu   sync.Mutex
	out  []ping
	past uint64 // bytes written before the last that was answered
}

type ping struct {
	at    time.Time
	alone bool   // nothing was ahead of it: its answer measures the path
	bytes uint64 // written before it
}

func (p *pings) add(one ping) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.out) >= maxPings {
		return false
	}
	one.alone = one.alone && len(p.out) == 0
	p.out = append(p.out, one)
	return true
}

// ahead is how much of what was written may not have arrived.
func (p *pings) ahead(written uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return written - p.past
}

// next takes the one that is answered.
func (p *pings) next() (one ping, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.out) == 0 {
		return ping{}, false
	}
	one = p.out[0]
	p.out, p.past = p.out[1:], one.bytes
	return one, true
}

// slowness is what a bridge has learned of how long a broker may be silent and
// live: what is ahead of a ping in the buffers of the path may take far longer
// than a round trip. Safe for concurrent use.
type slowness struct {
	mu    sync.Mutex
	worst time.Duration // of the answers to pings, fading
	doubt int           // connections in a row that were given up for silence
}

const maxDoubt = 4

// answered notes an answer.
func (s *slowness) answered(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worst = max(after, s.worst-s.worst/64)
	s.doubt = 0
}

// gaveUp notes that a connection was given up. It may have been a mistake, and
// if so the next must not repeat it.
func (s *slowness) gaveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubt = min(s.doubt+1, maxDoubt)
}

// wait is how long to wait for an answer that takes least at the least.
func (s *slowness) wait(least time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(least, 2*s.worst) << (2 * s.doubt)
}

// every is the time between pings.
func (l *link) every(e *end) time.Duration {
	cfg := l.b.cfg
	d := e.keepAlive // may be the broker's own wish, 0 = none
	if d <= 0 {
		d = cfg.KeepAlive
	}
	if e.side == remote {
		d = min(d, cfg.silence(l.b.rtt.get()))
	}
	return d / 2
}

// watch pings a broker and finds connections that are silent, or that live but
// acknowledge nothing. It pings on time while it waits for an answer: the
// broker counts the silence too, and the path may be longer than the time
// between pings.
func (l *link) watch(ctx context.Context, e *end) error {
	slow, to := &l.b.slow[e.side], l.in
	if e.side == remote {
		to = l.out
	}
	every := l.every(e)
	next := time.Now().Add(every)
	var asked time.Time // the first ping since the broker was heard
	least := time.Duration(0)
	for {
		wait, wake := slow.wait(least), next
		if end := asked.Add(wait); !asked.IsZero() && end.Before(wake) {
			wake = end
		}
		if !sleep(ctx, time.Until(wake)) {
			return ctx.Err()
		}
		now := time.Now()
		switch {
		case asked.IsZero():
		case e.conn.since(asked):
			asked = time.Time{}
		case now.Sub(wake) > wait/4:
			asked = now // we were late ourselves, and may have heard late
		case now.Sub(asked) >= wait:
			slow.gaveUp()
			return fmt.Errorf("%s broker: silent, no answer to a ping in %s", e.side, wait.Round(time.Millisecond))
		}
		if long := to.stuck(now); long > 2*l.b.cfg.KeepAlive+slow.wait(l.b.rtt.patience()) {
			slow.gaveUp()
			return fmt.Errorf("%s broker: answers pings but acknowledged nothing for %s", e.side, long.Round(time.Second))
		}
		if now.Before(next) {
			continue
		}
		next = now.Add(every)
		idle, written := e.box.idle()
		if asked.IsZero() {
			if asked, least = now, l.b.rtt.patience(); !idle || e.pings.ahead(written) > much {
				least = max(least, every)
			}
		}
		if e.pings.add(ping{now, idle, written}) {
			e.box.send(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
		}
	}
}

// answered takes a PINGRESP.
func (l *link) answered(e *end, now time.Time) {
	p, ok := e.pings.next()
	if !ok {
		return
	}
	l.b.slow[e.side].answered(now.Sub(p.at))
	if p.alone && e.side == remote {
		l.b.rtt.add(now.Sub(p.at))
	}
}
