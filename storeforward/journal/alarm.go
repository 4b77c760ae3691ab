package journal

// damageKey names a damaged place.
type damageKey struct {
	nonce uint64
	off   int64
}

// alarm tells of a damaged place that was found while reading, once.
// Nothing in it is unknown: the book has what waits there.
func (s *Store) alarm(seg *segment, span badSpan, first, last uint64) {
	if first > last { // no message
		first, last = 0, 0
	}
	s.tell(seg, Damage{Segment: seg.num, Offset: span.off, Bytes: span.n, FirstSeq: first, LastSeq: last})
}

// tell reports damage, and keeps its segment from being cleaned: a segment
// that cannot be read is kept as it is until nothing of it is needed.
func (s *Store) tell(seg *segment, d Damage) {
	s.damageMu.Lock()
	key := damageKey{seg.nonce, d.Offset}
	known := s.damaged[key]
	s.damaged[key], s.damaged[damageKey{seg.nonce, -1}] = true, true
	s.damageMu.Unlock()
	if known {
		return
	}
	s.damages.Add(1)
	s.cfg.Log.Error("the disk returned other bytes than were written; the place is left alone and its messages are reported",
		"file", seg.name, "offset", d.Offset, "bytes", d.Bytes, "first", d.FirstSeq, "last", d.LastSeq, "unknown", d.Unknown)
	if s.cfg.Alarm != nil {
		s.cfg.Alarm(d)
	}
}

// isDamaged reports whether damage was found in a segment, in this life or, if
// not all of it was accounted for, in an earlier one.
func (s *Store) isDamaged(seg *segment) bool {
	s.damageMu.Lock()
	defer s.damageMu.Unlock()
	return s.damaged[damageKey{seg.nonce, -1}] || seg.doubtful()
}
