package node

import (
	"math"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/config"
)

// limit hands the limits of the file to the broker; zeros stay its defaults.
func limit(c *broker.Config, l config.Limits) {
	small := func(v config.Size) int { return int(min(int64(v), math.MaxInt32)) }
	c.MaxConnectRate, c.MaxPublishRate = l.ConnectRate, l.PublishRate
	c.MaxSubscriptions, c.MaxSubscriptionBytes = l.Subscriptions, small(l.SubscriptionBytes)
	c.MaxQueue, c.MaxQueueBytes = l.Queue, small(l.QueueBytes)
	c.MaxPending, c.MaxPendingBytes = l.Pending, small(l.PendingBytes)
	c.MaxMemory, c.MaxUnreleased = int64(l.Memory), l.Unreleased
}
