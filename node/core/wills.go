package core

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Defaults of WillSettings, and what no setting changes.
const (
	DefaultMaxWills      = 100_000
	DefaultMaxWillsBytes = 64 << 20
	MaxWill              = 256 << 10 // bytes of topic and payload block of one will
	willsAtOnce          = 1024      // that fire in one step: all may be due after a restart
	willPause            = 10_000    // ms before one is tried again that was refused though the disk has room
)

// WillSettings bound the wills that a node keeps, in memory and on disk.
type WillSettings struct {
	Max      int
	MaxBytes int64 // of topics and payload blocks
}

func (s *WillSettings) defaults() {
	s.Max = cmp.Or(s.Max, DefaultMaxWills)
	s.MaxBytes = cmp.Or(s.MaxBytes, DefaultMaxWillsBytes)
}

// Will is what a device wants said when it is lost (MQTT 5, 3.1.2.5).
type Will struct {
	Topic  string
	Class  bundle.Class
	QoS    uint8
	Retain bool
	Clear  bool          // Retain with an empty payload
	TTL    time.Duration // the device's own, from when it is published; 0: as of Submission
	Delay  uint32        // seconds between the loss and the publication
	Blob   *store.Blob   // the encoded payload block; of a retained one without its stamp
}

func (w *Will) size() int64 { return int64(len(w.Topic) + len(w.Blob.B)) }

type willState uint8

const (
	willHeld     willState = iota // its connection is there
	willOrphan                    // the node died with its connection
	willCounting                  // it fires at due
	willStuck                     // it is due, and the store has no room
	willGone                      // it fired, or was cancelled
)

// will is a Will from the CONNECT that brought it until it fires or is
// cancelled. It leaves once: the write that removes it has its message.
type will struct {
	Will
	client string // of one that was set aside with an end of its own
	conn   uint64 // willHeld
	state  willState
	due    int64 // ms
	again  int64 // ms, willStuck: not before; 0: when the disk has room
	dated  bool  // due is on disk
	at     int   // in wills.due, -1: not there
}

// wills are those of the devices of this node, one of each at most.
type wills struct {
	of      map[string]*will // by client
	due     willHeap
	stuck   []*will
	aside   uint64
	again   int64 // ms: some of stuck are tried then; 0: none before the disk has room
	bytes   int64
	serving bool
}

// Serve tells that devices may come from now on, with the configuration in
// force. No will fires before. To those whose connections ended with an earlier
// boot, they ended now: that is when their devices can come back at the
// earliest.
func (c *Core) Serve(now time.Time) {
	c.at(now)
	if c.wills.serving {
		return
	}
	c.wills.serving = true
	for _, client := range slices.Sorted(maps.Keys(c.wills.of)) {
		if w := c.wills.of[client]; w.state == willOrphan {
			expiry := uint32(0) // a session that was not stored is over
			if s := c.sessions[client]; s != nil {
				expiry = s.expiry
			}
			c.countDown(w, min(w.Delay, expiry))
		}
	}
	c.tickWills()
}

// ForgetWill cancels the will of a connection: its device took its leave (MQTT
// 5, [MQTT-3.14.4-3]). It comes before CloseSession.
func (c *Core) ForgetWill(now time.Time, client string, conn uint64) {
	c.at(now)
	if w := c.wills.of[client]; w != nil && w.state == willHeld && w.conn == conn {
		c.cancelWill(w)
	}
}

// ClientElsewhere tells that a device is connected to another node now, later
// than here: it is not lost. Its will here is cancelled, whatever its delay. It
// comes before the connection or the session here ends for that.
func (c *Core) ClientElsewhere(now time.Time, client string) {
	c.at(now)
	c.notLost(client)
}

func (c *Core) notLost(client string) {
	if w := c.wills.of[client]; w != nil && w.state != willStuck {
		c.cancelWill(w)
	}
}

