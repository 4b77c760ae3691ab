package broker

import (
	"container/list"
	"time"
)

// lobby is the connections that have no session yet, in the order they came.
// They take the room that others need to come in at all, and nobody knows who
// they are. Broker.mu guards it.
type lobby struct{ order list.List }

// guest is one of them.
type guest struct {
	c    *conn
	from time.Time
}

func (l *lobby) enter(c *conn, now time.Time) { c.guest = l.order.PushBack(guest{c, now}) }

// leave forgets c: it has a session, or is gone.
func (l *lobby) leave(c *conn) {
	if c.guest != nil {
		l.order.Remove(c.guest)
		c.guest = nil
	}
}

// oldest takes out the one that has been here longest, nil when none has been
// here for as long as patience: a slow link needs its time.
func (l *lobby) oldest(now time.Time, patience time.Duration) *conn {
	e := l.order.Front()
	if e == nil {
		return nil
	}
	g := e.Value.(guest)
	if now.Sub(g.from) < patience {
		return nil
	}
	l.leave(g.c)
	return g.c
}

// makeRoom finds a connection that has to go so that another one can come in:
// one that has had a quarter of its time for a CONNECT and sent none. The
// caller holds mu.
func (b *Broker) makeRoom(now time.Time) *conn { return b.lobby.oldest(now, b.cfg.ConnectTimeout/4) }
