package core

import (
	"slices"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// hoardShare bounds what waits for one session by what is free: when the queue
// of a session holds so many times what is left of the store, what is published
// here for it is refused until it reads, or the store empties, and what is for
// others alone is not. One session may so take eight ninths of the store, and
// twenty of them still leave room: devices that never read do not stop those
// that listen to something else. With Settings.SkipFull they stop nobody.
const hoardShare = 8

// hoards reports whether a session has too much waiting for it. As long as the
// store is half empty, none has.
func (c *Core) hoards(s *session, class bundle.Class) bool {
	if c.m.HalfFree(0) {
		return false
	}
	n, bytes := 0, int64(0)
	for class := range bundle.Class(bundle.NumClasses) {
		if q := c.m.Lookup(store.Queue{Kind: store.ToSession, Name: s.id, Class: class}); q != nil {
			n, bytes = n+q.Count, bytes+q.Bytes
		}
	}
	count, size := c.m.Free(class)
	return n > hoardShare*count || bytes > hoardShare*size
}

// passOver notes a session that does not get a message because it hoards.
func (r *recipients) passOver(s *session) {
	if !slices.Contains(r.hoarders, s) {
		r.hoarders = append(r.hoarders, s)
	}
}

// maySkip reports whether a message may be accepted although sessions that
// hoard miss it: nothing that was accepted is lost unless the operator said so,
// and never for all.
func (c *Core) maySkip(r *recipients) bool {
	return len(r.hoarders) == 0 || c.settings.SkipFull && !r.empty()
}

// entryOf finds the entry of a session among those from first on, -1 for none;
// sessions with very many filters that match are looked up.
type entryOf map[*session]int

// newEntryOf is nil for few matches.
func newEntryOf(matched int) entryOf {
	if matched <= fewFilters {
		return nil
	}
	return make(entryOf, matched)
}

func (e entryOf) find(r *recipients, first int, s *session, name store.Queue) int {
	if e != nil {
		if i, ok := e[s]; ok {
			return i
		}
		return -1
	}
	for i := first; i < len(r.entries); i++ {
		if r.entries[i].Queue == name {
			return i
		}
	}
	return -1
}

func (e entryOf) note(s *session, i int) {
	if e != nil {
		e[s] = i
	}
}

// MayOpen reports whether there is room for a session that outlives its
// connection: fewer than limit sessions are here, or it is one of them. If not,
// the request of the token is answered with SessionEnded.
func (c *Core) MayOpen(token uint64, client string, expiry uint32, limit int) bool {
	if expiry == 0 || c.SessionCount() < limit || c.sessions[client] != nil {
		return true
	}
	c.cur.Replies = append(c.cur.Replies, Reply{Token: token, Reason: bundle.SessionEnded})
	return false
}
