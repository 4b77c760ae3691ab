package emulator

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"
)

// This file decides; it does not act. No socket, clock or goroutine is in here:
// now is an argument and the caller holds the lock, so that every rule of the
// package comment is tested in virtual time.

// verdict is the fate of an offered datagram.
type verdict uint8

// Verdicts. All but verdictSent are final and the datagram is the caller's again.
const (
	verdictSent   verdict = iota // accepted: due will return it
	verdictLoss                  // lost on the way (it still used the bottleneck)
	verdictQueue                 // no room at the bottleneck
	verdictClosed                // no contact
	verdictCut                   // link cut
	verdictMemory                // the emulator's own memory limit
)

// direction names a way through the link.
type direction uint8

const (
	up   direction = iota // from the listening side to To
	down                  // back
)

func (d direction) String() string {
	if d == up {
		return "up"
	}
	return "down"
}

// medium keeps the random numbers of datagrams and TCP apart: how TCP bytes
// fall into chunks is chance, and must not move the decisions on datagrams.
type medium uint8

const (
	datagrams medium = iota
	streams
)

func newRand(seed uint64, d direction, m medium) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(m)<<8|uint64(d)))
}

// bufferSize is the capacity of a pooled packet buffer; larger datagrams get
// their own.
const bufferSize = 2048

// packet is one datagram inside the link.
type packet struct {
	data []byte // payload
	flow *flow  // whose it is; nil in tests of this file

	seq    uint64    // order of offers, breaks ties of arrive
	late   float64   // jitter draw in [0,1), kept for replacing
	depart time.Time // last bit leaves the bottleneck: under way from then on
	arrive time.Time // due at the receiver
	before time.Time // shaper.last ahead of this packet, to go back to
	small  [bufferSize]byte
}

// cost is the memory the packet is charged with, in bytes.
func (p *packet) cost() int64 { return int64(max(bufferSize, len(p.data))) }

// shaper is one direction of the link for datagrams. A heap by (arrive, seq)
// holds what is queued or under way: with one profile it degenerates to a FIFO,
// and only a SetProfile that shortens the path makes it sort.
type shaper struct {
	p     Profile // with defaults
	cut   bool
	limit int64 // bytes of memory, see packet.cost
	rng   *rand.Rand

	busy  time.Time // the bottleneck is taken until then
	last  time.Time // latest arrival given out under p; jitter may not undercut it
	seq   uint64
	wire  packetHeap
	stats DirStats
}

func newShaper(p Profile, seed uint64, d direction, limit int64) *shaper {
	return &shaper{p: p, limit: limit, rng: newRand(seed, d, datagrams)}
}

// offer hands a datagram to the link at now. Exactly two numbers are drawn for
// each datagram whatever happens to it, so that the n-th datagram of a
// direction meets the same luck in every run with the same seed.
func (s *shaper) offer(now time.Time, p *packet) verdict {
	luck := s.rng.Float64()
	p.late = s.rng.Float64()
	p.seq = s.seq
	s.seq++
	s.stats.Offered++
	s.stats.OfferedBytes += uint64(len(p.data))

	v := verdictMemory
	if s.stats.InFlightBytes+p.cost() <= s.limit || !s.open(now) {
		v = s.place(now, p)
	}
	if v == verdictSent && luck < s.p.Loss {
		v = verdictLoss
	}
	if v == verdictSent {
		s.schedule(p)
		heap.Push(&s.wire, p)
		s.stats.InFlight++
		s.stats.InFlightBytes += p.cost()
	}
	s.count(v)
	return v
}

// place books the bottleneck for p at now and sets p.depart, or says why not.
func (s *shaper) place(now time.Time, p *packet) verdict {
	if s.cut {
		return verdictCut
	}
	if !s.p.Contacts.Open(now) {
		return verdictClosed
	}
	start := now
	if s.p.Rate > 0 && s.busy.After(now) {
		start = s.busy
		// Waiting time stands for waiting bytes: both are the same at one rate.
		if start.Sub(now)+sendTime(len(p.data), s.p.Rate) > sendTime(s.p.Queue, s.p.Rate) {
			return verdictQueue
		}
	}
	depart := start.Add(sendTime(len(p.data), s.p.Rate))
	if end := s.p.Contacts.Next(now); !end.IsZero() && depart.After(end) {
		return verdictClosed
	}
	p.depart, s.busy = depart, depart
	return verdictSent
}

// schedule sets the arrival of a departed packet, in order with the one before.
func (s *shaper) schedule(p *packet) {
	p.before = s.last
	p.arrive = arrival(p.depart, s.p, p.late, s.last)
	s.last = p.arrive
}

// arrival is the instant something that departed reaches the far side: after
// the light time and its jitter, and not before what went ahead of it.
func arrival(depart time.Time, p Profile, late float64, last time.Time) time.Time {
	at := depart.Add(p.Delay + time.Duration(late*float64(p.Jitter)))
	if at.Before(last) {
		return last
	}
	return at
}

// wake returns when the next packet is due; ok is false if none is under way.
func (s *shaper) wake() (at time.Time, ok bool) {
	if len(s.wire) == 0 {
		return time.Time{}, false
	}
	return s.wire[0].arrive, true
}

