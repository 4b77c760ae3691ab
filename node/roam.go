package node

import (
	"time"

	"github.com/farhop/farhop/node/core"
)

// roam takes in what another node says of sessions that follow their clients.
// The core moves them; the broker is told whose client left, and what a CONNECT
// found.
func (m *mqtt) roam(r request) {
	from := r.delivery.Header.Origin
	m.loop.in.put(func(now time.Time, c *core.Core) {
		if err := c.Roam(now, from, r.body); err != nil {
			m.log.Warn("a word of a session that moves is dropped", "peer", from, "error", err)
		}
	})
}
