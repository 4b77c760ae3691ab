package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// patience bounds every wait for a server on this machine. It is far beyond
// what a busy one needs; a run that reaches it has found a server that hangs.
const patience = 2 * time.Minute

// client is one connection to a server.
type client struct {
	conn    net.Conn
	in      *packets
	present bool // the server had the session
}

// dial connects as an MQTT client, clean or with a session that outlives the
// connection.
func dial(ctx context.Context, addr, name string, clean bool) (*client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, in: newPackets(conn)}
	p, err := c.request(appendConnect(nil, name, clean), firstConnack)
	if err == nil && (len(p.body) < 2 || p.body[1] != 0) {
		err = fmt.Errorf("connection refused: CONNACK % x", p.body)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect %s: %w", name, err), conn.Close())
	}
	c.present = p.body[0]&1 == 1
	return c, nil
}

// request sends a packet and waits for the answer to it.
func (c *client) request(b []byte, want byte) (packet, error) {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return packet{}, err
	}
	if _, err := c.conn.Write(b); err != nil {
		return packet{}, err
	}
	p, err := c.in.next()
	if err == nil && p.first != want {
		err = fmt.Errorf("packet 0x%02x came, want 0x%02x", p.first, want)
	}
	return p, err
}

func (c *client) subscribe(filter string) error {
	p, err := c.request(appendSubscribe(nil, 1, filter), firstSuback)
	if err == nil && (len(p.body) != 3 || p.body[2] > 2) {
		err = fmt.Errorf("SUBACK % x", p.body)
	}
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", filter, err)
	}
	return nil
}

// publish sends one message and waits until it is acknowledged.
func (c *client) publish(topic string, payload []byte) error {
	p, err := c.request(appendPublish(nil, topic, 1, payload), firstPuback)
	if err == nil {
		_, err = p.puback()
	}
	if err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// leave ends the connection as a client should.
func (c *client) leave() error {
	_, err := c.conn.Write([]byte{firstDisconnect, 0})
	return errors.Join(err, c.conn.Close())
}
