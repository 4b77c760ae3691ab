package bridge

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/mochi-mqtt/server/v2/packets"
)

// errTooLarge is wrapped where a packet exceeds the limit of Config.MaxPacket.
var errTooLarge = errors.New("packet too large")

// readPacket reads one packet that a broker sent to a client. It allocates no
// more than limit bytes, and no more than a little beyond what has arrived.
func readPacket(r *bufio.Reader, version byte, limit int) (*packets.Packet, error) {
	first, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	size, err := readLength(r)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%w: the broker sends one of %d bytes, max_packet is %d", errTooLarge, size, limit)
	}
	pk := &packets.Packet{ProtocolVersion: version}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return nil, fmt.Errorf("malformed packet 0x%02x: %w", first, err)
	}
	pk.FixedHeader.Remaining = size
	body, err := readBody(r, size)
	if err != nil {
		return nil, err
	}
	if err := decode(pk, body); err != nil {
		return nil, fmt.Errorf("malformed %s: %w", packets.PacketNames[pk.FixedHeader.Type], err)
	}
	return pk, nil
}

// readLength reads a variable byte integer (MQTT 5, 1.5.5).
func readLength(r io.ByteReader) (int, error) {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, unexpected(err)
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errors.New("malformed packet length")
}

// readBody reads n bytes and grows as they come, so that a length alone costs
// nothing.
func readBody(r io.Reader, n int) ([]byte, error) {
	const step = 64 << 10
	body := make([]byte, 0, min(n, step))
	for len(body) < n {
		had := len(body)
		if had == cap(body) {
			grown := make([]byte, had, min(n, 2*cap(body)))
			copy(grown, body)
			body = grown
		}
		body = body[:cap(body)]
		if _, err := io.ReadFull(r, body[had:]); err != nil {
			return nil, unexpected(err)
		}
	}
	return body, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// decode fills in pk from its body. Packets that only clients send are
// protocol errors.
func decode(pk *packets.Packet, body []byte) error {
	switch pk.FixedHeader.Type {
	case packets.Connack:
		if len(body) == 2 {
			pk.ProtocolVersion = 4 // how a broker that does not know MQTT 5 refuses it
		}
		return pk.ConnackDecode(body)
	case packets.Publish:
		if err := pk.PublishDecode(body); err != nil {
			return err
		}
		if pk.TopicName == "" || pk.FixedHeader.Qos > 0 && pk.PacketID == 0 {
			return errors.New("without topic or packet id") // we allow no aliases
		}
		return nil
	case packets.Puback:
		return pk.PubackDecode(body)
	case packets.Pubrec:
		return pk.PubrecDecode(body)
	case packets.Pubrel:
		return pk.PubrelDecode(body)
	case packets.Pubcomp:
		return pk.PubcompDecode(body)
	case packets.Suback:
		return pk.SubackDecode(body)
	case packets.Pingresp:
		return nil
	case packets.Disconnect:
		if pk.ProtocolVersion >= 5 {
			return pk.DisconnectDecode(body)
		}
	}
	return errors.New("a client is not sent this")
}

// encode appends pk to b.
func encode(b *bytes.Buffer, pk *packets.Packet) error {
	pk.Mods.AllowResponseInfo = true // without it the codec drops response topics
	switch pk.FixedHeader.Type {
	case packets.Connect:
		return pk.ConnectEncode(b)
	case packets.Publish:
		return pk.PublishEncode(b)
	case packets.Puback:
		return pk.PubackEncode(b)
	case packets.Pubrec:
		return pk.PubrecEncode(b)
	case packets.Pubrel:
		return pk.PubrelEncode(b)
	case packets.Pubcomp:
		return pk.PubcompEncode(b)
	case packets.Subscribe:
		return pk.SubscribeEncode(b)
	case packets.Pingreq:
		return pk.PingreqEncode(b)
	case packets.Disconnect:
		return pk.DisconnectEncode(b)
	}
	return fmt.Errorf("no client sends packet type %d", pk.FixedHeader.Type)
}

// ack makes a PUBACK, PUBREC, PUBREL or PUBCOMP.
func ack(kind byte, id uint16, version byte) *packets.Packet {
	pk := &packets.Packet{FixedHeader: packets.FixedHeader{Type: kind}, PacketID: id, ProtocolVersion: version}
	if kind == packets.Pubrel {
		pk.FixedHeader.Qos = 1 // the fixed bits (MQTT 5, 3.6.1)
	}
	return pk
}
