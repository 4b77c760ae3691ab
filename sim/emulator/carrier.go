package emulator

import (
	"math/rand/v2"
	"time"
)

// carrier is one direction of the link for TCP: it admits bytes or says when to
// ask again, since a stream waits where a datagram is dropped.
type carrier struct {
	p     Profile // anchored
	state State
	rng   *rand.Rand
	neck  neck
}

// ahead is how far a stream may book the bottleneck before its time: enough
// that a late timer does not waste rate, little enough that a cut takes hold at
// once (bytes booked count as sent).
const ahead = 5 * time.Millisecond

// Chunks are what one booking takes: about chunkTime of the rate, so that slow
// links drip as they should, and at most maxChunk.
const (
	chunkTime = 10 * time.Millisecond
	maxChunk  = 32 << 10
)

// chunk is the largest number of bytes to admit at once, in [1, maxChunk].
func (c *carrier) chunk() int {
	switch {
	case c.p.Trace != nil:
		return traceBytes
	case c.p.Rate == 0:
		return maxChunk
	}
	perChunk := c.p.Rate / 8 / int64(time.Second/chunkTime)
	return int(min(max(perChunk, 1), maxChunk))
}

// admit books size bytes at now. If ok, they depart at depart and arrive not
// before arrive; else ask again at retry, or when the link is changed if retry
// is zero.
func (c *carrier) admit(now time.Time, size int) (arrive, retry time.Time, ok bool) {
	if c.state != StateOpen {
		return time.Time{}, time.Time{}, false
	}
	if !c.p.Contacts.Open(now) {
		return time.Time{}, c.p.Contacts.Next(now), false
	}
	if start := c.neck.start(now, &c.p); start.Sub(now) > ahead {
		return time.Time{}, start.Add(-ahead), false
	}
	s := c.neck.plan(now, c.wireSize(size), &c.p)
	c.neck = s.after
	return arrival(s.depart, &c.p, c.rng.Float64(), time.Time{}), time.Time{}, true
}

// segmentOverhead is what the headers of a TCP segment with timestamps have
// more than those of a datagram (RFC 9293, RFC 7323): 20 + 12 - 8 bytes.
const segmentOverhead = 24

// wireSize is what size bytes of a stream take on the way: their share of full
// segments with headers. It is a share since how bytes fall into chunks is not
// how they fall into segments.
func (c *carrier) wireSize(size int) int {
	if c.p.Overhead == 0 {
		return size
	}
	full := 1500
	if c.p.MTU > 0 {
		full = c.p.MTU
	}
	headers := c.p.Overhead + segmentOverhead
	payload := max(full-headers, 1)
	return (size*(payload+headers) + payload - 1) / payload
}

// setProfile changes the profile at now; bytes admitted keep their arrival.
func (c *carrier) setProfile(now time.Time, p Profile) {
	c.p = p
	c.neck.free(now)
}
