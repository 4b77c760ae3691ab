package emulator

import (
	"math/rand/v2"
	"net/netip"
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
	verdictCut                   // direction cut
	verdictHole                  // direction is a black hole
	verdictMTU                   // larger than the MTU
	verdictMemory                // the emulator's own memory limit
)

// medium keeps the random numbers of datagrams and TCP apart: how TCP bytes
// fall into chunks is chance, and must not move the decisions on datagrams.
// Those of mishaps are apart from loss and jitter, so that a link which begins
// to reorder loses what it would have lost.
type medium uint8

const (
	datagrams medium = iota
	streams
	mishaps
)

func newRand(seed uint64, d Direction, m medium) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(m)<<8|uint64(d)))
}

// bufferSize is the capacity of a pooled packet buffer; larger datagrams get
// their own.
const bufferSize = 2048

// packet is one datagram inside the link.
type packet struct {
	data []byte // payload
	flow *flow  // whose it is; nil in tests of this file

	seq    uint64         // order of offers, breaks ties of arrive
	late   float64        // jitter draw in [0,1), kept for replacing
	fate   fate           // what befalls it beside delay and loss
	depart time.Time      // last bit leaves the bottleneck: under way from then on
	arrive time.Time      // due at the receiver
	before time.Time      // shaper.last ahead of this packet, to go back to
	from   netip.AddrPort // who sent it
	came   time.Time      // when, or when it was read
	small  [bufferSize]byte
}

// cost is the memory the packet is charged with, in bytes.
func (p *packet) cost() int64 { return int64(max(bufferSize, len(p.data))) }

// shaper is one direction of the link for datagrams.
type shaper struct {
	p     Profile // anchored
	state State
	limit int64 // bytes of memory, see packet.cost
	rng   *rand.Rand
	chain chain   // of Burst
	dice  *mishap // of reorder, duplicate and corrupt

	neck  neck
	last  time.Time // latest arrival given out under p; jitter may not undercut it
	seq   uint64
	wire  wire
	stats DirStats
}

func newShaper(p Profile, seed uint64, d Direction, limit int64) *shaper {
	return &shaper{
		p: p, limit: limit, rng: newRand(seed, d, datagrams),
		dice: &mishap{rng: newRand(seed, d, mishaps)},
	}
}

// offer hands a datagram to the link at now, which may lie a little before the
// now of an earlier offer from another socket. Exactly as many numbers are drawn
// for each datagram whatever happens to it, so that the n-th datagram of a
// direction meets the same luck in every run with the same seed.
func (s *shaper) offer(now time.Time, p *packet) verdict {
	luck := s.rng.Float64()
	p.late = s.rng.Float64()
	p.fate = s.dice.draw(&s.p)
	lost := s.chain.loses(luck, &s.p)
	p.seq = s.seq
	s.seq++
	s.stats.Offered++
	s.stats.OfferedBytes += uint64(len(p.data))

	v := verdictMemory
	if s.stats.InFlightBytes+p.cost() <= s.limit || !s.open(now) {
		v = s.place(now, p)
	}
	if v == verdictSent && lost {
		v = verdictLoss
	}
	if v == verdictSent {
		p.fate.damage(p.data)
		s.schedule(p)
		s.wire.push(p)
		s.stats.InFlight++
		s.stats.InFlightBytes += p.cost()
	}
	s.count(v)
	return v
}

// place books the bottleneck for p at now and sets p.depart, or says why not.
func (s *shaper) place(now time.Time, p *packet) verdict {
	switch {
	case s.state == StateCut:
		return verdictCut
	case s.state == StateBlackhole:
		return verdictHole
	case !s.p.Contacts.Open(now):
		return verdictClosed
	}
	size := len(p.data) + s.p.Overhead
	if s.p.MTU > 0 && size > s.p.MTU {
		return verdictMTU
	}
	slot := s.neck.plan(now, size, &s.p)
	if slot.full {
		return verdictQueue
	}
	if end := s.p.Contacts.Next(now); !end.IsZero() && slot.depart.After(end) {
		return verdictClosed
	}
	p.depart, s.neck = slot.depart, slot.after
	return verdictSent
}

