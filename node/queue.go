package node

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// What an operator does with queues. Headers and payloads are read from the
// store on the request's own goroutine; the loop only tells what is in flight.

const (
	defaultPeek = 20
	scanPage    = 512     // headers read at once
	maxLook     = 200_000 // headers a dry run looks at
)

// queueHint is the next step after a queue that cannot be read.
const queueHint = "farhop queue"

// queues describes those that are not empty.
func queues(v core.View) (out []admin.Queue) {
	for _, q := range v.Queues {
		aq := admin.Queue{
			Queue: core.QueueText(q.Queue), Class: q.Queue.Class.String(), Bundles: q.Count, Bytes: q.Bytes,
			InFlight: q.InFlight, NextHop: q.Hop, Up: q.Up, Resting: q.Resting, Waits: q.Waits,
		}
		if q.Oldest != 0 {
			aq.Oldest = utc(q.Oldest)
		}
		out = append(out, aq)
	}
	return out
}

// Queues implements admin.Backend.
func (b backend) Queues(ctx context.Context) (admin.Queues, error) {
	v, err := b.n.loop.view(ctx)
	if err != nil {
		return admin.Queues{}, err
	}
	out := admin.Queues{Now: b.n.loop.clock.now().UTC(), Queues: queues(v)}
	b.n.agent.mu.Lock()
	rev := b.n.agent.inForce
	b.n.agent.mu.Unlock()
	rules := b.n.agent.merged(rev).QuotaRules()
	for _, u := range v.Quotas {
		use := admin.QuotaUse{Quota: u.Key, Bytes: u.Bytes, Messages: u.Count}
		name, _, _ := strings.Cut(u.Key, "/")
		if at := slices.IndexFunc(rules, func(q policy.Quota) bool { return q.Name == name }); at >= 0 {
			use.MaxBytes, use.MaxMessages = rules[at].Bytes, rules[at].Count
		}
		out.Quotas = append(out.Quotas, use)
	}
	return out, nil
}

// Peek implements admin.Backend.
func (b backend) Peek(ctx context.Context, r admin.PeekRequest) (admin.Peek, error) {
	q, err := parseQueue(r.Queue)
	classes, err2 := parseClasses(r.Class)
	if err := errors.Join(err, err2); err != nil {
		return admin.Peek{}, admin.Invalid(queueHint, "%v", err)
	}
	if r.Limit < 0 || r.Limit > admin.MaxPeek {
		return admin.Peek{}, admin.Invalid("ask again with after, for those behind", "limit %d: want 1 to %d", r.Limit, admin.MaxPeek)
	}
	limit := cmp.Or(r.Limit, defaultPeek)
	out := admin.Peek{Queue: core.QueueText(q), Now: b.n.loop.clock.now().UTC()}
	var items []store.Item
	for _, class := range classes {
		q.Class = class
		some, err := b.n.store.Scan(q, r.After, limit+1)
		if err != nil {
			return out, err
		}
		items = append(items, some...)
	}
	slices.SortFunc(items, func(x, y store.Item) int { return cmp.Compare(x.Header.Seq, y.Header.Seq) })
	out.More = len(items) > limit
	items = items[:min(len(items), limit)]
	standing, err := b.standings(ctx, items)
	if err != nil {
		return out, err
	}
	budget := int64(admin.MaxPeekPayload)
	for _, it := range items {
		if r.Payload && budget <= 0 {
			out.More = true
			break
		}
		w, there := standing(it)
		if !there {
			continue
		}
		if r.Payload && !it.Damaged {
			budget -= int64(it.Header.Size)
			w.Content, w.Unread = b.content(it)
		}
		out.Messages = append(out.Messages, w)
	}
	return out, nil
}

// standings asks the loop where messages stand that were read from the store.
// What it returns describes one, and reports false for those that are gone.
func (b backend) standings(ctx context.Context, items []store.Item) (func(store.Item) (admin.Waiting, bool), error) {
	type window struct {
		found   map[uint64]core.Standing
		through uint64
	}
	seqs, windows := map[store.Queue][]uint64{}, map[store.Queue]window{}
	for _, it := range items {
		seqs[it.Entry.Queue] = append(seqs[it.Entry.Queue], it.Header.Seq)
	}
	err := b.n.loop.call(ctx, func(_ time.Time, c *core.Core) {
		for q, s := range seqs {
			var w window
			w.found, w.through = c.Standings(q, s)
			windows[q] = w
		}
	})
	if err != nil {
		return nil, err
	}
	return func(it store.Item) (admin.Waiting, bool) {
		win := windows[it.Entry.Queue]
		s, ok := win.found[it.Header.Seq]
		if !ok {
			return waiting(it), it.Header.Seq > win.through
		}
		it.Entry.State = s.Entry
		w := waiting(it)
		w.Sent = s.Sent
		if s.State == "in flight" && it.Entry.State == store.Pending {
			w.State = s.State
		}
		return w, true
	}, nil
}

// content reads what a message says, or tells why it cannot.
func (b backend) content(it store.Item) ([]admin.Publication, string) {
	block, err := b.n.store.Read(it.Header.Seq)
	if err == nil {
		var said []admin.Publication
		if said, err = publications(it.Header, block); err == nil {
			return said, ""
		}
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, "its payload is gone"
	}
	return nil, err.Error()
}

