package broker

import "time"

// fakeWill is the will of a fakeNode's client, which keeps it as the real one
// does. No delay passes here: a will that waits for it fires with its session.
type fakeWill struct {
	Will
	conn    uint64
	waiting bool
}

// opened decides on the will of an older connection, and keeps the new one. The
// caller holds mu.
func (n *fakeNode) opened(o SessionOpen) {
	if w := n.wills[o.Client]; w != nil && w.waiting && o.Clean {
		n.publishWill(w)
	}
	delete(n.wills, o.Client)
	if o.Will != nil {
		n.wills[o.Client] = &fakeWill{Will: *o.Will, conn: o.Conn}
	}
}

// lost begins the delay of a will. The caller holds mu.
func (n *fakeNode) lost(client string, conn uint64, expiry uint32) {
	w := n.wills[client]
	if w == nil || w.conn != conn {
		return
	}
	if w.waiting = true; min(w.Delay, expiry) == 0 {
		delete(n.wills, client)
		n.publishWill(w)
	}
}

func (n *fakeNode) publishWill(w *fakeWill) {
	m := w.Message
	m.Received = time.Now()
	n.work <- func() {
		n.commit(m)
		n.b.DeliverLive(m, nil, false)
	}
}

// ForgetWill implements Node.
func (n *fakeNode) ForgetWill(client string, conn uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forgotten = append(n.forgotten, client)
	if w := n.wills[client]; w != nil && w.conn == conn {
		delete(n.wills, client)
	}
}

// endSession is an operator who ends a session that is away.
func (n *fakeNode) endSession(client string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.sessions, client)
	if w := n.wills[client]; w != nil && w.waiting {
		delete(n.wills, client)
		n.publishWill(w)
	}
}
