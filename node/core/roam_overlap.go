package core

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// overlap tells what a session has had while messages may come for it on two
// ways: directly, and by the node that had it before.
type overlap struct {
	ends    int64   // ms
	settled Stamp   // when its stubs were told that they may be quiet; 0: not yet
	floor   []mark  // what the node before it had
	notes   windows // what came here
	before  windows // what came to nodes before; some of it may follow from there
}

// mark is the number of the newest message of one origin and class.
type mark struct {
	origin originKey
	n      uint64
}

func (a originKey) compare(b originKey) int {
	return cmp.Or(a.node.Compare(b.node), cmp.Compare(a.inc, b.inc), cmp.Compare(a.class, b.class))
}

func (s *session) overlap() *overlap {
	if s.trip == nil {
		return nil
	}
	return s.trip.overlap
}

func (s *session) overlapEnds() int64 { return s.trip.overlap.ends }

// floor returns how far the messages of every origin have come here.
func (c *Core) floor() (all []mark) {
	for class, n := range c.msgs {
		if n > 0 {
			all = append(all, mark{originKey{c.cfg.Self, c.cfg.Incarnation, bundle.Class(class)}, n})
		}
	}
	for key, g := range c.legs {
		if g.high > 0 {
			all = append(all, mark{key, g.high})
		}
	}
	for key, w := range c.messages {
		all = append(all, mark{key, w.Top()})
	}
	return mergeFloors(all, nil)
}

// mergeFloors joins two lists: the higher number of each origin, in order.
func mergeFloors(a, b []mark) []mark {
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, func(a, b mark) int { return cmp.Or(a.origin.compare(b.origin), cmp.Compare(b.n, a.n)) })
	all = slices.CompactFunc(all, func(a, b mark) bool { return a.origin == b.origin })
	return all[:min(len(all), maxMarks)]
}

// beginOverlap watches for repeats of what comes for a session from now on.
func (c *Core) beginOverlap(s *session, floor []mark, ends int64) {
	t := s.travel()
	if t.overlap == nil {
		if len(c.roam.overlaps) >= maxOverlaps {
			c.stats.OverlapsEnded++
			c.endOverlap(c.roam.overlaps[0])
		}
		t.overlap = newOverlap()
	}
	o := t.overlap
	o.floor, o.settled = mergeFloors(o.floor, floor), 0
	c.dirty.add(dirtyKey{kind: dirtyFloor, name: s.id})
	c.overlapUntil(s, ends)
}

// overlapUntil keeps the list in the order of ends.
func (c *Core) overlapUntil(s *session, ends int64) {
	r := &c.roam
	r.dropOverlap(s)
	s.trip.overlap.ends = ends
	r.overlaps = slices.Insert(r.overlaps, r.overlapAt(ends+1), s)
}

// overlapAt is where the first overlap is that ends at ms or later.
func (r *roaming) overlapAt(ms int64) int {
	at, _ := slices.BinarySearchFunc(r.overlaps, ms, func(o *session, ms int64) int { return cmp.Compare(o.overlapEnds(), ms) })
	return at
}

// dropOverlap takes a session off the list, if it is there.
func (r *roaming) dropOverlap(s *session) {
	ends := s.overlapEnds()
	for at := r.overlapAt(ends); at < len(r.overlaps) && r.overlaps[at].overlapEnds() == ends; at++ {
		if r.overlaps[at] == s {
			r.overlaps = slices.Delete(r.overlaps, at, at+1)
			return
		}
	}
}

func (c *Core) endOverlap(s *session) {
	if s.overlap() == nil {
		return
	}
	c.roam.dropOverlap(s)
	for key := range s.trip.overlap.notes {
		c.dirty.add(dirtyKey{kind: dirtyNotes, name: s.id, origin: key})
	}
	for key := range s.trip.overlap.before {
		c.dirty.add(dirtyKey{kind: dirtyBefore, name: s.id, origin: key})
	}
	c.dirty.add(dirtyKey{kind: dirtyFloor, name: s.id})
	s.trip.overlap = nil
	c.isBlank(s, c.seenBy())
	s.home()
	c.keep(s)
}

