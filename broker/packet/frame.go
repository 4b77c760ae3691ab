package packet

import "fmt"

// Types of control packets (MQTT 5, 2.1.2).
const (
	TypeConnect     = 1
	TypeConnack     = 2
	TypePublish     = 3
	TypePuback      = 4
	TypePubrec      = 5
	TypePubrel      = 6
	TypePubcomp     = 7
	TypeSubscribe   = 8
	TypeSuback      = 9
	TypeUnsubscribe = 10
	TypeUnsuback    = 11
	TypePingreq     = 12
	TypePingresp    = 13
	TypeDisconnect  = 14
	TypeAuth        = 15
)

// Reason codes of faults this package finds (MQTT 5, 2.4).
const (
	CodeMalformed    = 0x81
	CodeProtocol     = 0x82
	CodeVersion      = 0x84
	CodeBadTopic     = 0x90
	CodeBadAlias     = 0x94
	CodeTooLarge     = 0x95
	maxHeader        = 5 // bytes of type, flags and length
	maxLengthDigits  = 4 // bytes of a variable byte integer (MQTT 5, 1.5.5)
	maxVersion5      = 5
	continuationMask = 0x80
)

// Fault is why a packet ends its connection: the reason code an MQTT 5 client
// reads and a text for the log.
type Fault struct {
	Code byte
	Text string
}

func (f *Fault) Error() string { return fmt.Sprintf("%s (0x%02X)", f.Text, f.Code) }

func malformed(format string, args ...any) *Fault {
	return &Fault{CodeMalformed, fmt.Sprintf(format, args...)}
}

func protocol(format string, args ...any) *Fault {
	return &Fault{CodeProtocol, fmt.Sprintf(format, args...)}
}

// Frame is one whole packet. Body aliases the buffer it was cut from.
type Frame struct {
	Type  byte
	Flags byte // the low half of the first byte
	Body  []byte
}

// Limits are the largest whole packets, in bytes, header included.
type Limits struct {
	Publish int
	Other   int
}

// Cut takes the first packet off buf. size is what it occupies. When buf ends
// before the packet does, whole is false and size what the packet will occupy,
// 0 while even that is unknown. A packet over its limit and one whose flags
// are wrong (MQTT 5, 2.1.3) is a *Fault as soon as its header is there.
func Cut(buf []byte, lim Limits) (f Frame, size int, whole bool, err error) {
	if len(buf) == 0 {
		return Frame{}, 0, false, nil
	}
	f.Type, f.Flags = buf[0]>>4, buf[0]&15
	if err := checkFlags(f.Type, f.Flags); err != nil {
		return Frame{}, 0, false, err
	}
	n, digits, err := length(buf[1:])
	if err != nil || digits == 0 {
		return Frame{}, 0, false, err
	}
	size = 1 + digits + n
	limit := lim.Other
	if f.Type == TypePublish {
		limit = lim.Publish
	}
	if size > limit {
		return Frame{}, 0, false, &Fault{CodeTooLarge, fmt.Sprintf("packet of %d bytes, the limit is %d", size, limit)}
	}
	if len(buf) < size {
		return Frame{}, size, false, nil
	}
	f.Body = buf[1+digits : size : size]
	return f, size, true, nil
}

// length reads a variable byte integer. digits is 0 while it is incomplete.
func length(b []byte) (n, digits int, err error) {
	for i, c := range b {
		if i == maxLengthDigits {
			break
		}
		n |= int(c&^continuationMask) << (7 * i)
		if c&continuationMask == 0 {
			if i > 0 && c == 0 {
				return 0, 0, malformed("a length in more bytes than it needs") // MQTT 5, [MQTT-1.5.5-1]
			}
			return n, i + 1, nil
		}
	}
	if len(b) >= maxLengthDigits {
		return 0, 0, malformed("a length of more than four bytes")
	}
	return 0, 0, nil
}

func checkFlags(typ, flags byte) error {
	want := byte(0)
	switch typ {
	case TypePublish:
		qos := flags >> 1 & 3
		if qos == 3 {
			return malformed("PUBLISH with QoS 3") // MQTT 5, [MQTT-3.3.1-4]
		}
		if qos == 0 && flags&8 != 0 {
			return malformed("PUBLISH with QoS 0 and DUP") // MQTT 5, [MQTT-3.3.1-2]
		}
		return nil
	case TypePubrel, TypeSubscribe, TypeUnsubscribe:
		want = 2
	case 0, TypeConnack, TypeSuback, TypeUnsuback, TypePingresp:
		return protocol("packet type %d, which clients do not send", typ)
	}
	if flags != want && typ == TypeAuth {
		return protocol("AUTH with flags %d", flags)
	}
	if flags != want {
		return malformed("packet type %d with flags %d", typ, flags)
	}
	return nil
}
