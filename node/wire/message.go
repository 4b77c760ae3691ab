package wire

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/farhop/farhop/storeforward/cbor"
)

const (
	// MaxUserProperties is the most user properties of one Message.
	MaxUserProperties = 256
	// maxStamp is the last stamp of a retained message: 46 bits of milliseconds
	// since 1970, and 16 that count within one.
	maxStamp = 1<<62 - 1
	// maxString is the longest MQTT string or binary data (MQTT 5, 1.5.4).
	maxString = 65535
)

// PayloadFormat is the payload format indicator of a publication (MQTT 5,
// 3.3.2.3.2).
type PayloadFormat uint8

// The payload formats.
const (
	FormatAbsent PayloadFormat = 0 // the publisher did not say
	FormatBytes  PayloadFormat = 1 // said: unspecified bytes (indicator 0)
	FormatText   PayloadFormat = 2 // said: UTF-8 (indicator 1)
)

// UserProperty is a name and a value of the publisher's (MQTT 5, 3.3.2.3.7).
type UserProperty struct {
	Key, Value string
}

// Message is an MQTT publication, which is the payload of a bundle.
type Message struct {
	Topic           string
	Payload         []byte
	QoS             uint8 // of the publication, 0 to 2
	Retain          bool
	Expiry          bool // the publisher set an expiry; what is left of it is the bundle's lifetime
	PayloadFormat   PayloadFormat
	Client          string // the publisher's client id
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte // nil when absent
	UserProperties  []UserProperty
	Stamp           uint64 // orders retained messages of a topic; 0 for none
	Flags           uint32 // the node's own, passed through
}

// The first item of a payload of an MQTT bundle says what it holds.
const kindPublication = 1

// The bits of a message's flags; Message.Flags lies above them.
const (
	flagQoS    = 3 << 0
	flagRetain = 1 << 2
	flagExpiry = 1 << 3
	formatBit  = 4 // two bits
	ownBit     = 8
)

// Validate reports every reason for which a peer would refuse m.
func (m *Message) Validate() error {
	errs := []error{checkTopic("topic", m.Topic)}
	if m.QoS > 2 {
		errs = append(errs, fmt.Errorf("QoS %d: want 0 to 2", m.QoS))
	}
	if m.PayloadFormat > FormatText {
		errs = append(errs, fmt.Errorf("payload format %d: want 0 to 2", m.PayloadFormat))
	}
	if m.ResponseTopic != "" {
		errs = append(errs, checkTopic("response topic", m.ResponseTopic))
	}
	errs = append(errs, checkString("client id", m.Client), checkString("content type", m.ContentType))
	if len(m.CorrelationData) > maxString {
		errs = append(errs, fmt.Errorf("correlation data of %d bytes: the limit is %d", len(m.CorrelationData), maxString))
	}
	if n := len(m.UserProperties); n > MaxUserProperties {
		errs = append(errs, fmt.Errorf("%d user properties: the limit is %d", n, MaxUserProperties))
	}
	if m.Stamp > maxStamp {
		errs = append(errs, fmt.Errorf("stamp %d: the limit is %d", m.Stamp, uint64(maxStamp)))
	}
	for _, p := range m.UserProperties {
		errs = append(errs, checkString("user property", p.Key), checkString("user property", p.Value))
	}
	return errors.Join(errs...)
}

func checkString(what, s string) error {
	if len(s) > maxString || !utf8.ValidString(s) {
		return fmt.Errorf("%s: want UTF-8 of at most %d bytes", what, maxString)
	}
	return nil
}

// checkTopic applies the rules for topic names (MQTT 5, 4.7).
func checkTopic(what, s string) error {
	if s == "" {
		return fmt.Errorf("%s: empty", what)
	}
	if strings.ContainsAny(s, "+#\x00") {
		return fmt.Errorf("%s: contains a wildcard or a NUL", what)
	}
	return checkString(what, s)
}

