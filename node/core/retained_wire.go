package core

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/cbor"
)

// ServiceSync is where nodes compare what they keep of retained messages. The
// payload of its bundles is a syncMessage; docs/wire.md has the table.
const ServiceSync = "retained-sync"

type syncKind uint8

// The kinds of a syncMessage. Their numbers are on the wire.
const (
	syncRoot    syncKind = 1 // count and digest of all that both ends should keep
	syncBuckets syncKind = 2 // digests of its parts, where the whole differs
	syncLines   syncKind = 3 // stamps of all in parts that differ
	syncWant    syncKind = 4 // topics whose message the sender lacks
	syncGive    syncKind = 5 // messages and deletions
	syncSame    syncKind = 6 // there is no difference
	syncDone    syncKind = 7 // there is, and nothing to give or to want
)

// Limits of one syncMessage.
const (
	maxBuckets   = 4096
	maxSyncItems = 1024      // lines, wants and given messages
	maxGiveBytes = 48 << 10  // of given messages beyond the first
	maxWantBytes = 256 << 10 // of messages asked for at a time, beyond the first
)

// syncMessage is one step of a comparison.
type syncMessage struct {
	kind    syncKind
	more    bool     // lines, give: there is more than fits
	count   uint64   // root
	digest  uint64   // root
	digests []uint64 // buckets; their number is a power of two
	buckets int      // lines: how many there are
	covered []int    // lines: of these all are told
	lines   []syncLine
	topics  []string // want
	given   []given
}

// syncLine says what the sender knows of a topic.
type syncLine struct {
	topic   string
	stamp   Stamp
	node    addr.Node
	size    uint64 // bytes of the message, 0 of one that is over
	doubted bool   // not offered, see retained_away.go
}

// given is a message or a deletion.
type given struct {
	topic string
	stamp Stamp
	node  addr.Node
	state KeptState
	left  int64  // ms until it expires, or is forgotten; 0: never
	data  []byte // of a payload block
}

// append appends the encoding of m.
func (m *syncMessage) encode() (dst []byte) {
	switch m.kind {
	case syncRoot:
		dst = cbor.AppendUint(cbor.AppendArray(dst, 3), uint64(m.kind))
		return cbor.AppendUint(cbor.AppendUint(dst, m.count), m.digest)
	case syncBuckets:
		dst = cbor.AppendUint(cbor.AppendArray(dst, 2), uint64(m.kind))
		dst = cbor.AppendBytesHead(dst, 8*len(m.digests))
		for _, d := range m.digests {
			dst = binary.BigEndian.AppendUint64(dst, d)
		}
		return dst
	case syncLines:
		dst = cbor.AppendUint(cbor.AppendArray(dst, 5), uint64(m.kind))
		dst = cbor.AppendUint(cbor.AppendBool(dst, m.more), uint64(m.buckets))
		dst = cbor.AppendArray(dst, len(m.covered))
		for _, b := range m.covered {
			dst = cbor.AppendUint(dst, uint64(b))
		}
		dst = cbor.AppendArray(dst, len(m.lines))
		for i := range m.lines {
			dst = m.lines[i].append(dst)
		}
		return dst
	case syncWant:
		dst = cbor.AppendUint(cbor.AppendArray(dst, 2), uint64(m.kind))
		dst = cbor.AppendArray(dst, len(m.topics))
		for _, t := range m.topics {
			dst = cbor.AppendText(dst, t)
		}
		return dst
	case syncGive:
		dst = cbor.AppendUint(cbor.AppendArray(dst, 3), uint64(m.kind))
		dst = cbor.AppendArray(cbor.AppendBool(dst, m.more), len(m.given))
		for i := range m.given {
			dst = m.given[i].append(dst)
		}
		return dst
	case syncSame, syncDone:
	}
	return cbor.AppendUint(cbor.AppendArray(dst, 1), uint64(m.kind))
}

func (l *syncLine) append(dst []byte) []byte {
	dst = cbor.AppendUint(cbor.AppendText(cbor.AppendArray(dst, 5), l.topic), uint64(l.stamp))
	dst = cbor.AppendUint(cbor.AppendText(dst, l.node.String()), l.size)
	return cbor.AppendBool(dst, l.doubted)
}

func (g *given) append(dst []byte) []byte {
	dst = cbor.AppendUint(cbor.AppendText(cbor.AppendArray(dst, 6), g.topic), uint64(g.stamp))
	dst = cbor.AppendUint(cbor.AppendText(dst, g.node.String()), uint64(g.state))
	return cbor.AppendBytes(cbor.AppendUint(dst, uint64(g.left)), g.data)
}

