package core

import (
	"container/heap"
	"encoding/json"
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// gatedWord waits until what it says is durable.
type gatedWord struct {
	lsn  store.LSN
	word Word
}

// word hands one to the driver.
func (c *Core) word(w Word) {
	c.stats.Words++
	c.gate.words = append(c.gate.words, gatedWord{c.await(), w})
}

// releaseWords lets out the words whose fact is durable.
func (c *Core) releaseWords(upTo store.LSN) {
	n := 0
	for ; n < len(c.gate.words) && c.gate.words[n].lsn <= upTo; n++ {
		c.cur.Words = append(c.cur.Words, c.gate.words[n].word)
	}
	c.gate.words = shift(c.gate.words, n)
}

// refuseAsked tells a publisher at once that its message was not taken, or is
// not followed. Nothing of that is durable.
func (c *Core) refuseAsked(h *store.Header, s *Submission, reason bundle.Reason, state WordState) {
	w := Word{Message: h.Message, Client: s.Client, Node: c.cfg.Self, Region: c.cfg.Region, State: state, Reason: reason, Correlate: s.Ask.Correlation}
	if state == Rejected {
		w.Refused = 1
	}
	if w.Topic = s.Ask.Receipts; w.Topic != "" {
		w.Last = true
		c.word(w)
	}
	if s.Ask.Answer != "" && state == Rejected {
		w.Topic, w.Answer, w.Last, w.Region = s.Ask.Answer, true, false, addr.Region{}
		c.word(w)
	}
}

// follow begins to follow a message that was taken, or says that it is not. What
// was not taken is told at once.
func (c *Core) follow(h *store.Header, s *Submission, r *recipients, reason bundle.Reason) {
	switch {
	case s.Ask.IsZero():
	case reason != bundle.OK && reason != bundle.NoSubscriber:
		c.refuseAsked(h, s, reason, Rejected)
	case s.followed:
		c.openDocket(h, s, r)
	default:
		c.stats.Unfollowed++
		c.refuseAsked(h, s, bundle.QuotaExceeded, Untracked)
	}
}

// wordTold notes what became of a word, with the Submission that carries it:
// in the publisher's queue, on its connection, or unheard, when it is gone.
// Without room it is tried again.
func (c *Core) wordTold(s *Submission, reason bundle.Reason) {
	if s.Word == nil {
		return
	}
	if reason == bundle.NoSubscriber {
		c.stats.Unheard++
	}
	d := c.dockets.byID[s.Word.Message]
	if d == nil {
		return
	}
	region := s.Word.Region.String()
	if reason != bundle.OK && reason != bundle.NoSubscriber && reason != bundle.TooLarge {
		k := &c.dockets
		if delete(d.asked, region); k.retryAt == 0 {
			k.retryAt = c.now + wordRetry
		}
		k.retry = append(k.retry, d)
		return
	}
	if s.Word.Answer {
		d.Answer = ""
	} else if !slices.Contains(d.Told, region) {
		d.Told = append(d.Told, region)
	}
	c.touch(d)
}

// toOwn adds the session of one client, if it subscribed to the topic.
func (c *Core) toOwn(h *store.Header, client string, r *recipients) {
	ses := c.sessions[client]
	if ses == nil {
		return
	}
	qos, found := uint8(0), false
	for sub := range ses.filters() {
		if _, _, shared := interest.ParseShare(sub.Filter); !shared && interest.Match(sub.Filter, h.Topic) {
			qos, found = max(qos, min(sub.QoS, h.QoS)), true
		}
	}
	switch {
	case !found:
	case qos == 0 && ses.moved():
	case qos == 0 || !ses.durable():
		r.live, r.own = ses.conn != 0, client
	default:
		c.toSession(h, client, qos, r)
	}
}

// tickDockets gives up what nobody told of in time, and tries words again.
func (c *Core) tickDockets() {
	k := &c.dockets
	for len(k.heap) > 0 && k.heap[0].Ends <= c.now {
		d := k.heap[0]
		d.Over, d.Ends = true, never // its last words may still wait for room
		heap.Fix(&k.heap, 0)
		c.touch(d)
	}
	if k.retryAt != 0 && k.retryAt <= c.now {
		for _, d := range k.retry {
			c.touch(d)
		}
		k.retry, k.retryAt = nil, 0
	}
}

func (c *Core) wakeDockets(w *wake) {
	k := &c.dockets
	if len(k.heap) > 0 && k.heap[0].Ends != never {
		w.min(k.heap[0].Ends)
	}
	if k.retryAt != 0 {
		w.min(k.retryAt)
	}
}

// restoreDocket takes back what was asked of a message. Words that were not
// told are given again.
func (c *Core) restoreDocket(rest string, value []byte) error {
	id, err := bundle.ParseID(rest)
	if err != nil {
		return errDamaged
	}
	d := &docket{ID: id}
	if err := json.Unmarshal(value, d); err != nil {
		return err
	}
	c.keepDocket(d)
	return nil
}