// Append appends the encoding of m, the data of a payload block. Optional
// items at the end are left out when they are empty.
func (m *Message) Append(dst []byte) []byte {
	n := m.items()
	flags := uint64(m.QoS)&flagQoS | uint64(m.PayloadFormat)<<formatBit | uint64(m.Flags)<<ownBit
	if m.Retain {
		flags |= flagRetain
	}
	if m.Expiry {
		flags |= flagExpiry
	}
	dst = cbor.AppendUint(cbor.AppendArray(dst, n), kindPublication)
	dst = cbor.AppendUint(dst, flags)
	dst = cbor.AppendText(dst, m.Topic)
	dst = cbor.AppendBytes(dst, m.Payload)
	for i, s := range [...]string{m.Client, m.ContentType, m.ResponseTopic} {
		if n > 4+i {
			dst = cbor.AppendText(dst, s)
		}
	}
	switch {
	case n > 7 && m.CorrelationData == nil:
		dst = cbor.AppendNull(dst)
	case n > 7:
		dst = cbor.AppendBytes(dst, m.CorrelationData)
	}
	if n > 8 {
		dst = cbor.AppendArray(dst, 2*len(m.UserProperties))
		for _, p := range m.UserProperties {
			dst = cbor.AppendText(cbor.AppendText(dst, p.Key), p.Value)
		}
	}
	if n > 9 {
		dst = cbor.AppendUint(dst, m.Stamp)
	}
	return dst
}

// items returns how many items the encoding of m has.
func (m *Message) items() int {
	switch {
	case m.Stamp != 0:
		return 10
	case len(m.UserProperties) > 0:
		return 9
	case m.CorrelationData != nil:
		return 8
	case m.ResponseTopic != "":
		return 7
	case m.ContentType != "":
		return 6
	case m.Client != "":
		return 5
	}
	return 4
}

// ParseMessage reads the data of a payload block. Payload and CorrelationData
// are views of it. Items and flags of later versions are ignored.
func ParseMessage(data []byte) (Message, error) {
	r := cbor.NewReader(data)
	m, n := readHead(&r)
	m.Payload = r.Bytes()
	for i, s := range [...]*string{&m.Client, &m.ContentType, &m.ResponseTopic} {
		if n > 4+i {
			*s = r.TextMax(maxString)
		}
	}
	if n > 7 && !r.Null() {
		at := r.Offset()
		if m.CorrelationData = r.Bytes(); len(m.CorrelationData) > maxString {
			r.Fail(at, "correlation data of more than 65535 bytes")
		}
	}
	if n > 8 {
		m.UserProperties = readUserProperties(&r)
	}
	if n > 9 {
		m.Stamp = r.UintMax(maxStamp)
	}
	rest(&r, n-10)
	r.End()
	if err := r.Err(); err != nil {
		return Message{}, fmt.Errorf("malformed message: %w", err)
	}
	if m.ResponseTopic != "" {
		if err := checkTopic("response topic", m.ResponseTopic); err != nil {
			return Message{}, fmt.Errorf("malformed message: %w", err)
		}
	}
	return m, nil
}

// Topic reads no more of the data of a payload block than its topic.
func Topic(data []byte) (string, error) {
	r := cbor.NewReader(data)
	m, _ := readHead(&r)
	if err := r.Err(); err != nil {
		return "", fmt.Errorf("malformed message: %w", err)
	}
	return m.Topic, nil
}

// readHead reads a message up to its topic and returns the number of its
// items.
func readHead(r *cbor.Reader) (m Message, n int) {
	n = r.ArrayMin(4)
	at := r.Offset()
	if kind := r.Uint(); kind != kindPublication {
		r.Fail(at, fmt.Sprintf("payload of kind %d, want 1, a publication", kind))
	}
	at = r.Offset()
	flags := r.UintMax(1<<(ownBit+32) - 1)
	m.QoS = uint8(flags & flagQoS)
	m.Retain, m.Expiry = flags&flagRetain != 0, flags&flagExpiry != 0
	m.PayloadFormat = PayloadFormat(flags >> formatBit & 3)
	m.Flags = uint32(flags >> ownBit)
	if m.QoS > 2 || m.PayloadFormat > FormatText {
		r.Fail(at, "QoS or payload format 3")
	}
	at = r.Offset()
	m.Topic = r.TextMax(maxString)
	if err := checkTopic("topic", m.Topic); err != nil {
		r.Fail(at, err.Error())
	}
	return m, n
}

func readUserProperties(r *cbor.Reader) []UserProperty {
	at := r.Offset()
	n := r.ArrayMin(0)
	if n > 2*MaxUserProperties || n%2 != 0 {
		r.Fail(at, fmt.Sprintf("want at most %d pairs of user properties", MaxUserProperties))
	}
	if r.Err() != nil || n == 0 {
		return nil
	}
	out := make([]UserProperty, 0, n/2)
	for range n / 2 {
		out = append(out, UserProperty{Key: r.TextMax(maxString), Value: r.TextMax(maxString)})
	}
	return out
}