// quietedAt ends the overlaps of sessions whose stubs all are quiet, after a
// while: what those sent on may still be on its way.
func (c *Core) quietedAt() {
	least, answered := MaxStamp, c.seenBy()
	for _, p := range c.roam.order {
		least = min(least, p.quieted)
	}
	for _, s := range slices.Clone(c.roam.overlaps) {
		c.isBlank(s, answered)
		o := s.trip.overlap
		done := o.settled != 0 && o.settled <= least || s.trip.from.IsZero() && s.epoch <= least
		if until := c.now + overlapTail; done && until < o.ends {
			if s.trip.from.IsZero() { // nobody had it
				until = c.now
			}
			c.overlapUntil(s, until)
		}
	}
}

// seenBy is up to which epoch every node has seen the claims.
func (c *Core) seenBy() Stamp {
	least := MaxStamp
	for _, p := range c.roam.order {
		least = min(least, p.answered)
	}
	return least
}

// isBlank reports whether it is not known yet what a session was elsewhere. It
// is when every node has seen the claim and nobody had it, and when all that
// came for it elsewhere is too old.
func (c *Core) isBlank(s *session, answered Stamp) bool {
	if s.trip == nil || !s.trip.blank {
		return false
	}
	nobody := s.trip.from.IsZero() && s.epoch <= answered
	if nobody || c.now-s.epoch.ms() > c.settings.TTL.Milliseconds() {
		s.trip.blank = false
		c.keep(s)
	}
	return s.trip.blank
}

// noteOnce reports whether a message is the first of its kind for a session,
// and remembers it.
func (c *Core) noteOnce(s *session, id bundle.ID) bool {
	o := s.overlap()
	if o == nil {
		return true
	}
	key := originKey{id.Node, id.Seq.Incarnation(), id.Seq.Class()}
	w := o.notes.of(key)
	if w.Seen(id.Seq.Count()) {
		return false
	}
	w.Add(id.Seq.Count())
	c.dirty.add(dirtyKey{kind: dirtyNotes, name: s.id, origin: key})
	return true
}

// below reports whether a message is one that the node before had.
func (o *overlap) below(id bundle.ID) bool {
	key := originKey{id.Node, id.Seq.Incarnation(), id.Seq.Class()}
	at, found := slices.BinarySearchFunc(o.floor, key, func(m mark, k originKey) int { return m.origin.compare(k) })
	return found && id.Seq.Count() <= o.floor[at].n
}

// once leaves out the subscriptions of sessions that had a message already, by
// way of the node that had them before, or get it from there.
func (c *Core) once(h *store.Header, matched []*subscription) []*subscription {
	if h.Message.IsZero() {
		return matched
	}
	had := map[*session]bool{}
	for _, sub := range matched {
		s := sub.session
		if _, known := had[s]; known || s.overlap() == nil || s.moved() {
			continue
		}
		there := slices.ContainsFunc(matched, func(o *subscription) bool { return o.session == s && o.Moved })
		had[s] = there && s.trip.overlap.below(h.Message) || s.trip.overlap.before.has(h.Message) || !c.noteOnce(s, h.Message)
	}
	return slices.DeleteFunc(matched, func(sub *subscription) bool { return had[sub.session] })
}

// Keys of the durable state of overlaps: the client, a NUL, which no client id
// has, and nothing for the floor, or the origin of
// the messages noted, after another NUL of those noted at nodes before.

func overlapKey(client string, origin originKey) string {
	return overlapPrefix + client + "\x00" + originText(origin)
}

