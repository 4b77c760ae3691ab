package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// patience bounds every wait for a broker's answer while a client connects.
// It is far beyond what a busy machine needs.
const patience = time.Minute

// Handler takes the packets of one connection, in the goroutine of its loop.
type Handler interface {
	// Packet takes one; the body is valid until it returns.
	Packet(first byte, body []byte) error
	// Turned follows the packets of one read: the moment to send what they
	// brought about.
	Turned() error
}

// Client says who connects and to what it subscribes.
type Client struct {
	Name       string
	KeepAlive  uint16 // seconds, 0 for none
	Filter     string // "" for no subscription
	QoS        byte
	Persistent bool // the session outlives its connection
}

// greet connects as an MQTT client and subscribes. What came after the SUBACK
// is returned in rest.
func (c Client) greet(ctx context.Context, addr string) (conn net.Conn, rest []byte, err error) {
	var d net.Dialer
	if conn, err = d.DialContext(ctx, "tcp", addr); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("connect %s: %w", c.Name, err), conn.Close())
		}
	}()
	if err = conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, nil, err
	}
	body, rest, err := exchange(conn, AppendConnect(nil, c.Name, c.KeepAlive, c.Persistent), nil, Connack)
	if err == nil && (len(body) != 2 || body[1] != 0) {
		err = fmt.Errorf("connection refused: CONNACK % x", body)
	}
	if err != nil || c.Filter == "" {
		return conn, rest, err
	}
	body, rest, err = exchange(conn, AppendSubscribe(nil, 1, c.Filter, c.QoS), rest, Suback)
	if err == nil && (len(body) != 3 || body[2] != c.QoS) {
		err = fmt.Errorf("subscribe to %s: SUBACK % x", c.Filter, body)
	}
	return conn, rest, err
}

// greeted is a connection whose client has its subscription.
type greeted struct {
	name string
	conn net.Conn
	rest []byte // what came after the SUBACK
}

// numbered is one of many.
type numbered struct {
	greeted

	number int
}

// dialers connect at a time: a broker may take a while for each.
const dialers = 32

// greetMany connects clients 0 to n-1. The channel has to be read to its end;
// failed tells then why there were fewer.
func greetMany(ctx context.Context, addr string, n int, who func(i int) Client) (_ <-chan numbered, failed func() error) {
	ctx, cancel := context.WithCancelCause(ctx)
	out := make(chan numbered)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range dialers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				c := who(i)
				conn, rest, err := c.greet(ctx, addr)
				if err != nil {
					cancel(fmt.Errorf("connection %d: %w", i+1, err))
					return
				}
				out <- numbered{greeted{c.Name, conn, rest}, i}
			}
		})
	}
	go func() { // ends with the dialers
		wg.Wait()
		close(out)
	}()
	return out, func() error {
		err := context.Cause(ctx)
		cancel(nil)
		return err
	}
}

// exchange sends a packet and returns the body of its answer, which must be of
// the kind wanted, and what came after it. have came before.
func exchange(conn net.Conn, packet, have []byte, want byte) (body, rest []byte, err error) {
	if _, err := conn.Write(packet); err != nil {
		return nil, nil, err
	}
	buf := make([]byte, 256)
	for {
		first, body, n, err := Next(have)
		if err == nil && n > 0 && first != want {
			err = fmt.Errorf("packet 0x%02x came, want 0x%02x", first, want)
		}
		if err != nil || n > 0 {
			return body, have[n:], err
		}
		if n, err = conn.Read(buf); err != nil {
			return nil, nil, err
		}
		have = append(have, buf[:n]...)
	}
}

// Probe connects once and leaves: it reports whether a broker takes clients.
func Probe(ctx context.Context, addr string) error {
	conn, _, err := Client{Name: "bench-probe"}.greet(ctx, addr)
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte{Disconnect, 0})
	return errors.Join(err, conn.Close())
}
