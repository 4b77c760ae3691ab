package broker

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/routing/interest"
)

const (
	maxControlOut = 512 << 10       // bytes of acknowledgements and the like a client may leave unread
	flushTimeout  = 2 * time.Second // for the last bytes into a local socket buffer, not for the link
	lingerTimeout = 500 * time.Millisecond
	writeStall    = 10 * time.Minute // a write without keep-alive may stall this long
)

var errGone = errors.New("connection closed")

// conn is one client connection. The engine reads from it and writes to it as
// a net.Conn; everything else of the package uses its fields.
type conn struct {
	net.Conn // the socket
	b        *Broker
	num      uint64
	frames   *frames
	ctx      context.Context // ends when the connection is to end
	cancel   context.CancelFunc
	closing  atomic.Bool
	gone     chan struct{} // closed when the session let go of the connection

	elsewhere atomic.Bool // the client is at another node now

	// Set by the reader before CONNACK, constant after.
	client     string
	user       string
	version    byte // 3, 4 or 5; 0 before CONNECT
	keepAlive  time.Duration
	maxSend    int // bytes of a packet the client takes, 0 = any
	noProblem  bool
	persistent bool
	window     int
	will       *will

	// Owned by the reader.
	engaged bool // the engine called us: a panic is ours, not its codec's
	greeted bool // the CONNECT was seen
	present bool
	subs    map[string]*liveSub
	aliases map[uint16]string
	expiry  uint32
	polite  bool // the client said DISCONNECT 0x00: no will
	left    bool // the client said DISCONNECT

	mu         sync.Mutex // guards what follows
	room       sync.Cond  // signalled when pending shrinks, the writer ends, the connection closes
	open       bool       // CONNACK is out, deliveries may flow
	said       bool       // our last word, a DISCONNECT or a refusing CONNACK, is in control
	why        string     // label of the disconnect
	writing    bool       // a writer runs
	sealed     bool       // no further writer may start
	control    []byte     // encoded packets that are no PUBLISH
	early      []byte     // the same, to follow the CONNACK
	queue      ring[delivery]
	queueBytes int
	backlog    []delivery // retained messages for a new subscription, held by the retained store
	live       liveWindow
	out        map[uint16]outbound // persistent deliveries by packet id
	inbound    map[uint16]*inboundID
	pending    ring[*pending]
	pendBytes  int
	draining   bool
	unacked    int // inbound QoS 1 and 2 the client may count as open
}

func newConn(b *Broker, raw net.Conn, num uint64) *conn {
	c := &conn{Conn: raw, b: b, num: num, gone: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.room.L = &c.mu
	c.frames = newFrames(raw, b.cfg.MaxPacket, maxControl)
	return c
}

// Read implements net.Conn for the engine.
func (c *conn) Read(p []byte) (int, error) {
	if c.closing.Load() {
		return 0, errGone
	}
	return c.frames.Read(p)
}

// Write implements net.Conn for the engine: CONNACK, PINGRESP, DISCONNECT. It
// never blocks; the writer sends.
func (c *conn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch p[0] >> 4 {
	case typeDisconnect:
		if c.said || c.version < 5 {
			return len(p), nil
		}
		c.said = true
	case typeConnack:
		if len(p) == 4 && p[3] > 5 { // no return code of MQTT 3.1.1: close silently
			return len(p), nil
		}
	}
	c.control = append(c.control, p...)
	c.kick()
	return len(p), nil
}

// Close implements net.Conn for the engine. The socket outlives it: serve
// closes it once the last bytes are out.
func (c *conn) Close() error { return nil }

// SetDeadline implements net.Conn for the engine, which calls it before each
// packet. The engine's own time overflows at keep-alives over 43,690 s and
// covers writes too, so it is not used.
func (c *conn) SetDeadline(time.Time) error {
	var t time.Time
	if c.keepAlive > 0 {
		t = time.Now().Add(c.keepAlive + c.keepAlive/2) // MQTT 5, 3.1.2.10
	}
	err := c.Conn.SetReadDeadline(t)
	if c.closing.Load() {
		c.wake()
	}
	return err
}

// wake ends a blocked read.
func (c *conn) wake() { _ = c.Conn.SetReadDeadline(time.Unix(1, 0)) }

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
	c.cancel()
	c.room.Broadcast()
	c.kick()
	_ = c.Conn.SetWriteDeadline(time.Now().Add(flushTimeout))
	c.wake()
}

// fail ends the connection from its reader, which returns the error.
func (c *conn) fail(code byte, text string) error {
	c.disconnect(code, cause(code))
	return &fault{code, text}
}

// serve runs the connection from accept to close.
func (c *conn) serve() {
	_ = c.Conn.SetReadDeadline(time.Now().Add(c.b.cfg.ConnectTimeout))
	err := c.b.engine.serve(c)
	var f *fault
	switch {
	case c.left:
		c.disconnect(noDisconnectMessage, "client")
	case errors.As(err, &f):
		c.disconnect(f.code, cause(f.code))
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.disconnect(codeKeepAlive, cause(codeKeepAlive))
	default:
		c.disconnect(noDisconnectMessage, "connection-lost")
	}
	c.b.endSession(c)
	close(c.gone)
	c.seal()
	c.linger()
	_ = c.Conn.Close()
	c.b.metrics.disconnects.WithLabelValues(c.why).Inc()
	c.b.cfg.Log.Debug("mqtt connection ended", "client", c.client, "remote", c.RemoteAddr().String(), "cause", c.why, "err", err)
}

// seal waits for the writer's last bytes and lets none start again.
func (c *conn) seal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing {
		c.room.Wait()
	}
	c.sealed = true
}

// linger lets the client read our last packet: closing a socket with unread
// input resets it, and the reset overtakes what was written.
func (c *conn) linger() {
	c.mu.Lock()
	said := c.said
	c.mu.Unlock()
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !said || !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.Conn.SetReadDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.CopyN(io.Discard, c.Conn, 1<<20)
}

// topicOf resolves a topic alias (MQTT 5, 3.3.2.3.4).
func (c *conn) topicOf(topic string, alias uint16, has bool) (string, error) {
	if has {
		if alias == 0 || alias > maxAliases {
			return "", c.fail(codeBadAlias, "topic alias out of range")
		}
		if topic == "" {
			if topic = c.aliases[alias]; topic == "" {
				return "", c.fail(codeProtocol, "unknown topic alias")
			}
			return topic, nil
		}
	}
	if topic == "" {
		return "", c.fail(codeProtocol, "PUBLISH without topic")
	}
	if err := interest.ValidTopic(topic); err != nil {
		return "", c.fail(codeBadTopic, err.Error())
	}
	if has {
		if c.aliases == nil {
			c.aliases = make(map[uint16]string, maxAliases)
		}
		c.aliases[alias] = topic
	}
	return topic, nil
}