func (c *Core) encodeOverlap(k dirtyKey) (key string, value []byte) {
	var o *overlap
	if s := c.sessions[k.name]; s != nil {
		o = s.overlap()
	}
	if k.kind == dirtyNotes {
		if o != nil && o.notes[k.origin] != nil {
			value = o.notes[k.origin].AppendBinary(nil)
		}
		return overlapKey(k.name, k.origin), value
	}
	if k.kind == dirtyBefore {
		if o != nil && o.before[k.origin] != nil {
			value = o.before[k.origin].AppendBinary(nil)
		}
		return overlapKey(k.name+"\x00", k.origin), value
	}
	if o != nil {
		value = []byte{1}
		for _, m := range o.floor {
			text := originText(m.origin)
			value = append(binary.AppendUvarint(value, uint64(len(text))), text...)
			value = binary.AppendUvarint(value, m.n)
		}
	}
	return overlapPrefix + k.name + "\x00", value
}

// restoreOverlap runs after the session was restored: its key sorts before.
func (c *Core) restoreOverlap(rest string, value []byte) error {
	client, origin, ok := strings.Cut(rest, "\x00")
	s := c.sessions[client]
	if !ok {
		return errDamaged
	}
	if s == nil || s.moved() {
		return nil
	}
	t := s.travel()
	if t.overlap == nil {
		t.overlap = newOverlap()
		t.overlap.ends = c.now + c.settings.TTL.Milliseconds()
	}
	if origin != "" {
		of := t.overlap.notes
		if strings.HasPrefix(origin, "\x00") {
			origin, of = origin[1:], t.overlap.before
		}
		key, err := parseOriginText(origin)
		w, err2 := storeforward.ParseWindow(value)
		if cmp.Or(err, err2) != nil {
			return errDamaged
		}
		of[key] = w
		return nil
	}
	if len(value) == 0 {
		return errDamaged
	}
	r := dutyReader{b: value[1:]}
	for len(r.b) > 0 {
		key, err := parseOriginText(r.text())
		n := r.number()
		if err != nil || r.bad {
			return errDamaged
		}
		t.overlap.floor = append(t.overlap.floor, mark{key, n})
	}
	return nil
}

// savedTrip is the durable form of a trip.
type savedTrip struct {
	To      string         `json:"to,omitempty"`
	Until   int64          `json:"until,omitempty"`
	UpTo    uint64         `json:"upto,omitempty"`
	Tails   uint8          `json:"tails,omitempty"`
	Quiet   Stamp          `json:"quiet,omitempty"`
	From    string         `json:"from,omitempty"`
	Pending []Subscription `json:"pending,omitempty"`
	Await   uint8          `json:"await,omitempty"`
	Blank   bool           `json:"blank,omitempty"`
}

func (s *session) saveTrip() *savedTrip {
	t := s.trip
	if t == nil {
		return nil
	}
	saved := &savedTrip{
		Until: t.until, UpTo: t.upTo, Tails: uint8(t.tails), Quiet: t.quiet, Pending: t.pending, Await: uint8(t.await), Blank: t.blank,
	}
	if !t.to.IsZero() {
		saved.To = t.to.String()
	}
	if !t.from.IsZero() {
		saved.From = t.from.String()
	}
	return saved
}

func (c *Core) restoreTrip(s *session, saved *savedTrip) (err error) {
	if saved == nil {
		return nil
	}
	t := s.travel()
	if saved.To != "" {
		t.to, err = addr.ParseNode(saved.To)
	}
	if saved.From != "" && err == nil {
		t.from, err = addr.ParseNode(saved.From)
	}
	t.until, t.upTo, t.tails, t.quiet = saved.Until, saved.UpTo, bundle.Classes(saved.Tails), saved.Quiet
	t.pending, t.await, t.blank = saved.Pending, bundle.Classes(saved.Await), saved.Blank
	return err
}

// elsewhere refuses a QoS 2 publish of a client that is at another node now:
// it sends it again there, under the same packet id.
func (c *Core) elsewhere(s *Submission) bool {
	if s.QoS < 2 || s.Packet == 0 || s.Client == "" {
		return false
	}
	if o := c.sessions[s.Client]; o == nil || !o.moved() {
		return false
	}
	c.verdict(s, bundle.SessionEnded)
	c.reply(Reply{Token: s.Token, Reason: bundle.SessionEnded})
	return true
}
