package broker

import (
	"context"
	"slices"
	"sync"

	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
)

// fakeNode keeps the contract of Node in memory: durable sessions with their
// own queue, window, packet ids and inbound ids; one commit at a time. Like
// the real loop it calls back from one goroutine.
type fakeNode struct {
	b *Broker

	mu        sync.Mutex
	walks     map[uint64]Walk // that did not end
	walked    uint64
	sessions  map[string]*fakeSession
	filters   map[string][]Subscription // live clients
	reason    bundle.Reason             // answer to every publish, if not OK
	wanted    bool                      // another node wants everything
	subscribe chan struct{}             // Subscribe waits until it is closed, nil: not
	holding   bool
	held      []func()
	log       []*Message // every publish that was committed
	closed    []string   // clients of CloseSession
	wills     map[string]*fakeWill
	noWills   bool     // it has no room for them
	forgotten []string // clients of ForgetWill
	settled   []Settlement
	regrouped []string      // "FILTER PAYLOAD" of what came back from members
	gate      chan struct{} // OpenSession and Subscribe wait for its end
	slow      chan struct{} // SubmitTo takes one of it first, nil: not
	submitted int           // times, through SubmitTo
	work      chan func()
	idle      sync.WaitGroup
}

type fakeSession struct {
	conn    uint64
	online  bool
	window  int
	subs    []Subscription
	inbound map[uint16]bool
	queue   []fakeQueued
	sent    []*fakeQueued
	seq     uint64
	id      uint16
}

type fakeQueued struct {
	m        *Message
	qos      byte
	retain   bool
	subIDs   []int
	seq      uint64
	id       uint16
	received bool
}

func newFakeNode() *fakeNode {
	n := &fakeNode{sessions: map[string]*fakeSession{}, wills: map[string]*fakeWill{}, filters: map[string][]Subscription{}, work: make(chan func(), 1<<16)}
	n.idle.Go(func() {
		for f := range n.work {
			f()
		}
	})
	return n
}

func (n *fakeNode) stop() { close(n.work); n.idle.Wait() }

func (n *fakeNode) OpenSession(_ context.Context, o SessionOpen) (SessionState, error) {
	n.wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if o.Will != nil && n.noWills {
		return SessionState{}, ErrQuota
	}
	n.opened(o)
	s := n.sessions[o.Client]
	if o.Clean {
		delete(n.sessions, o.Client)
		s = nil
	}
	st := SessionState{Present: s != nil}
	if s == nil {
		if o.Expiry == 0 {
			return st, nil
		}
		s = &fakeSession{inbound: map[uint16]bool{}}
		n.sessions[o.Client] = s
	}
	s.conn, s.online, s.window = o.Conn, true, int(o.ReceiveMax)
	st.Subscriptions = s.subs
	for id := range s.inbound {
		st.Inbound = append(st.Inbound, id)
	}
	for _, q := range s.sent {
		n.deliver(o.Client, s, q, true)
	}
	n.pump(o.Client, s)
	return st, nil
}

func (n *fakeNode) CloseSession(client string, conn uint64, expiry uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = append(n.closed, client)
	delete(n.filters, client)
	if s := n.sessions[client]; s != nil && s.conn == conn {
		s.online = false
		if expiry == 0 {
			delete(n.sessions, client)
		}
	}
	n.lost(client, conn, expiry)
}

