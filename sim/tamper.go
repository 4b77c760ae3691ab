package sim

import (
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/store"
)

// tamper holds the hooks by which a test breaks a promise on purpose, to see
// which law speaks. A world outside of tests has none.
type tamper struct {
	onLimits    func(c storeforward.Config) storeforward.Config
	onSubmit    func(n *node, token uint64, s *core.Submission) (swallow bool)
	onReply     func(n *node, r core.Reply) core.Reply
	onStaged    func(n *node, b *store.Batch)
	onPersisted func(n *node)
	onSend      func(n *node, f core.Frame) core.Frame
	onLost      func(l *link, to *node, f core.Frame) bool // swallow a frame
	onReceived  func(n *node, session uint64, f core.Frame)
	onDeliver   func(s *subscriber, d core.Delivery, b []byte) (times int, later bool)
	onCrashed   func(n *node)
	onRecovered func(n *node)
	onPurged    func(done core.Purged) core.Purged
	atEnd       func(w *world)
}

func (t *tamper) limits(c storeforward.Config) storeforward.Config {
	if t.onLimits != nil {
		return t.onLimits(c)
	}
	return c
}

func (t *tamper) submit(n *node, token uint64, s *core.Submission) bool {
	return t.onSubmit != nil && t.onSubmit(n, token, s)
}

func (t *tamper) reply(n *node, r core.Reply) core.Reply {
	if t.onReply != nil {
		return t.onReply(n, r)
	}
	return r
}

func (t *tamper) staged(n *node, b *store.Batch) {
	if t.onStaged != nil {
		t.onStaged(n, b)
	}
}

func (t *tamper) persisted(n *node) {
	if t.onPersisted != nil {
		t.onPersisted(n)
	}
}

func (t *tamper) send(n *node, f core.Frame) core.Frame {
	if t.onSend != nil {
		return t.onSend(n, f)
	}
	return f
}

func (t *tamper) lost(l *link, to *node, f core.Frame) bool {
	return t.onLost != nil && t.onLost(l, to, f)
}

func (t *tamper) received(n *node, session uint64, f core.Frame) {
	if t.onReceived != nil {
		t.onReceived(n, session, f)
	}
}

// deliver returns how often a device gets a message, and whether only after
// the next one.
func (t *tamper) deliver(s *subscriber, d core.Delivery, b []byte) (times int, later bool) {
	if t.onDeliver != nil {
		return t.onDeliver(s, d, b)
	}
	return 1, false
}

func (t *tamper) crashed(n *node) {
	if t.onCrashed != nil {
		t.onCrashed(n)
	}
}

func (t *tamper) recovered(n *node) {
	if t.onRecovered != nil {
		t.onRecovered(n)
	}
}

func (t *tamper) purged(done core.Purged) core.Purged {
	if t.onPurged != nil {
		return t.onPurged(done)
	}
	return done
}

func (t *tamper) end(w *world) {
	if t.atEnd != nil {
		t.atEnd(w)
	}
}
