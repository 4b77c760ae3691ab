package node

import (
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/core"
)

// members are those of the core in the words of the broker.
func members(all []core.Member) []broker.Member {
	if len(all) == 0 {
		return nil
	}
	out := make([]broker.Member, len(all))
	for i, m := range all {
		out[i] = broker.Member(m)
	}
	return out
}

// Regroup implements broker.Node: a member of shared subscriptions did not take
// a message, which goes to another one. It enters the mesh anew, with what is
// left of its life.
func (m *mqtt) Regroup(msg *broker.Message, filters []string) {
	s := submission(msg)
	s.Groups, s.Client, s.Packet, s.Retain, s.Clear = filters, "", 0, false, false
	if msg.Expiry > 0 {
		if s.TTL -= time.Since(msg.Received); s.TTL <= 0 {
			return // it expired on the way
		}
	}
	m.loop.in.put(func(now time.Time, c *core.Core) { c.Submit(now, []core.Submission{s}) })
}
