package dtn

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// Message types (RFC 9174, section 9.5).
const (
	msgSegment   = 0x01
	msgAck       = 0x02
	msgRefuse    = 0x03
	msgKeepalive = 0x04
	msgTerm      = 0x05
	msgReject    = 0x06
	msgInit      = 0x07
)

// Flags of XFER_SEGMENT and XFER_ACK (5.2.2), of SESS_TERM (6.1), of extension
// items (4.8) and of the contact header (4.2).
const (
	flagEnd      = 0x01
	flagStart    = 0x02
	flagReply    = 0x01
	flagCritical = 0x01
	flagCanTLS   = 0x01
)

// Reasons of XFER_REFUSE (9.6), SESS_TERM (9.7) and MSG_REJECT (9.8).
const (
	refuseUnknown       = 0x00
	refuseCompleted     = 0x01
	refuseNoResources   = 0x02
	refuseRetransmit    = 0x03
	refuseNotAcceptable = 0x04
	refuseExtension     = 0x05
	refuseTerminating   = 0x06

	termUnknown   = 0x00
	termIdle      = 0x01
	termVersion   = 0x02
	termBusy      = 0x03
	termContact   = 0x04
	termResources = 0x05

	rejectType        = 0x01
	rejectUnsupported = 0x02
	rejectUnexpected  = 0x03
)

// extTransferLength is the transfer length extension (5.2.5.1).
const extTransferLength = 0x0001

// Limits of what is read and sent.
const (
	maxExtensions = 4 << 10 // bytes of extension items of one message
	maxItems      = 64      // extension items of one message
	maxNodeID     = 1 << 10 // bytes
	maxTransfer   = 1 << 30 // bytes, the largest limit that can be configured
	minSegment    = 64
	maxSegment    = 1 << 20
	maxOneSegment = 8 << 20        // bytes of a transfer to a peer with OneSegment
	maxKeepalive  = 18 * time.Hour // 16 bits of seconds
	version       = 4
)

const contactLen = 6

// encodeContact returns a contact header (RFC 9174, section 4.2).
func encodeContact(canTLS bool) []byte {
	dst := []byte("dtn!\x04")
	if canTLS {
		return append(dst, flagCanTLS)
	}
	return append(dst, 0)
}

// contactHeader is what the other end's contact header says.
type contactHeader struct {
	version byte
	canTLS  bool
}

// parseContact reads a contact header. Flags that are not defined are ignored.
func parseContact(b []byte) (contactHeader, error) {
	if len(b) != contactLen || string(b[:4]) != "dtn!" {
		return contactHeader{}, fmt.Errorf("contact header % x: does not start with dtn!; no TCPCL peer is there", b)
	}
	return contactHeader{version: b[4], canTLS: b[5]&flagCanTLS != 0}, nil
}

// sessInit is SESS_INIT (RFC 9174, section 4.6).
type sessInit struct {
	keepalive   uint16 // seconds
	segmentMRU  uint64
	transferMRU uint64
	nodeID      string
}

// message is any message but SESS_INIT; segment data stays unread.
type message struct {
	kind     byte
	flags    byte
	reason   byte
	rejected byte   // MSG_REJECT: the type that was rejected
	id       uint64 // of the transfer
	length   uint64 // XFER_SEGMENT: of the data that follows; XFER_ACK: acknowledged so far
	total    uint64 // XFER_SEGMENT: of the transfer, when hasTotal
	hasTotal bool
	init     sessInit
	critical bool // an extension item that is critical and unknown
}

// protocolError is a breach that ends the session. Its fields say what is
// sent before: nothing, a MSG_REJECT, a SESS_TERM.
type protocolError struct {
	reject byte // reason of a MSG_REJECT, 0 none
	kind   byte // the message rejected
	term   byte
	msg    string
}

func (e *protocolError) Error() string { return e.msg }

func encodeInit(s sessInit) []byte {
	dst := binary.BigEndian.AppendUint16([]byte{msgInit}, s.keepalive)
	dst = binary.BigEndian.AppendUint64(dst, s.segmentMRU)
	dst = binary.BigEndian.AppendUint64(dst, s.transferMRU)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s.nodeID)))
	dst = append(dst, s.nodeID...)
	return binary.BigEndian.AppendUint32(dst, 0) // no extension items
}

