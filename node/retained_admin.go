package node

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// What an operator does with retained messages. They are read from the state
// of the store on the request's own goroutine, and deleted as a device would:
// by an empty one with a later stamp, which wins wherever it comes.

// maxRemoving bounds the deletions that are under way.
const maxRemoving = 256

// keptTopic is one value of the state.
type keptTopic struct {
	topic string
	core.Retained
}

// Retained implements admin.Backend.
func (b backend) Retained(ctx context.Context, r admin.RetainedRequest) (admin.Retained, error) {
	out := admin.Retained{Now: b.n.loop.clock.now().UTC()}
	budget := admin.MaxRetainedPayload
	more, err := b.eachRetained(ctx, r, func(k keptTopic) bool {
		if r.Values && budget <= 0 {
			return false
		}
		m := retainedMessage(&k, r.Values)
		if r.Values {
			budget -= m.Size
		}
		out.Messages = append(out.Messages, m)
		return true
	})
	out.More = more
	return out, err
}

// eachRetained calls f with what is kept, in the order of topics, until it
// returns false. It reports whether there is more.
func (b backend) eachRetained(ctx context.Context, r admin.RetainedRequest, f func(keptTopic) bool) (more bool, err error) {
	if err := interest.ValidFilter(r.Filter); err != nil {
		return false, admin.Invalid("such as plant/#", "filter: %v", err)
	}
	if r.Limit < 0 || r.Limit > admin.MaxRetained {
		return false, admin.Invalid("ask again with after, for those behind", "limit %d: want 1 to %d", r.Limit, admin.MaxRetained)
	}
	limit, now := cmp.Or(r.Limit, admin.MaxRetained), b.n.loop.clock.now().UnixMilli()
	begins, wild := r.Filter, false // what every topic begins with
	if at := strings.IndexAny(r.Filter, "+#"); at >= 0 {
		begins, wild = strings.TrimSuffix(r.Filter[:at], "/"), true // a/# matches a, too
	}
	n := 0
	err = b.n.store.State(core.RetainedPrefix+begins, func(key string, value []byte) error {
		topic := strings.TrimPrefix(key, core.RetainedPrefix)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case !wild && topic != r.Filter:
			return errFound // the keys after it are of longer topics
		case topic <= r.After && r.After != "" || !interest.Match(r.Filter, topic):
			return nil
		}
		v, err := core.ParseRetained(value)
		if err != nil {
			return nil //nolint:nilerr // told when the broker was filled
		}
		over := v.State == core.KeptValue && v.Ends != 0 && v.Ends <= now && !v.Old
		if over || v.State != core.KeptValue && !r.Marks {
			return nil
		}
		if n >= limit || !f(keptTopic{topic, v}) {
			more = true
			return errFound
		}
		n++
		return nil
	})
	if errors.Is(err, errFound) || errors.As(err, new(*store.LostState)) {
		err = nil // lost values were told when the core was restored
	}
	return more, err
}

func retainedMessage(k *keptTopic, values bool) admin.RetainedMessage {
	m := admin.RetainedMessage{Topic: k.topic, Stamp: strconv.FormatUint(uint64(k.Stamp), 10), Node: k.Node}
	m.State = map[core.KeptState]string{core.KeptValue: "message", core.KeptDeleted: "deleted", core.KeptExpired: "expired"}[k.State]
	if k.Stamp != 0 {
		m.Published = k.Stamp.Time().UTC()
	}
	if k.Ends != 0 && !k.Old {
		m.Expires = utc(k.Ends)
	}
	if k.State != core.KeptValue {
		return m
	}
	said, err := messageOf(k.Block)
	if err != nil {
		m.Size, m.Unread = len(k.Block), err.Error()
		return m
	}
	m.Size = len(said.Payload)
	if values {
		p := publication(bundle.ID{}, ownOf(&said))
		p.Message = ""
		m.Content = &p
	}
	return m
}

// ownOf copies what a message has from the store, which lends its bytes.
func ownOf(m *wire.Message) *wire.Message {
	m.Payload, m.CorrelationData = slices.Clone(m.Payload), slices.Clone(m.CorrelationData)
	return m
}

// RemoveRetained implements admin.Backend.
func (b backend) RemoveRetained(ctx context.Context, r admin.RetainedRequest) (out admin.RemovedRetained, err error) {
	r.Values, r.Marks = false, false
	var topics []string
	if out.More, err = b.eachRetained(ctx, r, func(k keptTopic) bool {
		topics = append(topics, k.topic)
		return true
	}); err != nil {
		return admin.RemovedRetained{}, err
	}
	if r.DryRun {
		out.Removed = len(topics)
		return out, nil
	}
	verdicts := make(chan bundle.Reason, len(topics)) // nobody waits to give one
	count := func(ahead int) error {
		for ; ahead > 0; ahead-- {
			select {
			case reason := <-verdicts:
				switch {
				case reason == bundle.OK || reason == bundle.NoSubscriber:
					out.Removed++
				case out.Failed == nil:
					out.Failed = map[string]int{reason.String(): 1}
				default:
					out.Failed[reason.String()]++
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	for i, topic := range topics {
		if i >= maxRemoving {
			if err := count(1); err != nil {
				return admin.RemovedRetained{}, err
			}
		}
		b.n.mqtt.publishRetained(&broker.Message{Topic: topic, QoS: 1, Retain: true}, func(v broker.Verdict) { verdicts <- v.Reason })
	}
	if err := count(min(len(topics), maxRemoving)); err != nil {
		return admin.RemovedRetained{}, err
	}
	b.n.log.Info("retained messages removed by an operator", "filter", r.Filter, "count", out.Removed)
	return out, nil
}