// wait makes the broker wait, if the test wants that.
func (n *fakeNode) wait() {
	n.mu.Lock()
	gate := n.gate
	n.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

func (n *fakeNode) Subscribe(_ context.Context, client string, subs []Subscription) error {
	n.wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if wait := n.subscribe; wait != nil {
		n.mu.Unlock()
		<-wait
		n.mu.Lock()
	}
	s := n.sessions[client]
	for _, sub := range subs {
		if s == nil {
			n.filters[client] = append(n.filters[client], sub)
			continue
		}
		s.subs = append(s.subs, sub)
	}
	return nil
}

func (n *fakeNode) Unsubscribe(_ context.Context, client string, filters []string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.sessions[client]; s != nil {
		var keep []Subscription
		for _, sub := range s.subs {
			if !slices.Contains(filters, sub.Filter) {
				keep = append(keep, sub)
			}
		}
		s.subs = keep
	}
	return nil
}

func (n *fakeNode) Kept(bundle.Reason) {}

func (n *fakeNode) Regroup(m *Message, filters []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range filters {
		n.regrouped = append(n.regrouped, f+" "+string(m.Payload))
	}
}

func (n *fakeNode) Publish(m *Message, done func(Verdict)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	commit := func() { done(Verdict{Reason: n.commit(m)}) }
	if n.holding {
		n.held = append(n.held, commit)
		return
	}
	n.work <- commit
}

// release answers everything held, in the given order, from one goroutine.
func (n *fakeNode) release(reverse bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holding = false
	for i := range n.held {
		if reverse {
			i = len(n.held) - 1 - i
		}
		n.work <- n.held[i]
	}
	n.held = nil
}

func (n *fakeNode) commit(m *Message) bundle.Reason {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.reason != bundle.OK {
		return n.reason
	}
	if s := n.sessions[m.Client]; s != nil && m.PacketID != 0 {
		if s.inbound[m.PacketID] {
			return bundle.Duplicate
		}
		s.inbound[m.PacketID] = true
	}
	n.log = append(n.log, m)
	found := n.wanted
	for client, s := range n.sessions {
		for _, sub := range s.subs {
			if interest.Match(sub.Filter, m.Topic) {
				found = true
				if qos := min(sub.QoS, m.QoS); qos > 0 { // QoS 0 is never queued: the broker passes it on
					s.queue = append(s.queue, fakeQueued{m: m, qos: qos})
				}
				n.pump(client, s)
				break
			}
		}
	}
	if !found {
		return bundle.NoSubscriber
	}
	return bundle.OK
}

func (n *fakeNode) pump(client string, s *fakeSession) {
	for s.online && len(s.queue) > 0 && len(s.sent) < s.window {
		q := s.queue[0]
		s.queue = s.queue[1:]
		s.seq++
		q.seq = s.seq
		if q.qos > 0 {
			s.id = s.id%60000 + 1
			q.id = s.id
			s.sent = append(s.sent, &q)
		}
		n.deliver(client, s, &q, false)
	}
}

func (n *fakeNode) deliver(client string, s *fakeSession, q *fakeQueued, dup bool) {
	d := Delivery{
		Client: client, Conn: s.conn, Seq: q.seq, PacketID: q.id, QoS: q.qos, Dup: dup, Retain: q.retain,
		SubIDs: q.subIDs, Message: q.m, Release: q.received,
	}
	n.work <- func() { n.b.Deliver(d) }
}

func (n *fakeNode) BeginWalk(_ context.Context, w Walk) (uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.walks == nil {
		n.walks = map[uint64]Walk{}
	}
	n.walked++
	w.ID = n.walked
	n.walks[w.ID] = w
	return w.ID, nil
}

func (n *fakeNode) SubmitTo(w Walk, all []*Message) {
	if n.slow != nil && len(all) > 0 {
		<-n.slow
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(all) > 0 {
		n.submitted++
	}
	if n.walks[w.ID] = w; w.Ended {
		delete(n.walks, w.ID)
	}
	var subIDs []int
	if w.Sub.ID != 0 {
		subIDs = []int{w.Sub.ID}
	}
	s := n.sessions[w.Client]
	if s == nil {
		return
	}
	for _, m := range all {
		s.queue = append(s.queue, fakeQueued{m: m, qos: m.QoS, retain: m.Retain, subIDs: subIDs})
	}
	n.pump(w.Client, s)
}

func (n *fakeNode) Settle(t Settlement) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settled = append(n.settled, t)
	s := n.sessions[t.Client]
	if s == nil {
		return
	}
	if t.What == Released {
		delete(s.inbound, t.PacketID)
		if n.holding {
			n.held = append(n.held, t.Done)
			return
		}
		n.work <- t.Done
		return
	}
	for i, q := range s.sent {
		if q.seq != t.Seq {
			continue
		}
		if t.What == Received {
			q.received = true
			n.deliver(t.Client, s, q, false)
			return
		}
		s.sent = append(s.sent[:i], s.sent[i+1:]...)
		break
	}
	n.pump(t.Client, s)
}

func (n *fakeNode) Wanted(topic string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sessions {
		for _, sub := range s.subs {
			if interest.Match(sub.Filter, topic) {
				return true
			}
		}
	}
	return n.wanted
}

func (n *fakeNode) committed() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.log)
}
