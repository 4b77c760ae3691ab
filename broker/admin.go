package broker

import (
	"context"
	"time"
)

// Connection is what the broker knows of a client that is connected.
type Connection struct {
	Conn      uint64 // as in SessionOpen
	Remote    string // its address
	Transport string // of the listener it came by, such as tls
	Names     []string
	User      string        // "" where nobody asks for one
	Version   string        // of MQTT: 3.1, 3.1.1 or 5
	KeepAlive time.Duration // 0: none
	Window    int           // deliveries that may be unacknowledged

	// Of a live session; the node knows those of others.
	Queued   int // messages that wait here
	Bytes    int
	InFlight int
}

// Connection describes the connection of a client, if there is one.
func (b *Broker) Connection(client string) (Connection, bool) {
	b.mu.Lock()
	c := b.sessions[client]
	b.mu.Unlock()
	if c == nil {
		return Connection{}, false
	}
	p := c.driver.peer()
	out := Connection{Conn: c.num, Remote: c.driver.remote(), Transport: p.Transport, Names: p.Names, KeepAlive: c.keepAlive, Window: c.window}
	switch c.version {
	case 3:
		out.Version = "3.1"
	case 4:
		out.Version = "3.1.1"
	default:
		out.Version = "5"
	}
	if id := c.id.Load(); id != nil {
		out.User = id.User
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.persistent {
		out.Queued, out.Bytes, out.InFlight = c.queue.len()+len(c.backlog), c.queueBytes, len(c.live.used)
	}
	return out, true
}

// Kick ends the connection of a client with DISCONNECT 0x98 (administrative
// action), as if it was lost: its will is published. then, unless nil, runs
// before the client can come back. It returns whether there was a connection,
// and the error of then or of ctx.
func (b *Broker) Kick(ctx context.Context, client string, then func() error) (was bool, err error) {
	unlock, err := b.ids.lock(ctx, client)
	if err != nil {
		return false, err
	}
	defer unlock()
	b.mu.Lock()
	c := b.sessions[client]
	b.mu.Unlock()
	if c != nil {
		c.disconnect(codeAdministrative, "administrative")
		if err := c.awaitGone(ctx); err != nil {
			return true, err
		}
	}
	if then != nil {
		err = then()
	}
	return c != nil, err
}
