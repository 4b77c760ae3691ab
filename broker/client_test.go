package broker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// patience is how long a test waits for what must happen; no test asserts how
// long anything took.
const patience = 20 * time.Second

// world is a running broker with its fake node.
type world struct {
	t      testing.TB
	b      *Broker
	node   *fakeNode
	stop   func() // ends the broker and waits for it
	ended  chan error
	ctxEnd context.CancelFunc
}

func start(t testing.TB, change func(*Config)) *world {
	t.Helper()
	cfg := Config{Listen: "127.0.0.1:0"}
	if change != nil {
		change(&cfg)
	}
	node := newFakeNode()
	b, err := New(cfg, node)
	if err != nil {
		t.Fatal(err)
	}
	node.b = b
	ctx, cancel := context.WithCancel(context.Background())
	w := &world{t: t, b: b, node: node, ended: make(chan error, 1), ctxEnd: cancel}
	if strings.HasPrefix(t.Name(), pumped) {
		go func() { w.ended <- runPumped(ctx, b) }()
	} else {
		go func() { w.ended <- b.Run(ctx) }()
	}
	select {
	case <-b.Listening():
	case err := <-w.ended:
		t.Fatal(err)
	}
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-w.ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
		node.stop()
	}
	t.Cleanup(w.stop)
	return w
}

// pumped begins the names of tests that serve clients as those of transports
// that cannot be polled.
const pumped = "TestPumped/"

// runPumped is Run on a listener whose sockets the pollers do not know.
func runPumped(ctx context.Context, b *Broker) error {
	l, err := net.Listen("tcp", b.cfg.Listen)
	if err != nil {
		return err
	}
	return b.runOn(ctx, []net.Listener{struct{ net.Listener }{l}})
}

// client is a raw MQTT client: what it sends is what the test says.
type client struct {
	t       testing.TB
	conn    net.Conn
	r       *bufio.Reader
	version byte
	connack packets.Packet
	kept    []packets.Packet // read too early by a helper
}

func (c *client) pushBack(pks []packets.Packet) { c.kept = append(pks, c.kept...) }

func (w *world) raw() *client {
	w.t.Helper()
	conn, err := w.dial()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return &client{t: w.t, conn: conn, r: bufio.NewReader(conn), version: 4}
}

// inMemory begins the names of tests whose clients are in this process.
const inMemory = "TestInMemory/"

func (w *world) dial() (net.Conn, error) {
	if strings.HasPrefix(w.t.Name(), inMemory) {
		return w.b.Connect()
	}
	return net.Dial("tcp", w.b.Addr().String())
}

// connect opens a clean session; change may alter the CONNECT.
func (w *world) connect(id string, version byte, change func(*packets.Packet)) *client {
	w.t.Helper()
	c := w.raw()
	c.version = version
	c.send(connectPacket(id, version, change))
	c.connack = c.next(packets.Connack)
	return c
}

func connectPacket(id string, version byte, change func(*packets.Packet)) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: version}
	pk.Connect.ProtocolName = []byte("MQTT")
	pk.Connect.Clean = true
	pk.Connect.ClientIdentifier = id
	if change != nil {
		change(&pk)
	}
	return pk
}

func persistent(pk *packets.Packet) {
	pk.Connect.Clean = false
	if pk.ProtocolVersion == 5 {
		pk.Properties.SessionExpiryInterval = 3600
		pk.Properties.SessionExpiryIntervalFlag = true
	}
}

func (c *client) send(pk packets.Packet) {
	c.t.Helper()
	if _, err := c.conn.Write(encode(c.t, c.version, pk)); err != nil {
		c.t.Fatal(err)
	}
}

func encode(t testing.TB, version byte, pk packets.Packet) []byte {
	t.Helper()
	pk.ProtocolVersion = version
	pk.Mods.AllowResponseInfo = true
	var buf bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&buf)
	case packets.Publish:
		err = pk.PublishEncode(&buf)
	case packets.Puback, packets.Pubrec, packets.Pubcomp:
		err = pk.PubackEncode(&buf)
	case packets.Pubrel:
		pk.FixedHeader.Qos = 1
		err = pk.PubrelEncode(&buf)
	case packets.Subscribe:
		pk.FixedHeader.Qos = 1
		err = pk.SubscribeEncode(&buf)
	case packets.Unsubscribe:
		pk.FixedHeader.Qos = 1
		err = pk.UnsubscribeEncode(&buf)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&buf)
	default:
		err = pk.PingreqEncode(&buf)
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// read returns the next packet, or the error that ended the connection.
func (c *client) read() (packets.Packet, error) {
	if len(c.kept) > 0 {
		pk := c.kept[0]
		c.kept = c.kept[1:]
		return pk, nil
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	b, err := c.r.ReadByte()
	if err != nil {
		return packets.Packet{}, err
	}
	n, _, err := packets.DecodeLength(c.r)
	if err != nil {
		return packets.Packet{}, err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return packets.Packet{}, err
	}
	return decode(c.version, b, body)
}

func decode(version, first byte, body []byte) (packets.Packet, error) {
	pk := packets.Packet{ProtocolVersion: version}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	pk.FixedHeader.Remaining = len(body)
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		err = pk.PubackDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Disconnect:
		if len(body) == 1 { // the codec reads no code without properties (MQTT 5, 3.14.2.2.1)
			pk.ReasonCode = body[0]
			break
		}
		err = pk.DisconnectDecode(body)
	case packets.Pingresp:
	case packets.Auth:
		err = pk.AuthDecode(body)
	default:
		err = fmt.Errorf("packet type %d from a server", pk.FixedHeader.Type)
	}
	return pk, err
}

// next reads one packet, which must be of the type.
func (c *client) next(typ byte) packets.Packet {
	c.t.Helper()
	pk, err := c.read()
	if err != nil {
		c.t.Fatalf("want %s: %v", packets.PacketNames[typ], err)
	}
	if pk.FixedHeader.Type != typ {
		c.t.Fatalf("got %s %+v, want %s", packets.PacketNames[pk.FixedHeader.Type], pk, packets.PacketNames[typ])
	}
	return pk
}

// ends reads until the connection is closed and returns the last packet.
func (c *client) ends() (last packets.Packet) {
	c.t.Helper()
	for {
		pk, err := c.read()
		if err == nil {
			last = pk
			continue
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			c.t.Fatal("the connection stays open")
		}
		return last
	}
}

// quiet proves that nothing is under way: the answer to a PINGREQ comes next.
func (c *client) quiet() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.next(packets.Pingresp)
}

func (c *client) subscribe(qos byte, filters ...string) []byte {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 9}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: qos})
	}
	c.send(pk)
	return c.next(packets.Suback).ReasonCodes
}

func publish(topic, payload string, qos byte, id uint16) packets.Packet {
	return packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic,
		Payload: []byte(payload), PacketID: id,
	}
}

func ack(typ byte, id uint16) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: typ}, PacketID: id}
}

// eventually waits for what other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