// parseSync reads the data of a payload block. Items at the end of an array
// that a later version added are ignored. The data of what is given are views.
func parseSync(data []byte) (syncMessage, error) {
	r := cbor.NewReader(data)
	var m syncMessage
	n := r.ArrayMin(1)
	at := r.Offset()
	m.kind = syncKind(r.UintMax(math.MaxUint8))
	switch m.kind {
	case syncRoot:
		m.count, m.digest = r.Uint(), r.Uint()
		n -= 3
	case syncBuckets:
		m.readDigests(&r)
		n -= 2
	case syncLines:
		m.readLines(&r)
		n -= 5
	case syncWant:
		readMany(&r, func() { m.topics = append(m.topics, readTopic(&r)) })
		n -= 2
	case syncGive:
		m.more = r.Bool()
		readMany(&r, func() { m.given = append(m.given, readGiven(&r)) })
		n -= 3
	case syncSame, syncDone:
		n--
	default:
		r.Fail(at, fmt.Sprintf("kind %d of a later version", m.kind))
	}
	if err := endItems(&r, n, at); err != nil {
		return syncMessage{}, fmt.Errorf("malformed comparison of retained messages: %w", err)
	}
	return m, nil
}

// endItems ends an array of which n items are left. Those that a later version
// added are passed over; at is where the array is.
func endItems(r *cbor.Reader, n, at int) error {
	if n < 0 {
		r.Fail(at, "items are missing")
	}
	r.SkipN(max(n, 0))
	r.End()
	return r.Err()
}

func (m *syncMessage) readDigests(r *cbor.Reader) {
	at := r.Offset()
	b := r.Bytes()
	n := len(b) / 8
	if len(b)%8 != 0 || n == 0 || n > maxBuckets || n&(n-1) != 0 {
		r.Fail(at, fmt.Sprintf("%d bytes of digests: want 8 for each of a power of two up to %d", len(b), maxBuckets))
		return
	}
	for ; len(b) > 0; b = b[8:] {
		m.digests = append(m.digests, binary.BigEndian.Uint64(b))
	}
}

func (m *syncMessage) readLines(r *cbor.Reader) {
	m.more = r.Bool()
	at := r.Offset()
	m.buckets = int(r.UintMax(maxBuckets))
	if m.buckets == 0 || m.buckets&(m.buckets-1) != 0 {
		r.Fail(at, "the number of buckets is no power of two")
	}
	at = r.Offset()
	n := r.ArrayMin(0)
	if n > m.buckets {
		r.Fail(at, "more buckets than there are")
	}
	for range n {
		if r.Err() != nil {
			return
		}
		m.covered = append(m.covered, int(r.UintMax(uint64(max(m.buckets-1, 0)))))
	}
	readMany(r, func() { m.lines = append(m.lines, readLine(r)) })
}

// readMany reads an array of at most maxSyncItems.
func readMany(r *cbor.Reader, read func()) {
	at := r.Offset()
	n := r.ArrayMin(0)
	if n > maxSyncItems {
		r.Fail(at, fmt.Sprintf("%d items, more than the limit of %d", n, maxSyncItems))
	}
	for range n {
		if r.Err() != nil {
			return
		}
		read()
	}
}

func readTopic(r *cbor.Reader) string {
	at := r.Offset()
	t := r.TextMax(maxRetained)
	if err := interest.ValidTopic(t); r.Err() == nil && err != nil {
		r.Fail(at, err.Error())
	}
	return t
}

func readStamp(r *cbor.Reader) (Stamp, addr.Node) {
	s := Stamp(r.UintMax(uint64(MaxStamp)))
	at := r.Offset()
	n, err := addr.ParseNode(r.TextMax(addr.MaxName))
	if r.Err() == nil && err != nil {
		r.Fail(at, err.Error())
	}
	return s, n
}

func readLine(r *cbor.Reader) (l syncLine) {
	more := r.ArrayMin(5) - 5
	l.topic = readTopic(r)
	l.stamp, l.node = readStamp(r)
	l.size, l.doubted = r.Uint(), r.Bool()
	r.SkipN(max(more, 0))
	return l
}

func readGiven(r *cbor.Reader) (g given) {
	more := r.ArrayMin(6) - 6
	g.topic = readTopic(r)
	g.stamp, g.node = readStamp(r)
	g.state = KeptState(r.UintMax(uint64(KeptExpired)))
	g.left = int64(r.UintMax(maxLeft))
	g.data = r.Bytes()
	r.SkipN(max(more, 0))
	return g
}

// maxLeft keeps sums of times far from overflow: 1,000 years in ms.
const maxLeft = 1000 * 365 * 24 * 3600 * 1000
