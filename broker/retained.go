package broker

import (
	"bytes"
	"sync"
	"time"
)

// retainedStore is the retained message of each topic. The node makes them
// durable; this is what subscriptions are served from.
type retainedStore struct {
	mu       sync.RWMutex
	list     keptList
	apart    map[*kept]*Message // those that are more than topic and payload
	changes  uint64             // grows with each
	dying    int                // messages with an expiry
	bytes    int
	own      room // the node's, of list and bytes: see reserved
	reserved room // for messages on their way through the node
	maxCount int
	maxBytes int
	metrics  *metrics // nil: the broker is not there yet
}

// room is what messages take of the store, or one on its way through the node
// will.
type room struct{ count, bytes int }

// reserve makes room for m, or returns nil where there is none. What takes the
// place of another needs no more than it is larger; a deletion needs nothing.
// settle must follow.
func (r *retainedStore) reserve(m *Message) *room {
	r.mu.Lock()
	defer r.mu.Unlock()
	var need room
	if len(m.Payload) > 0 {
		need = room{1, m.Size()}
		if old := r.list.get(m.Topic); old != nil {
			need = room{0, max(0, m.Size()-r.size(old))}
		}
	}
	count, size := r.list.count+r.reserved.count+need.count, r.bytes+r.reserved.bytes+need.bytes
	if need.count > 0 && count > r.maxCount || need.bytes > 0 && size > r.maxBytes {
		return nil
	}
	r.reserved.count += need.count
	r.reserved.bytes += need.bytes
	return &need
}

// settle ends a reservation and, if the message was accepted, applies it.
func (r *retainedStore) settle(m *Message, kept *room, accepted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reserved.count -= kept.count
	r.reserved.bytes -= kept.bytes
	if accepted {
		r.put(m)
	}
}

// put replaces the topic's message; an empty payload deletes it (MQTT 5,
// 3.3.1.3). The caller holds mu.
func (r *retainedStore) put(m *Message) {
	r.changes++
	var old *kept
	if len(m.Payload) == 0 {
		old = r.list.remove(m.Topic)
	} else {
		k, apart := newKept(m, r.changes)
		if apart != nil {
			if r.apart == nil {
				r.apart = map[*kept]*Message{}
			}
			r.apart[k] = apart
		}
		old = r.list.put(k)
		r.count(k, 1)
	}
	if old != nil {
		old.over = true
		r.count(old, -1)
		delete(r.apart, old)
	}
	r.tell()
}

// message is not the caller's to change. The caller holds mu.
func (r *retainedStore) message(k *kept) *Message {
	if k.apart {
		return r.apart[k]
	}
	return k.unpack()
}

// size is what a message counts against limits: see Message.Size. The caller
// holds mu.
func (r *retainedStore) size(k *kept) int {
	if k.apart {
		return r.apart[k].Size()
	}
	return len(k.text) + MessageOverhead
}

func (r *retainedStore) count(k *kept, by int) {
	size := r.size(k)
	r.bytes += by * size
	if reserved(k.name()) {
		r.own.count += by
		r.own.bytes += by * size
	}
	if k.apart && r.apart[k].Expiry > 0 {
		r.dying += by
	}
}

// sweep drops what expired. It looks at some at a time, so that nobody waits
// for it, and at none when none can expire.
func (r *retainedStore) sweep(now time.Time) {
	for at, more := "", true; more; {
		at, more = r.sweepFrom(at, now)
	}
}

func (r *retainedStore) sweepFrom(topic string, now time.Time) (next string, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dying == 0 {
		return "", false
	}
	var dead []string
	p := r.list.seek(topic)
	for range walkSteps {
		k, at := r.list.at(p)
		if k == nil {
			break
		}
		if !r.alive(k, now) {
			dead = append(dead, k.name())
		}
		p = place{at.block, at.at + 1}
	}
	k, _ := r.list.at(p)
	if k != nil {
		next = k.name()
	}
	for _, t := range dead {
		r.put(&Message{Topic: t})
	}
	return next, k != nil
}

// Retained is what a node kept before its broker is there: see Config.Retained.
type Retained struct{ store retainedStore }

// Set adds a message. Its bytes stay the caller's.
func (r *Retained) Set(m *Message) {
	if !m.plain() {
		own := *m
		own.Payload, own.CorrelationData = bytes.Clone(m.Payload), bytes.Clone(m.CorrelationData)
		m = &own
	}
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	r.store.put(m)
}

// open is what a new broker begins with.
func (r *Retained) open(cfg *Config, m *metrics) *retainedStore {
	s := &retainedStore{}
	if r != nil {
		s = &r.store
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxCount, s.maxBytes, s.metrics = cfg.MaxRetained, cfg.MaxRetainedBytes, m
	s.tell()
	return s
}

// tell sets the metrics, as soon as there are any.
func (r *retainedStore) tell() {
	if r.metrics != nil {
		r.metrics.retained.Set(float64(r.list.count))
		r.metrics.retainedBytes.Set(float64(r.bytes))
	}
}

// SetRetained applies a retained message that came from elsewhere; an empty
// payload deletes. It does not deliver it: that is DeliverLive's. The node
// decides which of two messages is the later one and bounds their number.
func (b *Broker) SetRetained(m *Message) {
	b.retained.mu.Lock()
	defer b.retained.mu.Unlock()
	b.retained.put(m)
}
