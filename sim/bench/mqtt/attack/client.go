package attack

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"

	"github.com/farhop/farhop/sim/bench/mqtt/load"
)

// patience bounds a wait for the broker.
const patience = 20 * time.Second

// client is a connection whose MQTT is written by hand.
type client struct {
	a    *attacker
	conn net.Conn
	r    *bufio.Reader
	stop func() bool
}

// hello is what a CONNECT says.
type hello struct {
	id         string
	persistent bool
	v5         bool
	expiry     uint32 // of MQTT 5
	will       string // topic
}

// connect appends a CONNECT (MQTT 5, 3.1).
func connect(h hello) []byte {
	flags := byte(2)
	if h.persistent {
		flags = 0
	}
	if h.will != "" {
		flags |= 4 | 1<<3 // QoS 1
	}
	level := byte(4)
	if h.v5 {
		level = 5
	}
	b := []byte{0, 4, 'M', 'Q', 'T', 'T', level, flags, 0, 60}
	if h.v5 {
		b = binary.BigEndian.AppendUint32(append(b, 5, 0x11), h.expiry)
	}
	b = text(b, h.id)
	if h.will != "" {
		if h.v5 {
			b = append(b, 0)
		}
		b = text(text(b, h.will), "gone")
	}
	return packet(load.Connect, b)
}

func text(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// packet puts a header before a body (MQTT 5, 2.1).
func packet(first byte, body []byte) []byte { return append(header(first, len(body)), body...) }

func header(first byte, n int) []byte {
	b := []byte{first}
	for ; n >= 128; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// subscribe makes a SUBSCRIBE of MQTT 3.1.1.
func subscribe(qos byte, filters ...string) []byte {
	b := []byte{0, 1}
	for _, f := range filters {
		b = append(text(b, f), qos)
	}
	return packet(load.Subscribe, b)
}

func unsubscribe(id uint16, filters ...string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	for _, f := range filters {
		b = text(b, f)
	}
	return packet(0xA2, b)
}

// publish makes a PUBLISH of MQTT 3.1.1.
func publish(topic string, qos byte, retain bool, id uint16, payload []byte) []byte {
	b := load.AppendPublish(nil, topic, qos, id, payload)
	if retain {
		b[0] |= 1
	}
	return b
}

// open makes a TCP connection. The end of ctx ends it, and it leaves no port
// behind that would have to wait.
func (a *attacker) open(ctx context.Context) (*client, error) {
	d := net.Dialer{Timeout: patience}
	conn, err := d.DialContext(ctx, "tcp", a.addr)
	if err != nil {
		a.refused.Add(1)
		return nil, err
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	c := &client{a: a, conn: conn}
	c.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	return c, nil
}

func (c *client) close() {
	c.stop()
	_ = c.conn.Close()
}

// write counts what it sends.
func (c *client) write(b []byte) error {
	n, err := c.conn.Write(b)
	c.a.bytes.Add(uint64(n))
	if err != nil {
		c.a.cut.Add(1)
		return err
	}
	c.a.packets.Add(1)
	return nil
}

var errRefused = errors.New("refused")

// login opens a connection and has its CONNECT answered.
func (a *attacker) login(ctx context.Context, h hello) (*client, error) {
	c, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	if _, err = c.conn.Write(connect(h)); err == nil {
		var first byte
		var body []byte
		if first, body, err = c.next(); err == nil && (first != load.Connack || body[1] != 0) {
			err = errRefused
		}
	}
	if err != nil {
		a.refused.Add(1)
		c.close()
		return nil, err
	}
	_ = c.conn.SetDeadline(time.Time{})
	a.connects.Add(1)
	return c, nil
}

// next reads a packet.
func (c *client) next() (first byte, body []byte, err error) {
	if c.r == nil {
		c.r = bufio.NewReaderSize(c.conn, 512)
	}
	if first, err = c.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(c.r) // the same form as a remaining length
	if err != nil || n > 1<<21 {
		return 0, nil, errors.Join(err, errRefused)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(c.r, body)
	if err == nil && n < 2 {
		body = append(body, 0, 0)
	}
	return first, body, err
}

// await reads until a packet of the kind comes, and counts the failures in it.
func (c *client) await(kind byte) error {
	for {
		first, body, err := c.next()
		if err != nil {
			c.a.cut.Add(1)
			return err
		}
		if first&0xF0 != kind {
			continue
		}
		if kind == load.Suback {
			for _, code := range body[2:] {
				if code >= 0x80 {
					c.a.denied.Add(1)
				}
			}
		}
		return nil
	}
}

// swallow reads and forgets until the connection ends.
func (c *client) swallow() {
	_, _ = io.Copy(io.Discard, c.conn)
	c.a.cut.Add(1)
}
