package bench

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// First bytes of the MQTT 3.1.1 packets that a run needs (2.2.1). Version
// 3.1.1, because every broker of the last ten years speaks it alike.
const (
	firstConnect    = 0x10
	firstConnack    = 0x20
	firstPublish    = 0x32 // QoS 1
	firstPuback     = 0x40
	firstSubscribe  = 0x82
	firstSuback     = 0x90
	firstDisconnect = 0xE0
)

// maxPacket bounds what is taken from a server: the largest payload and its
// topic.
const maxPacket = maxSize + 4096

// payloadHeader is the part of a payload that says which message it is: the
// publisher and its number, 8 bytes each.
const payloadHeader = 16

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// appendHead appends first byte and remaining length (MQTT 3.1.1, 2.2.3).
func appendHead(b []byte, first byte, n int) []byte {
	b = append(b, first)
	for n >= 128 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// appendConnect appends a CONNECT without keep-alive: a server that is busy
// for a while is slow, not gone.
func appendConnect(b []byte, client string, clean bool) []byte {
	b = appendHead(b, firstConnect, 10+2+len(client))
	b = append(appendString(b, "MQTT"), 4, 0, 0, 0)
	if clean {
		b[len(b)-3] = 2
	}
	return appendString(b, client)
}

func appendSubscribe(b []byte, id uint16, filter string) []byte {
	b = appendHead(b, firstSubscribe, 2+2+len(filter)+1)
	b = binary.BigEndian.AppendUint16(b, id)
	return append(appendString(b, filter), 1)
}

func appendPublish(b []byte, topic string, id uint16, payload []byte) []byte {
	b = appendHead(b, firstPublish, 2+len(topic)+2+len(payload))
	b = binary.BigEndian.AppendUint16(appendString(b, topic), id)
	return append(b, payload...)
}

func appendPuback(b []byte, id uint16) []byte {
	return append(b, firstPuback, 2, byte(id>>8), byte(id))
}

// packet is one that came. Its body is valid until the next one is read.
type packet struct {
	first byte
	body  []byte
}

// packets reads packets off a stream.
type packets struct {
	r    *bufio.Reader
	body []byte
}

func newPackets(r io.Reader) *packets { return &packets{r: bufio.NewReaderSize(r, 64<<10)} }

// next waits for one packet.
func (p *packets) next() (packet, error) {
	first, err := p.r.ReadByte()
	if err != nil {
		return packet{}, err
	}
	n := 0
	for shift := 0; ; shift += 7 {
		b, err := p.r.ReadByte()
		if err != nil {
			return packet{}, noEOF(err)
		}
		if n |= int(b&0x7F) << shift; b < 0x80 {
			break
		}
		if shift == 21 {
			return packet{}, errors.New("malformed packet: its length has five bytes")
		}
	}
	if n > maxPacket {
		return packet{}, fmt.Errorf("packet of %d bytes, want at most %d", n, maxPacket)
	}
	if cap(p.body) < n {
		p.body = make([]byte, n)
	}
	p.body = p.body[:n]
	if _, err := io.ReadFull(p.r, p.body); err != nil {
		return packet{}, noEOF(err)
	}
	return packet{first, p.body}, nil
}

// waiting reports whether more has come already.
func (p *packets) waiting() bool { return p.r.Buffered() > 0 }

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// puback returns the packet id of a PUBACK.
func (p packet) puback() (uint16, error) {
	if p.first != firstPuback || len(p.body) < 2 {
		return 0, fmt.Errorf("packet 0x%02x of %d bytes came, want a PUBACK", p.first, len(p.body))
	}
	return binary.BigEndian.Uint16(p.body), nil
}

// published is a PUBLISH of QoS 1 that came.
type published struct {
	topic   []byte
	id      uint16
	payload []byte
}

func (p packet) publish() (published, error) {
	if p.first&0xF6 != firstPublish { // DUP and RETAIN may be set
		return published{}, fmt.Errorf("packet 0x%02x came, want a PUBLISH of QoS 1", p.first)
	}
	if len(p.body) < 2 {
		return published{}, errors.New("malformed PUBLISH: no topic")
	}
	n := 2 + int(binary.BigEndian.Uint16(p.body))
	if len(p.body) < n+2 {
		return published{}, errors.New("malformed PUBLISH: it ends in its topic or packet id")
	}
	return published{p.body[2:n], binary.BigEndian.Uint16(p.body[n:]), p.body[n+2:]}, nil
}
