package core

// Renew asks for another session with the peer of a link, because this one is
// silent for longer than its transport should need. The session stays: either
// may carry first. Nothing is owed on it, or the core would close it.
type Renew struct {
	Link  uint64
	Heard bool // the peer is heard all the time, and does not hear us
	Over  bool // the session carries again: no other one is needed
}

// anew is what was asked for a silent link.
type anew struct {
	half   int64 // since when the peer is heard while it does not hear us; 0: it is not
	beside bool  // another session was asked for
	told   bool  // and that the peer is heard
}

// giveUp is how long a link may be silent until its session is made anew, in ms.
func (l *link) giveUp(now int64) int64 { return max(2*l.patience(now), l.floors.stuck) }

// besideAt returns when another session is asked for, and again when the peer
// is heard. A link with a plan has its contacts for that.
func (l *link) besideAt(now int64) int64 {
	switch {
	case !l.silent || !l.Schedule.Always() || l.anew.told:
		return never
	case l.halfDead(now):
		return now
	case l.anew.beside:
		return never
	}
	return l.mute + l.giveUp(now)
}

// hears notes a frame of a peer that does not hear us.
func (l *link) hears(now, before int64) {
	if l.anew.half == 0 || now > before+l.giveUp(now) {
		l.anew.half = now
	}
}

// halfDead reports whether the peer is heard for so long: what is sent to it
// goes to an address that it has no more, or the way there is cut. A way that
// was cut and is whole is known within a round trip or two.
func (l *link) halfDead(now int64) bool {
	return l.anew.half != 0 && l.heard >= l.anew.half+l.giveUp(now)
}

// tickRenewal asks for another session.
func (c *Core) tickRenewal(l *link) {
	if c.now < l.besideAt(c.now) {
		return
	}
	half := l.halfDead(c.now)
	l.anew.beside, l.anew.told = true, half
	c.watching.Renewals++
	c.cur.Renew = append(c.cur.Renew, Renew{Link: l.ID, Heard: half})
}

// revived ends the search: the session carries.
func (c *Core) revived(l *link) {
	if l.anew.beside {
		c.cur.Renew = append(c.cur.Renew, Renew{Link: l.ID, Over: true})
	}
	l.anew = anew{}
}
