package salvo

import (
	"maps"
	"slices"
	"time"

	"github.com/farhop/farhop/node/salvo/fec"
	"github.com/farhop/farhop/node/salvo/packet"
)

// timers say when a receiver reports. News are reported soon, then again less
// and less often until the sender has confirmed one of the reports; what is
// missing is reported until it is there.
type timers struct {
	at        time.Time // of the next report; zero: none
	last      time.Time // of the last one
	interval  time.Duration
	news      uint64    // counts what the sender should know
	confirmed uint64    // of them, what it knows
	missing   bool      // trains that were sent in full are not complete
	quiet     time.Time // when silence means that the sender is done; zero: never
	stale     bool      // a sender sends what is accepted
	shut      bool      // the last report said that there is no room
}

func (t *timers) sooner(at time.Time) {
	if t.at.IsZero() || at.Before(t.at) {
		t.at = at
	}
}

// spaced is now, but some time after the last report.
func (r *Receiver) spaced(now time.Time, d time.Duration) time.Time {
	if at := r.trips.last.Add(d); !r.trips.last.IsZero() && at.After(now) {
		return at
	}
	return now
}

// news has the sender told of something.
func (r *Receiver) news(now time.Time) {
	tick := r.cfg.tick()
	r.trips.news++
	r.trips.interval = tick / 4
	r.trips.sooner(r.spaced(now, tick/16))
}

// asked answers an End frame, but not each of a series.
func (r *Receiver) asked(now time.Time) {
	r.trips.sooner(r.spaced(now, r.cfg.tick()/64))
}

// roomy tells a sender that waits for room that there is some again.
func (r *Receiver) roomy(now time.Time) {
	if r.trips.shut && r.used < r.cfg.Buffer/2 {
		r.trips.shut = false
		r.news(now)
	}
}

// alive plans the next report after a packet.
func (r *Receiver) alive(now time.Time) {
	tick := r.cfg.tick()
	fresh := false
	r.trips.missing = false
	for c := range r.lanes {
		l := &r.lanes[c]
		r.trips.missing = r.trips.missing || l.lacks()
		if l.judged < l.edge {
			g := l.done.gap(l.judged, l.edge)
			fresh = fresh || g.Lo < g.Hi
			l.judged = l.edge
		}
	}
	if r.trips.stale {
		r.trips.stale = false
		r.news(now)
	}
	if fresh {
		r.trips.interval = tick / 16
		r.trips.sooner(now.Add(tick / 16)) // what overtook the rest may wait for it
	}
	if r.trips.at.IsZero() {
		r.trips.at = now.Add(tick)
	}
	r.trips.quiet = time.Time{}
	if r.trains > 0 {
		r.trips.quiet = now.Add(tick / 4)
	}
}

// silence reckons, when trains are open and nothing comes any more, that all of
// them have been sent: the word that says so may be lost.
func (r *Receiver) silence(now time.Time) {
	if r.trips.quiet.IsZero() || now.Before(r.trips.quiet) {
		return
	}
	for c := range r.lanes {
		l := &r.lanes[c]
		for n := range l.open {
			l.advance(n + 1)
		}
	}
	r.alive(now)
	r.trips.quiet = time.Time{}
}

// settled reports whether the sender knows all there is to tell.
func (r *Receiver) settled() bool {
	return r.trips.confirmed >= r.trips.news && len(r.told) == 0 && r.unheld == 0
}

// plan sets the time of the report after this one.
func (r *Receiver) plan(now time.Time) {
	tick := r.cfg.tick()
	r.trips.last, r.trips.at = now, time.Time{}
	most := tick
	if !r.trips.missing {
		if r.settled() {
			return
		}
		most = maxBackoff * tick
	}
	r.trips.at = now.Add(r.trips.interval)
	r.trips.interval = min(max(2*r.trips.interval, tick/16), most)
}

// sentReport is what a report packet said that needs to be confirmed.
type sentReport struct {
	used     bool
	number   uint64
	news     uint64
	accepted []Range
	held     []int // indices into Receiver.held
}

// reportCursor is where a report of several packets goes on.
type reportCursor struct {
	packets  int
	lane     int
	train    uint64
	accepted uint64
	held     int
	more     bool
}

// maxPackets is the number of packets of one report.
const maxPackets = 8

// Wake is when to call Next again; zero: not before something else happens.
func (r *Receiver) Wake() time.Time {
	at := r.trips.at
	if !at.IsZero() && at.Before(r.pace.free) {
		at = r.pace.free
	}
	if q := r.trips.quiet; !q.IsZero() && (at.IsZero() || q.Before(at)) {
		return q
	}
	return at
}

// Next returns the report packet to send now, made in buf, which has room for
// an MTU; nil when there is none, or not yet.
func (r *Receiver) Next(now time.Time, buf []byte) []byte {
	r.silence(now)
	if r.trips.at.IsZero() || now.Before(r.trips.at) || !r.pace.ready(now) {
		return nil
	}
	number := r.seal.Next()
	mark := &r.sent[number%uint64(len(r.sent))]
	*mark = sentReport{used: true, number: number, news: r.trips.news, accepted: mark.accepted[:0], held: mark.held[:0]}
	b := r.status(buf[:packet.HeaderLen])
	r.cursor.more = false
	b = r.trainFrames(b)
	b = r.acceptedFrame(b, mark)
	b = r.heldFrames(b, mark)
	out, err := r.seal.Seal(b)
	if err != nil {
		return nil
	}
	r.pace.spend(now, len(out))
	r.stats.Reports++
	r.stats.ReportBytes += int64(len(out))
	r.cursor.packets++
	if r.cursor.more {
		mark.news = 0 // the last packet of a report says all of it
	} else {
		r.cursor = reportCursor{}
	}
	if r.cursor.packets == 0 || r.cursor.packets >= maxPackets {
		r.cursor.packets = 0 // the next report goes on from here
		r.plan(now)
	}
	return out
}

