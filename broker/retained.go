package broker

import (
	"sync"
	"time"

	"github.com/farhop/farhop/routing/interest"
)

// retainedStore is the retained message of each topic. The node makes them
// durable; this is what subscriptions are served from.
type retainedStore struct {
	mu       sync.RWMutex
	messages map[string]*Message
	bytes    int
	reserved room // for messages on their way through the node
	maxCount int
	maxBytes int
	metrics  *metrics
}

// room is what a message on its way through the node adds to the store.
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
		if old := r.messages[m.Topic]; old != nil {
			need = room{0, max(0, m.Size()-old.Size())}
		}
	}
	count, size := len(r.messages)+r.reserved.count+need.count, r.bytes+r.reserved.bytes+need.bytes
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
	if old := r.messages[m.Topic]; old != nil {
		r.bytes -= old.Size()
		delete(r.messages, m.Topic)
	}
	if len(m.Payload) > 0 {
		if r.messages == nil {
			r.messages = make(map[string]*Message)
		}
		r.messages[m.Topic] = m
		r.bytes += m.Size()
	}
	r.metrics.retained.Set(float64(len(r.messages)))
	r.metrics.retainedBytes.Set(float64(r.bytes))
}

// holds reports whether m is still its topic's retained message.
func (r *retainedStore) holds(m *Message) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.messages[m.Topic] == m
}

// match returns the retained messages a filter selects, expired ones left out.
func (r *retainedStore) match(filter string, now time.Time) []*Message {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []*Message
	if m, exact := r.messages[filter]; exact {
		if _, alive := m.remaining(now); alive {
			out = append(out, m)
		}
		return out
	}
	for topic, m := range r.messages {
		if _, alive := m.remaining(now); alive && interest.Match(filter, topic) {
			out = append(out, m)
		}
	}
	return out
}

// sweep drops what expired.
func (r *retainedStore) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, m := range r.messages {
		if _, alive := m.remaining(now); !alive {
			r.put(&Message{Topic: topic})
		}
	}
}

// LoadRetained fills the retained store at start, before Run. Limits do not
// apply to what the node already keeps.
func (b *Broker) LoadRetained(ms []*Message) {
	for _, m := range ms {
		b.SetRetained(m)
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
