package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// walkPrefix begins the names under which the node notes what sessions are
// still to get of retained messages; a number in hex follows. See broker.Walk.
const walkPrefix = "walk/"

// savedWalk is a broker.Walk on the disk.
type savedWalk struct {
	Client string `json:"client"`
	Filter string `json:"filter"`
	QoS    byte   `json:"qos"`
	SubID  int    `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
}

func walkKey(id uint64) string { return walkPrefix + strconv.FormatUint(id, 16) }

// saved is the value of a walk; of one that ended none.
func saved(w *broker.Walk) []byte {
	if w.Ended {
		return nil
	}
	b, _ := json.Marshal(savedWalk{w.Client, w.Sub.Filter, w.Sub.QoS, w.Sub.ID, w.From}) // strings and numbers never fail
	return b
}

// BeginWalk implements broker.Node.
func (m *mqtt) BeginWalk(ctx context.Context, w broker.Walk) (uint64, error) {
	id := m.walks.Add(1)
	value := saved(&w)
	r, err := m.loop.ask(ctx, func(now time.Time, c *core.Core, token uint64) { c.SetState(now, token, walkKey(id), value) })
	if err == nil && r.Reason != bundle.OK {
		err = errors.New(r.Reason.String())
	}
	return id, err
}

// SubmitTo implements broker.Node: retained messages for one session. They and
// how far the walk is are one event of the core, and so in one write: after a
// crash none is missing, and none comes again.
func (m *mqtt) SubmitTo(w broker.Walk, all []*broker.Message) {
	submissions := make([]core.Submission, len(all))
	for i, msg := range all {
		s := submission(msg)
		s.Session, s.Service, s.Retain, s.Packet, s.Client = w.Client, core.ServiceRetained, true, 0, ""
		s.QoS = max(s.QoS, 1)
		submissions[i] = s
	}
	value := saved(&w)
	m.loop.in.putWait(func(now time.Time, c *core.Core) {
		c.Submit(now, submissions)
		c.SetState(now, 0, walkKey(w.ID), value)
	})
}

// resumeWalks goes on with what the last run did not end. Sessions that are
// gone refuse what is for them.
func (m *mqtt) resumeWalks() error {
	const prefix = core.StatePrefix + walkPrefix
	var all []broker.Walk
	err := m.store.State(prefix, func(key string, value []byte) error {
		var s savedWalk
		id, err := strconv.ParseUint(strings.TrimPrefix(key, prefix), 16, 64)
		if err == nil {
			err = json.Unmarshal(value, &s)
		}
		if err != nil {
			m.log.Warn("retained messages for a subscription may be missing: the note of them is damaged", "reason", key, "error", err)
			return nil
		}
		m.walks.Store(max(m.walks.Load(), id))
		all = append(all, broker.Walk{ID: id, Client: s.Client, Sub: broker.Subscription{Filter: s.Filter, QoS: s.QoS, ID: s.SubID}, From: s.From})
		return nil
	})
	if err != nil && !errors.As(err, new(*store.LostState)) { // told when the core was restored
		return fmt.Errorf("read what sessions are to get of retained messages: %w", err)
	}
	for _, w := range all {
		m.broker.Resume(w)
	}
	return nil
}
