package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/dtn"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/storeforward/bundle"
)

// The session that subscribes to what exports match. It is like a device's
// that outlives its connection; no device can have its name or connection.
const (
	exportClient = "$dtn"
	exportConn   = ^uint64(0)
	exportWindow = 256
)

// subscribe opens the session of the exports, with the filters there are now.
func (d *doors) subscribe(ctx context.Context) error {
	filters := d.gateway.Filters()
	if len(filters) == 0 {
		return endExports(ctx, d.loop)
	}
	var state core.SessionState
	r, err := d.loop.ask(ctx, func(now time.Time, c *core.Core, token uint64) {
		state = c.OpenSession(now, core.SessionOpen{
			Token: token, Client: exportClient, Conn: exportConn, Expiry: core.NeverExpires, ReceiveMax: exportWindow,
		})
	})
	if err = reasonErr(r, err); err != nil {
		return fmt.Errorf("open the session of the exports: %w", err)
	}
	var gone []string
	for _, s := range state.Subscriptions {
		if !slices.Contains(filters, s.Filter) {
			gone = append(gone, s.Filter)
		}
	}
	var subs []core.Subscription
	for _, f := range filters {
		subs = append(subs, core.Subscription{Filter: f, QoS: 1})
	}
	r, err = d.loop.ask(ctx, func(now time.Time, c *core.Core, token uint64) {
		if len(gone) > 0 {
			c.Unsubscribe(now, 0, exportClient, gone)
		}
		c.Subscribe(now, token, exportClient, subs)
	})
	if err = reasonErr(r, err); err != nil {
		return fmt.Errorf("subscribe to what is exported: %w", err)
	}
	return nil
}

// endExports ends the session of exports that are configured no more.
func endExports(ctx context.Context, l *loop) error {
	r, err := l.ask(ctx, func(now time.Time, c *core.Core, token uint64) {
		c.EndSession(now, token, exportClient)
	})
	return reasonErr(r, err)
}

func reasonErr(r core.Reply, err error) error {
	if err == nil && r.Reason != bundle.OK {
		err = errors.New(r.Reason.String())
	}
	return err
}

// export makes a bundle of a publication and does with it what is done with
// one that arrived. The same publication makes the same bundle, also after a
// restart, and the second one is known.
func (d *doors) export(dl core.Delivery) {
	block, err := blockOf(d.store, dl)
	if err != nil {
		d.lost(dl, err)
		return
	}
	data, err := bundle.PayloadData(block)
	if err != nil {
		d.lost(dl, err)
		return
	}
	raw, err := d.bundleOf(dl, data)
	switch {
	case err != nil:
		d.log.Warn("a publication cannot be exported", "message", dl.Header.Message, "error", err)
		d.settle(settlement(dl))
		return
	case raw == nil:
		d.settle(settlement(dl))
		return
	}
	a, why := d.gateway.In(dtn.Received{Bundle: raw}, d.now())
	if why != bundle.OK {
		d.exported(dl, why)
		return
	}
	d.act(a, func(why bundle.Reason) { d.exported(dl, why) })
}

// bundleOf makes the bundle, nil when the publication is for none.
func (d *doors) bundleOf(dl core.Delivery, data []byte) ([]byte, error) {
	m, err := wire.ParseMessage(data)
	if err != nil {
		return nil, err
	}
	h := dl.Header
	p := dtn.Publication{Topic: m.Topic, Payload: m.Payload}
	if m.Expiry {
		p.TTL = time.Duration(h.Expires-h.Received) * time.Millisecond
	}
	for _, u := range m.UserProperties {
		p.Props = append(p.Props, dtn.Property{Name: u.Key, Value: u.Value})
	}
	// Seq is the store's: it counts all that ever came in here.
	s := dtn.Stamp{Created: time.UnixMilli(h.Received), Seq: h.Seq}
	if !d.dated {
		s = dtn.Stamp{Seq: d.stamp ^ h.Seq, Age: max(d.loop.clock.now().Sub(s.Created), 0)}
	}
	raw, ok, err := d.gateway.Export(p, s)
	if err != nil || !ok {
		return nil, err
	}
	return raw, nil
}

// exported is told what became of an export.
func (d *doors) exported(dl core.Delivery, why bundle.Reason) {
	switch {
	case mayFit(why):
		time.AfterFunc(retryPause, func() { d.exports.put(dl) })
		return
	case why == bundle.OK:
		d.counts.made.Add(1)
	case why != bundle.Duplicate:
		d.counts.dropped[why].Add(1)
		d.log.Warn("a publication cannot be exported", "message", dl.Header.Message, "reason", why)
	}
	d.settle(settlement(dl))
}