// space is how many bytes a packet has left for frames.
func (r *Receiver) space(b []byte) int { return packet.HeaderLen + r.cfg.payload() - len(b) }

func (r *Receiver) status(b []byte) []byte {
	s := packet.Status{Room: uint64(max(r.cfg.Buffer-r.used, 0) >> 10), Confirm: !r.settled()}
	if highest, count, ok := r.open.Seen(); ok {
		s.Packets, s.Count = highest+1, count
	}
	if r.cfg.Buffer-r.used < r.cfg.Buffer*3/8 { // a train may take a quarter
		r.trips.shut = true
	}
	return packet.AppendStatus(b, s)
}

// trainFrames appends what is to be said of trains.
func (r *Receiver) trainFrames(b []byte) []byte {
	for ; r.cursor.lane < len(r.lanes); r.cursor.lane++ {
		l := &r.lanes[r.cursor.lane]
		if !l.seen {
			continue
		}
		f := packet.Trains{Class: uint8(r.cursor.lane), From: r.cursor.train, To: max(l.edge, r.cursor.train)}
		room := r.space(b) - packet.TrainsLen(f) - 2
		if room < 64 {
			r.cursor.more = true
			return b
		}
		f.Gaps, f.To = r.gaps(l, f.From, f.To, room)
		b = packet.AppendTrains(b, f)
		if f.To < l.edge {
			r.cursor.train, r.cursor.more = f.To, true
			return b
		}
		r.cursor.train = 0
	}
	return b
}

// gaps lists what is missing of trains from to to-1, as far as there is room,
// and returns where it had to end.
func (r *Receiver) gaps(l *inLane, from, to uint64, room int) ([]packet.Gap, uint64) {
	if l.done.hasAll(from, to) {
		return nil, to
	}
	open := slices.Sorted(maps.Keys(l.open))
	var out []packet.Gap
	end := from // of the gap before
	for at := from; ; {
		g := l.done.gap(at, to)
		if g.Lo >= g.Hi {
			return out, to
		}
		for at = g.Lo; at < g.Hi; {
			i, there := slices.BinarySearch(open, at)
			next := packet.Gap{Train: at}
			switch {
			case there:
				next = l.open[at].gap()
			case i < len(open):
				next.Run = min(g.Hi, open[i]) - at
			default:
				next.Run = g.Hi - at
			}
			if room -= packet.GapLen(next, end); room < 0 {
				return out, at
			}
			out = append(out, next)
			at += max(next.Run, 1)
			end = at
		}
	}
}

// gap is what a train lacks. When rows of parity may run out it says which
// data symbols.
func (t *inTrain) gap() packet.Gap {
	g := packet.Gap{Train: t.number, Deficit: uint8(t.lacks())}
	if fresh := t.low - t.k; fresh < 2*t.lacks() && t.low <= fec.FirstRow {
		g.Missing = make([]byte, (t.k+7)/8)
		for i := range t.k {
			if !t.has(i) {
				g.Missing[i/8] |= 1 << (i % 8)
			}
		}
	}
	return g
}

// acceptedFrame appends blocks that are accepted and not known to be confirmed.
func (r *Receiver) acceptedFrame(b []byte, mark *sentReport) []byte {
	if r.cursor.more {
		return b
	}
	room := r.space(b) - 4
	at := uint64(0)
	for i := r.told.find(r.cursor.accepted); i < len(r.told); i++ {
		a := r.told[i]
		if room -= packet.RangeLen(a, at); room < 0 {
			r.cursor.accepted, r.cursor.more = a.Lo, true
			break
		}
		mark.accepted = append(mark.accepted, a)
		at = a.Hi
	}
	if len(mark.accepted) > 0 {
		b = packet.AppendAccepted(b, mark.accepted)
	}
	if !r.cursor.more {
		r.cursor.accepted = packet.MaxNumber
	}
	return b
}

// heldFrames appends what was there when the association began.
func (r *Receiver) heldFrames(b []byte, mark *sentReport) []byte {
	if r.cursor.more || r.unheld == 0 {
		return b
	}
	for ; r.cursor.held < len(r.held); r.cursor.held++ {
		f := r.held[r.cursor.held]
		if len(f) > r.space(b) {
			r.cursor.more = true
			return b
		}
		if f != nil {
			mark.held = append(mark.held, r.cursor.held)
			b = append(b, f...)
		}
	}
	return b
}

// describe makes the Held frames: what there is of blocks that are not
// complete, in as many frames as it takes, which together are about all blocks.
func (r *Receiver) describe() {
	most := r.cfg.payload() - 64 // beside the status
	f := packet.Held{}
	size := 0
	flush := func(to uint64) {
		f.To = to
		r.held = append(r.held, packet.AppendHeld(nil, f))
		f = packet.Held{From: to}
		size = 0
	}
	for _, id := range slices.Sorted(maps.Keys(r.blocks)) {
		b := r.blocks[id]
		k := packet.HeldBlock{ID: id, Length: b.length}
		need, at := 32, uint64(0)
		for _, h := range b.held {
			if need += packet.RangeLen(h, at); need > most-32 {
				r.stats.Unreported++ // it comes again
				break
			}
			k.Held = append(k.Held, h)
			at = h.Hi
		}
		if size+need > most-32 {
			flush(id)
		}
		f.Blocks = append(f.Blocks, k)
		size += need
	}
	flush(packet.MaxNumber - 1)
	r.unheld = len(r.held)
}
