package contact

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/farhop/farhop/sim/bench/mqtt/load"
)

const (
	topic    = "bench/contact"
	batch    = 10 // messages that wait for each contact
	msgBytes = 64
)

// arrivals is what came to the subscriber over all its connections.
type arrivals struct {
	mu       sync.Mutex
	at       map[uint64]time.Time // of first copies, by number
	repeated int
}

func (a *arrivals) came(now time.Time, n uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, twice := a.at[n]; twice {
		a.repeated++
		return
	}
	a.at[n] = now
}

// of returns when the messages from number first to last came, in order of
// their numbers, but for those that did not.
func (a *arrivals) of(first, last uint64) (out []time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := first; n <= last; n++ {
		if at, ok := a.at[n]; ok {
			out = append(out, at)
		}
	}
	return out
}

// client is one connection of an MQTT 3.1.1 client.
type client struct {
	conn net.Conn
	have []byte // read, and not taken yet
}

// dial connects. kept says that the broker has a session of it.
func dial(ctx context.Context, at, name string, persistent bool) (_ *client, kept bool, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, false, err
	}
	c := &client{conn: conn}
	body, err := c.ask(load.AppendConnect(nil, name, 0, persistent), load.Connack)
	if err == nil && (len(body) != 2 || body[1] != 0) {
		err = fmt.Errorf("CONNACK % x", body)
	}
	if err != nil {
		return nil, false, errors.Join(fmt.Errorf("connect %s to %s: %w", name, at, err), conn.Close())
	}
	return c, body[0] == 1, nil
}

// ask sends a packet and returns the body of the answer.
func (c *client) ask(packet []byte, want byte) ([]byte, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(packet); err != nil {
		return nil, err
	}
	first, body, err := c.next()
	if err == nil && first != want {
		err = fmt.Errorf("packet 0x%02x came, want 0x%02x", first, want)
	}
	return body, errors.Join(err, c.conn.SetReadDeadline(time.Time{}))
}

// next reads a packet. Its body is the caller's.
func (c *client) next() (first byte, body []byte, err error) {
	buf := make([]byte, 4096)
	for {
		first, body, n, err := load.Next(c.have)
		if err != nil || n > 0 {
			c.have = c.have[n:]
			return first, body, err
		}
		if n, err = c.conn.Read(buf); err != nil {
			return 0, nil, err
		}
		c.have = append(slices.Clip(c.have), buf[:n]...) // who has a body keeps it
	}
}

// leave says goodbye.
func (c *client) leave() error {
	_, err := c.conn.Write([]byte{load.Disconnect, 0})
	return errors.Join(err, c.conn.Close())
}

// publish sends messages with QoS 1, each when the one before is acknowledged.
func (c *client) publish(first, last uint64) error {
	payload := make([]byte, msgBytes)
	for n := first; n <= last; n++ {
		binary.BigEndian.PutUint64(payload, n)
		if _, err := c.ask(load.AppendPublish(nil, topic, 1, uint16(n%60_000)+1, payload), load.Puback); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	return nil
}

// receive takes messages in until the connection ends.
func (c *client) receive(into *arrivals) {
	for {
		first, body, err := c.next()
		if err != nil {
			return // its node was stopped, or the run is over
		}
		head := 2 + len(topic) + 2
		if first&0xF6 != load.Publish|1<<1 || len(body) < head+8 {
			continue
		}
		into.came(time.Now(), binary.BigEndian.Uint64(body[head:]))
		if _, err := c.conn.Write([]byte{load.Puback, 2, body[head-2], body[head-1]}); err != nil {
			return
		}
	}
}
