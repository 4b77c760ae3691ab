package link

import (
	"math/rand/v2"
	"time"

	"github.com/quic-go/quic-go"
)

// How timers follow from the link. Numbers come from measurements with stock
// quic-go v0.65: it completes a handshake over any distance in one round trip
// if its idle timer allows, and it dies when more than 1000 gaps open in a
// receive window.
const (
	firstHandshake = 5 * time.Second // distance unknown, first attempt
	knownHandshake = 1 * time.Second // distance seen before, first attempt
	lastHandshake  = 5 * time.Minute // the adaptive ceiling: 2.5 min of light
	minHandshake   = 2 * time.Second // distance known
	minIdle        = 10 * time.Minute
	keepGap        = 10 * time.Minute // a connection is kept over shorter gaps
	keepAlive      = 20 * time.Second // below the UDP timeouts of common NATs

	minWindow     = 512 << 10 // bytes
	defaultWindow = 6 << 20
	maxWindow     = 12 << 20

	narrowRate = 64_000 // bit/s; below it no keepalive is spent
)

// rtt is the configured round-trip time, 0 when unknown.
func (p Properties) rtt() time.Duration { return 2 * p.OWLT }

// handshakeTimeout is how long attempt (0, 1, ...) may stay without an answer.
// quic-go gives up in any case after twice this. seen is the round-trip time
// of an earlier session, 0 when there was none.
func (p Properties) handshakeTimeout(attempt int, seen time.Duration) time.Duration {
	if p.OWLT > 0 {
		return max(5*p.rtt(), minHandshake)
	}
	first, ceiling := firstHandshake, lastHandshake
	if seen > 0 { // a peer at a known distance that returns is found soon
		first = min(max(10*seen, knownHandshake), firstHandshake)
		ceiling = min(max(20*seen, 4*firstHandshake), lastHandshake)
	}
	return min(first<<min(attempt, 10), ceiling)
}

// idleTimeout is offered to the peer; the smaller of both offers counts (RFC
// 9000, section 10.1). It is long on purpose: noticing that a link is dead is
// the business of the node's probes, and a cut of minutes must not cost the
// connection.
func (p Properties) idleTimeout() time.Duration {
	return max(p.longestGap()+6*p.rtt(), 12*p.rtt(), minIdle)
}

// window is the receive window in bytes: rate times round trip and a quarter
// more, within limits.
func (p Properties) window() uint64 {
	if p.Rate == 0 || p.OWLT == 0 {
		return defaultWindow
	}
	bdp := float64(p.Rate) / 8 * p.rtt().Seconds()
	return uint64(min(max(bdp*1.25, minWindow), maxWindow))
}

// backoff is the pause before attempt+1: doubling from a tenth of the first
// handshake timeout to a whole minute or two round trips, ± 25 %.
func (p Properties) backoff(attempt int, seen time.Duration, rnd *rand.Rand) time.Duration {
	base := p.handshakeTimeout(0, seen) / 10
	ceiling := max(time.Minute, 4*p.OWLT)
	d := min(base<<min(attempt, 12), ceiling)
	return time.Duration(float64(d) * (0.75 + 0.5*rnd.Float64()))
}

// dialConfig is QUIC's configuration for one attempt to dial.
func (p Properties) dialConfig(attempt int, seen time.Duration) *quic.Config {
	c := p.quicConfig()
	c.HandshakeIdleTimeout = p.handshakeTimeout(attempt, seen)
	if !p.scheduled() && (p.Rate == 0 || p.Rate > narrowRate) {
		c.KeepAlivePeriod = keepAlive // by the dialer alone: it holds the NAT's mapping
	}
	return c
}

func (p Properties) quicConfig() *quic.Config {
	w := p.window()
	return &quic.Config{
		MaxIdleTimeout:                 p.idleTimeout(),
		InitialStreamReceiveWindow:     min(w, minWindow),
		MaxStreamReceiveWindow:         w,
		InitialConnectionReceiveWindow: min(w, minWindow) * 3 / 2,
		MaxConnectionReceiveWindow:     max(w, min(w*2, maxWindow)),
		MaxIncomingStreams:             maxTCP,
		MaxIncomingUniStreams:          maxLanes,
		// InitialPacketSize stays 0: another value makes the pacer spin.
	}
}

// listenConfig serves peers whose link is not known before they have shown
// who they are, so it allows what the widest configured link needs; the
// dialer's own idle timeout bounds the connection.
func (c Config) listenConfig() *quic.Config {
	wide := Properties{}
	merge := func(p Properties) {
		wide.OWLT = max(wide.OWLT, p.OWLT)
		wide.Rate = max(wide.Rate, p.Rate)
		wide.MaxGap = max(wide.MaxGap, p.longestGap())
	}
	for _, p := range c.Peers {
		merge(p.Link)
	}
	for _, p := range c.Links {
		merge(p)
	}
	q := wide.quicConfig()
	q.MaxStreamReceiveWindow = max(q.MaxStreamReceiveWindow, defaultWindow)
	q.MaxConnectionReceiveWindow = maxWindow
	q.MaxIdleTimeout = max(q.MaxIdleTimeout, time.Hour)
	q.HandshakeIdleTimeout = max(5*wide.rtt(), lastHandshake)
	return q
}
