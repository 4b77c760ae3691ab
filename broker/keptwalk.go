package broker

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	walkItems = 64   // messages that one look takes
	walkSteps = 1024 // topics that one look passes at most: it is done under a lock
	inOrder   = 256  // as many at most come in the order in which they were set, more in that of their topics
)

// walk goes through the retained messages that a filter matches, a few at a
// time: who subscribes to a million is sent them as fast as he reads, and the
// one who does not read at all keeps no more than this.
type walk struct {
	filter string
	at     string // topics from here on are to be looked at
	upTo   uint64 // later changes came, or come, as they were made
	buf    []*kept
	ended  bool // buf has the last ones
	bySeq  bool // buf is in the order in which they were set

	qos    byte
	subIDs []int

	off atomic.Bool // who asked wants no more
}

// queuedWalks are those whose messages the node queues for sessions that
// outlive their connections: one for a filter of a client.
type queuedWalks struct {
	mu  sync.Mutex // guards what follows
	all map[string]map[string]*walk
}

// begin notes a walk. One that goes on for an older SUBSCRIBE ends.
func (q *queuedWalks) begin(client string, w *walk) {
	q.stop(client, w.filter)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all == nil {
		q.all = map[string]map[string]*walk{}
	}
	if q.all[client] == nil {
		q.all[client] = map[string]*walk{}
	}
	q.all[client][w.filter] = w
}

// end forgets a walk that is over.
func (q *queuedWalks) end(client string, w *walk) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all[client][w.filter] == w {
		q.forget(client, w.filter)
	}
}

// stop ends the walk of a filter: nothing more is queued (MQTT 5,
// [MQTT-3.10.4-2]).
func (q *queuedWalks) stop(client, filter string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w := q.all[client][filter]; w != nil {
		w.off.Store(true)
		q.forget(client, filter)
	}
}

// stopAll ends the walks of a session that is over.
func (q *queuedWalks) stopAll(client string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range q.all[client] {
		w.off.Store(true)
	}
	delete(q.all, client)
}

// forget is for those who hold mu.
func (q *queuedWalks) forget(client, filter string) {
	if delete(q.all[client], filter); len(q.all[client]) == 0 {
		delete(q.all, client)
	}
}

// more looks for messages when there are none in the buffer. It may find none
// though the walk is not over.
func (r *retainedStore) more(w *walk, now time.Time) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p := r.list.seek(w.at)
	for range walkSteps {
		k, at := r.list.at(p)
		if k == nil {
			w.ended = true
			return
		}
		match, skip, any := compareKept(w.filter, k.name())
		switch {
		case match:
			if k.seq <= w.upTo && r.alive(k, now) {
				w.buf = append(w.buf, k)
			}
			p = place{at.block, at.at + 1}
			if len(w.buf) == walkItems {
				w.at = k.name() + "\x00"
				return
			}
		case !any:
			w.ended = true
			return
		default:
			p = r.list.seek(skip)
		}
	}
	w.ended = true
	if k, _ := r.list.at(p); k != nil {
		w.at, w.ended = k.name(), false
	}
}

func (r *retainedStore) alive(k *kept, now time.Time) bool {
	if !k.apart {
		return true
	}
	_, alive := r.apart[k].remaining(now)
	return alive
}

// next takes the next message off the buffer, nil for none. One that was
// replaced meanwhile is passed over: the newer one came as a live message, and
// an older state after it would be wrong.
func (r *retainedStore) next(w *walk) *Message {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for len(w.buf) > 0 {
		k := w.buf[0]
		w.buf[0] = nil
		if w.buf = w.buf[1:]; len(w.buf) == 0 {
			w.buf = nil
		}
		if !k.over {
			return r.message(k)
		}
	}
	return nil
}

// begin starts a walk for a subscription, nil when there is nothing to send.
// Few messages are put into the order in which they were set.
func (r *retainedStore) begin(s Subscription, now time.Time) *walk {
	r.mu.RLock()
	w := &walk{filter: s.Filter, upTo: r.changes, qos: s.QoS}
	r.mu.RUnlock()
	if s.ID != 0 {
		w.subIDs = []int{s.ID}
	}
	var found []*kept
	for !w.ended && len(found) < inOrder {
		r.more(w, now)
		found, w.buf = append(found, w.buf...), w.buf[:0]
	}
	if w.buf = slices.Clone(found); w.ended {
		if len(found) == 0 {
			return nil
		}
		w.bySeq = true
		slices.SortFunc(w.buf, func(a, b *kept) int { return cmp.Compare(a.seq, b.seq) })
	}
	return w
}

// resume starts a walk from a topic on.
func (r *retainedStore) resume(s Subscription, from string) *walk {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return &walk{filter: s.Filter, at: from, upTo: r.changes, qos: s.QoS}
}

// delivery makes one of a message that the walk found.
func (w *walk) delivery(m *Message) delivery {
	return delivery{m: m, qos: min(m.QoS, w.qos), retain: true, subIDs: w.subIDs}
}

// compareKept says whether a filter matches a topic. If not, skip is a topic
// after it before which there is no match, and any is false when there is none
// at all after it. Topics are compared by their bytes, where what is below "a"
// begins at "a/" and ends before "a0".
func compareKept(filter, topic string) (match bool, skip string, any bool) {
	if topic[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false, "%", true // MQTT 5, 4.7.2; '%' is next to '$'
	}
	back := -1 // end of the last level that a '+' stands for, if the topic goes on
	giveUp := func() (bool, string, bool) {
		if back < 0 {
			return false, "", false
		}
		return false, topic[:back] + "0", true
	}
	for begin := 0; ; {
		level, rest, more := strings.Cut(filter, "/")
		if level == "#" {
			return true, "", true
		}
		end := begin
		for end < len(topic) && topic[end] != '/' {
			end++
		}
		deeper := end < len(topic)
		if level != "+" && level != topic[begin:end] {
			skip := topic[:begin] + level
			if skip <= topic || more && rest != "#" {
				if !more {
					return giveUp()
				}
				skip += "/"
			}
			if skip <= topic {
				return giveUp()
			}
			return false, skip, true
		}
		switch {
		case more && deeper:
			if level == "+" {
				back = end
			}
			filter, begin = rest, end+1
		case more && rest == "#", !more && !deeper:
			return true, "", true
		case more && level == "+": // too short
			return false, topic + "\x00", true
		case more:
			return false, topic + "/", true
		case level == "+": // too long
			return false, topic[:end] + "0", true
		default:
			return giveUp()
		}
	}
}
