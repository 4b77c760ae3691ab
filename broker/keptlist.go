package broker

import (
	"bytes"
	"slices"
	"strings"
)

// kept is one retained message. There may be a million of them, so what nearly
// all are is packed: topic and payload in one piece, in 32 bytes and no more.
type kept struct {
	text  string // the topic, and after it, unless it is apart, the payload
	seq   uint64 // of the change that put it here: later ones are larger
	topic uint16 // bytes of text
	qos   byte
	over  bool // replaced or deleted; guarded by the store's mu
	apart bool // the message is in retainedStore.apart
}

// packMax is the largest payload that is packed: it is copied for each who
// gets it.
const packMax = 1 << 10

// newKept packs a copy of a message. One with properties or an expiry, or a large one, is
// returned as well: it is to be kept apart.
func newKept(m *Message, seq uint64) (*kept, *Message) {
	k := &kept{seq: seq, topic: uint16(len(m.Topic)), qos: m.QoS}
	if k.apart = !m.plain() || len(m.Payload) > packMax; k.apart {
		k.text = m.Topic
		if m.plain() {
			m = &Message{Topic: m.Topic, Payload: bytes.Clone(m.Payload), QoS: m.QoS, Retain: true}
		}
		return k, m
	}
	var b strings.Builder
	b.Grow(len(m.Topic) + len(m.Payload))
	b.WriteString(m.Topic)
	b.Write(m.Payload)
	k.text = b.String()
	return k, nil
}

// plain reports whether a message is no more than topic, payload and QoS, as
// far as it is kept.
func (m *Message) plain() bool {
	return m.Expiry == 0 && m.PayloadFormat == FormatAbsent && !m.HasContentType && m.ContentType == "" && m.ResponseTopic == "" &&
		m.CorrelationData == nil && len(m.UserProperties) == 0
}

func (k *kept) name() string { return k.text[:k.topic] }

// unpack makes a message of one that is not apart.
func (k *kept) unpack() *Message {
	return &Message{Topic: k.name(), Payload: []byte(k.text[k.topic:]), QoS: k.qos, Retain: true}
}

// blockSize is how many messages a block of a keptList has at most: what an
// insertion moves.
const blockSize = 512

// keptList is retained messages in the order of their topics' bytes. What
// begins alike is together, so a filter passes over what it cannot match. It
// takes a tenth of the memory of a map, or of a tree with a node per level.
type keptList struct {
	blocks [][]*kept // none is empty
	count  int
}

// place is where a message is, or would be.
type place struct{ block, at int }

// seek returns the first place whose topic is not before the one given.
func (l *keptList) seek(topic string) place {
	if p := (place{len(l.blocks) - 1, 0}); p.block >= 0 { // they often come in order
		if b := l.blocks[p.block]; b[len(b)-1].name() < topic {
			return place{p.block, len(b)}
		}
	}
	low, high := 0, len(l.blocks) // blocks below low begin before topic, those from high on do not
	for low < high {
		mid := (low + high) / 2
		if l.blocks[mid][0].name() < topic {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == 0 {
		return place{}
	}
	b := l.blocks[low-1]
	i, j := 1, len(b)
	for i < j {
		mid := (i + j) / 2
		if b[mid].name() < topic {
			i = mid + 1
		} else {
			j = mid
		}
	}
	return place{low - 1, i}
}

// at returns what is at a place, or, behind the end of a block, at the next
// one; nil at the end of all.
func (l *keptList) at(p place) (*kept, place) {
	if p.block < len(l.blocks) && p.at == len(l.blocks[p.block]) {
		p = place{p.block + 1, 0}
	}
	if p.block >= len(l.blocks) {
		return nil, p
	}
	return l.blocks[p.block][p.at], p
}

// get returns nil for a topic without a message.
func (l *keptList) get(topic string) *kept {
	if k, _ := l.at(l.seek(topic)); k != nil && k.name() == topic {
		return k
	}
	return nil
}

// put adds a message, or replaces the one of its topic, which it returns.
func (l *keptList) put(k *kept) (old *kept) {
	topic := k.name()
	p := l.seek(topic)
	if there, at := l.at(p); there != nil && there.name() == topic {
		l.blocks[at.block][at.at] = k
		return there
	}
	l.count++
	if len(l.blocks) == 0 {
		l.blocks = [][]*kept{append(make([]*kept, 0, 8), k)}
		return nil
	}
	b := l.blocks[p.block]
	switch {
	case len(b) < blockSize:
	case p.at == len(b): // as it is when they come in order: full blocks stay behind
		l.blocks = slices.Insert(l.blocks, p.block+1, append(make([]*kept, 0, blockSize), k))
		return nil
	default:
		half := append(make([]*kept, 0, blockSize), b[blockSize/2:]...)
		clear(b[blockSize/2:])
		l.blocks[p.block] = b[:blockSize/2]
		l.blocks = slices.Insert(l.blocks, p.block+1, half)
		if p.at > blockSize/2 {
			p = place{p.block + 1, p.at - blockSize/2}
		}
	}
	l.blocks[p.block] = slices.Insert(l.blocks[p.block], p.at, k)
	return nil
}

// remove returns what was there, nil for nothing.
func (l *keptList) remove(topic string) *kept {
	k, p := l.at(l.seek(topic))
	if k == nil || k.name() != topic {
		return nil
	}
	l.count--
	l.blocks[p.block] = slices.Delete(l.blocks[p.block], p.at, p.at+1)
	if len(l.blocks[p.block]) < blockSize/4 {
		l.join(p.block)
		l.join(p.block - 1)
	}
	return k
}

// join makes one block of two neighbours if that leaves it half empty, and
// drops one that is empty.
func (l *keptList) join(i int) {
	switch {
	case i < 0 || i >= len(l.blocks):
	case len(l.blocks[i]) == 0:
		l.blocks = slices.Delete(l.blocks, i, i+1)
	case i+1 < len(l.blocks) && len(l.blocks[i])+len(l.blocks[i+1]) <= blockSize/2:
		l.blocks[i] = append(l.blocks[i], l.blocks[i+1]...)
		l.blocks = slices.Delete(l.blocks, i+1, i+2)
	}
}