// admitWill reports why the will of a CONNECT is not taken, OK if it is.
func (c *Core) admitWill(o *SessionOpen) bundle.Reason {
	n := o.Will
	if n == nil {
		return bundle.OK
	}
	old := c.wills.of[o.Client]
	if old != nil && old.state == willStuck {
		if c.fire(old); old.state == willStuck {
			old = nil // it waits beside the new one
		} else {
			old = c.wills.of[o.Client]
		}
	}
	count, bytes, cost := len(c.wills.of)+1, c.wills.bytes+n.size(), n.size()+numberBytes
	if old != nil {
		count, bytes, cost = count-1, bytes-old.size(), cost+old.size()
	}
	switch s := &c.settings.Wills; {
	case n.size() > MaxWill, n.Retain && len(n.Topic) > maxRetained:
		return bundle.TooLarge
	case count > s.Max, bytes > s.MaxBytes:
		return bundle.QuotaExceeded
	case !c.hasRoom(n.Class, cost):
		return bundle.StoreFull
	}
	return bundle.OK
}

// connected decides on the will of a device that is back, before its session
// is opened. A connection that is still there was taken over: it is lost (MQTT
// 5, 3.1.4), which a delay hides if the session goes on.
func (c *Core) connected(o *SessionOpen, s *session) {
	w := c.wills.of[o.Client]
	if w == nil {
		return
	}
	if w.state == willHeld && s != nil {
		c.lost(w, s.expiry)
	}
	switch {
	case w.state != willCounting:
	case o.Clean || w.due <= c.now: // the session ends, or the delay is over
		c.fire(w)
	default:
		c.cancelWill(w)
	}
}

// keepWill takes the will of a new connection in. It is durable with the reply.
func (c *Core) keepWill(o *SessionOpen) {
	if o.Will == nil {
		return
	}
	switch old := c.wills.of[o.Client]; {
	case old == nil:
	case old.state == willStuck:
		c.setAside(old)
	default: // of a connection without a session
		c.stats.WillsRefused++
		c.removeWill(old)
	}
	w := &will{Will: *o.Will, client: o.Client, conn: o.Conn, at: -1}
	c.wills.of[w.client] = w
	c.wills.bytes += w.size()
	c.setLarge(store.Set{Key: willPrefix + w.client, Value: w.append(), Blob: w.Blob})
}

// lost begins the delay of a will, which the end of the session cuts short
// (MQTT 5, 3.1.3.2.2).
func (c *Core) lost(w *will, expiry uint32) {
	delay := min(w.Delay, expiry)
	if c.countDown(w, delay); delay == 0 && c.wills.serving {
		c.fire(w)
	}
}

// lostConnection is lost for the connection that brought the will, if one did.
func (c *Core) lostConnection(client string, conn uint64, expiry uint32) {
	if w := c.wills.of[client]; w != nil && w.state == willHeld && w.conn == conn {
		c.lost(w, expiry)
	}
}

// endedSession fires what a delay held back for a session.
func (c *Core) endedSession(client string) {
	w := c.wills.of[client]
	switch {
	case w == nil || w.state != willCounting:
	case c.wills.serving:
		c.fire(w)
	default:
		w.due = min(w.due, c.now)
		heap.Fix(&c.wills.due, w.at)
	}
}

// countDown lets a will fire after a delay in seconds.
func (c *Core) countDown(w *will, delay uint32) {
	w.state, w.due = willCounting, c.now+int64(delay)*1000
	heap.Push(&c.wills.due, w)
	if delay > 0 {
		w.dated = true
		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: willDuePrefix + w.client, Value: appendDue(w.due)})
	}
}

// fire publishes a will. One for which there is no room stays, and fires when
// there is; what else the mesh does not take ends, for the reason counted.
func (c *Core) fire(w *will) {
	if w.at >= 0 {
		heap.Remove(&c.wills.due, w.at)
	}
	switch c.publishWill(w) {
	case bundle.StoreFull:
		if w.state != willStuck {
			w.state = willStuck
			c.wills.stuck = append(c.wills.stuck, w)
		}
		return
	case bundle.OK, bundle.NoSubscriber:
		c.stats.Wills++
	default:
		c.stats.WillsRefused++
	}
	c.removeWill(w)
}