// due appends to dst the packets that have arrived by now, in order, until dst
// is full. They stay counted as in flight until settle.
func (s *shaper) due(now time.Time, dst []*packet) []*packet {
	for len(dst) < cap(dst) && len(s.wire) > 0 && !s.wire[0].arrive.After(now) {
		dst = append(dst, heap.Pop(&s.wire).(*packet))
	}
	return dst
}

// settle records the end of a packet returned by due.
func (s *shaper) settle(p *packet, carried bool) {
	s.stats.InFlight--
	s.stats.InFlightBytes -= p.cost()
	if carried {
		s.stats.Packets++
		s.stats.Bytes += uint64(len(p.data))
	} else {
		s.stats.Dropped.Undelivered++
	}
}

// setCut cuts or heals the direction at now and returns what was dropped: all
// that still waited at the bottleneck. What is under way is not touched.
func (s *shaper) setCut(now time.Time, cut bool) (dropped []*packet) {
	if cut == s.cut {
		return nil
	}
	s.cut = cut
	if !cut {
		return nil
	}
	waiting := s.unsent(now)
	for _, p := range waiting {
		s.evict(p, verdictCut)
	}
	return waiting
}

// setProfile changes the profile at now and returns what no longer fits. What
// is under way keeps its arrival, so a much shorter path lets new packets
// overtake; what waits at the bottleneck is booked anew.
func (s *shaper) setProfile(now time.Time, p Profile) (dropped []*packet) {
	waiting := s.unsent(now)
	s.p = p
	s.last = time.Time{}
	for _, q := range waiting {
		if v := s.place(now, q); v != verdictSent {
			s.evict(q, v)
			dropped = append(dropped, q)
			continue
		}
		s.schedule(q)
		heap.Push(&s.wire, q)
	}
	return dropped
}

// unsent takes the packets out of the wire whose last bit has not left at now,
// in the order they were offered, and frees the bottleneck.
func (s *shaper) unsent(now time.Time) []*packet {
	var waiting, sent packetHeap
	for _, p := range s.wire {
		if p.depart.After(now) {
			waiting = append(waiting, p)
		} else {
			sent = append(sent, p)
		}
	}
	heap.Init(&sent)
	slices.SortFunc(waiting, func(a, b *packet) int {
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
	s.wire, s.busy = sent, now
	if len(waiting) > 0 { // nobody has to queue behind what will not fly
		s.last = waiting[0].before
	}
	return waiting
}

// evict drops a packet that had been accepted.
func (s *shaper) evict(p *packet, v verdict) {
	s.stats.InFlight--
	s.stats.InFlightBytes -= p.cost()
	s.count(v)
}

func (s *shaper) count(v verdict) {
	d := &s.stats.Dropped
	switch v {
	case verdictSent:
	case verdictLoss:
		d.Loss++
	case verdictQueue:
		d.Queue++
	case verdictClosed:
		d.Closed++
	case verdictCut:
		d.Cut++
	case verdictMemory:
		d.Memory++
	}
}

// open reports whether a datagram offered at now would enter the link.
func (s *shaper) open(now time.Time) bool { return !s.cut && s.p.Contacts.Open(now) }

// sendTime is how long size bytes take at rate bits per second, rounded up to
// the nanosecond; 0 if rate is unlimited. size is at most maxQueue and rate at
// least 1, so the result fits.
func sendTime(size int, rate int64) time.Duration {
	if rate <= 0 {
		return 0
	}
	bitTimes := uint64(size) * 8 * uint64(time.Second) // < 2^63: see maxQueue
	return time.Duration((bitTimes + uint64(rate) - 1) / uint64(rate))
}

// packetHeap orders packets by arrival, then by offer.
type packetHeap []*packet

func (h packetHeap) Len() int { return len(h) }
func (h packetHeap) Less(i, j int) bool {
	if c := h[i].arrive.Compare(h[j].arrive); c != 0 {
		return c < 0
	}
	return h[i].seq < h[j].seq
}
func (h packetHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *packetHeap) Push(x any) { *h = append(*h, x.(*packet)) }

// Pop implements heap.Interface.
func (h *packetHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}

// carrier is one direction of the link for TCP: it admits bytes or says when to
// ask again, since a stream waits where a datagram is dropped.
type carrier struct {
	p    Profile // with defaults
	cut  bool
	rng  *rand.Rand
	busy time.Time
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
	if c.p.Rate == 0 {
		return maxChunk
	}
	perChunk := c.p.Rate / 8 / int64(time.Second/chunkTime)
	return int(min(max(perChunk, 1), maxChunk))
}

// admit books size bytes at now. If ok, they depart at depart and arrive not
// before arrive; else ask again at retry, or when the link is changed if retry
// is zero.
func (c *carrier) admit(now time.Time, size int) (arrive, retry time.Time, ok bool) {
	if c.cut {
		return time.Time{}, time.Time{}, false
	}
	if !c.p.Contacts.Open(now) {
		return time.Time{}, c.p.Contacts.Next(now), false
	}
	if c.busy.Sub(now) > ahead {
		return time.Time{}, c.busy.Add(-ahead), false
	}
	start := now
	if c.busy.After(now) {
		start = c.busy
	}
	c.busy = start.Add(sendTime(size, c.p.Rate))
	return arrival(c.busy, c.p, c.rng.Float64(), time.Time{}), time.Time{}, true
}

// setProfile changes the profile at now; bytes admitted keep their arrival.
func (c *carrier) setProfile(now time.Time, p Profile) {
	c.p, c.busy = p, now
}
