package broker

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/broker/auth"
	"github.com/farhop/farhop/broker/listen"
	"github.com/farhop/farhop/broker/packet"
	"github.com/farhop/farhop/routing/interest"
)

const (
	maxControlOut = 512 << 10              // bytes of acknowledgements and the like a client may leave unread
	flushTimeout  = 2 * time.Second        // for the last bytes into a local socket buffer, not for the link
	lingerTimeout = 500 * time.Millisecond // for a client that is near to read our last packet, see lingerFor
	maxLinger     = 20 * time.Second
	lingerBytes   = 1 << 20
	writeStall    = 10 * time.Minute // a write without keep-alive may stall this long
)

// lingerFor is how long a client at the end of a path with this round trip and
// retransmission timeout (RFC 6298) has to read our last packet and close: its
// answer needs a round trip, and one of the two may be lost on the way.
func lingerFor(rtt, rto time.Duration) time.Duration {
	return min(max(lingerTimeout, 2*rtt+rto), maxLinger)
}

var errGone = errors.New("connection closed")

// driver moves the bytes of one connection: a polled socket, or a pump with a
// goroutine of its own. It hands input to conn.feed, one call at a time.
type driver interface {
	// wake has the input handled that was held back. Any goroutine.
	wake()
	// kick has output written. The caller holds the connection's mu.
	kick()
	// stop has the connection ended: closing is set. The caller holds mu.
	stop()
	// remote is the client's address, for the log.
	remote() string
	// peer is who the transport says the client is.
	peer() listen.Peer
}

// conn is one client connection.
//
// Its input belongs to its driver, or, while holds is above zero, to whoever
// holds it: a CONNECT or SUBSCRIBE waits for the node on a goroutine of its
// own, and nothing else of that client is read meanwhile.
type conn struct {
	b      *Broker
	num    uint64
	driver driver

	holds     atomic.Int32 // reasons not to handle more input
	closing   atomic.Bool
	id        atomic.Pointer[auth.Identity] // set before CONNACK, nil where nobody asks
	elsewhere atomic.Bool                   // the client is at another node now
	changed   atomic.Bool                   // another identity since its subscriptions were judged
	trails    atomic.Bool                   // it ended, and the node has not answered all its publishes

	// Set before CONNACK, constant after.
	client     string
	method     string // of its enhanced authentication, "" for none
	version    byte   // 3, 4 or 5; 0 before CONNECT
	keepAlive  time.Duration
	maxSend    int // bytes of a packet the client takes, 0 = any
	noProblem  bool
	bridge     bool   // an MQTT 3 broker: it keeps retain flags and wants nothing back that is its own
	aliasMax   uint16 // topic aliases the client takes
	persistent bool
	window     int
	willTopic  string // "" without a will

	// Owned by the input.
	greeted  bool // the CONNECT was seen
	present  bool
	polite   bool // the client said DISCONNECT 0x00: no will
	left     bool // the client said DISCONNECT
	stopped  bool // feed stopped because something held the input
	expiry   uint32
	work     int       // units left in this call of feed: a packet, or a subscription that was looked at
	in       []byte    // what of the input is not handled yet
	before   *conn     // the client's last connection, if that trails
	exchange *exchange // nil for none
	subs     subset
	aliases  map[uint16]string

	heldIn      atomic.Int32  // bytes of in
	heldOut     atomic.Int32  // bytes that the driver could not write yet
	guest       *list.Element // in the lobby, nil outside
	filterBytes int           // that subs cost
	publishes   *bucket       // nil until it publishes, and without a limit

	toldAliases map[string]uint16 // by topic; the driver's, as it writes
	lastTopic   string            // of a PUBLISH, known to be valid

	mu         sync.Mutex // guards what follows
	cancel     context.CancelFunc
	rare       *rare
	isGone     bool   // the session let go of the connection
	partly     bool   // some subscription is allowed in part
	open       bool   // CONNACK is out, deliveries may flow
	said       bool   // our last word, a DISCONNECT or a refusing CONNACK, is in control
	full       bool   // too many publishes wait for the node: one of the holds
	why        string // label of the disconnect
	control    []byte // encoded packets that are no PUBLISH
	queue      ring[delivery]
	queueBytes int
	backlog    []*walk // through the retained messages of new subscriptions, one for a filter
	live       liveWindow
	out        map[uint16]outbound // persistent deliveries by packet id
	inbound    map[uint16]*inboundID
	pending    ring[*pending]
	pendBytes  int
	draining   bool
	unacked    int // inbound QoS 1 and 2 the client may count as open
}

// rare is what few connections ever have. It is guarded as what it belongs to.
type rare struct {
	gone  chan struct{} // closed when the session let go of the connection
	lease *time.Timer   // ends what the client came in with
	early []byte        // packets to follow the CONNACK
	proof *time.Timer   // ends an exchange that takes too long
}

// stopTimers is for an end that has come.
func (r *rare) stopTimers() {
	if r == nil {
		return
	}
	for _, t := range []*time.Timer{r.lease, r.proof} {
		if t != nil {
			t.Stop()
		}
	}
}