// Retry implements admin.Backend.
func (b backend) Retry(ctx context.Context) (out admin.Retried, err error) {
	var done admin.Retried // out may be returned before the loop comes to it
	err = b.n.loop.call(ctx, func(now time.Time, c *core.Core) {
		v := c.View()
		for _, q := range v.Queues {
			if q.Resting {
				done.Resting++
			}
		}
		for _, l := range v.Links {
			if l.Open && l.Silent {
				done.Probed++
			}
		}
		c.Retry(now)
	})
	if err != nil {
		return admin.Retried{}, err
	}
	return done, nil
}

// Purge implements admin.Backend.
func (b backend) Purge(ctx context.Context, r admin.PurgeRequest) (admin.Purged, error) {
	p, err := b.purge(ctx, r)
	if err != nil {
		return admin.Purged{}, err
	}
	if r.DryRun {
		return b.wouldPurge(ctx, p)
	}
	var done core.Purged
	reply, err := b.n.loop.ask(ctx, func(now time.Time, c *core.Core, token uint64) { done = c.Purge(now, token, p) })
	if err == nil && reply.Reason != bundle.OK {
		err = errors.New("not purged: " + reply.Reason.String())
	}
	if err != nil { // the loop may still write done
		return admin.Purged{}, err
	}
	out := admin.Purged{Ended: done.Ended, Left: done.Left}
	if !p.Message.IsZero() {
		out.Left = 0 // one message is looked for in the windows alone
	}
	b.n.log.Info("messages purged by an operator", "queue", r.Queue, "count", out.Ended)
	return out, nil
}

// purge checks a request.
func (b backend) purge(ctx context.Context, r admin.PurgeRequest) (p core.Purge, err error) {
	switch {
	case r.All == (r.Queue != ""):
		return p, admin.Invalid(queueHint, "name one queue, or all")
	case r.Older < 0:
		return p, admin.Invalid("", "older: %v is negative", time.Duration(r.Older))
	}
	if !r.All {
		q, err := parseQueue(r.Queue)
		if err != nil {
			return p, admin.Invalid(queueHint, "%v", err)
		}
		p.Queue = &q
	}
	if r.Class != "" {
		class, err := bundle.ParseClass(r.Class)
		if err != nil {
			return p, admin.Invalid("", "%v", err)
		}
		p.Classes = bundle.Classes(0).With(class)
	}
	if r.Older > 0 {
		p.Before = b.n.loop.clock.now().Add(-time.Duration(r.Older))
	}
	p.Origin = r.Origin
	if r.Message == "" {
		return p, nil
	}
	if p.Message, err = bundle.ParseID(r.Message); err != nil {
		return p, admin.Invalid("", "%v", err)
	}
	places, err := b.places(ctx, p.Message)
	for _, place := range places {
		if place.First != p.Message {
			return p, admin.NotHere("name "+place.First.String()+" to end the whole batch",
				"%s travels in one bundle with %d others and cannot end alone", p.Message, place.Count-1)
		}
	}
	return p, err
}

// wouldPurge counts what a purge would end, without the loop.
func (b backend) wouldPurge(ctx context.Context, p core.Purge) (out admin.Purged, err error) {
	v, err := b.n.loop.view(ctx)
	if err != nil {
		return out, err
	}
	looked := 0
	for _, q := range v.Queues {
		if !p.Covers(q.Queue) {
			continue
		}
		for after := uint64(0); ; {
			items, err := b.n.store.Scan(q.Queue, after, scanPage)
			if err = errors.Join(err, ctx.Err()); err != nil {
				return out, err
			}
			for _, it := range items {
				if !it.Damaged && p.Matches(it.Header, it.Entry.State) {
					out.Ended++
					out.Messages += max(int(it.Header.Count), 1)
					out.Bytes += int64(it.Header.Size)
				}
			}
			if looked += len(items); looked >= maxLook {
				out.AtLeast = true
				return out, nil
			}
			if len(items) < scanPage {
				break
			}
			after = items[len(items)-1].Header.Seq
		}
	}
	return out, nil
}

// Why implements admin.Backend.
func (b backend) Why(ctx context.Context, id bundle.ID) (admin.Why, error) {
	out := admin.Why{Message: id.String(), Node: b.n.material.Self().Node}
	places, err := b.places(ctx, id)
	for _, p := range places {
		ap := admin.Place{
			Queue: p.Queue, Class: p.Class.String(), Seq: p.Seq, Count: p.Count, State: p.State, Waits: p.Waits,
			Arrived: p.Arrived.UTC(), Expires: p.Expires.UTC(), Sent: p.Sent,
		}
		if p.Count > 0 {
			ap.Batch = p.First.String()
		}
		out.Places = append(out.Places, ap)
	}
	return out, err
}

// places finds the copies of a message, those within batches too.
func (b backend) places(ctx context.Context, id bundle.ID) ([]core.Place, error) {
	var found, maybe []core.Place
	err := b.n.loop.call(ctx, func(_ time.Time, c *core.Core) { found, maybe = c.Why(id), c.WhyBatch(id) })
	if err != nil { // the loop may still write them
		return nil, err
	}
	for _, p := range maybe {
		block, err := b.n.store.Read(p.Seq)
		if err != nil {
			continue // gone meanwhile, not yet written, or its damage is told elsewhere
		}
		if inBatch(p.First, id, block) {
			found = append(found, p)
		}
	}
	return found, ctx.Err()
}
