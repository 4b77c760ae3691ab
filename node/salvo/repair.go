package salvo

import (
	"time"

	"github.com/farhop/farhop/node/salvo/fec"
	"github.com/farhop/farhop/node/salvo/packet"
)

// report reads a report. It reports false when it is malformed; what was read
// of it until then counts, for each frame stands for itself.
func (s *Sender) report(now time.Time, b []byte) bool {
	f := &s.frame
	var packets uint64 // the report is about those with lower numbers
	for len(b) > 0 {
		rest, ok := packet.NextReport(f, b)
		if !ok {
			return false
		}
		b = rest
		switch f.Type {
		case packet.StatusFrame:
			packets = min(f.Status.Packets, s.seal.Next())
			s.status(now, f.Status)
		case packet.TrainsFrame:
			s.trains(now, packets, &f.Trains)
		case packet.AcceptedFrame:
			for _, r := range f.Accepted {
				s.accepted(now, r)
			}
		case packet.HeldFrame:
			s.held(now, &f.Held)
		default:
			return false
		}
	}
	return true
}

// status reads how the link does and what room there is.
func (s *Sender) status(now time.Time, st packet.Status) {
	s.confirm = s.confirm || st.Confirm
	if s.breaker.update(now, s.cfg.tick(), min(st.Packets, s.seal.Next()), st.Count) {
		s.pace.rate = float64(s.cfg.Rate) * s.breaker.share
	}
	s.plans.learn(s.breaker.measured(), s.cfg.Loss)
	if room := int64(min(st.Room, 1<<40)) << 10; room != s.room {
		s.room = room
		s.learned(now)
	}
}

// learned notes that the peer is there and things go on.
func (s *Sender) learned(now time.Time) { s.quiet, s.backoff = now, 1 }

// trains reads which trains of a class are complete and what others lack.
func (s *Sender) trains(now time.Time, packets uint64, f *packet.Trains) {
	l := &s.lanes[f.Class]
	at := f.From
	for i := range f.Gaps {
		g := &f.Gaps[i]
		s.complete(now, l, at, g.Train)
		at = g.Train + max(g.Run, 1)
		if g.Train < l.base { // the receiver missed that it is of no interest
			l.end(1)
		}
		lo, hi := max(g.Train, l.base), min(at, l.next())
		for n := lo; n < hi && n >= l.base; n++ {
			if t := l.table[n-l.base]; t != nil {
				s.lacking(now, packets, t, g)
			}
		}
	}
	s.complete(now, l, at, f.To)
	l.trim()
}

// complete notes that trains lo to hi-1 arrived. The table is not trimmed here.
func (s *Sender) complete(now time.Time, l *lane, lo, hi uint64) {
	for n := max(lo, l.base); n < min(hi, l.next()); n++ {
		t := l.table[n-l.base]
		if t == nil || t.first == 0 { // what was not sent cannot have arrived
			continue
		}
		s.learned(now)
		for _, p := range t.parts {
			if b := p.block; !b.gone {
				b.now.add(p.piece.Offset, p.piece.Offset+p.piece.N)
				b.have.add(p.piece.Offset, p.piece.Offset+p.piece.N)
			}
		}
		l.table[n-l.base] = nil
		t.retire()
	}
}

// lacking answers for a train that cannot be repaired, once: while symbols of
// it may be under way, later than what the report knows of, it waits for the
// next report.
func (s *Sender) lacking(now time.Time, packets uint64, t *train, g *packet.Gap) {
	if t.left() > 0 || len(t.again) > 0 {
		return
	}
	trip := s.cfg.tick()
	if t.lastPacket >= packets && now.Before(t.lastAt.Add(trip+trip/8)) {
		s.backoff = 1 // or the last packets were lost: ask soon
		return
	}
	l := &s.lanes[t.class]
	for _, p := range t.parts {
		if p.block.gone {
			l.abandon(t)
			return
		}
	}
	s.learned(now)
	s.stats.Repairs++
	if g.Run > 0 || int(g.Deficit) >= t.k { // nothing arrived
		for i := range t.k {
			t.again = append(t.again, uint8(i))
		}
		for i := range t.m {
			t.again = append(t.again, uint8(fec.FirstRow-i))
		}
		t.rows = max(t.rows, t.m)
	} else {
		s.top(t, g)
	}
	t.fresh = nil
	l.fix = append(l.fix, t)
}

// top adds as many symbols as a train lacks, and parity for them: fresh rows
// first, then the data symbols that are missing.
func (s *Sender) top(t *train, g *packet.Gap) {
	n := int(g.Deficit)
	n += s.plans.parity(n, s.plans.turn)
	for ; n > 0 && t.rows < fec.Spare(t.k); n-- {
		t.again = append(t.again, uint8(fec.FirstRow-t.rows))
		t.rows++
	}
	for i := 0; i < t.k && n > 0; i++ {
		if i/8 < len(g.Missing) && g.Missing[i/8]&(1<<(i%8)) != 0 {
			t.again = append(t.again, uint8(i))
			n--
		}
	}
	for ; n > 0; n-- { // no one says what helps
		t.again = append(t.again, uint8(t.carousel))
		t.carousel = (t.carousel + 1) % t.k
	}
}

// accepted releases the blocks of a range.
func (s *Sender) accepted(now time.Time, r Range) {
	for i := s.from(r.Lo); i < len(s.order) && s.order[i].ID < r.Hi; i++ {
		if b := s.order[i]; !b.gone {
			s.learned(now)
			s.effects.Released = append(s.effects.Released, b.ID)
			s.stats.Released++
			s.forget(b)
		}
	}
	s.tidy()
}

// held compares what the receiver had when the association began with what
// this side believed.
func (s *Sender) held(now time.Time, h *packet.Held) {
	at := 0
	for i := s.from(h.From); i < len(s.order) && s.order[i].ID < h.To; i++ {
		b := s.order[i]
		for at < len(h.Blocks) && h.Blocks[at].ID < b.ID {
			at++
		}
		if b.gone {
			continue
		}
		have := append(spans(nil), b.now...)
		if at < len(h.Blocks) && h.Blocks[at].ID == b.ID && h.Blocks[at].Length == uint64(b.Length) {
			for _, r := range h.Blocks[at].Held {
				have.add(r.Lo, r.Hi)
			}
		}
		s.lost(b, have)
		b.have = have
	}
	s.learned(now)
}

// lost queues what was thought to have arrived and has not.
func (s *Sender) lost(b *outBlock, have spans) {
	for _, r := range b.have {
		for {
			g := have.gap(r.Lo, r.Hi)
			if g.Lo >= g.Hi {
				break
			}
			s.lanes[b.Class].again(segment{b, g.Lo, g.Hi})
			s.stats.Lost += int64(g.Hi - g.Lo)
			r.Lo = g.Hi
		}
	}
}

// learn plans with the loss there is, when it is more than declared.
func (p *plans) learn(measured, declared float64) {
	const step = 0.005 // so that plans change seldom
	loss := min(declared, fec.MaxPlanned)
	if measured > 1.5*declared {
		loss = min(float64(int(measured/step)+1)*step, fec.MaxPlanned)
	}
	if loss != p.channel.Loss {
		p.channel.Loss = loss
		clear(p.cache)
	}
}
