package mux

import "time"

// measure is what is known of the round trip, and when either end was heard.
// It is guarded by Conn.mu.
type measure struct {
	smooth time.Duration // 0: not known
	pings  int           // that were answered

	heard, said time.Time

	ask    bool      // a ping is wanted, whatever else there is to send
	number uint64    // of the last ping
	at     time.Time // when it left; zero once it is answered
	asked  time.Time // when it left

	answer   bool // a pong is due
	question uint64
}

// measureTrips: so many round trips lie between two measurements, or more.
const measureTrips = 16

// take smooths a sample in, as RFC 6298 does.
func (m *measure) take(sample time.Duration) {
	if m.smooth == 0 {
		m.smooth = sample
		return
	}
	m.smooth += (sample - m.smooth) / 8
}

// answered takes a pong.
func (m *measure) answered(number uint64, now time.Time) {
	if m.at.IsZero() || number != m.number {
		return
	}
	sample := now.Sub(m.at)
	m.at = time.Time{}
	if m.pings++; m.pings == 1 { // better than what the handshake took to reckon
		m.smooth = sample
		return
	}
	m.take(sample)
}

// append adds what the measurement has to say to a batch. A ping travels with
// data, so that connections that are silent stay so.
func (m *measure) append(b []byte, now time.Time, data bool, least time.Duration) []byte {
	m.said = now
	if m.answer {
		b = appendFrame(b, framePong, m.question, 0)
		m.answer = false
	}
	due := data && m.at.IsZero() && (m.number == 0 || now.Sub(m.asked) >= max(measureTrips*m.smooth, least))
	if !m.ask && !due {
		return b
	}
	m.ask = false
	m.number++
	m.at, m.asked = now, now
	return appendFrame(b, framePing, m.number, 0)
}

// mind ends a connection that is silent and keeps ours from being so.
func (c *Conn) mind() {
	defer c.minding.Stop()
	for {
		select {
		case <-c.minding.C:
			c.check(time.Now())
		case <-c.ctx.Done():
			return
		}
	}
}

// check looks at the times, and says when it wants to again.
func (c *Conn) check(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	var next time.Duration
	if c.cfg.KeepAlive > 0 {
		if next = c.rtt.said.Add(c.cfg.KeepAlive).Sub(now); next <= 0 {
			c.rtt.ask, c.rtt.said = true, now
			c.kick()
			next = c.cfg.KeepAlive
		}
	}
	if c.cfg.Idle > 0 {
		left := c.rtt.heard.Add(c.cfg.Idle).Sub(now)
		if left <= 0 {
			c.end(ErrIdle, false)
			return
		}
		if next == 0 || left < next {
			next = left
		}
	}
	if next > 0 {
		c.minding.Reset(next)
	}
}

// Stats are counts since the connection began.
type Stats struct {
	RTT                          time.Duration // smoothed; 0: not known
	BytesSent, BytesReceived     uint64        // of TCP's payload
	PacketsSent, PacketsReceived uint64        // segments of TCP, where the system tells
	PacketsLost                  uint64        // segments sent again
}

// Stats returns the counts.
func (c *Conn) Stats() Stats {
	st := Stats{RTT: c.RTT(), BytesSent: c.raw.sent.Load(), BytesReceived: c.raw.received.Load()}
	st.PacketsSent, st.PacketsReceived, st.PacketsLost = segments(c.raw.Conn)
	return st
}

// RTT is the smoothed round trip from end to end, 0 when it is not known.
func (c *Conn) RTT() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rtt.smooth
}
