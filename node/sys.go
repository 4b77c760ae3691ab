package node

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/core"
)

// sysValues is what the node adds to $SYS.
func (n *Node) sysValues(ctx context.Context) (out []broker.SysValue) {
	var sessions int
	var room int64
	err := n.loop.call(ctx, func(_ time.Time, c *core.Core) { sessions, room = c.SessionCount(), c.RoomLeft() })
	add := func(topic string, v int64) {
		out = append(out, broker.SysValue{Topic: topic, Value: strconv.FormatInt(v, 10)})
	}
	if err == nil { // else the loop may still write them
		add("clients/total", int64(sessions))
		add("clients/disconnected", int64(max(sessions-n.broker.Clients(), 0)))
		if room < math.MaxInt64 {
			add("store/room/bytes", room)
		}
	}
	st := n.store.stats()
	add("store/messages/count", int64(st.Messages))
	add("store/messages/bytes", st.Bytes)
	return out
}
