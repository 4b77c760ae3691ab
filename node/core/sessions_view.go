package core

import (
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// SessionView is what a node knows of a session.
type SessionView struct {
	Client        string
	Conn          uint64 // 0: away
	Durable       bool   // it outlives its connection
	Expiry        uint32 // seconds it outlives the connection
	Since         int64  // ms: connected, or away, since then; of one that was away at the start of the node, since the start
	Ends          int64  // ms, when away; 0: never
	Subscriptions []Subscription
	Queued        int   // messages, those in flight among them
	Bytes         int64 // of their payloads
	InFlight      int   // sent and not acknowledged
	Window        int   // how many may be
	Oldest        int64 // arrival of the oldest, ms; 0: none, or it is not in a window
	Inbound       int   // QoS 2 publishes that await PUBREL

	// At has the session now: what waits here is on its way there, and what
	// still comes will be. Zero when it is here.
	At addr.Node
}

// Sessions returns the first sessions by name, at most limit of those that
// come after one and match, and whether there are more. It looks at each.
func (c *Core) Sessions(match func(client string) bool, after string, limit int) (out []SessionView, more bool) {
	// The names that are wanted are the smallest: half of what is collected
	// goes when there are twice as many.
	var names []string
	cut := func() {
		slices.Sort(names)
		more = more || len(names) > limit
		names = names[:min(len(names), limit)]
	}
	for name := range c.sessions {
		if name <= after && after != "" || more && len(names) >= limit && name > names[limit-1] || !match(name) {
			continue
		}
		if names = append(names, name); len(names) >= 2*limit {
			cut()
		}
	}
	cut()
	for _, name := range names {
		out = append(out, c.sessionView(c.sessions[name]))
	}
	return out, more
}

// Session describes one.
func (c *Core) Session(client string) (SessionView, bool) {
	s := c.sessions[client]
	if s == nil {
		return SessionView{}, false
	}
	return c.sessionView(s), true
}

func (c *Core) sessionView(s *session) SessionView {
	v := SessionView{
		Client: s.id, Conn: s.conn, Durable: s.durable(), Expiry: s.expiry, Since: s.since, Window: int(s.window),
		Inbound: len(s.inbound),
	}
	if s.out != nil {
		v.InFlight = len(s.out.flying)
	}
	if s.conn == 0 {
		v.Ends = s.ends
	}
	if s.moved() {
		v.At, v.Ends, v.Window = s.trip.to, s.trip.until, 0
	} else {
		v.Subscriptions = slices.Collect(s.filters())
	}
	for class := range bundle.Class(bundle.NumClasses) {
		q := c.m.Lookup(store.Queue{Kind: store.ToSession, Name: s.id, Class: class})
		if q == nil {
			continue
		}
		v.Queued += q.Count
		v.Bytes += q.Bytes
		if i := q.Head(); i != nil && (v.Oldest == 0 || i.Header.Received < v.Oldest) {
			v.Oldest = i.Header.Received
		}
	}
	return v
}

// SessionCount returns how many sessions there are, those that end with their
// connection among them, and not those that are at other nodes now.
func (c *Core) SessionCount() int { return len(c.sessions) - len(c.roam.stubs) }
