package bridge

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// errClosed is returned by an outbox whose connection ends.
var errClosed = errors.New("connection closed")

// errFlood is of a broker that asks for answers and does not take them.
var errFlood = errors.New("it asks for more answers than it reads")

const (
	batch      = 256 << 10 // bytes of one write, about
	minControl = 1 << 20   // bytes of control packets that may wait at the least: of the largest window
)

// outbox is what waits for one broker's socket: acknowledgements, which always
// go first, and publishes, which keep their order and wait until the broker's
// Receive Maximum has room (MQTT 5, 4.9).
type outbox struct {
	version byte
	limit   int           // bytes of publishes that may wait
	wake    chan struct{} // there is something to write

	mu      sync.Mutex
	room    sync.Cond // under mu: bytes fell, or closed
	control bytes.Buffer
	queue   []waiting
	bytes   int
	written uint64 // bytes given to the socket so far
	quota   int    // QoS 1 and 2 publishes the broker takes now
	most    int    // what quota began with and does not exceed
	closing bool
	dead    bool
	err     error // of encoding
}

// waiting is a publish in the queue.
type waiting struct {
	pk    *packets.Packet
	since time.Time // it is here, for message expiry
}

// aged is the packet with what is left of its lifetime, one second at least.
func (w waiting) aged(now time.Time) *packets.Packet {
	if w.pk.Properties.MessageExpiryInterval == 0 {
		return w.pk
	}
	pk := *w.pk // which may be sent again
	e := &pk.Properties.MessageExpiryInterval
	*e = max(*e-min(*e, uint32(now.Sub(w.since)/time.Second)), 1)
	return &pk
}

func newOutbox(version byte, limit, quota int) *outbox {
	o := &outbox{version: version, limit: limit, quota: quota, most: quota, wake: make(chan struct{}, 1)}
	o.room.L = &o.mu
	return o
}

func (o *outbox) kick() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// send queues a control packet. They are as many as publishes are under way,
// which the windows bound; a broker that makes more of them and does not read
// them loses the connection.
func (o *outbox) send(pk *packets.Packet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing {
		return
	}
	if o.control.Len() >= max(o.limit, minControl) {
		o.fail(errFlood)
		return
	}
	o.fail(encode(&o.control, pk))
	o.kick()
}

// failure is what send could not do.
func (o *outbox) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

func (o *outbox) fail(err error) {
	if err != nil && o.err == nil {
		o.err = err
	}
}

// publish queues a PUBLISH. A full box drops QoS 0 and reports false, and
// holds the caller up for the others until there is room.
func (o *outbox) publish(w waiting) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.bytes >= o.limit && !o.closing {
		if w.pk.FixedHeader.Qos == 0 {
			return false, nil
		}
		o.room.Wait()
	}
	if o.closing {
		return false, errClosed
	}
	o.push(w)
	return true, nil
}

func (o *outbox) push(w waiting) {
	o.bytes += weight(w.pk)
	o.queue = append(o.queue, w)
	o.kick()
}

// again queues a PUBLISH that was refused. It waits for no room: who calls
// keeps no more of them than fit.
func (o *outbox) again(w waiting) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closing {
		o.push(w)
	}
}

// weight is what a PUBLISH counts, in bytes.
func weight(pk *packets.Packet) int { return len(pk.Payload) + len(pk.TopicName) + 64 }

// settled gives back the room of one publish at the broker.
func (o *outbox) settled() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.quota = min(o.quota+1, o.most) // a PUBCOMP may belong to an earlier connection
	if len(o.queue) > 0 {
		o.kick()
	}
}

// idle reports whether nothing waits, and how many bytes went to the socket.
func (o *outbox) idle() (idle bool, written uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue) == 0 && o.control.Len() == 0, o.written
}

// close ends the box: publishes that wait are forgotten, for their broker
// sends them again; acknowledgements are still written, and a DISCONNECT.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closing {
		o.closing = true
		o.queue = nil
		o.fail(encode(&o.control, &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ProtocolVersion: o.version}))
	}
	o.room.Broadcast()
	o.kick()
}

// kill ends the box without another write.
func (o *outbox) kill() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closing, o.dead, o.queue = true, true, nil
	o.room.Broadcast()
	o.kick()
}

// run writes until the box is closed.
func (o *outbox) run(conn net.Conn) error {
	var b bytes.Buffer
	for range o.wake {
		for {
			b.Reset()
			last, err := o.take(&b)
			if err != nil {
				return err
			}
			if b.Len() > 0 {
				if _, err := conn.Write(b.Bytes()); err != nil {
					return err
				}
			}
			if last {
				return errClosed
			}
			if b.Len() == 0 {
				break
			}
		}
		if b.Cap() > 4*batch {
			b = bytes.Buffer{}
		}
	}
	return nil
}

// take moves what may be written now into b and reports whether it is the
// last.
func (o *outbox) take(b *bytes.Buffer) (last bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead {
		return true, o.err
	}
	b.Write(o.control.Bytes())
	o.control.Reset()
	n := 0
	for n < len(o.queue) && b.Len() < batch {
		w := o.queue[n]
		if w.pk.FixedHeader.Qos > 0 {
			if o.quota == 0 {
				break
			}
			o.quota--
		}
		o.fail(encode(b, w.aged(time.Now())))
		o.bytes -= weight(w.pk)
		n++
	}
	if n > 0 {
		clear(o.queue[:n])
		o.queue = o.queue[n:]
		o.room.Broadcast()
	}
	o.written += uint64(b.Len())
	return o.closing, o.err
}
