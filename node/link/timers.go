package link

import (
	"cmp"
	"math/rand/v2"
	"time"

	"github.com/quic-go/quic-go"
)

// How timers follow from the link: multiples of its round trip, the time its
// bytes take, and the least that the table of profiles has.

// handshakeTimeout is how long attempt (0, 1, ...) may stay without an answer.
// quic-go gives up in any case after twice this. seen is the round-trip time
// of an earlier session, 0 when there was none.
func (p Properties) handshakeTimeout(attempt int, seen time.Duration) time.Duration {
	t, air := p.timing(seen), p.airtime(handshakeBytes)
	if rtt := p.rtt(); rtt > 0 {
		return max(handshakeTrips*rtt, t.handshake) + air
	}
	if seen > 0 && attempt%wideEvery == wideEvery-1 {
		return profiles[0].handshakeMax + air
	}
	first, last := max(handshakeTrips*seen, t.handshake), max(lastTrips*seen, t.handshakeMax)
	return min(first<<min(attempt, 10), last) + air
}

// helloWait bounds the exchange of Hellos on a connection whose round-trip
// time is known from the handshake.
func (p Properties) helloWait(rtt time.Duration) time.Duration {
	rtt = max(rtt, p.rtt())
	return max(helloTrips*rtt, p.timing(rtt).hello) + p.airtime(handshakeBytes+helloBytes)
}

// rest is how long a socket of one connection outlives it: as long as a peer that
// did not hear of the end may say nothing, and some round trips more.
func (p Properties) rest(rtt time.Duration) time.Duration {
	return p.timing(rtt).probing.Idle + handshakeTrips*max(rtt, p.rtt())
}

// idleTimeout is offered to the peer; the smaller of both offers counts (RFC
// 9000, section 10.1).
func (p Properties) idleTimeout() time.Duration {
	return max(p.longestGap()+gapTrips*p.rtt(), idleTrips*p.rtt(), p.timing(0).idle)
}

// window is the receive window in bytes: the rate towards us times round trip
// and a quarter more, within limits.
func (p Properties) window() uint64 {
	t := p.timing(0)
	rate := cmp.Or(p.ReturnRate, p.Rate, t.rate)
	if rate == 0 || p.rtt() == 0 {
		return uint64(t.window)
	}
	bdp := float64(rate) / 8 * p.rtt().Seconds()
	return uint64(min(max(bdp*1.25, float64(t.minWindow)), float64(t.maxWindow)))
}

// backoff is the pause before attempt+1: doubling from half a round trip to
// two, within what the profile has, ± 25 %.
func (p Properties) backoff(attempt int, seen time.Duration, rnd *rand.Rand) time.Duration {
	t, rtt := p.timing(seen), cmp.Or(p.rtt(), seen)
	first, last := max(rtt/2, t.redial), max(2*rtt, t.redialMax)
	d := min(first<<min(attempt, 12), last)
	return time.Duration(float64(d) * (0.75 + 0.5*rnd.Float64()))
}

// keepAlive is the pause between packets that hold a NAT's mapping, 0 for
// links on which none are sent: the plan says when a scheduled link is alive.
func (p Properties) keepAlive() time.Duration {
	if p.scheduled() {
		return 0
	}
	return p.timing(0).keepAlive
}

// dialConfig is QUIC's configuration for one attempt to dial.
func (p Properties) dialConfig(attempt int, seen time.Duration) *quic.Config {
	c := p.quicConfig()
	c.HandshakeIdleTimeout = p.handshakeTimeout(attempt, seen)
	c.KeepAlivePeriod = p.keepAlive() // by the dialer alone: it is who may sit behind a NAT
	return c
}

func (p Properties) quicConfig() *quic.Config {
	w, most := p.window(), uint64(p.timing(0).maxWindow)
	return &quic.Config{
		MaxIdleTimeout:                 p.idleTimeout(),
		InitialStreamReceiveWindow:     min(w, firstWindow),
		MaxStreamReceiveWindow:         w,
		InitialConnectionReceiveWindow: min(w, firstWindow) * 3 / 2,
		MaxConnectionReceiveWindow:     max(w, min(w*2, most)),
		MaxIncomingStreams:             maxTCP,
		MaxIncomingUniStreams:          maxLanes,
		// InitialPacketSize stays 0: another value makes the pacer spin.
	}
}

// listenConfig serves peers whose link is not known before they have shown
// who they are, so it allows what the widest link needs, configured or of any
// profile; the dialer's own idle timeout bounds the connection.
func (c Config) listenConfig() *quic.Config {
	q := Properties{}.quicConfig()
	q.Allow0RTT = true // see early.go
	q.MaxConnectionReceiveWindow = uint64(profiles[0].maxWindow)
	q.HandshakeIdleTimeout = profiles[0].handshakeMax
	widen := func(p Properties) {
		o := p.quicConfig()
		q.MaxIdleTimeout = max(q.MaxIdleTimeout, o.MaxIdleTimeout)
		q.MaxStreamReceiveWindow = max(q.MaxStreamReceiveWindow, o.MaxStreamReceiveWindow)
		q.HandshakeIdleTimeout = max(q.HandshakeIdleTimeout, p.handshakeTimeout(0, 0))
	}
	for _, r := range profiles {
		widen(Properties{Profile: r.profile})
	}
	for _, p := range c.Peers {
		widen(p.Link)
	}
	for _, p := range c.Links {
		widen(p)
	}
	return q
}
