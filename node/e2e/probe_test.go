//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// probe is an MQTT 5 client that says just what a test wants said.
type probe struct {
	t       *testing.T
	conn    net.Conn
	r       *bufio.Reader
	connack packets.Packet
}

// lasting makes a session outlive its connection.
func lasting(p *packets.Packet) {
	p.Connect.Clean = false
	p.Properties.SessionExpiryInterval, p.Properties.SessionExpiryIntervalFlag = 3600, true
}

// receiving makes a client that takes n messages at a time.
func receiving(n uint16) func(*packets.Packet) {
	return func(p *packets.Packet) { p.Properties.ReceiveMaximum = n }
}

// probeAt connects; change alters the CONNECT of a clean session.
func probeAt(t *testing.T, d *daemon, id string, change ...func(*packets.Packet)) *probe {
	t.Helper()
	conn, err := net.Dial("tcp", d.mqtt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := &probe{t: t, conn: conn, r: bufio.NewReader(conn)}
	hello := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	hello.Connect.ProtocolName, hello.Connect.Clean, hello.Connect.ClientIdentifier = []byte("MQTT"), true, id
	for _, f := range change {
		f(&hello)
	}
	p.send(hello)
	if p.connack = p.next(packets.Connack); p.connack.ReasonCode != 0 {
		t.Fatalf("%s: CONNACK %#x", id, p.connack.ReasonCode)
	}
	return p
}

func (p *probe) send(pks ...packets.Packet) {
	p.t.Helper()
	var buf bytes.Buffer
	for _, pk := range pks {
		pk.ProtocolVersion, pk.Mods.AllowResponseInfo = 5, true
		encode := map[byte]func(*bytes.Buffer) error{
			packets.Connect: pk.ConnectEncode, packets.Publish: pk.PublishEncode, packets.Puback: pk.PubackEncode,
			packets.Pubrec: pk.PubrecEncode, packets.Pubrel: pk.PubrelEncode, packets.Pubcomp: pk.PubcompEncode,
			packets.Subscribe: pk.SubscribeEncode, packets.Disconnect: pk.DisconnectEncode, packets.Pingreq: pk.PingreqEncode,
		}[pk.FixedHeader.Type]
		if err := encode(&buf); err != nil {
			p.t.Fatal(err)
		}
	}
	if _, err := p.conn.Write(buf.Bytes()); err != nil {
		p.t.Fatal(err)
	}
}

// next reads a packet, which must be of the type.
func (p *probe) next(typ byte) packets.Packet {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(patience))
	first, err := p.r.ReadByte()
	if err != nil {
		p.t.Fatalf("want %s: %v", packets.PacketNames[typ], err)
	}
	n, err := binary.ReadUvarint(p.r)
	body := make([]byte, min(n, 4<<20))
	if err == nil {
		_, err = io.ReadFull(p.r, body)
	}
	pk := packets.Packet{ProtocolVersion: 5}
	if err == nil {
		err = pk.FixedHeader.Decode(first)
	}
	if pk.FixedHeader.Remaining = len(body); err == nil {
		decode := map[byte]func([]byte) error{
			packets.Connack: pk.ConnackDecode, packets.Publish: pk.PublishDecode, packets.Puback: pk.PubackDecode,
			packets.Pubrec: pk.PubrecDecode, packets.Pubrel: pk.PubrelDecode, packets.Pubcomp: pk.PubcompDecode,
			packets.Suback: pk.SubackDecode, packets.Disconnect: pk.DisconnectDecode,
		}[pk.FixedHeader.Type]
		if decode != nil {
			err = decode(body)
		}
	}
	if err != nil || pk.FixedHeader.Type != typ {
		p.t.Fatalf("got %s % x (%v), want %s", packets.PacketNames[first>>4], body, err, packets.PacketNames[typ])
	}
	return pk
}

// quiet proves that nothing more is under way.
func (p *probe) quiet() {
	p.t.Helper()
	p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	p.next(packets.Pingresp)
}

func (p *probe) leave() {
	p.t.Helper()
	p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	_, _ = io.Copy(io.Discard, p.conn)
}

func (p *probe) subscribe(qos byte, filters ...string) {
	p.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 65_000}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: qos})
	}
	p.send(pk)
	for _, code := range p.next(packets.Suback).ReasonCodes {
		if code != qos {
			p.t.Fatalf("SUBACK %#x", code)
		}
	}
}

func message(topic, payload string, qos byte, id uint16) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, Payload: []byte(payload), PacketID: id}
}

func answer(typ byte, id uint16) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: typ}, PacketID: id}
	if typ == packets.Pubrel {
		pk.FixedHeader.Qos = 1
	}
	return pk
}

// publish sends n messages with QoS 1, numbered from 0, and waits until all are
// acknowledged; many are under way at one time.
func (p *probe) publish(topic string, n int) {
	p.t.Helper()
	const window = 500
	for at := 0; at < n; at += window {
		var some []packets.Packet
		for i := at; i < min(n, at+window); i++ {
			some = append(some, message(topic, fmt.Sprint(i), 1, uint16(1+i%window)))
		}
		p.send(some...)
		for range some {
			if pk := p.next(packets.Puback); pk.ReasonCode >= 0x80 {
				p.t.Fatalf("PUBACK %#x", pk.ReasonCode)
			}
		}
	}
}

// receive reads n messages of QoS 1, acknowledges each, and wants them once and
// in order.
func (p *probe) receive(n int) {
	p.t.Helper()
	for i := range n {
		pk := p.next(packets.Publish)
		if string(pk.Payload) != fmt.Sprint(i) {
			p.t.Fatalf("message %d: got %s", i, pk.Payload)
		}
		p.send(answer(packets.Puback, pk.PacketID))
	}
	p.quiet()
}
