package broker

import (
	system "runtime/metrics"
	"sync/atomic"
	"time"
)

const (
	pressureEvery = 250 * time.Millisecond
	leastShare    = 64 << 10 // bytes that any client may take, whatever the others do
	queueShare    = 4        // part of the memory that clients share when it is short: one of so many
	heapLive      = "/gc/heap/live:bytes"
	heapCycles    = "/gc/cycles/total:gc-cycles"
)

// pressure tells when the process holds more than it should. Limits for each
// client cannot bound what all take together and leave one enough; when memory
// is short, each gets its share, and those who take more are cut.
type pressure struct {
	limit uint64
	share atomic.Int64 // bytes of one client while memory is short, 0 while it is not
	cycle uint64       // the collection whose outcome was looked at last
}

// look reads what the last collection of garbage left. It reports shortage once
// for each: between two of them nothing new is known, and to look at a million
// connections again would find the same.
func (p *pressure) look(clients int) (short bool) {
	s := []system.Sample{{Name: heapLive}, {Name: heapCycles}}
	system.Read(s)
	if s[0].Value.Kind() != system.KindUint64 || s[1].Value.Kind() != system.KindUint64 || s[1].Value.Uint64() == p.cycle {
		return false
	}
	p.cycle = s[1].Value.Uint64()
	return p.set(s[0].Value.Uint64(), clients)
}

// set compares what is held with the limit.
func (p *pressure) set(held uint64, clients int) (short bool) {
	if short = held > p.limit; !short {
		p.share.Store(0)
		return false
	}
	p.share.Store(max(leastShare, int64(p.limit/queueShare)/int64(max(clients, 1))))
	return true
}

// allows returns how much of limit one client may take now.
func (p *pressure) allows(limit int) int {
	if share := p.share.Load(); share > 0 {
		return min(limit, int(share))
	}
	return limit
}

// watchMemory looks at the memory; while it is short, every connection looks
// at what it holds itself.
func (b *Broker) watchMemory() {
	b.mu.Lock()
	n := len(b.all)
	b.mu.Unlock()
	was := b.pressure.share.Load() > 0
	if !b.pressure.look(n) {
		return
	}
	if !was {
		b.cfg.Log.Warn("mqtt memory is short: clients that hold much are cut; see mqtt.limits.memory", "limit", b.cfg.MaxMemory, "clients", n)
	}
	b.relieve()
}

// relieve cuts the connections that hold more than their share.
func (b *Broker) relieve() {
	b.mu.Lock()
	all := make([]*conn, 0, len(b.all))
	for c := range b.all {
		all = append(all, c)
	}
	b.mu.Unlock()
	for _, c := range all {
		c.relieve()
	}
}

// relieve cuts the connection when it holds more than its share: of input that
// is no whole packet, and of what its client does not read. What waits for the
// node is not counted: it is accepted, and ends by itself.
func (c *conn) relieve() {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := c.queueBytes + len(c.control) + int(c.heldIn.Load()) + int(c.heldOut.Load())
	if held <= c.b.pressure.allows(held) || c.closing.Load() {
		return
	}
	c.b.metrics.limit(limitMemory)
	c.disconnectLocked(codeQuota, cause(codeQuota))
}
