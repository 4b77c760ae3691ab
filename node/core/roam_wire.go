package core

import (
	"fmt"
	"math"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

type roamKind uint8

// The kinds of a roamMessage. Their numbers are on the wire.
const (
	roamClaims roamKind = 1 // the sender owns these sessions, or has settled
	roamAnswer roamKind = 2 // claims that were seen, and what they asked for is on its way
	roamHeads  roamKind = 3 // sessions without their queues
	roamTail   roamKind = 4 // the end of a queue in a class
	roamFence  roamKind = 5 // the sender asks for a fence behind what was sent before
)

// Limits of one roamMessage.
const (
	maxMarks    = 16384 // origins and classes
	maxClientID = 65535 // an MQTT string
	maxHeadSubs = 65536 // filters of a session
)

// roamMessage is one step of a session that moves.
type roamMessage struct {
	kind    roamKind
	upTo    Stamp       // claims, answer: of the newest line
	seq     uint64      // claims: number of the sender's advert
	behind  bool        // answer: a stub attracts messages still
	claims  []claimLine // claims
	floor   []mark      // heads: of all of them
	heads   []head
	client  string // tail
	epoch   Stamp
	classes bundle.Classes
}

// claimLine says that the sender owns a session since an epoch.
type claimLine struct {
	client  string
	epoch   Stamp
	clean   bool  // it begins anew
	settled bool  // its filters are in the sender's advert: nobody else needs to attract for it
	at      Stamp // when it was said; not on the wire
}

const (
	claimClean = 1 << iota
	claimSettled
)

// head is a session without its queue.
type head struct {
	client  string
	epoch   Stamp          // of the claim that it answers
	since   Stamp          // it began clean then
	last    uint64         // number of its newest delivery
	await   bundle.Classes // classes with messages that follow
	blank   bool           // the node claimed it, and has not heard itself what it was
	inbound []uint16       // packet ids of QoS 2 publishes that await PUBREL
	floor   []mark         // beyond that of the message
	subs    []Subscription
	notes   []note // what came for it since it may come on two ways
	partly  bool   // how far messages had come here says nothing of what it had; not on the wire
}

// size is about how many bytes the head takes.
func (h *head) size() int {
	n := len(h.client) + 48 + 3*len(h.inbound) + 32*len(h.floor)
	for _, s := range h.subs {
		n += len(s.Filter) + 8
	}
	for i := range h.notes {
		n += h.notes[i].seen.Len()/8 + 48
	}
	return n
}

// The bits of a subscription's options: QoS in the lowest two.
const (
	subNoLocal = 1 << (iota + 2)
	subRetainAsPublished
)

func (m *roamMessage) encode() (dst []byte) {
	switch m.kind {
	case roamClaims:
		dst = cbor.AppendUint(cbor.AppendArray(dst, 4), uint64(m.kind))
		dst = cbor.AppendUint(cbor.AppendUint(dst, uint64(m.upTo)), m.seq)
		dst = cbor.AppendArray(dst, len(m.claims))
		for _, l := range m.claims {
			flags := uint64(0)
			if l.clean {
				flags |= claimClean
			}
			if l.settled {
				flags |= claimSettled
			}
			dst = cbor.AppendText(cbor.AppendArray(dst, 3), l.client)
			dst = cbor.AppendUint(cbor.AppendUint(dst, uint64(l.epoch)), flags)
		}
	case roamAnswer:
		dst = cbor.AppendUint(cbor.AppendArray(dst, 3), uint64(m.kind))
		dst = cbor.AppendBool(cbor.AppendUint(dst, uint64(m.upTo)), m.behind)
	case roamHeads:
		dst = cbor.AppendUint(cbor.AppendArray(dst, 3), uint64(m.kind))
		dst = appendFloor(dst, m.floor)
		dst = cbor.AppendArray(dst, len(m.heads))
		for i := range m.heads {
			dst = m.heads[i].append(dst)
		}
	case roamFence:
		dst = cbor.AppendUint(cbor.AppendArray(dst, 3), uint64(m.kind))
		dst = cbor.AppendUint(cbor.AppendUint(dst, uint64(m.upTo)), m.seq)
	case roamTail:
		dst = cbor.AppendUint(cbor.AppendArray(dst, 4), uint64(m.kind))
		dst = cbor.AppendUint(cbor.AppendText(dst, m.client), uint64(m.epoch))
		dst = cbor.AppendUint(dst, uint64(m.classes))
	}
	return dst
}

func appendFloor(dst []byte, floor []mark) []byte {
	dst = cbor.AppendArray(dst, len(floor))
	for _, f := range floor {
		dst = cbor.AppendUint(appendOrigin(cbor.AppendArray(dst, 4), f.origin), f.n)
	}
	return dst
}

func appendOrigin(dst []byte, o originKey) []byte {
	dst = cbor.AppendText(dst, o.node.String())
	return cbor.AppendUint(cbor.AppendUint(dst, uint64(o.inc)), uint64(o.class))
}

func (h *head) append(dst []byte) []byte {
	dst = cbor.AppendUint(cbor.AppendText(cbor.AppendArray(dst, 10), h.client), uint64(h.epoch))
	dst = cbor.AppendUint(cbor.AppendUint(cbor.AppendUint(dst, uint64(h.since)), h.last), uint64(h.await))
	dst = cbor.AppendArray(dst, len(h.inbound))
	for _, p := range h.inbound {
		dst = cbor.AppendUint(dst, uint64(p))
	}
	dst = appendFloor(dst, h.floor)
	dst = cbor.AppendArray(dst, len(h.subs))
	for _, s := range h.subs {
		options := uint64(s.QoS)
		if s.NoLocal {
			options |= subNoLocal
		}
		if s.RetainAsPublished {
			options |= subRetainAsPublished
		}
		dst = cbor.AppendText(cbor.AppendArray(dst, 3), s.Filter)
		dst = cbor.AppendUint(cbor.AppendUint(dst, options), uint64(s.ID))
	}
	return appendNotes(cbor.AppendBool(dst, h.blank), h.notes)
}

// parseRoam reads the data of a payload block. Items at the end of an array
// that a later version added are ignored.
func parseRoam(data []byte) (roamMessage, error) {
	r := cbor.NewReader(data)
	var m roamMessage
	n := r.ArrayMin(1)
	at := r.Offset()
	m.kind = roamKind(r.UintMax(math.MaxUint8))
	switch m.kind {
	case roamClaims:
		m.upTo, m.seq = readEpoch(&r), r.Uint()
		m.claims = readList(&r, maxPending, readClaim)
		n -= 4
	case roamAnswer:
		m.upTo, m.behind = readEpoch(&r), r.Bool()
		n -= 3
	case roamHeads:
		m.floor = readList(&r, maxMarks, readMark)
		m.heads = readList(&r, maxPending, readHead)
		n -= 3
	case roamFence:
		m.upTo, m.seq = readEpoch(&r), r.Uint()
		n -= 3
	case roamTail:
		m.client, m.epoch, m.classes = readClient(&r), readEpoch(&r), readClasses(&r)
		n -= 4
	default:
		r.Fail(at, fmt.Sprintf("kind %d of a later version", m.kind))
	}
	if err := endItems(&r, n, at); err != nil {
		return roamMessage{}, fmt.Errorf("malformed word of sessions that move: %w", err)
	}
	return m, nil
}

// readList reads an array of at most most items.
func readList[T any](r *cbor.Reader, most int, read func(*cbor.Reader) T) (all []T) {
	at := r.Offset()
	n := r.ArrayMin(0)
	if n > most {
		r.Fail(at, fmt.Sprintf("%d items, more than the limit of %d", n, most))
	}
	for range n {
		if r.Err() != nil {
			return nil
		}
		all = append(all, read(r))
	}
	return all
}

func readEpoch(r *cbor.Reader) Stamp { return Stamp(r.UintMax(uint64(MaxStamp))) }

func readClient(r *cbor.Reader) string {
	at := r.Offset()
	s := r.TextMax(maxClientID)
	for i := range len(s) {
		if s[i] == 0 {
			r.Fail(at, "a client id with a NUL")
		}
	}
	return s
}

func readClasses(r *cbor.Reader) bundle.Classes {
	return bundle.Classes(r.UintMax(uint64(bundle.AllClasses)))
}

func readClaim(r *cbor.Reader) (l claimLine) {
	more := r.ArrayMin(3) - 3
	l.client, l.epoch = readClient(r), readEpoch(r)
	flags := r.Uint()
	l.clean, l.settled = flags&claimClean != 0, flags&claimSettled != 0
	r.SkipN(max(more, 0))
	return l
}

func readMark(r *cbor.Reader) (m mark) {
	more := r.ArrayMin(4) - 4
	m.origin, m.n = readOrigin(r), r.Uint()
	r.SkipN(max(more, 0))
	return m
}

func readOrigin(r *cbor.Reader) originKey {
	at := r.Offset()
	n, err := addr.ParseNode(r.TextMax(addr.MaxName))
	if r.Err() == nil && err != nil {
		r.Fail(at, err.Error())
	}
	return originKey{n, uint32(r.UintMax(math.MaxUint32)), bundle.Class(r.UintMax(uint64(bundle.NumClasses) - 1))}
}

func readHead(r *cbor.Reader) (h head) {
	more := r.ArrayMin(9) - 9
	h.client, h.epoch, h.since = readClient(r), readEpoch(r), readEpoch(r)
	h.last, h.await = r.Uint(), readClasses(r)
	h.inbound = readList(r, maxPackets, func(r *cbor.Reader) uint16 { return uint16(r.UintMax(maxPackets)) })
	h.floor = readList(r, maxMarks, readMark)
	h.subs = readList(r, maxHeadSubs, readMovedSub)
	h.blank = r.Bool()
	if more > 0 { // not of earlier versions
		h.notes = readList(r, maxMarks, readNote)
		more--
	}
	r.SkipN(max(more, 0))
	return h
}

func readMovedSub(r *cbor.Reader) (s Subscription) {
	more := r.ArrayMin(3) - 3
	at := r.Offset()
	s.Filter = r.TextMax(maxClientID)
	if err := interest.ValidFilter(s.Filter); r.Err() == nil && err != nil {
		r.Fail(at, err.Error())
	}
	options := r.Uint()
	s.QoS = uint8(min(options&3, 2))
	s.NoLocal, s.RetainAsPublished = options&subNoLocal != 0, options&subRetainAsPublished != 0
	s.ID = int(r.UintMax(1 << 28))
	r.SkipN(max(more, 0))
	return s
}