// schedule sets the arrival of a departed packet, in order with the one before
// unless it is to be reordered: then those behind it do not wait for it.
func (s *shaper) schedule(p *packet) {
	p.before = s.last
	p.arrive = arrival(p.depart, &s.p, p.late, s.last)
	if p.fate.held {
		p.arrive = p.arrive.Add(s.p.ReorderBy)
		return
	}
	s.last = p.arrive
}

// arrival is the instant something that departed reaches the far side: after
// the light time and its jitter, and not before what went ahead of it.
func arrival(depart time.Time, p *Profile, late float64, last time.Time) time.Time {
	at := depart.Add(p.DelayAt(depart) + time.Duration(late*float64(p.Jitter)))
	if at.Before(last) {
		return last
	}
	return at
}

// wake returns when the next packet is due; ok is false if none is under way.
func (s *shaper) wake() (at time.Time, ok bool) {
	if p := s.wire.first(); p != nil {
		return p.arrive, true
	}
	return time.Time{}, false
}

// due appends to dst the packets that have arrived by now, in order, until dst
// is full. They stay counted as in flight until settle.
func (s *shaper) due(now time.Time, dst []*packet) []*packet {
	for len(dst) < cap(dst) {
		if p := s.wire.first(); p == nil || p.arrive.After(now) {
			break
		}
		dst = append(dst, s.wire.pop())
	}
	return dst
}

// settle records the end of a packet returned by due: its copies that were
// carried, none if the receiver refused it.
func (s *shaper) settle(p *packet, carried bool) {
	s.stats.InFlight--
	s.stats.InFlightBytes -= p.cost()
	if !carried {
		s.stats.Dropped.Undelivered++
		return
	}
	s.stats.Packets++
	s.stats.Bytes += uint64(len(p.data))
	if p.fate.twice {
		s.stats.Packets++
		s.stats.Bytes += uint64(len(p.data))
		s.stats.Duplicated++
	}
	if p.fate.flip != 0 {
		s.stats.Corrupted++
	}
	if p.fate.held {
		s.stats.Reordered++
	}
}

// setState changes the state of the direction at now and returns what was
// dropped: of a cut, all that still waited at the bottleneck, and of a black
// hole what is under way as well.
func (s *shaper) setState(now time.Time, to State) (dropped []*packet) {
	if to == s.state {
		return nil
	}
	s.state = to
	switch to {
	case StateOpen:
	case StateCut:
		dropped = s.unsent(now)
		s.evictAll(dropped, verdictCut)
	case StateBlackhole:
		dropped = s.wire.take(func(*packet) bool { return true })
		s.last = time.Time{}
		s.neck.free(now)
		s.evictAll(dropped, verdictHole)
	}
	return dropped
}

func (s *shaper) evictAll(dropped []*packet, v verdict) {
	for _, p := range dropped {
		s.evict(p, v)
	}
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
		s.wire.push(q)
	}
	return dropped
}

// unsent takes the packets out of the wire whose last bit has not left at now,
// in the order they were offered, and frees the bottleneck.
func (s *shaper) unsent(now time.Time) []*packet {
	waiting := s.wire.take(func(p *packet) bool { return p.depart.After(now) })
	slices.SortFunc(waiting, func(a, b *packet) int {
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
	s.neck.free(now)
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
	case verdictHole:
		d.Blackhole++
	case verdictMTU:
		d.MTU++
	case verdictMemory:
		d.Memory++
	}
}

// open reports whether a datagram offered at now would enter the link.
func (s *shaper) open(now time.Time) bool { return s.state == StateOpen && s.p.Contacts.Open(now) }
