package core

import (
	"encoding/binary"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/store"
)

// Stamp is a reading of the hybrid logical clock (Kulkarni and others, 2014):
// milliseconds since 1970 above 16 bits that count within one. It orders the
// retained messages of a topic wherever they were published: the later stamp
// is the newer message, and of two equal ones that of the later node name.
// The zero Stamp is older than any other.
type Stamp uint64

// MaxStamp is the last Stamp, in the year 4199. Later ones are malformed.
const MaxStamp Stamp = 1<<62 - 1

const (
	stampBits = 16
	// stampReserve is how far ahead of the clock its durable bound is kept by a
	// node that does not know the time: what it said at QoS 0 may be elsewhere
	// before it is on its own disk.
	stampReserve = 60_000 << stampBits
	// DefaultDrift is how far another node's clock may lead ours before ours
	// no longer follows it.
	DefaultDrift = time.Hour
)

// stampAt is the first stamp of a millisecond.
func stampAt(ms int64) Stamp { return min(Stamp(max(ms, 0))<<stampBits, MaxStamp) }

// ms is the time of a stamp.
func (s Stamp) ms() int64 { return int64(s >> stampBits) }

// Time is the time of a stamp as the node that drew it told it.
func (s Stamp) Time() time.Time { return time.UnixMilli(s.ms()) }

// later reports whether one publication is newer than another of its topic.
func later(s Stamp, n addr.Node, than Stamp, of addr.Node) bool {
	return s > than || s == than && n.Compare(of) > 0
}

// Stamp draws the stamp of a retained publication of this node. It is later
// than every one that was drawn here, before a restart too, and than what is
// kept of the topic, however wrong the clock was that dated that.
func (c *Core) Stamp(now time.Time, topic string) Stamp {
	c.at(now)
	r := &c.retained
	s := max(r.clock+1, stampAt(c.now))
	r.follow(s)
	if k := r.get(topic); k != nil {
		s = max(s, k.stamp+1)
	}
	r.drawn = true
	return min(s, MaxStamp)
}

// observe lets the clock follow a stamp of another node. One that is further
// ahead of our time than the drift allows still orders its message, but our
// clock does not go there with it: it is counted. A node that does not know
// the time believes any.
func (c *Core) observe(s Stamp) {
	if c.cfg.Clock && s.ms() > c.now+c.settings.Retained.Drift.Milliseconds() {
		c.stats.StampsAhead++
		return
	}
	c.retained.follow(s)
}

func (r *retained) follow(s Stamp) { r.clock = min(max(r.clock, s), MaxStamp-1) }

// encodeStamps writes how far the clock is into the batch of what was stamped:
// a later boot begins there. Nothing is written for a stamp that was refused.
// With a clock the bound is not kept ahead: until the time has come there, what
// that boot publishes would win over what others delete.
func (c *Core) encodeStamps() {
	r := &c.retained
	if !r.drawn || len(c.m.Batch.Puts)+len(c.m.Batch.Sets) == 0 {
		return
	}
	r.drawn = false
	if !c.cfg.Clock {
		c.reserveStamps()
		return
	}
	r.bound = r.clock
	c.writeStamps()
}

// reserveStamps keeps the bound on disk ahead of the clock.
func (c *Core) reserveStamps() {
	if r := &c.retained; r.clock >= r.bound {
		r.bound = r.clock + stampReserve
		c.writeStamps()
	}
}

func (c *Core) writeStamps() {
	c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: stampKey, Value: binary.AppendUvarint(nil, uint64(c.retained.bound))})
}
