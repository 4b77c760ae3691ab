package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Replay implements admin.Backend. Each message is a new publication of this
// node, under a Key that makes a second replay of it a duplicate.
func (b backend) Replay(ctx context.Context, r admin.ReplayRequest) (admin.Replayed, error) {
	out := admin.Replayed{Verdicts: map[string]int{}}
	switch {
	case len(r.Messages) > admin.MaxReplay:
		return out, &admin.Error{Code: http.StatusRequestEntityTooLarge, What: "too many messages in one request", Hint: "split it"}
	case r.Session != "" && !r.Node.IsZero():
		return out, admin.Invalid("", "name a session or a node, not both")
	}
	now := b.n.loop.clock.now()
	subs := make([]core.Submission, 0, len(r.Messages))
	for i := range r.Messages {
		s, reason := replay(&r, &r.Messages[i], now)
		if reason != bundle.OK {
			out.Verdicts[reason.String()]++
			continue
		}
		subs = append(subs, s)
	}
	answers := make(chan bundle.Reason, len(subs))
	if !b.n.loop.in.put(func(now time.Time, c *core.Core) {
		for i := range subs {
			subs[i].Token = b.n.loop.newToken(func(r core.Reply) { answers <- r.Reason })
		}
		c.Submit(now, subs)
	}) {
		return out, errHalted
	}
	for range subs {
		select {
		case reason := <-answers:
			out.Verdicts[reason.String()]++
		case <-ctx.Done():
			return out, ctx.Err()
		}
	}
	return out, nil
}

// replay makes the submission of one message, or says why there is none.
func replay(r *admin.ReplayRequest, m *admin.ReplayMessage, now time.Time) (core.Submission, bundle.Reason) {
	class, err := bundle.ParseClass(m.Class)
	id, err2 := bundle.ParseID(m.Message)
	w, err3 := replayed(&m.Publication)
	if errors.Join(err, err2, err3) != nil {
		return core.Submission{}, bundle.Malformed
	}
	life := min(m.Expires.Sub(now), policy.MaxTTL)
	if life < time.Millisecond {
		return core.Submission{}, bundle.Expired
	}
	s := core.Submission{
		Topic: m.Topic, To: r.Node, Service: core.ServiceMQTT, Class: class, QoS: w.QoS, TTL: life, Session: r.Session,
		Blob: &store.Blob{B: encode(&w, len(w.Payload)+len(w.Topic)+len(w.Client)+128)},
	}
	if r.Session != "" {
		s.QoS = max(s.QoS, 1) // it waits for the device
	}
	if !r.Again {
		s.Key = replayKey(id, r)
	}
	return s, bundle.OK
}

// replayKey names a message that is replayed: again to everybody, to one
// session, or to the subscribers of one node.
func replayKey(id bundle.ID, r *admin.ReplayRequest) (k core.Key) {
	text := id.String()
	switch {
	case r.Session != "":
		text += "\nsession " + r.Session
	case !r.Node.IsZero():
		text += "\nnode " + r.Node.String()
	}
	sum := sha256.Sum256([]byte(text))
	copy(k[:], sum[:])
	return k
}
