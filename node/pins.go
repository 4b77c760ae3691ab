package node

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/routing/addr"
)

// maxPins bounds the requests whose origin is remembered. Beyond it the oldest
// is forgotten, and its response goes where the topic has subscribers.
const maxPins = 16384

// pins remember where the requests came from that devices of this node got
// from other nodes (MQTT 5, 4.10): their responses go there, even when nobody
// has heard yet that somebody there subscribed to the response topic. A
// response is known by its topic and correlation data.
type pins struct {
	self    addr.Node
	count   atomic.Int32
	dropped atomic.Uint64

	mu     sync.Mutex // guards what follows
	of     map[pinKey]pin
	topics map[string]int
	order  []pinKey // oldest first; some may be over
}

type pinKey [16]byte

type pin struct {
	node  addr.Node
	topic string
	until time.Time
}

func newPins(self addr.Node) pins {
	return pins{self: self, of: map[pinKey]pin{}, topics: map[string]int{}}
}

func keyOf(topic string, correlation []byte) (k pinKey) {
	h := sha256.New()
	_ = binary.Write(h, binary.BigEndian, uint32(len(topic))) // a hash takes everything
	h.Write([]byte(topic))
	h.Write(correlation)
	copy(k[:], h.Sum(nil))
	return k
}

// note remembers the origin of a request that is delivered here, for as long as
// it has to live, in ms.
func (p *pins) note(m *broker.Message, from addr.Node, life int64) {
	if m.ResponseTopic == "" || from.IsZero() || from == p.self || life <= 0 {
		return
	}
	k := keyOf(m.ResponseTopic, m.CorrelationData)
	until := time.Now().Add(time.Duration(life) * time.Millisecond)
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, ok := p.of[k]; ok {
		old.node, old.until = from, until
		p.of[k] = old
		return
	}
	for len(p.order) >= maxPins {
		p.dropped.Add(1)
		p.forget(p.order[0])
		p.order = p.order[1:]
	}
	for len(p.order) > 0 && !p.of[p.order[0]].until.After(time.Now()) {
		p.forget(p.order[0])
		p.order = p.order[1:]
	}
	p.of[k] = pin{from, m.ResponseTopic, until}
	p.topics[m.ResponseTopic]++
	p.order = append(p.order, k)
	p.count.Store(int32(len(p.of)))
}

// forget drops one. The caller holds mu.
func (p *pins) forget(k pinKey) {
	one, ok := p.of[k]
	if !ok {
		return
	}
	delete(p.of, k)
	if p.topics[one.topic]--; p.topics[one.topic] == 0 {
		delete(p.topics, one.topic)
	}
	p.count.Store(int32(len(p.of)))
}

// wants reports whether a request waits for a response at a topic.
func (p *pins) wants(topic string) bool {
	if p.count.Load() == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.topics[topic] > 0
}

// origin returns the node that a response goes to, zero for none.
func (p *pins) origin(m *broker.Message) addr.Node {
	if p.count.Load() == 0 {
		return addr.Node{}
	}
	k := keyOf(m.Topic, m.CorrelationData)
	p.mu.Lock()
	defer p.mu.Unlock()
	one, ok := p.of[k]
	if !ok || !one.until.After(time.Now()) {
		return addr.Node{}
	}
	return one.node
}