// rarely returns what few connections have, made when missing. The caller
// holds mu.
func (c *conn) rarely() *rare {
	if c.rare == nil {
		c.rare = new(rare)
	}
	return c.rare
}

// later runs f, which may wait for the node, on a goroutine of its own and
// handles no more input before it has returned. ctx ends with the connection.
func (c *conn) later(f func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	c.mu.Lock()
	c.cancel = cancel
	if c.closing.Load() {
		cancel()
	}
	c.mu.Unlock()
	c.holds.Add(1)
	c.b.work.Go(func() { // Run waits for it by way of the connection
		f(ctx)
		cancel()
		c.mu.Lock()
		c.cancel = nil // nothing of it stays with a client that is idle
		c.mu.Unlock()
		c.release()
	})
}

// release gives the input back.
func (c *conn) release() {
	if c.holds.Add(-1) == 0 {
		c.driver.wake()
	}
}

// disconnect ends the connection from any goroutine: DISCONNECT with code
// (MQTT 5), then close. Deliveries still queued are dropped.
func (c *conn) disconnect(code byte, why string) {
	c.mu.Lock()
	c.disconnectLocked(code, why)
	c.mu.Unlock()
}

// disconnectLocked is disconnect for those who hold mu.
func (c *conn) disconnectLocked(code byte, why string) {
	if c.closing.Swap(true) {
		return
	}
	c.why = why
	if c.open && !c.said && code != noDisconnectMessage {
		c.said = true
		c.control = appendDisconnect(c.control, c.version, code)
	}
	if c.cancel != nil {
		c.cancel()
	}
	c.rare.stopTimers()
	if c.full {
		c.full = false
		c.holds.Add(-1)
	}
	c.driver.stop()
}

// fail ends the connection from its input, which returns the error.
func (c *conn) fail(code byte, text string) error {
	f := &packet.Fault{Code: code, Text: text}
	c.refuse(f)
	return f
}

// refuse ends the connection for a fault of its client. Before the CONNACK an
// MQTT 5 client reads the code there (MQTT 5, 4.13.1), unless what it sent was
// no CONNECT by any reading; afterwards in a DISCONNECT.
func (c *conn) refuse(f *packet.Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open && !c.said && !c.closing.Load() && f.Code != codeMalformed {
		c.said = true
		c.control = appendConnackError(c.control, c.version, f.Code)
	}
	c.disconnectLocked(f.Code, cause(f.Code))
	c.b.cfg.Log.Debug("mqtt client refused", "client", c.client, "remote", c.driver.remote(), "cause", f.Text)
}

// ended lets go of the session, once, from the driver, when nothing holds the
// input any more.
func (c *conn) ended() {
	c.b.endSession(c)
	c.mu.Lock()
	c.isGone = true
	if c.rare != nil && c.rare.gone != nil {
		close(c.rare.gone)
	}
	why := c.why
	c.mu.Unlock()
	c.in = nil
	c.b.metrics.disconnects.WithLabelValues(why).Inc()
	c.b.cfg.Log.Debug("mqtt connection ended", "client", c.client, "remote", c.driver.remote(), "cause", why)
}

// awaitGone returns when the session let go of the connection.
func (c *conn) awaitGone(ctx context.Context) error {
	c.mu.Lock()
	if c.isGone {
		c.mu.Unlock()
		return nil
	}
	r := c.rarely()
	if r.gone == nil {
		r.gone = make(chan struct{})
	}
	gone := r.gone
	c.mu.Unlock()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// patience is how long the client may stay silent before it counts as lost
// (MQTT 5, 3.1.2.10), 0 for ever.
func (c *conn) patience() time.Duration {
	switch {
	case !c.greeted:
		return c.b.cfg.ConnectTimeout
	case c.proving():
		return 0 // tooLong has an eye on it
	}
	return c.keepAlive + c.keepAlive/2
}

// stall is how long one write may wait for the client to read.
func (c *conn) stall() time.Duration {
	switch {
	case c.closing.Load():
		return flushTimeout
	case c.keepAlive > 0:
		return 3 * c.keepAlive
	}
	return writeStall
}

// topicOf resolves a topic alias (MQTT 5, 3.3.2.3.4).
func (c *conn) topicOf(name []byte, alias uint16) (string, error) {
	if alias > maxAliases {
		return "", c.fail(codeBadAlias, "topic alias out of range")
	}
	if len(name) == 0 {
		topic := c.aliases[alias]
		if topic == "" {
			return "", c.fail(codeProtocol, "unknown topic alias")
		}
		return topic, nil
	}
	topic := c.lastTopic
	if string(name) != topic { // devices repeat themselves
		topic = string(name)
		if err := interest.ValidTopic(topic); err != nil {
			return "", c.fail(codeBadTopic, err.Error())
		}
		c.lastTopic = topic
	}
	if alias > 0 {
		if c.aliases == nil {
			c.aliases = make(map[uint16]string, maxAliases)
		}
		c.aliases[alias] = topic
	}
	return topic, nil
}