// publishWill submits the message of a will to the present batch. To other
// nodes it is stored whatever its QoS: nobody can send it again, and after a
// restart no link is up yet. What is refused for another reason than the disk,
// as for a session that hoards, draws numbers, which are written: that is not
// tried again at once.
func (c *Core) publishWill(w *will) bundle.Reason {
	if w.again = 0; !c.hasWillRoom(w) {
		return bundle.StoreFull
	}
	client, _, _ := strings.Cut(w.client, "\x00") // see setAside
	s := Submission{
		Topic: w.Topic, Service: ServiceMQTT, Class: w.Class, QoS: w.QoS, Retain: w.Retain, Clear: w.Clear, TTL: w.TTL,
		Client: client, Blob: w.Blob, will: true,
	}
	if s.Retain {
		s.Stamp = c.Stamp(time.UnixMilli(c.now), s.Topic)
		if c.cfg.Stamped != nil {
			s.Blob = c.cfg.Stamped(s.Blob, s.Stamp)
		}
	}
	reason := c.submit(&s)
	if reason == bundle.StoreFull {
		w.again = c.now + willPause
		c.wills.again = min(cmp.Or(c.wills.again, w.again), w.again)
	}
	return reason
}

func (c *Core) hasWillRoom(w *will) bool { return c.hasRoom(w.Class, w.size()+store.PutBytes) }

// cancelWill ends a will unsaid.
func (c *Core) cancelWill(w *will) {
	c.stats.WillsCancelled++
	c.removeWill(w)
}

// removeWill takes a will out of memory and, with the present batch, off the
// disk.
func (c *Core) removeWill(w *will) {
	if w.at >= 0 {
		heap.Remove(&c.wills.due, w.at)
	}
	if w.state == willStuck {
		c.wills.stuck = slices.DeleteFunc(c.wills.stuck, func(o *will) bool { return o == w })
	}
	w.state = willGone
	delete(c.wills.of, w.client)
	c.wills.bytes -= w.size()
	c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: willPrefix + w.client})
	if w.dated {
		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: willDuePrefix + w.client})
	}
}

func (c *Core) tickWills() {
	if !c.wills.serving {
		return
	}
	for n := 0; n < willsAtOnce && len(c.wills.due) > 0 && c.wills.due[0].due <= c.now; n++ {
		c.fire(c.wills.due[0])
	}
	if c.wills.again != 0 && c.wills.again <= c.now {
		c.roomForWills()
	}
}

func (c *Core) wakeWills(w *wake) {
	if c.wills.serving && len(c.wills.due) > 0 {
		w.min(c.wills.due[0].due)
	}
	if c.wills.serving && c.wills.again != 0 {
		w.min(c.wills.again)
	}
}

// roomForWills has those fire that waited for room, as far as it goes. One that
// is refused all the same keeps none behind it.
func (c *Core) roomForWills() {
	tried, again := 0, int64(0)
	c.wills.again = 0
	for _, w := range slices.Clone(c.wills.stuck) {
		if w.again <= c.now {
			if !c.hasWillRoom(w) {
				w.again = 0
				continue
			}
			if tried++; tried > willsAtOnce {
				again = c.now
				break
			}
			c.fire(w)
		}
		if w.state == willStuck && w.again != 0 {
			again = min(cmp.Or(again, w.again), w.again)
		}
	}
	c.wills.again = again
}

// willHeap has the will in front that is due first.
type willHeap []*will

// Len implements heap.Interface.
func (h willHeap) Len() int { return len(h) }

// Less implements heap.Interface. Equal runs have equal orders.
func (h willHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].due, h[j].due), cmp.Compare(h[i].client, h[j].client)) < 0
}

// Swap implements heap.Interface.
func (h willHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *willHeap) Push(x any) {
	w := x.(*will)
	w.at = len(*h)
	*h = append(*h, w)
}

// Pop implements heap.Interface.
func (h *willHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	w.at = -1
	return w
}
