package bridge

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	neverExpires = math.MaxUint32 // session expiry (MQTT 5, 3.1.2.11.2)
	bridgeBit    = 0x80           // of the protocol version, Mosquitto's mark of a bridge
)

var (
	// errVersion is wrapped where the remote does not speak MQTT 5.
	errVersion = errors.New("the remote refuses this version of MQTT")
	// errHungUp is wrapped where it answers a CONNECT by closing, as MQTT
	// 3.1.1 allows ([MQTT-3.1.2-2]); so does a load balancer without servers.
	errHungUp = errors.New("it closes the connection on CONNECT")
)

// client is one connection to a broker after CONNACK.
type client struct {
	side    side
	conn    *heardConn
	r       *bufio.Reader
	version byte          // 4 or 5
	present bool          // the broker had the session
	rtt     time.Duration // from CONNECT to CONNACK

	keepAlive  time.Duration
	receiveMax int    // what we may have unacknowledged at the broker
	maxPacket  int    // bytes it takes
	maxQoS     byte   // it takes
	retain     bool   // it takes retained messages
	expiry     uint32 // how long it keeps the session, in seconds
}

// hello is what a CONNECT says.
type hello struct {
	side      side
	login     Login
	version   byte
	mark      bool // bridgeBit
	window    int  // our receive maximum
	maxPacket int
	keepAlive time.Duration
}

// connect speaks CONNECT on conn and closes it on failure. The deadline of ctx
// holds for the answer.
func connect(ctx context.Context, conn net.Conn, h hello) (*client, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	c, err := handshake(conn, h)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		stop()
		_ = conn.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("no CONNACK in time: %w", errors.Join(ctx.Err(), err))
		}
		return nil, fmt.Errorf("%s broker: %w", h.side, err)
	}
	return c, nil
}

func handshake(conn net.Conn, h hello) (*client, error) {
	pk, err := h.packet()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := encode(&b, pk); err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := conn.Write(b.Bytes()); err != nil {
		return nil, err
	}
	heard := &heardConn{Conn: conn}
	c := &client{side: h.side, conn: heard, r: bufio.NewReaderSize(heard, 64<<10), version: h.version}
	resp, err := readPacket(c.r, h.version, h.maxPacket)
	c.rtt = time.Since(began)
	switch {
	case errors.Is(err, io.EOF):
		return nil, errHungUp
	case err != nil:
		return nil, err
	case resp.FixedHeader.Type != packets.Connack:
		return nil, fmt.Errorf("%s in place of CONNACK", packets.PacketNames[resp.FixedHeader.Type])
	case resp.ReasonCode != 0:
		return nil, refusal(resp)
	}
	c.accept(h, resp)
	return c, nil
}

// packet makes the CONNECT.
func (h hello) packet() (*packets.Packet, error) {
	pk := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: h.version}
	if h.mark {
		pk.ProtocolVersion |= bridgeBit
	}
	pk.Connect.ProtocolName = []byte("MQTT")
	pk.Connect.ClientIdentifier = h.login.ClientID
	pk.Connect.Keepalive = uint16(min(h.keepAlive/time.Second, math.MaxUint16))
	password := []byte(h.login.Password)
	if h.login.PasswordFile != "" {
		data, err := os.ReadFile(h.login.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("password_file: %w", err)
		}
		password = bytes.TrimRight(data, "\r\n")
	}
	pk.Connect.Username, pk.Connect.UsernameFlag = []byte(h.login.Username), h.login.Username != ""
	pk.Connect.Password, pk.Connect.PasswordFlag = password, len(password) > 0
	if h.version == 5 {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = neverExpires, true
		pk.Properties.ReceiveMaximum = uint16(h.window)
		pk.Properties.MaximumPacketSize = uint32(h.maxPacket)
	}
	return pk, nil
}

// refusal puts a CONNACK's reason into words.
func refusal(pk *packets.Packet) error {
	code := pk.ReasonCode
	if pk.ProtocolVersion < 5 {
		if code == 1 {
			return fmt.Errorf("%w: code 1", errVersion)
		}
		text := map[byte]string{2: "client id rejected", 3: "server unavailable", 4: "bad user name or password", 5: "not authorized"}[code]
		return fmt.Errorf("it refuses the connection: code %d %s", code, text)
	}
	if code == packets.ErrUnsupportedProtocolVersion.Code {
		return fmt.Errorf("%w: code 0x84", errVersion)
	}
	return fmt.Errorf("it refuses the connection: code 0x%02x %s", code, reason(code, pk.Properties.ReasonString))
}

// reason names the usual codes of MQTT 5 (2.4), and what the broker says
// itself.
func reason(code byte, said string) string {
	text := map[byte]string{
		0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error", 0x83: "implementation specific error",
		0x85: "client id not valid", 0x86: "bad user name or password", 0x87: "not authorized", 0x88: "server unavailable",
		0x89: "server busy", 0x8a: "banned", 0x8b: "server shutting down", 0x8d: "keep alive timeout",
		0x8e: "session taken over: another connection uses this client id", 0x8f: "topic filter invalid", 0x90: "topic name invalid",
		0x91: "packet id in use", 0x93: "receive maximum exceeded", 0x95: "packet too large", 0x96: "message rate too high",
		0x97: "quota exceeded", 0x98: "administrative action", 0x99: "payload format invalid", 0x9a: "retain not supported",
		0x9b: "QoS not supported", 0x9c: "use another server", 0x9d: "server moved", 0x9e: "shared subscriptions not supported",
		0x9f: "connection rate exceeded", 0xa1: "subscription ids not supported", 0xa2: "wildcards not supported",
	}[code]
	if said != "" {
		text = strings.TrimSpace(text + ": " + said)
	}
	return text
}

// accept takes over what the CONNACK allows.
func (c *client) accept(h hello, pk *packets.Packet) {
	p := pk.Properties
	c.present, c.keepAlive = pk.SessionPresent, h.keepAlive
	c.receiveMax, c.maxPacket, c.maxQoS, c.retain, c.expiry = math.MaxUint16, math.MaxInt32, 2, true, neverExpires
	if c.version < 5 {
		return
	}
	if p.ServerKeepAliveFlag {
		c.keepAlive = time.Duration(p.ServerKeepAlive) * time.Second
	}
	if p.SessionExpiryIntervalFlag {
		c.expiry = p.SessionExpiryInterval
	}
	if p.ReceiveMaximum > 0 {
		c.receiveMax = int(p.ReceiveMaximum)
	}
	if p.MaximumPacketSize > 0 {
		c.maxPacket = int(min(p.MaximumPacketSize, math.MaxInt32))
	}
	if p.MaximumQosFlag {
		c.maxQoS = min(p.MaximumQos, 2)
	}
	c.retain = !p.RetainAvailableFlag || p.RetainAvailable != 0
}