// appendSegment appends the head of an XFER_SEGMENT; length bytes follow. A
// transfer of several segments announces its total in the first.
func appendSegment(dst []byte, flags byte, id, length, total uint64) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, msgSegment, flags), id)
	switch {
	case flags&flagStart == 0:
	case flags&flagEnd != 0: // "SHOULD NOT be present" then
		dst = binary.BigEndian.AppendUint32(dst, 0)
	default:
		dst = binary.BigEndian.AppendUint32(dst, 5+8)
		dst = binary.BigEndian.AppendUint16(append(dst, 0), extTransferLength)
		dst = binary.BigEndian.AppendUint16(dst, 8)
		dst = binary.BigEndian.AppendUint64(dst, total)
	}
	return binary.BigEndian.AppendUint64(dst, length)
}

// segmentHead is the longest head of an XFER_SEGMENT that appendSegment makes.
const segmentHead = 2 + 8 + 4 + 13 + 8

func appendAck(dst []byte, flags byte, id, length uint64) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, msgAck, flags), id)
	return binary.BigEndian.AppendUint64(dst, length)
}

func appendRefuse(dst []byte, reason byte, id uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, msgRefuse, reason), id)
}

func appendTerm(dst []byte, flags, reason byte) []byte { return append(dst, msgTerm, flags, reason) }

func appendReject(dst []byte, reason, kind byte) []byte { return append(dst, msgReject, reason, kind) }

// reader reads the fields of messages. Its first error sticks.
type reader struct {
	r   *bufio.Reader
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil {
		return make([]byte, n)
	}
	b, err := r.r.Peek(n)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF // EOF is for the boundary between messages
		}
		r.err = err
		return make([]byte, n)
	}
	_, _ = r.r.Discard(n) // they are buffered
	return b
}

func (r *reader) u8() byte    { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *reader) fail(e *protocolError) {
	if r.err == nil {
		r.err = e
	}
}

// readMessage reads the next message, of a segment only its head. io.EOF is
// returned at the end of the stream between two messages. Errors that are a
// breach of the protocol are *protocolError.
func readMessage(br *bufio.Reader) (message, error) {
	kind, err := br.ReadByte()
	if err != nil {
		return message{}, err
	}
	m, r := message{kind: kind}, reader{r: br}
	switch kind {
	case msgSegment:
		m.flags, m.id = r.u8(), r.u64()
		if m.flags&flagStart != 0 {
			r.extensions(&m)
		}
		m.length = r.u64()
	case msgAck:
		m.flags, m.id, m.length = r.u8(), r.u64(), r.u64()
	case msgRefuse:
		m.reason, m.id = r.u8(), r.u64()
	case msgKeepalive:
	case msgTerm:
		m.flags, m.reason = r.u8(), r.u8()
	case msgReject:
		m.reason, m.rejected = r.u8(), r.u8()
	case msgInit:
		m.init = sessInit{keepalive: r.u16(), segmentMRU: r.u64(), transferMRU: r.u64()}
		n := int(r.u16())
		if n > maxNodeID {
			r.fail(&protocolError{term: termContact, msg: fmt.Sprintf("a node id of %d bytes, at most %d are read", n, maxNodeID)})
		}
		if r.err == nil {
			m.init.nodeID = string(r.take(n))
		}
		r.extensions(&m)
	default:
		// Its length is unknown, so nothing after it can be read.
		r.err = &protocolError{reject: rejectType, kind: kind, msg: fmt.Sprintf("a message of unknown type %#02x", kind)}
	}
	return m, r.err
}

// extensions reads a list of extension items (RFC 9174, section 4.8).
func (r *reader) extensions(m *message) {
	left := int64(r.u32())
	if left > maxExtensions {
		r.fail(&protocolError{term: termResources, msg: fmt.Sprintf("%d bytes of extension items, at most %d are read", left, maxExtensions)})
	}
	for items := 0; r.err == nil && left > 0; items++ {
		flags, typ, n := r.u8(), r.u16(), int64(r.u16())
		if left -= 5 + n; left < 0 || items == maxItems {
			r.fail(&protocolError{reject: rejectUnsupported, kind: m.kind, msg: "extension items do not fit their list"})
			return
		}
		value := r.take(int(n))
		switch {
		case m.kind == msgSegment && typ == extTransferLength && n == 8 && !m.hasTotal:
			m.total, m.hasTotal = binary.BigEndian.Uint64(value), true
		case flags&flagCritical != 0:
			m.critical = true
		}
	}
}
